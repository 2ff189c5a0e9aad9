"""Bounds over nights, the reference, and what serving has lost against it."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from nightjar.serving.gate.decision import Decision, Reference
from nightjar.serving.gate.reference import choose_reference
from nightjar.serving.gate.sequence import accumulate, mixture_bound, over_nights, scale_for, since_promotion
from tests.kits.gate_kit import Impressions, ReferenceScores, Sliced, check_of, config, decide, rule

JUDGED = date(2026, 1, 20)


def exact_bound(variance: float, scale: float, confidence: float) -> float:
    """Where the mixture over a half-normal prior of precision `scale` reaches 1 / (1 - confidence)."""

    def log_martingale(s: float) -> float:
        total = variance + scale
        return np.log(2.0) + 0.5 * np.log(scale / total) + s**2 / (2.0 * total) + norm.logcdf(s / np.sqrt(total))

    return brentq(lambda s: log_martingale(s) + np.log1p(-confidence), -10.0, 1e3)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("variance", [0.1, 1.0, 7.0, 400.0])
def test_the_bound_is_a_little_above_the_mixtures_own(variance: float, confidence: float) -> None:
    scale = scale_for(1.0, confidence)
    exact = exact_bound(variance, scale, confidence)
    assert exact <= mixture_bound(variance, scale, confidence) <= (1.1 if confidence >= 0.9 else 1.6) * exact


def test_the_bound_is_about_the_tightest_where_its_scale_says() -> None:
    chosen = mixture_bound(4.0, scale_for(4.0, 0.95), 0.95)
    best = min(mixture_bound(4.0, scale, 0.95) for scale in np.geomspace(0.01, 100.0, 400))
    assert chosen <= 1.02 * best


def test_over_sixty_looks_the_nightly_bound_is_wrong_far_more_often_than_it_says_and_the_mixture_is_not() -> None:
    random = np.random.default_rng(0)
    errors = random.uniform(0.5, 2.0, (4000, 60))
    sums = np.cumsum(errors * random.normal(size=errors.shape), axis=1)
    variances = np.cumsum(errors**2, axis=1)
    fixed = (sums > norm.ppf(0.95) * np.sqrt(variances)).any(axis=1).mean()
    bounds = [[mixture_bound(v, scale_for(row[0], 0.95), 0.95) for v in row] for row in variances.tolist()]
    mixed = (sums > np.array(bounds)).any(axis=1).mean()
    assert fixed > 0.2
    assert mixed <= 0.05


def test_the_mean_over_nights_has_bounds_that_narrow_and_hold_the_formula() -> None:
    differences = [(0.3, 0.1), (0.1, 0.2), (-0.1, 0.1)]
    found = over_nights(differences, 0.95)
    margin = mixture_bound(0.01 + 0.04 + 0.01, scale_for(0.01, 0.95), 0.95) / 3
    assert (found.nights, found.difference) == (3, pytest.approx(0.1))
    assert found.interval == pytest.approx((0.1 - margin, 0.1 + margin))
    widths = [np.ptp(over_nights([(0.0, 0.1)] * nights, 0.95).interval) for nights in (1, 4, 16, 64)]
    assert widths == sorted(widths, reverse=True)
    assert over_nights([(0.0, 0.0), (0.0, 0.0)], 0.95).interval == (0.0, 0.0)


def test_nights_in_doubt_are_judged_together_until_they_suffice() -> None:
    """One night of 600 rows cannot tell equal models apart to .012; several can, and a worse one is found to be so."""
    outcomes: dict[float, list[str]] = {}
    for noise in (0.3, 1.2):
        decisions: list[Decision] = []
        settings = config(rule("log_loss", 0.012), sequential=True, calibration=(0.1, 10.0), normalized_entropy=0.9999)
        for night in range(20):
            data = Impressions(rows=600, groups=200, seed=100 + night)
            decisions.append(
                decide(settings, data.observed, data.scores(noise), data.scores(0.3), earlier=tuple(decisions))
            )
            if decisions[-1].verdict == "published":
                break
        outcomes[noise] = [str(check_of(decision, "log_loss").state) for decision in decisions]
        last = check_of(decisions[-1], "log_loss")
        assert last.over_nights is not None
        assert last.over_nights.nights == len(decisions)
        mean = np.mean([check_of(decision, "log_loss").difference for decision in decisions])
        assert last.over_nights.difference == pytest.approx(mean, rel=1e-12)
        assert last.interval is not None
    assert outcomes[0.3][:2] == ["inconclusive", "inconclusive"]
    assert outcomes[0.3][-1] == "passed"
    assert "passed" not in outcomes[1.2]
    assert outcomes[1.2][-1] == "worse"


def test_what_was_before_the_last_promotion_does_not_count() -> None:
    nights = [Decision(verdict=v, rows=n, checks=()) for n, v in enumerate(["rejected", "published", "rejected"])]
    assert [decision.rows for decision in since_promotion(nights)] == [2]
    assert [decision.rows for decision in since_promotion(nights[:1])] == [0]
    assert list(since_promotion(nights[:2])) == []


def test_slices_are_judged_by_their_night_alone() -> None:
    data = Impressions(rows=900, groups=60)
    settings = config(rule("auc"), rule("auc", slice="country"), sequential=True)
    countries = {"country": Sliced.of(data.country)}
    decision = decide(settings, data.observed, data.scores(0.2), data.scores(0.2), countries)
    assert check_of(decision, "auc").over_nights is not None
    assert check_of(decision, "auc", "country=de").over_nights is None


HISTORY = [("a", date(2026, 1, 3)), ("b", date(2026, 1, 12)), ("c", date(2026, 1, 13)), ("d", date(2026, 1, 19))]


@pytest.mark.parametrize(
    ("settings", "history", "expected"),
    [
        ({}, HISTORY, Reference(version="c", days=7)),
        ({"reference_days": 8}, HISTORY, Reference(version="b", days=8)),
        ({"reference_days": 16}, HISTORY, Reference(version="a", days=16)),
        ({"reference_days": 30}, HISTORY, Reference(version="a", days=17)),
        ({"reference_days": 1}, HISTORY, None),
        ({"reference_days": 0}, HISTORY, None),
        ({}, [], None),
        ({}, HISTORY[:1], None),
        ({}, [*HISTORY, ("c", date(2026, 1, 19))], None),
        ({"reference": "b"}, HISTORY, Reference(version="b")),
        ({"reference": "elsewhere"}, HISTORY, Reference(version="elsewhere")),
        ({"reference": "d"}, HISTORY, None),
    ],
)
def test_the_reference_is_the_champion_of_days_ago_or_the_first_or_the_pinned(
    settings: dict[str, object], history: list[tuple[str, date]], expected: Reference | None
) -> None:
    assert choose_reference(config(rule("auc"), **settings), history, JUDGED) == expected


def test_with_a_promotion_every_night_the_reference_is_seven_nights_old_once_there_are_seven() -> None:
    first = date(2026, 1, 1)
    history = [(f"v{n}", first + timedelta(n)) for n in range(30)]
    settings = config(rule("auc"))
    found = [choose_reference(settings, history[:n], first + timedelta(n)) for n in range(1, 31)]
    assert [reference and (reference.version, reference.days) for reference in found[:8]] == [
        None,
        *[("v0", days) for days in range(2, 8)],
        ("v1", 7),
    ]
    assert [reference and reference.version for reference in found[7:]] == [f"v{n}" for n in range(1, 24)]


def test_losses_a_day_add_up_with_bounds_that_hold_for_all_nights() -> None:
    before, expected = None, 0.0
    for night in range(1, 11):
        days = min(night, 7)
        before = accumulate(before, Reference(version=f"v{night}", days=days), 0.001 * days, 0.0005, (0.0, 0.0))
        expected += 0.001
        assert before.total == pytest.approx(expected, rel=1e-12)
    assert before is not None
    variance = sum((0.0005 / min(night, 7)) ** 2 for night in range(1, 11))
    margin = mixture_bound(variance, scale_for(0.0005**2, 0.95), 0.95)
    assert before.interval == pytest.approx((expected - margin, expected + margin), rel=1e-9)
    pinned = accumulate(before, Reference(version="first"), 0.004, 0.0005, (0.003, 0.005))
    assert (pinned.total, pinned.interval) == (0.004, (0.003, 0.005))


def test_the_loss_of_what_serves_is_in_the_decision_and_is_carried_on() -> None:
    data = Impressions()
    champion, old = data.scores(0.3), data.scores()
    reference = ReferenceScores(Reference(version="old", days=2), old)
    settings = config(rule("log_loss", 0.5))
    first = decide(settings, data.observed, data.scores(), champion, reference=reference)
    swapped = check_of(decide(settings, data.observed, champion, old), "log_loss")
    assert first.accumulated is not None
    assert first.accumulated.difference == pytest.approx(swapped.difference, rel=1e-9)
    assert first.accumulated.standard_error == pytest.approx(swapped.standard_error, rel=1e-9)
    assert first.accumulated.total == pytest.approx(first.accumulated.difference / 2, rel=1e-12)
    second = decide(settings, data.observed, data.scores(), champion, reference=reference, earlier=[first])
    assert second.accumulated is not None
    assert second.accumulated.total == pytest.approx(2 * first.accumulated.total, rel=1e-12)
    without = decide(settings, data.observed, data.scores(), champion, earlier=[first, second])
    assert without.accumulated == second.accumulated
    assert Decision.model_validate_json(second.model_dump_json()) == second
