"""Sums of every model in every part, and in every resample of the bootstrap, from passes over the judged rows.

A first pass (serving.sums.parts.look) says what there is. A second fills histograms of scores: AUCs, with their bounds.
A third draws the resamples. All sums but the AUC's are linear in how often a unit is drawn. The AUC is a ratio of
pairs: with e the number of draws less 1, the pairs won in a resample are

    won = A P* N* + Σ_u e_u g_u + Σ_u Σ_v e_u e_v h(u, v)

A: the AUC of all rows; P*, N*: the classes' weights in the resample; h(u, v): the pairs won between a positive of u and
a negative of v, less A times their weight; g_u: the sum of h over both places, which the histogram yields row by row.
The last sum has mean Σ h(u, u) and a standard deviation that is smaller than the one before by the root of the number
of units. It is left out: the bootstrap is that of the AUC's Hájek projection, as DeLong et al. 1988 estimate its
variance. docs/gate.md has what that changes.

Shapes: P judged rows; U units; S pairs of a unit and a part; R resamples; C columns; H bins of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.metrics.fixed_point import FRACTION, FixedPoint, whole
from nightjar.features.contract.metrics.score_bins import BINS, BITS, ScoreRanks, bins_of, coarser
from nightjar.features.contract.metrics.sums import cross_entropy, ordered_pairs
from nightjar.features.contract.metrics.tally import Table, Tally
from nightjar.serving.sums.draws import CHUNK, drawn_sums, draws
from nightjar.serving.sums.parts import Cut, count
from nightjar.serving.sums.rows import JudgedRows, ScoredRows

SLICE_BITS = 14
"""Bins of slices: four of all rows' bins each, since there may be many slices."""


@dataclass(frozen=True)
class CutModels:
    """A cut, and the models whose sums are wanted in its parts. bits: of the number of bins."""

    cut: Cut
    models: tuple[str, ...]

    @property
    def bits(self) -> int:
        """Of the number of bins of scores."""
        return BITS if self.cut.column is None else SLICE_BITS

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self.cut.names)

    def places(self, part_P: np.ndarray, bin_P: np.ndarray) -> np.ndarray:
        """Where a part's bin is in the histograms of all parts: int64[P].

        Args:
            part_P: of rows.
            bin_P: of their scores, of the finest bins.
        """
        return (part_P << self.bits) + (bin_P >> (BITS - self.bits))


def count_of(number: int) -> str:
    """Name of the table of counts by part of a cut."""
    return f"count {number}"


def bins_name(number: int, model: str) -> str:
    """Name of the table of weights of positives and negatives by part and bin."""
    return f"bins {number} {model}"


def ties_name(model: str) -> str:
    """Name of the table of the largest score of a bin, and of the least, negated, as bits."""
    return f"ties {model}"


def curve_name(model: str) -> str:
    """Name of the table of weight, weight of positives and sum of scores by bin."""
    return f"curve {model}"


def truth_name(model: str) -> str:
    """Name of the table of a model's expected loss."""
    return f"truth {model}"


FLOOR = "floor"
"""Name of the table of the truth's loss, and of its expected loss."""


