"""A published evaluation, read.

metrics.json holds it, report.html is drawn from it (serving.reports.evaluations writes both); scores/<n>.npy: of the
n-th model, float32[rows], in the order of its data set.
"""

from __future__ import annotations

from pydantic import ValidationError

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import EVALUATION, model_scores
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import EvaluationManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.contract.strict import explain
from nightjar.serving.evaluation.comparison import Evaluation


def read_evaluation(directory: str) -> Evaluation:
    """The models' metrics and curves. Raises DataError if nothing is published there or if it is damaged."""
    verify(directory, read_manifest(directory, EvaluationManifest))
    url = storage.join(directory, EVALUATION)
    try:
        return Evaluation.model_validate_json(storage.read_bytes(url))
    except (FileNotFoundError, ValidationError) as error:
        said = explain(error, url) if isinstance(error, ValidationError) else f"{directory} holds no {EVALUATION}."
        raise DataError(f"{said}\nRemove {directory}, and evaluate again.") from error


def scores_url(directory: str, number: int) -> str:
    """Where the scores of the model with this number are, counted from 0."""
    return storage.join(directory, model_scores(number))
