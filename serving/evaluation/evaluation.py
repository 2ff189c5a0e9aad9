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
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.strict import explain
from nightjar.features.contract.verified import entry_at, read_verified
from nightjar.serving.evaluation.comparison import Evaluation


def read_evaluation(directory: str) -> Evaluation:
    """The models' metrics and curves; the scores are not read. Raises DataError if nothing is published there or if it
    is damaged.
    """
    content = read_verified(directory, entry_at(directory, read_manifest(directory, EvaluationManifest), EVALUATION))
    try:
        return Evaluation.model_validate_json(content)
    except ValidationError as error:
        said = explain(error, storage.join(directory, EVALUATION))
        raise DataError(f"{said}\nRemove {directory}, and evaluate again.") from error


def scores_url(directory: str, number: int) -> str:
    """Where the scores of the model with this number are, counted from 0."""
    return storage.join(directory, model_scores(number))
