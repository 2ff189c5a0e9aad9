"""Why a row has its score, and why its score has moved.

The wide part is a sum: every coordinate that the row holds, by its name. The rest of the head is explained by fields,
and by numbers, with integrated gradients (serving.explain.paths) from the mean of the artifact's golden rows: what
makes this row's score differ from an average row's. Serving has no torch and a head is any ONNX graph, so that the
integral is taken by evaluating the head alone. All of it adds up to the row's logit; a calibration comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.encoder import ColumnValues, Encoder, HashedBatch
from nightjar.features.encoder.frequency import Counts
from nightjar.features.encoder.requests import Row, Rows
from nightjar.features.encoder.rows import hash_rows, read_columns
from nightjar.serving.explain.named import Value, of_cross, of_field, values_of
from nightjar.serving.explain.paths import shares

if TYPE_CHECKING:
    from nightjar.serving.model import ServingModel

Part = Literal["wide", "deep"]


@dataclass(frozen=True)
class Contribution:
    """What something in the row adds to the logit.

    part: wide, or deep for all else that the head computes. feature: the field, cross, dense feature or frequency.
    name: what it is, by its values. x: of a wide coordinate or a dense column, its value; None for a field in the deep
    part. shared: which others have the same id, in words; empty where nothing has.
    """

    part: Part
    feature: str
    name: str
    x: float | None
    logit: float
    shared: str = ""


@dataclass(frozen=True)
class KeyCounts:
    """The counts behind a frequency's columns: of the row's keys together, in a window."""

    frequency: str
    keys: str
    window: str
    impressions: int
    positives: int


@dataclass(frozen=True)
class Explanation:
    """A row's logit as a sum: base + contributions.

    base: the logit of the golden rows' mean with no wide coordinate but the bias. contributions: the largest first.
    calibration: what the last step adds to the logit before it becomes the probability; 0 without calibration.
    """

    probability: float
    logit: float
    base: float
    contributions: tuple[Contribution, ...]
    counters: tuple[KeyCounts, ...]
    calibration: float = 0.0

    def by_feature(self) -> dict[str, float]:
        """What every field, cross, dense feature and frequency adds in both parts, the largest first."""
        sums: dict[str, float] = {}
        for contribution in self.contributions:
            sums[contribution.feature] = sums.get(contribution.feature, 0.0) + contribution.logit
        return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))

    def __str__(self) -> str:
        lines = [f"probability {self.probability:.4f}, logit {self.logit:+.4f} = base {self.base:+.4f} and"]
        for c in self.contributions:
            x = "" if c.x is None else f" (x = {c.x:.4g})"
            lines.append(f"{c.logit:+.4f}  {c.part}  {c.name}{x}{f'; {c.shared}' if c.shared else ''}")
        if self.calibration:
            lines.append(f"{self.calibration:+.4f}  calibration, to {self.logit + self.calibration:+.4f}")
        for k in self.counters:
            lines.append(f"{k.frequency}, {k.window}: {k.impressions} impressions, {k.positives} positives of {k.keys}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Moved:
    """A contribution before and after, 0 where there was none."""

    part: Part
    feature: str
    name: str
    before: float
    after: float

    @property
    def logit(self) -> float:
        """By how much it moved the logit."""
        return self.after - self.before


@dataclass(frozen=True)
class Change:
    """Why a row's logit moved: base and contributions, which add up to the difference. moved: the largest first.

    calibration: by how much more, or less, the logit moved that is served.
    """

    before: Explanation
    after: Explanation
    base: float
    moved: tuple[Moved, ...]
    calibration: float = 0.0


def explain(model: ServingModel, row: Rows, *, as_logged: bool = False) -> Explanation:
    """Explain the score of one row; see ServingModel.explain."""
    hashed = hash_rows(model.state, row, as_logged=as_logged)
    if hashed.rows != 1:
        raise DataError(f"one row is explained at a time; the request has {hashed.rows}.")
    columns = Encoder(model.state.spec, model.state.encoder).encode(hashed)
    arrays, _ = read_columns(model.state.spec, row, as_logged=as_logged)
    values = {field.name: values_of(field, arrays[field.name]) for field in model.state.spec.fields}
    inputs = model.head_inputs(columns, 1)
    logits = model.logits(inputs)
    logit, served = float(logits[0]), float(model.calibrated(logits, columns)[0])
    wide = list(_wide(model, columns, values)) if model.wide else []
    deep, start = _deep(model, inputs, columns, values)
    return Explanation(
        probability=float(np.exp(-np.logaddexp(0.0, -served))),
        logit=logit,
        base=start - sum(contribution.logit for contribution in wide),
        contributions=tuple(sorted([*wide, *deep], key=lambda c: (-abs(c.logit), c.part, c.name))),
        counters=tuple(_counts(model, hashed, values)),
        calibration=served - logit,
    )


def explain_change(row: Row, before: ServingModel, after: ServingModel, *, as_logged: bool = False) -> Change:
    """Why the row's score moved from one model to another, or under other counters: what is alike has the same name."""
    of = [explain(model, row, as_logged=as_logged) for model in (before, after)]
    was, now = ({(c.part, c.feature, c.name): c.logit for c in each.contributions} for each in of)
    moved = [Moved(*key, was.get(key, 0.0), now.get(key, 0.0)) for key in dict.fromkeys([*was, *now])]
    order = sorted(moved, key=lambda m: (-abs(m.logit), m.part, m.name))
    calibration = of[1].calibration - of[0].calibration
    return Change(of[0], of[1], of[1].base - of[0].base, tuple(order), calibration)


