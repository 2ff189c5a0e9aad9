"""What the passes over the judged rows have left, read: every model's sums by part and resample, and its curves.

Shapes: R resamples; P parts; H bins of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nightjar.features.contract.metrics.fixed_point import FRACTION, FixedPoint
from nightjar.features.contract.metrics.score_bins import BINS, ScoreRanks
from nightjar.features.contract.metrics.sums import Sums
from nightjar.features.contract.metrics.tally import Table
from nightjar.serving.sums.parts import Cut, Part, Sight, Support, look
from nightjar.serving.sums.passes import (
    FLOOR,
    CutModels,
    Resampling,
    count_of,
    curve_name,
    drawn_name,
    fill_bins,
    ranks_of,
    resample,
    truth_name,
)
from nightjar.serving.sums.rows import Host
from nightjar.serving.sums.slices import Slices

_SHARED, _OF_MODEL = 3, 4


@dataclass(frozen=True)
class PartSums:
    """A model in a part. once: its sums; drawn: those of the resamples; auc_bound: how far the AUC may be off."""

    part: Part
    once: Sums
    drawn: tuple[Sums, ...]
    auc_bound: float


@dataclass(frozen=True)
class BinSums:
    """A model's sums by bin of scores, float64[H]: of weights, and by weight of labels and scores. losses: where the
    truth is known, the truth's mean log loss, the same in expectation, and the model's in expectation.
    """

    weight_H: np.ndarray
    label_H: np.ndarray
    score_H: np.ndarray
    losses: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Measured:
    """Every model's sums by part, all rows first. parts: of each column that rows are sliced by. bins: of the models
    whose curves were wanted.
    """

    whole: Part
    parts: Mapping[str, Sequence[Part]]
    sums: Mapping[str, Sequence[PartSums]]
    bins: Mapping[str, BinSums]


def see(host: Host, slices: Mapping[str, Slices]) -> Sight:
    """Look at the rows. Raises DataError for labels and weights that cannot be used.

    Args:
        host: where they are.
        slices: by column.
    """
    return Sight.of(host.models, host.tally(partial(look, {name: one.coding for name, one in slices.items()})))


def measure(
    host: Host,
    sight: Sight,
    slices: Mapping[str, Slices],
    *,
    support: Support | None = None,
    compared: Sequence[str],
    others: Sequence[str] = (),
    curves: Sequence[str] = (),
    resamples: int,
    seed: int,
) -> Measured:
    """Take the passes that sums and resamples are made in, over rows of which one or more has a weight.

    Args:
        host: where the rows are.
        sight: what a look at them has found.
        slices: by column.
        support: what a slice must hold to be a part of its own; None for the default.
        compared: models whose sums are wanted in every part.
        others: models whose sums are wanted of all rows only.
        curves: of these models the curves are wanted, too.
        resamples: R.
        seed: of the draws.
    """
    by_column = [Cut.by(name, one, sight.by_code[name], support or Support()) for name, one in slices.items()]
    cuts = [CutModels(Cut.whole(), (*compared, *others)), *(CutModels(cut, tuple(compared)) for cut in by_column)]
    filled = host.tally(partial(fill_bins, cuts, sight.fixed, curves))
    ranks = dict(ranks_of(cuts, filled))
    drawn = host.tally(partial(resample, Resampling.of(cuts, sight.fixed, ranks, resamples, seed)))
    sums: dict[str, list[PartSums]] = {name: [] for name in cuts[0].models}
    parts: list[list[Part]] = []
    for number, one in enumerate(cuts):
        counts = filled[count_of(number)].spread_over(one.parts)
        parts.append([Part.of(name, counts[n]) for n, name in enumerate(one.cut.names)])
        table = drawn[drawn_name(number)].spread_over(one.parts * (resamples + 1))
        of_parts = table.reshape(one.parts, resamples + 1, -1)
        for m, name in enumerate(one.models):
            first = _SHARED + _OF_MODEL * m
            for n, part in enumerate(parts[-1]):
                own, found = of_parts[n, :, first : first + _OF_MODEL], ranks[name][number][n]
                once, *rest = _read(of_parts[n, :, :_SHARED], own, found, sight.fixed)
                sums[name].append(PartSums(part, once, tuple(rest), found.bound))
    return Measured(
        parts[0][0],
        dict(zip(slices, parts[1:], strict=True)),
        sums,
        {name: _curve(filled, name, sight.fixed) for name in curves},
    )


def _read(shared_RC: np.ndarray, own_RC: np.ndarray, ranks: ScoreRanks, fixed: FixedPoint) -> list[Sums]:
    """Sums of a model in a part: of all rows once, then of the resamples.

    Args:
        shared_RC: int64[1 + R, 3], what all models share.
        own_RC: int64[1 + R, 4], the model's own.
        ranks: of its scores.
        fixed: what integers stand for.
    """
    weight_R, label_R, grouped_R = (shared_RC * fixed.quantum).T
    loss_R, score_R, influence_R, ranked_R = (own_RC * (fixed.quantum / np.array([1.0, *[FRACTION] * 3]))).T
    negatives_R = weight_R - label_R
    auc = 0.0 if np.isnan(ranks.auc) else ranks.auc
    pairs_R = label_R * negatives_R
    won_R = np.clip(auc * pairs_R + weight_R[0] * (influence_R - influence_R[0]), 0.0, pairs_R)
    columns = (weight_R, label_R, score_R, loss_R, won_R, label_R, negatives_R, ranked_R, grouped_R)
    return [Sums(*row) for row in np.stack(columns, axis=1).tolist()]


def _curve(filled: Mapping[str, Table], name: str, fixed: FixedPoint) -> BinSums:
    weight_H, label_H, score_H = filled[curve_name(name)].spread_over(BINS).T * fixed.quantum
    truth = filled.get(truth_name(name))
    losses = None
    if truth is not None:
        [expected], [floor, expected_floor] = truth.values[0], filled[FLOOR].values[0]
        total = weight_H.sum() / fixed.quantum
        losses = (float(floor / total), float(expected_floor / total), float(expected / total))
    return BinSums(weight_H, label_H, score_H, losses)
