"""A calibration, fitted to rows that the model has not learned from and the gate does not judge by.

Platt (1999): the line a logit + b that is most likely, a > 0. Isotonic: the ascending step function that fits best (the
pool of adjacent violators), whose blocks become points, straight between them (centred isotonic regression, Oron and
Flournoy 2017), so that ranks stay. Rows count by their weight. Negatives that sampling has left out are in the weights
of the others, so that the curves lead to the log's share of positives and not to the sample's.

Shapes: B rows, K distinct logits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression, minimize

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CALIBRATION
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DatasetManifest, FileEntry
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.strict import digest
from nightjar.features.contract.verified import read_verified
from nightjar.features.encoder.files import read_table
from nightjar.serving.calibration import IDENTITY, Calibration, Curve
from nightjar.serving.encoded import batches, to_columns
from nightjar.serving.head_graph import BATCH_ROWS
from nightjar.serving.model import ServingModel
from nightjar.serving.packing.config import CalibrationConfig

ENOUGH = 50
"""Rows of either class that a curve, and each point of an isotonic one, is made of at the least."""
# Scores that rank the wrong way are not turned round: ranks stay.
_SMALLEST_SLOPE = 1e-3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrationRows:
    """Files of a published data set that the model has not learned from, encoded under its state."""

    directory: str
    files: tuple[FileEntry, ...]

    @property
    def digest(self) -> str:
        """Of what they hold."""
        return digest([entry.sha256 for entry in self.files])


@dataclass(frozen=True)
class _Observed:
    """logit: float64[B]; label: 0 or 1, float64[B]; weight: float64[B]; id: of the field's value, int64[B], or None."""

    logit: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    id: np.ndarray | None

    def of(self, id_: int) -> _Observed:
        """The rows of one value."""
        rows = self.id == id_
        return _Observed(self.logit[rows], self.label[rows], self.weight[rows], None)


def write_calibration(model: ServingModel, rows: CalibrationRows, config: CalibrationConfig) -> None:
    """Fit the model's calibration and write it into its directory, which is not published yet.

    With fewer rows than ENOUGH of either class the logits stay as they are, and a warning says so.

    Args:
        model: as it is packed, without a calibration.
        rows: to fit it to.
        config: how.

    Raises DataError if a file of the rows is damaged, or the model's logits are not finite.
    """
    fields = {c.feature: c.name for c in model.manifest.columns if c.role == "field" and not c.multi_valued}
    column = fields.get(config.by) if config.by else None  # None, too, for a model that does not read the field
    calibration = _fitted(config, _observed(model, rows, column), column)
    content = calibration.model_dump_json(indent=1) + "\n"
    storage.write_bytes(storage.join(model.directory, CALIBRATION), content.encode())


def _fitted(config: CalibrationConfig, observed: _Observed, column: str | None) -> Calibration:
    """The calibration of these rows. column: of the field that it goes by; None for one curve."""
    whole = _curve(config.method, observed)
    if whole is None:
        log.warning(
            "no calibration: of %d rows held back, %d are positive; it takes %d of either class",
            len(observed.label),
            np.count_nonzero(observed.label),
            ENOUGH,
        )
        return Calibration(curve=IDENTITY)
    if column is None or observed.id is None:
        return Calibration(curve=whole)
    ids, counts = np.unique(observed.id, return_counts=True)
    found = {id_: _curve(config.method, observed.of(id_)) for id_ in ids[counts >= 2 * ENOUGH].tolist()}
    curves = {id_: curve for id_, curve in found.items() if curve is not None}
    return Calibration(curve=whole, column=column, curves=curves)


def _curve(method: str, observed: _Observed) -> Curve | None:
    """None if there are not enough rows."""
    kept = observed.weight > 0
    logit, label, weight = (a[kept] for a in (observed.logit, observed.label, observed.weight))
    if min(np.count_nonzero(label == 0), np.count_nonzero(label == 1)) < ENOUGH:
        return None
    return platt(logit, label, weight) if method == "platt" else isotonic(logit, label, weight)


