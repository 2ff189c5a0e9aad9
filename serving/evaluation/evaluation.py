"""A comparison of models as a published directory.

metrics.json holds it, report.html is drawn from it; scores/<n>.npy: of the n-th model,
float32[rows], in the order of its data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import EVALUATION, REPORT, model_scores
from nightjar.features.contract.errors import DataError
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
from nightjar.serving.arrays import read_array, write_array
from nightjar.serving.evaluation.comparison import Evaluation, compare
from nightjar.serving.reports.report import render


def evaluate(artifacts: Mapping[str, str], datasets: Sequence[str], output_dir: str, *, threads: int = 1) -> Evaluation:
    """Compare artifacts (directory by name) on data sets and publish the result at `output_dir`.

    Every artifact is scored on the data set encoded under its own state. If the same inputs are published at
    `output_dir` already, that result is returned. Raises DataError as serving.evaluation.comparison.compare does.
    """
    inputs = {f"artifact {name}": _digest(directory, ArtifactManifest) for name, directory in artifacts.items()}
    inputs |= {f"dataset {n}": _digest(directory, DatasetManifest) for n, directory in enumerate(datasets, 1)}
    if is_published(output_dir) and read_manifest(output_dir, EvaluationManifest).inputs == inputs:
        return read_evaluation(output_dir)
    evaluation, scores = compare(artifacts, datasets, threads=threads)
    begin(output_dir)
    metrics = evaluation.model_dump_json(indent=1) + "\n"
    storage.write_bytes(storage.join(output_dir, EVALUATION), metrics.encode())
    storage.write_bytes(storage.join(output_dir, REPORT), render(evaluation).encode())
    for number, score in enumerate(scores.values()):
        write_array(_scores_url(output_dir, number), score)
    manifest = EvaluationManifest(
        inputs=inputs,
        files=describe_files(output_dir),
        first_date=evaluation.first_date,
        last_date=evaluation.last_date,
        rows=evaluation.rows,
    )
    commit(output_dir, manifest)
    return evaluation


def read_evaluation(directory: str) -> Evaluation:
    """The figures of a published evaluation. Raises DataError if there is none or if it is damaged."""
    verify(directory, read_manifest(directory, EvaluationManifest))
    return Evaluation.model_validate_json(storage.read_bytes(storage.join(directory, EVALUATION)))


def read_scores(directory: str, artifact: str) -> np.ndarray:
    """Scores that an artifact (its directory) got, float32[rows]. Raises DataError if it was not evaluated there."""
    digest = manifest_digest(artifact)
    for number, model in enumerate(read_evaluation(directory).models.values()):
        if model.artifact == digest:
            return read_array(_scores_url(directory, number))
    raise DataError(f"{directory} holds no scores of {artifact}. Evaluate it on the same day first.")


def _scores_url(directory: str, number: int) -> str:
    return storage.join(directory, model_scores(number))


def _digest(directory: str, kind: type[Manifest]) -> str:
    read_manifest(directory, kind)
    return manifest_digest(directory)