def fill_bins(cuts: Sequence[CutModels], fixed: FixedPoint, curves: Sequence[str], scored: ScoredRows) -> Tally:
    """A pass: histograms of scores.

    Args:
        cuts: all rows first.
        fixed: of the weights.
        curves: models whose curves are wanted, too.
        scored: some of the rows.
    """
    judged = JudgedRows.of(scored)
    observed = judged.rows.observed
    weight_P, label_P = fixed.weights(observed.weight), observed.label
    bins = {name: bins_of(judged.rows.scores[name]) for name in cuts[0].models}
    found: dict[str, Table] = {}
    for number, one in enumerate(cuts):
        part_P = one.cut.parts_of(judged.rows)
        found[count_of(number)] = Table.dense([*count(judged, part_P, one.parts).T])
        for name in one.models:
            place_P, size = one.places(part_P, bins[name]), one.parts << one.bits
            columns = [np.bincount(place_P, weight_P * by, size) for by in (label_P, 1.0 - label_P)]
            found[bins_name(number, name)] = Table.dense(columns)
    for name, bin_P in bins.items():
        bits_P = (judged.rows.scores[name].astype(np.float64) + 0.0).view(np.int64)
        found[ties_name(name)] = Table.of(bin_P, np.stack([bits_P, -bits_P], axis=1), largest=True)
    for name in curves:
        score_P = judged.rows.scores[name].astype(np.float64)
        curve = (weight_P, weight_P * label_P, np.rint(weight_P * score_P))
        found[curve_name(name)] = Table.dense([np.bincount(bins[name], column, BINS) for column in curve])
        if observed.truth is not None:
            found[truth_name(name)] = Table.one(_total(weight_P, cross_entropy(observed.truth, score_P)))
            losses = [_total(weight_P, cross_entropy(of, observed.truth)) for of in (label_P, observed.truth)]
            found[FLOOR] = Table.one(*losses)
    return found


def _total(weight_P: np.ndarray, value_P: np.ndarray) -> int:
    return int(whole(weight_P * value_P).sum())


def ranks_of(cuts: Sequence[CutModels], found: Tally) -> Iterator[tuple[str, list[list[ScoreRanks]]]]:
    """By model, the ranks of scores in every part of every cut that it is in.

    Args:
        cuts: those of `fill_bins`.
        found: what it has left.
    """
    for name in cuts[0].models:
        ties = found[ties_name(name)].spread_over(BINS)
        occupied_H = np.isin(np.arange(BINS), found[ties_name(name)].keys)
        lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        most_H = np.where(occupied_H, ties[:, 0], lowest)
        least_H = np.where(occupied_H, -ties[:, 1], highest)
        by_cut = []
        for number, one in enumerate(cuts):
            if name not in one.models:
                continue
            tied_H = coarser(most_H, one.bits, np.maximum) <= coarser(least_H, one.bits, np.minimum)
            table = found[bins_name(number, name)].spread_over(one.parts << one.bits)
            of_parts = table.reshape(one.parts, -1, 2)
            by_cut.append([ScoreRanks.of(part[:, 0], part[:, 1], tied_H) for part in of_parts])
        yield name, by_cut


@dataclass(frozen=True)
class Resampling:
    """What `resample` is told. influence: by model and cut, a row's g by part and bin, float64[parts * H] for positives
    and for negatives, over the weight of all rows of the part, as FRACTIONs of its own weight.
    """

    cuts: Sequence[CutModels]
    fixed: FixedPoint
    influence: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]
    resamples: int
    seed: int

    @classmethod
    def of(
        cls,
        cuts: Sequence[CutModels],
        fixed: FixedPoint,
        ranks: Mapping[str, list[list[ScoreRanks]]],
        resamples: int,
        seed: int,
    ) -> Resampling:
        """Args as of the fields; ranks: of `ranks_of`."""
        influence = {}
        for name, by_cut in ranks.items():
            influence[name] = [
                (
                    np.concatenate([FRACTION * _share(one.negatives, one) * one.of_positive for one in parts]),
                    np.concatenate([FRACTION * _share(one.positives, one) * one.of_negative for one in parts]),
                )
                for parts in by_cut
            ]
        return cls(cuts, fixed, influence, resamples, seed)


def _share(weight: float, ranks: ScoreRanks) -> float:
    total = ranks.positives + ranks.negatives
    return weight / total if total else 0.0


def drawn_name(number: int) -> str:
    """Name of the table of sums by part of a cut and resample, of which the first is all rows once."""
    return f"drawn {number}"


