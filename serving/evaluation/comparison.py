"""Artifacts on the same impressions: every model's scores, metrics and curves, side by side.

Data sets are read file by file. Only the scores, and what is known of the impressions, are held as a whole.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import manifest_digest, read_manifest
from nightjar.features.contract.strict import Strict
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.files import read_table
from nightjar.serving.encoded import to_columns
from nightjar.serving.evaluation.metrics import Bin, Metrics, Observations, bins, measure
from nightjar.serving.model import ServingModel, load

CALIBRATION_BINS = 20
DECILES = 10
LOGIT_EDGES = np.linspace(-10.0, 10.0, 81)
OBSERVED = ("label", "weight", "group", "truth")

log = logging.getLogger(__name__)


class ModelEvaluation(Strict):
    """One model. artifact, dataset: digests of the manifests of what was scored, and on what.

    calibration, deciles: 20 and 10 bins of equal weight, ascending by score. distribution: share of the
    weight in each interval of LOGIT_EDGES (logits); what lies outside counts to the first or the last.
    """

    artifact: str
    model: str
    dataset: str
    metrics: Metrics
    calibration: tuple[Bin, ...]
    deciles: tuple[Bin, ...]
    distribution: tuple[float, ...]


class Evaluation(Strict):
    """Models by name, in the order given, on the impressions of the days first_date to last_date."""

    first_date: str
    last_date: str
    rows: int
    models: Mapping[str, ModelEvaluation]


def compare(
    artifacts: Mapping[str, str], datasets: Sequence[str], *, threads: int = 1
) -> tuple[Evaluation, dict[str, np.ndarray]]:
    """Evaluate artifacts, each on the data set that was encoded under its own state.

    Returns the evaluation and every model's scores, float32[rows]. Several data sets must hold the same impressions.
    Raises DataError if they do not, if an artifact has no data set, or if a directory is damaged.

    Args:
        artifacts: directories by name.
        datasets: directories.
        threads: of the dense layers.
    """
    manifests = {directory: read_manifest(directory, DatasetManifest) for directory in datasets}
    _check_same_impressions(manifests)
    models = {name: load(directory, threads=threads) for name, directory in artifacts.items()}
    chosen = {name: _dataset_of(name, model, manifests) for name, model in models.items()}
    evaluated: dict[str, ModelEvaluation] = {}
    scores: dict[str, np.ndarray] = {}
    for directory in dict.fromkeys(chosen.values()):
        scored = {name: model for name, model in models.items() if chosen[name] == directory}
        observed, found = predict(scored, directory, manifests[directory])
        digest = manifest_digest(directory)
        scores |= found
        for name, model in scored.items():
            evaluated[name] = evaluate_scores(artifacts[name], model.manifest.model, digest, observed, scores[name])
            log.info("%s: log loss %.5f on %d rows", name, evaluated[name].metrics.log_loss, len(scores[name]))
    first = next(iter(manifests.values()))
    evaluation = Evaluation(
        first_date=first.first_date,
        last_date=first.last_date,
        rows=first.rows,
        models={name: evaluated[name] for name in models},
    )
    return evaluation, {name: scores[name] for name in models}


def evaluate_scores(
    artifact: str, model: str, dataset: str, observed: Observations, score: np.ndarray
) -> ModelEvaluation:
    """One model's metrics and curves.

    Args:
        artifact: the packed model's directory.
        model: name of the architecture.
        dataset: digest of the rows that were scored.
        observed: what is known of its rows.
        score: float[rows].
    """
    return ModelEvaluation(
        artifact=manifest_digest(artifact),
        model=model,
        dataset=dataset,
        metrics=measure(observed, score),
        calibration=tuple(bins(observed.label, score, observed.weight, CALIBRATION_BINS)),
        deciles=tuple(bins(observed.label, score, observed.weight, DECILES)),
        distribution=_distribution(score, observed.weight),
    )


def predict(
    models: Mapping[str, ServingModel], directory: str, manifest: DatasetManifest
) -> tuple[Observations, dict[str, np.ndarray]]:
    """Score a data set with several models: what is known of its rows, and float32[rows] scores by model.

    Raises DataError if a file differs from the manifest or if the data set is empty.

    Args:
        models: by name.
        directory: of the data set.
        manifest: the data set's.
    """
    inputs = dict.fromkeys(name for model in models.values() for name in model.input_columns)
    known: dict[str, list[np.ndarray]] = defaultdict(list)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for columns in _read(directory, manifest, inputs):
        for name in OBSERVED:
            if name in columns:
                known[name].append(np.asarray(columns[name]))
        for name, model in models.items():
            scores[name].append(model.score_encoded(columns))
    return _observations(known), {name: np.concatenate(parts) for name, parts in scores.items()}


def _read(directory: str, manifest: DatasetManifest, wanted: Iterable[str]) -> Iterator[dict[str, ColumnValues]]:
    """What is known of the rows and the `wanted` columns, file by file, each compared with the manifest."""
    if not manifest.rows:
        raise DataError(f"{directory} holds no rows; there is nothing to evaluate.")
    present = [column.name for column in manifest.columns if column.role in OBSERVED]
    names = list(dict.fromkeys([*present, *wanted]))
    for entry in manifest.data_files:
        content = read_verified(directory, entry)
        yield to_columns(read_table(content, storage.join(directory, entry.path), names))


def _observations(known: Mapping[str, list[np.ndarray]]) -> Observations:
    joined = {name: np.concatenate(parts) for name, parts in known.items()}
    label = joined["label"].astype(np.float64)
    return Observations(
        label=label,
        weight=joined["weight"].astype(np.float64) if "weight" in joined else np.ones(len(label)),
        group=joined.get("group"),
        truth=joined.get("truth"),
    )


def _check_same_impressions(manifests: Mapping[str, DatasetManifest]) -> None:
    held = {d: (m.first_date, m.last_date, m.rows, m.positives) for d, m in manifests.items()}
    if len(set(held.values())) != 1:
        lines = [
            f"{d}: {first} to {last}, {rows} rows, {ones} positives" for d, (first, last, rows, ones) in held.items()
        ]
        raise DataError("the data sets do not hold the same impressions:\n  " + "\n  ".join(lines))


def _dataset_of(name: str, model: ServingModel, manifests: Mapping[str, DatasetManifest]) -> str:
    state = model.manifest.inputs["state"]
    for directory, manifest in manifests.items():
        if manifest.state == state:
            return directory
    raise DataError(
        f"the artifact {name!r} encodes with the state {state[:12]}, but the data sets {list(manifests)} "
        f"were encoded with {[manifest.state[:12] for manifest in manifests.values()]}. "
        f"Build the same days under its state as well."
    )


def _distribution(score: np.ndarray, weight: np.ndarray) -> tuple[float, ...]:
    p = score.astype(np.float64)
    with np.errstate(divide="ignore"):
        logit = np.clip(np.log(p) - np.log1p(-p), LOGIT_EDGES[0], LOGIT_EDGES[-1])
    return tuple((np.histogram(logit, LOGIT_EDGES, weights=weight)[0] / weight.sum()).tolist())
