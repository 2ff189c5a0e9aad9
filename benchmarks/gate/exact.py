"""The gate's figures without its sums: rows sorted by their scores in memory, every resample measured by itself.

This is how the gate judged until 2026-11-30. Resamples are its multinomial draws of then, or the gate's Poisson draws
of now, so that what comes of binning and projecting can be told from what comes of other random numbers.

Shapes: P judged rows; U units; S units of a part; T runs of equal scores; R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nightjar.features.contract.metrics.sums import Sums, cross_entropy, ordered_pairs
from nightjar.serving.gate.decision import GateConfig
from nightjar.serving.sums.draws import draws
from nightjar.serving.sums.measure import Measured, PartSums
from nightjar.serving.sums.parts import Cut, Part, Sight, count
from nightjar.serving.sums.rows import JudgedRows, ScoredRows
from nightjar.serving.sums.slices import Slices


def multinomial(units: int, resamples: int, seed: int) -> np.ndarray:
    """How often each unit comes up in as many draws as there are units: float64[U, R]."""
    random = np.random.default_rng(seed)
    drawn = [np.bincount(random.integers(units, size=units), minlength=units) for _ in range(resamples)]
    return np.array(drawn, dtype=np.float64).T


def measure_exactly(
    scored: ScoredRows, sight: Sight, slices: Mapping[str, Slices], config: GateConfig, *, poisson: bool
) -> Measured:
    """What serving.sums.measure.measure yields, without curves."""
    judged = JudgedRows.of(scored)
    if poisson:
        drawn_UR = draws(judged.key_U, config.resamples, config.seed)
    else:
        drawn_UR = multinomial(len(judged.key_U), config.resamples, config.seed)
    cuts = [Cut.whole(), *(Cut.by(n, one, sight.by_code[n], config.slice_support) for n, one in slices.items())]
    sums: dict[str, list[PartSums]] = {name: [] for name in scored.scores}
    parts: list[list[Part]] = []
    for cut in cuts:
        part_P = cut.parts_of(judged.rows)
        counts = count(judged, part_P, len(cut.names))
        parts.append([Part.of(name, counts[n]) for n, name in enumerate(cut.names)])
        for n, part in enumerate(parts[-1]):
            for name, of_parts in sums.items():
                once, *rest = _of_part(judged, np.flatnonzero(part_P == n), judged.rows.scores[name], drawn_UR)
                of_parts.append(PartSums(part, once, tuple(rest), 0.0))
    return Measured(parts[0][0], dict(zip(slices, parts[1:], strict=True)), sums, {})


def _of_part(judged: JudgedRows, rows_P: np.ndarray, score_B: np.ndarray, drawn_UR: np.ndarray) -> Iterator[Sums]:
    """Sums of a model over all rows of a part once, then over each resample."""
    units_S, unit_P = np.unique(judged.unit_P[rows_P], return_inverse=True)
    label_P, weight_P = judged.rows.observed.label[rows_P], judged.rows.observed.weight[rows_P]
    score_P = score_B[rows_P].astype(np.float64)
    positive_P, negative_P = weight_P * label_P, weight_P * (1.0 - label_P)
    columns = (weight_P, positive_P, weight_P * score_P, weight_P * cross_entropy(label_P, score_P))
    sums_SC = np.stack([np.bincount(unit_P, column, len(units_S)) for column in columns], axis=1)
    won_S, positives_S, negatives_S = ordered_pairs(unit_P, score_P, positive_P, negative_P).T
    pairs_S = positives_S * negatives_S
    both_S = judged.grouped_U[units_S] & (pairs_S > 0)
    group_S = np.where(both_S, sums_SC[:, 0], 0.0)
    ranked_S = group_S * np.divide(won_S, pairs_S, out=np.zeros_like(won_S), where=both_S)
    order_P = np.argsort(score_P, kind="stable")
    starts_T = np.flatnonzero(np.diff(score_P[order_P], prepend=np.nan))
    unit_P, positive_P, negative_P = unit_P[order_P], positive_P[order_P], negative_P[order_P]
    for drawn_S in (np.ones(len(units_S)), *drawn_UR[units_S].T):
        drawn_P = drawn_S[unit_P]
        positive_T = np.add.reduceat(positive_P * drawn_P, starts_T)
        negative_T = np.add.reduceat(negative_P * drawn_P, starts_T)
        below_T = np.cumsum(negative_T) - 0.5 * negative_T
        weight, label, score, loss = (drawn_S @ sums_SC).tolist()
        yield Sums(
            weight=weight,
            label=label,
            score=score,
            loss=loss,
            won=float(np.sum(positive_T * below_T)),
            positives=float(np.sum(positive_T)),
            negatives=float(np.sum(negative_T)),
            group_auc=float(drawn_S @ ranked_S),
            group_weight=float(drawn_S @ group_S),
        )
