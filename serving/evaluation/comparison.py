"""Artifacts on the same impressions: every model's scores, metrics and curves, side by side.

Data sets are read file by file. What is known of the impressions and their scores go to scratch files, and figures come
of passes over these, as the gate's do (serving.sums.passes): memory does not grow with the rows.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.metrics.registry import quality
from nightjar.features.contract.publishing import manifest_digest, read_manifest
from nightjar.features.contract.strict import Strict
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder.encoder import ColumnValues
from nightjar.features.encoder.files import read_table
from nightjar.features.encoder.hashing import hash_long
from nightjar.serving.encoded import to_columns
from nightjar.serving.evaluation.curves import CALIBRATION_BINS, distribution, equal_bins, metrics_of
from nightjar.serving.evaluation.metrics import Bin, Metrics
from nightjar.serving.model import ServingModel, load
from nightjar.serving.sums.measure import Measured, measure, see
from nightjar.serving.sums.rows import Observations
from nightjar.serving.sums.spill import SpilledRows

DECILES = 10
OBSERVED = ("label", "weight", "group", "truth")

Keep = Callable[[str, np.ndarray], None]
"""Takes the name of a model and some of its scores, float32[n], in the order of its data set."""

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
    artifacts: Mapping[str, str], datasets: Sequence[str], *, threads: int = 1, keep: Keep | None = None
) -> Evaluation:
    """Evaluate artifacts, each on the data set that was encoded under its own state.

    Several data sets must hold the same impressions. Raises DataError if they do not, if an artifact has no data set,
    if a directory is damaged, if scores are no probabilities or if no impression has a weight.

    Args:
        artifacts: directories by name.
        datasets: directories.
        threads: of the dense layers.
        keep: takes the scores.
    """
    manifests = {directory: read_manifest(directory, DatasetManifest) for directory in datasets}
    _check_same_impressions(manifests)
    models = {name: load(directory, threads=threads) for name, directory in artifacts.items()}
    chosen = {name: _dataset_of(name, model, manifests) for name, model in models.items()}
    evaluated: dict[str, ModelEvaluation] = {}
    for directory in dict.fromkeys(chosen.values()):
        scored = {name: model for name, model in models.items() if chosen[name] == directory}
        measured = _measure(scored, directory, manifests[directory], keep)
        digest = manifest_digest(directory)
        for name, model in scored.items():
            evaluated[name] = evaluation_of(artifacts[name], model.manifest.model, digest, measured, name)
            log.info("%s: log loss %.5f on %d rows", name, evaluated[name].metrics.log_loss, manifests[directory].rows)
    first = next(iter(manifests.values()))
    return Evaluation(
        first_date=first.first_date,
        last_date=first.last_date,
        rows=first.rows,
        models={name: evaluated[name] for name in models},
    )


def evaluation_of(artifact: str, model: str, dataset: str, measured: Measured, name: str) -> ModelEvaluation:
    """One model's metrics and curves.

    Args:
        artifact: the packed model's directory.
        model: name of the architecture.
        dataset: digest of the rows that were scored.
        measured: sums, with the model's curves.
        name: of the model there.
    """
    sums = measured.bins[name]
    return ModelEvaluation(
        artifact=manifest_digest(artifact),
        model=model,
        dataset=dataset,
        metrics=metrics_of(sums, quality(measured.sums[name][0].once)),
        calibration=equal_bins(sums, CALIBRATION_BINS),
        deciles=equal_bins(sums, DECILES),
        distribution=distribution(sums),
    )


def _measure(
    models: Mapping[str, ServingModel], directory: str, manifest: DatasetManifest, keep: Keep | None
) -> Measured:
    """Sums and curves of several models on a data set."""
    with TemporaryDirectory(prefix="nightjar-evaluation-") as folder:
        host, seen = SpilledRows(folder, tuple(models), manifest.rows), 0
        for observed, scores in _score(models, directory, manifest):
            host.add(observed, hash_long(np.arange(seen, seen + len(observed.label))), scores)
            seen += len(observed.label)
            for name, score in scores.items():
                if keep:
                    keep(name, score)
        sight = see(host, {})
        for name, problem in sight.improbable.items():
            raise DataError(f"the scores of {name} are no probabilities: {problem}. Train it again.")
        if not sight.whole.rows:
            raise DataError(
                f"the rows of {directory} have no weight, so that nothing can be measured on them. Correct the column "
                f"of weights, or choose other rows."
            )
        names = list(models)
        return measure(host, sight, {}, compared=names, curves=names, resamples=0, seed=0)


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
    known: dict[str, list[np.ndarray]] = defaultdict(list)
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for observed, scores in _score(models, directory, manifest):
        for name in OBSERVED:
            if (column := getattr(observed, name)) is not None:
                known[name].append(column)
        for name, score in scores.items():
            found[name].append(score)
    joined = Observations(**{name: np.concatenate(parts) for name, parts in known.items()})
    return joined, {name: np.concatenate(parts) for name, parts in found.items()}


def _score(
    models: Mapping[str, ServingModel], directory: str, manifest: DatasetManifest
) -> Iterator[tuple[Observations, dict[str, np.ndarray]]]:
    """What is known of the rows and their scores, file by file, each compared with the manifest."""
    if not manifest.rows:
        raise DataError(f"{directory} holds no rows; there is nothing to evaluate.")
    present = [column.name for column in manifest.columns if column.role in OBSERVED]
    inputs = [name for model in models.values() for name in model.input_columns]
    names = list(dict.fromkeys([*present, *inputs]))
    for entry in manifest.data_files:
        content = read_verified(directory, entry)
        columns = to_columns(read_table(content, storage.join(directory, entry.path), names))
        yield _observations(columns), {name: model.score_encoded(columns) for name, model in models.items()}


def _observations(columns: Mapping[str, ColumnValues]) -> Observations:
    known = {name: np.asarray(columns[name]) for name in OBSERVED if name in columns}
    label = known["label"].astype(np.float64)
    return Observations(
        label=label,
        weight=known["weight"].astype(np.float64) if "weight" in known else np.ones(len(label)),
        group=known.get("group"),
        truth=known.get("truth"),
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
