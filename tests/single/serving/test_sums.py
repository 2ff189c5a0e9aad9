"""The gate's sums: the same figures to the last bit, however the rows are dealt and ordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract.metrics.score_bins import bins_of
from nightjar.features.contract.metrics.tally import Table, merge
from nightjar.features.encoder.hashing import MISSING, hash_long
from nightjar.serving.evaluation.curves import distribution, equal_bins
from nightjar.serving.evaluation.metrics import bins, measure
from nightjar.serving.gate.decision import GateConfig, Reference
from nightjar.serving.gate.gate import Judgement, decide
from nightjar.serving.sums.draws import drawn_sums
from nightjar.serving.sums.measure import BinSums, see
from nightjar.serving.sums.measure import measure as measure_sums
from nightjar.serving.sums.rows import CANDIDATE, CHAMPION, REFERENCE, JudgedRows, Observations, Pass, ScoredRows
from nightjar.serving.sums.slices import Slices, find_quarters
from nightjar.serving.sums.spill import SpilledRows
from tests.kits.gate_kit import METRICS, Impressions, config, rule

RULES = [rule(metric, slice=by) for metric in METRICS for by in (None, "country", "age")]
COUNTRIES = Slices(names={0: "de", 1: "fr", 2: "jp"})


@dataclass(frozen=True)
class Dealt:
    """Rows in parts, those of a unit in one, each part in an order of its own."""

    parts: Sequence[ScoredRows]

    @classmethod
    def of(cls, rows: ScoredRows, parts: int, seed: int) -> Dealt:
        random = np.random.default_rng(seed)
        group = rows.observed.group
        unit = rows.row_B if group is None else np.where(group == MISSING, rows.row_B, group)
        part = random.integers(parts, size=len(unit))[np.unique(unit, return_inverse=True)[1]]
        return cls([rows.take(random.permutation(np.flatnonzero(part == n))) for n in range(parts)])

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.parts[0].scores)

    def tally(self, over: Pass) -> Mapping[str, Table]:
        return merge(over(rows) for rows in self.parts if len(rows.row_B))


def scored(rows: int = 3000, *, groups: int = 300, copies: bool = False) -> ScoredRows:
    """Rows of four models. Some have no group, some no weight. copies: some rows without a group share a hash."""
    data = Impressions(rows=rows, groups=groups, seed=11)
    data.group[::7] = MISSING
    data.observed.weight[::11] = 0.0
    row_B = hash_long(np.arange(rows) // 5 if copies else np.arange(rows))
    scores = {name: data.scores(n).astype(np.float32) for n, name in enumerate((CANDIDATE, CHAMPION, REFERENCE, "lr"))}
    scores["lr"] = np.round(scores["lr"], 1)
    country = np.array([{"de": 0, "fr": 1, "jp": 2}[c] for c in data.country], dtype=np.float64)
    age = data.random.normal(size=rows).astype(np.float32).round(1).astype(np.float64)
    return ScoredRows(data.observed, row_B, scores, {"country": country, "age": age})


def judge(host: Dealt, settings: GateConfig) -> Judgement:
    slices = {"country": COUNTRIES, **find_quarters(["age"], host)}
    return decide(settings, host, see(host, slices), slices, reference=Reference(version="old", days=3))


@pytest.mark.parametrize(
    ("copies", "most"), [(False, 200), (True, 9)], ids=["each row its own hash", "rows that share a hash"]
)
def test_one_part_and_two_hundred_give_the_same_bits(copies: bool, most: int) -> None:
    rows = scored(1500, copies=copies)
    settings = config(*RULES, resamples=100)
    one = judge(Dealt.of(rows, 1, 0), settings)
    assert one.measured is not None
    assert len(one.decision.parts) == 8
    for parts, seed in ((1, 1), (2, 2), (most, 3)):
        other = judge(Dealt.of(rows, parts, seed), settings)
        assert other.decision.model_dump_json() == one.decision.model_dump_json()
        assert other.measured is not None
        assert other.measured.sums == one.measured.sums
        for name, curve in one.measured.bins.items():
            np.testing.assert_array_equal(other.measured.bins[name].score_H, curve.score_H)


def test_rows_that_are_spilled_to_files_are_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scored()
    monkeypatch.setattr("nightjar.serving.sums.spill.ROWS_A_PART", 500)
    spilled = SpilledRows(str(tmp_path), tuple(rows.scores), len(rows.row_B))
    for piece in np.array_split(np.arange(3000), 4):
        some = rows.take(piece)
        spilled.add(some.observed, some.row_B, some.scores)
    assert len(list(tmp_path.iterdir())) == 6 * 4
    names = list(rows.scores)
    found = [
        measure_sums(host, see(host, {}), {}, compared=names, curves=names, resamples=3, seed=1)
        for host in (spilled, Dealt.of(rows, 1, 0))
    ]
    assert found[0].sums == found[1].sums
    for name in names:
        np.testing.assert_array_equal(found[0].bins[name].label_H, found[1].bins[name].label_H)


def test_more_than_a_chunk_of_units_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, settings = scored(), config(*RULES, resamples=100)
    expected = judge(Dealt.of(rows, 1, 0), settings).decision
    monkeypatch.setattr("nightjar.serving.sums.passes.CHUNK", 64)
    assert judge(Dealt.of(rows, 1, 0), settings).decision == expected


def test_rows_that_share_a_hash_are_units_of_their_own() -> None:
    judged = JudgedRows.of(scored(copies=True))
    group = judged.rows.observed.group
    assert group is not None
    assert len(judged.key_U) == len(np.unique(judged.key_U))
    assert (~judged.grouped_U).sum() == (group == MISSING).sum()
    assert judged.grouped_U.sum() == len(np.unique(group[group != MISSING]))


def test_drawn_sums_are_exact_however_large() -> None:
    random = np.random.default_rng(0)
    drawn = random.poisson(1.0, (1 << 14, 3)).clip(max=8).astype(np.float64)
    value = random.integers(-(2**47), 2**47, (1 << 14, 2))
    expected = [[sum(int(n) * v for n, v in zip(d, c, strict=True)) for c in value.T.tolist()] for d in drawn.T]
    assert drawn_sums(drawn, value).tolist() == expected


def test_quarters_are_numpys_quartiles() -> None:
    random = np.random.default_rng(5)
    for numbers in (
        random.normal(size=999),
        np.round(random.exponential(2.0, 400)),
        np.full(7, -1.5),
        np.r_[-0.0, 0.0],
    ):
        value = numbers.astype(np.float32).astype(np.float64)
        observed = Observations(np.zeros(len(value)), np.ones(len(value)))
        host = Dealt.of(ScoredRows(observed, np.arange(len(value)), {}, {"x": value}), 5, 1)
        found = find_quarters(["x"], host)["x"]
        edges = np.unique(np.quantile(value, [0.25, 0.5, 0.75], method="lower"))
        np.testing.assert_array_equal(found.coding.edges, edges)
        code = found.coding.codes(value)
        np.testing.assert_array_equal(code, np.searchsorted(edges, value, side="left"))
        for n in np.unique(code).tolist():
            held = value[code == n]
            assert found.names[n] == f"{held.min():.4g} to {held.max():.4g}"


def curve_of(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> BinSums:
    return BinSums(*(np.bincount(bins_of(score), by, 1 << 16) for by in (weight, weight * label, weight * score)))


def test_curves_are_those_of_sorted_rows_but_for_what_shares_a_bin() -> None:
    data = Impressions()
    label, weight, score = data.observed.label, data.observed.weight, data.scores(0.3)
    curve = curve_of(label, score, weight)
    for count in (10, 20):
        for ours, theirs in zip(equal_bins(curve, count), bins(label, score, weight, count), strict=True):
            assert ours.weight == pytest.approx(theirs.weight, abs=0.002)
            assert ours.mean_score == pytest.approx(theirs.mean_score, abs=0.002)
            assert ours.mean_label == pytest.approx(theirs.mean_label, abs=0.02)
    logit = np.log(score) - np.log1p(-score)
    expected = np.histogram(logit, np.linspace(-10.0, 10.0, 81), weights=weight)[0] / weight.sum()
    np.testing.assert_allclose(distribution(curve), expected, atol=1e-9)


def test_a_constants_curve_has_bins_of_equal_weight_all_alike() -> None:
    label = np.array([1.0, 0.0, 0.0, 0.0])
    found = equal_bins(curve_of(label, np.full(4, 0.3), np.ones(4)), 10)
    assert [b.weight for b in found] == [0.1] * 10
    assert [b.mean_score for b in found] == pytest.approx([0.3] * 10)
    assert [b.mean_label for b in found] == pytest.approx([0.25] * 10)


def test_the_champions_curves_and_truth_are_in_the_sums() -> None:
    rows = scored()
    truth = np.clip(rows.scores[CHAMPION].astype(np.float64) + 0.05, 0.01, 0.99)
    observed = Observations(rows.observed.label, rows.observed.weight, rows.observed.group, truth)
    known = ScoredRows(observed, rows.row_B, rows.scores, rows.sliced)
    judged = judge(Dealt.of(known, 3, 0), config(*RULES, resamples=100)).measured
    assert judged is not None
    losses, expected = judged.bins[CHAMPION].losses, measure(observed, rows.scores[CHAMPION])
    assert losses is not None
    assert losses[0] == pytest.approx(expected.bayes_log_loss, rel=1e-7)
    assert losses[1] == pytest.approx(expected.expected_bayes_log_loss, rel=1e-7)
    assert losses[2] - losses[1] == pytest.approx(expected.expected_regret, rel=1e-5)