def resample(plan: Resampling, scored: ScoredRows) -> Tally:
    """A pass: the sums of every model in every part and resample, as serving.sums.measure reads them."""
    judged = JudgedRows.of(scored)
    units = len(judged.key_U)
    if not units:
        return {}
    pairs = [_Pairs.of(plan, number, judged) for number in range(len(plan.cuts))]
    for begin in range(0, units, CHUNK):
        key_U = judged.key_U[begin : begin + CHUNK]
        drawn_UR = np.concatenate([np.ones((len(key_U), 1)), draws(key_U, plan.resamples, plan.seed)], axis=1)
        for one in pairs:
            one.add(drawn_UR, begin)
    return {drawn_name(number): Table.dense([*one.total().T]) for number, one in enumerate(pairs)}


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a unit and a part of a cut. value_SC: weight, positives, weight if it is a group of both classes; then
    for each model loss, score, influence on the AUC, and weight times AUC of such a group. sum_pRC: the same by part
    and resample.
    """

    unit_S: np.ndarray
    part_S: np.ndarray
    value_SC: np.ndarray
    sum_pRC: np.ndarray

    @classmethod
    def of(cls, plan: Resampling, number: int, judged: JudgedRows) -> _Pairs:
        cut = plan.cuts[number]
        part_P = cut.cut.parts_of(judged.rows)
        pair_P = judged.unit_P * cut.parts + part_P
        order_P = np.argsort(pair_P, kind="stable")
        pair_P, part_P = pair_P[order_P], part_P[order_P]
        starts_S = np.flatnonzero(np.diff(pair_P, prepend=-1))
        observed = judged.rows.observed
        weight_P, label_P = plan.fixed.weights(observed.weight)[order_P], observed.label[order_P]
        positive_P = weight_P * label_P

        def by_pair(value_P: np.ndarray) -> np.ndarray:
            return np.add.reduceat(whole(value_P), starts_S)

        weight_S, positive_S = by_pair(weight_P), by_pair(positive_P)
        unit_S, part_S = np.divmod(pair_P[starts_S], cut.parts)
        both_S = judged.grouped_U[unit_S] & (positive_S > 0) & (positive_S < weight_S)
        length_S = np.diff(starts_S, append=len(pair_P))
        [mixed_P] = np.nonzero(np.repeat(both_S, length_S))
        columns = [weight_S, positive_S, np.where(both_S, weight_S, 0)]
        for name in cut.models:
            score_P = judged.rows.scores[name][order_P]
            place_P = cut.places(part_P, bins_of(score_P))
            of_positive, of_negative = plan.influence[name][number]
            influence_P = np.where(label_P > 0, of_positive[place_P], of_negative[place_P])
            won_S, positives_S, negatives_S = ordered_pairs(
                pair_P[mixed_P], score_P[mixed_P], positive_P[mixed_P], (weight_P - positive_P)[mixed_P]
            ).T
            ranked_S = np.zeros(len(starts_S), np.int64)
            ranked_S[both_S] = whole(FRACTION * weight_S[both_S] * (won_S / (positives_S * negatives_S)))
            columns += [
                by_pair(weight_P * cross_entropy(label_P, score_P)),
                by_pair(FRACTION * weight_P * score_P),
                by_pair(weight_P * influence_P),
                ranked_S,
            ]
        sums = np.zeros((cut.parts, plan.resamples + 1, len(columns)), np.int64)
        return cls(unit_S, part_S, np.stack(columns, axis=1), sums)

    def add(self, drawn_UR: np.ndarray, begin: int) -> None:
        """Add the units from `begin` on, as often as they are drawn."""
        first, end = np.searchsorted(self.unit_S, (begin, begin + len(drawn_UR)))
        order_S = first + np.argsort(self.part_S[first:end], kind="stable")
        part_S = self.part_S[order_S]
        for chosen_S in np.split(order_S, np.flatnonzero(np.diff(part_S)) + 1):
            drawn_SR = drawn_UR[self.unit_S[chosen_S] - begin]
            self.sum_pRC[self.part_S[chosen_S[0]]] += drawn_sums(drawn_SR, self.value_SC[chosen_S])

    def total(self) -> np.ndarray:
        """By part and resample: int64[parts * R, C]."""
        parts, resamples, columns = self.sum_pRC.shape
        return self.sum_pRC.reshape(parts * resamples, columns)