def platt(logit_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> Curve:
    """The line that makes the labels most likely. All float64[B]; both classes are there."""

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z_B = line[0] * logit_B + line[1]
        error_B = weight_B * (np.exp(-np.logaddexp(0.0, -z_B)) - label_B)
        total = np.sum(weight_B * (np.logaddexp(0.0, z_B) - label_B * z_B))
        return total / weight_B.sum(), np.array([np.sum(error_B * logit_B), error_B.sum()]) / weight_B.sum()

    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    bounds = [(_SMALLEST_SLOPE, 1e3), (-1e3, 1e3)]
    found = minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slope, intercept = found.x.tolist()
    return Curve(x=(0.0,), y=(intercept,), slope=slope)


def isotonic(logit_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> Curve:
    """A point for each block of the isotonic regression: its mean logit, and the logit of its share of positives.

    Neighbours are joined until each has ENOUGH rows of either class, so that no share is 0 or 1 or a matter of chance.
    All float64[B]; there are enough of either class.
    """
    logit_K, place_B = np.unique(logit_B, return_inverse=True)

    def sums(values_B: np.ndarray) -> np.ndarray:
        return np.bincount(place_B, values_B, len(logit_K))

    parts_K5 = np.stack(
        [sums(weight_B), sums(weight_B * label_B), sums(weight_B * logit_B), sums(1.0 - label_B), sums(label_B)], axis=1
    )
    blocks = isotonic_regression(parts_K5[:, 1] / parts_K5[:, 0], weights=parts_K5[:, 0]).blocks
    weight, positive, moment, _, _ = np.array(list(_joined(np.add.reduceat(parts_K5, blocks[:-1], axis=0)))).T
    x, share = moment / weight, positive / weight
    y = np.log(share) - np.log1p(-share)
    rising = np.concatenate([[True], (np.diff(x) > 0) & (np.diff(y) > 0)])  # false where rounding made two equal
    return Curve(x=tuple(x[rising].tolist()), y=tuple(y[rising].tolist()))


def _joined(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks with enough negatives and positives, their last two columns; what is left over is the last one's."""
    done: np.ndarray | None = None
    open_ = np.zeros(blocks.shape[1])
    for block in blocks:
        open_ = open_ + block
        if open_[-2:].min() >= ENOUGH:
            if done is not None:
                yield done
            done, open_ = open_, np.zeros(blocks.shape[1])
    yield open_ if done is None else done + open_


def _observed(model: ServingModel, rows: CalibrationRows, column: str | None) -> _Observed:
    manifest = read_manifest(rows.directory, DatasetManifest)
    known = {c.role: c.name for c in manifest.columns if c.role in ("label", "weight")}
    parts: list[_Observed] = []
    for entry in rows.files:
        content = read_verified(rows.directory, entry)
        names = list(dict.fromkeys([*known.values(), *model.input_columns]))
        columns = to_columns(read_table(content, storage.join(rows.directory, entry.path), names))
        label = np.asarray(columns[known["label"]], dtype=np.float64)
        weight = np.asarray(columns[known["weight"]], dtype=np.float64) if "weight" in known else np.ones(len(label))
        ids = None if column is None else np.asarray(columns[column], dtype=np.int64)
        inputs = {name: columns[name] for name in model.input_columns}
        pieces = batches(inputs, len(label), BATCH_ROWS)
        logits = [model.logits(model.head_inputs(batch, stop - start)) for start, stop, batch in pieces]
        parts.append(_Observed(np.concatenate([np.zeros(0), *logits]), label, weight, ids))
    none = np.zeros(0)
    joined = _Observed(
        np.concatenate([none, *(part.logit for part in parts)]),
        np.concatenate([none, *(part.label for part in parts)]),
        np.concatenate([none, *(part.weight for part in parts)]),
        None if column is None else np.concatenate([part.id for part in parts if part.id is not None]),
    )
    if not np.isfinite(joined.logit).all():
        raise DataError(f"the logits of rows of {rows.directory} are not finite: training diverged. Train again.")
    return joined