def _wide(
    model: ServingModel, columns: dict[str, ColumnValues], values: dict[str, tuple[Value, ...]]
) -> Iterator[Contribution]:
    """Every coordinate but the bias; those that weigh nothing are left out."""
    assert model.wide is not None
    spec, state = model.state.spec, model.state.encoder
    for slot in model.wide.slots:
        name = slot.column.feature
        if slot.column.role == "dense":
            x = float(np.asarray(columns[slot.column.name])[0])
            weight = float(model.wide.lookup(np.array([slot.offset]))[0])
            if weight * x:
                yield Contribution("wide", _owner(model, name), name, x, weight * x)
            continue
        if slot.column.role == "cross":
            cross = next(cross for cross in spec.crosses if cross.name == name)
            coordinates = list(of_cross(cross, values, state, model.fitted))
        else:
            coordinates = list(of_field(spec.field(name), values[name], state, model.fitted))
        ids = np.array([coordinate.id for coordinate in coordinates], dtype=np.int64)
        for coordinate, weight in zip(coordinates, model.wide.lookup(ids + slot.offset).tolist(), strict=True):
            if weight:
                yield Contribution("wide", name, coordinate.name, 1.0, weight, coordinate.shared)


def _deep(
    model: ServingModel,
    inputs: dict[str, np.ndarray],
    columns: dict[str, ColumnValues],
    values: dict[str, tuple[Value, ...]],
) -> tuple[list[Contribution], float]:
    """What fields and numbers add between the golden rows' mean and the row, and the logit where they begin."""
    parts = [name for name in ("embeddings", "dense") if name in inputs]
    end = np.concatenate([np.zeros(0, np.float32), *(inputs[name][0] for name in parts)])
    mean = model.mean_inputs
    start = np.concatenate([np.zeros(0, np.float32), *(mean[name] for name in parts)])
    cuts = np.cumsum([inputs[name].shape[1] for name in parts])[:-1]

    def logits(points: np.ndarray) -> np.ndarray:
        feed = dict(zip(parts, np.split(points, cuts, axis=1) if parts else (), strict=True))
        if "first_order" in inputs:
            feed["first_order"] = np.repeat(inputs["first_order"], len(points))
        return model.logits(feed)

    at_start = float(logits(start[None])[0])
    names: list[tuple[str, str, float | None]] = []
    group_of: list[int] = []
    if "embeddings" in parts:
        for table in model.embeddings:
            for slot in table.slots:
                group_of += [len(names)] * table.weights.shape[1]
                feature = slot.column.feature
                said = " | ".join(value.of(feature) for value in values[feature]) or f"{feature} is empty"
                names.append((feature, said, None))
    if "dense" in parts:
        for column in (c for c in model.manifest.columns if c.role == "dense"):
            group_of.append(len(names))
            x = float(np.asarray(columns[column.name])[0])
            names.append((_owner(model, column.feature), column.feature, x))
    added = shares(logits, start, end, np.array(group_of, dtype=np.int64))
    found = [Contribution("deep", *name, float(share)) for name, share in zip(names, added, strict=True) if share]
    return found, at_start


def _owner(model: ServingModel, dense: str) -> str:
    """The dense feature or the frequency that a dense column is of."""
    for frequency in model.state.spec.frequencies:
        if any(name == dense for name, _, _ in frequency.columns()):
            return frequency.name
    for feature in model.state.spec.dense:
        if dense in (feature.name, f"{feature.name}_missing"):
            return feature.name
    return dense


def _counts(model: ServingModel, hashed: HashedBatch, values: dict[str, tuple[Value, ...]]) -> Iterator[KeyCounts]:
    for frequency in model.state.spec.frequencies:
        keys = " & ".join(
            " | ".join(value.of(name) for value in values[name]) or f"{name} is empty" for name in frequency.keys
        )
        counts: dict[str, Counts] = dict(hashed.histories[frequency.name].counts)
        for window, of in counts.items():
            yield KeyCounts(frequency.name, keys, window, int(of.impressions[0]), int(of.positives[0]))
