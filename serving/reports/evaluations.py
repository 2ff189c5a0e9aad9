"""Evaluations as published directories: scores, metrics and the page drawn from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np
from markupsafe import escape

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import EVALUATION, REPORT
from nightjar.features.contract.manifests import ArtifactManifest, DatasetManifest, EvaluationManifest, Manifest
from nightjar.features.contract.publishing import (
    begin,
    commit,
    describe_files,
    is_published,
    manifest_digest,
    read_manifest,
    verify,
)
from nightjar.serving.arrays import write_pieces
from nightjar.serving.evaluation.comparison import Evaluation, compare
from nightjar.serving.evaluation.evaluation import read_evaluation, scores_url
from nightjar.serving.reports.evaluation_report import render

_SCORE = np.dtype(np.float32)

log = logging.getLogger(__name__)


def evaluate(artifacts: Mapping[str, str], datasets: Sequence[str], output_dir: str, *, threads: int = 1) -> Evaluation:
    """Compare artifacts on data sets and publish the result; return what is published there from the same inputs.

    Every artifact is scored on the data set encoded under its own state. Raises DataError as
    serving.evaluation.comparison.compare does.

    Args:
        artifacts: directories by name.
        datasets: directories.
        output_dir: to publish.
        threads: of the dense layers.
    """
    inputs = {f"artifact {name}": _digest(directory, ArtifactManifest) for name, directory in artifacts.items()}
    inputs |= {f"dataset {n}": _digest(directory, DatasetManifest) for n, directory in enumerate(datasets, 1)}
    if is_published(output_dir):
        published = read_manifest(output_dir, EvaluationManifest)
        if published.inputs == inputs:
            verify(output_dir, published)
            return read_evaluation(output_dir)
    with TemporaryDirectory(prefix="nightjar-scores-") as folder:
        paths = {name: os.path.join(folder, str(number)) for number, name in enumerate(artifacts)}

        def keep(name: str, score: np.ndarray) -> None:
            with open(paths[name], "ab") as stream:
                stream.write(np.ascontiguousarray(score, _SCORE).data)

        evaluation = compare(artifacts, datasets, threads=threads, keep=keep)
        begin(output_dir)
        metrics = evaluation.model_dump_json(indent=1) + "\n"
        storage.write_bytes(storage.join(output_dir, EVALUATION), metrics.encode())
        storage.write_bytes(storage.join(output_dir, REPORT), _page(evaluation).encode(errors="replace"))
        for number, path in enumerate(paths.values()):
            scores = np.memmap(path, _SCORE, mode="r")
            write_pieces(scores_url(output_dir, number), scores.shape, _SCORE, [scores])
    manifest = EvaluationManifest(
        inputs=inputs,
        files=describe_files(output_dir),
        first_date=evaluation.first_date,
        last_date=evaluation.last_date,
        rows=evaluation.rows,
    )
    commit(output_dir, manifest)
    return evaluation


def _page(evaluation: Evaluation) -> str:
    """The page; in its place, what kept it from being drawn: the figures are what counts."""
    try:
        return render(evaluation)
    except Exception as error:
        log.warning("the page of the evaluation could not be drawn", exc_info=True)
        said = escape(f"The page could not be drawn: {type(error).__name__}: {error}. The figures are in {EVALUATION}.")
        return f'<!DOCTYPE html>\n<html lang="en"><title>Evaluation</title><main><p>{said}</p></main></html>\n'


def _digest(directory: str, kind: type[Manifest]) -> str:
    read_manifest(directory, kind)
    return manifest_digest(directory)
