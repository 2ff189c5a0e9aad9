"""The simulation of the gate's errors: what it shows holds in a few histories."""

from __future__ import annotations

import numpy as np

from benchmarks.gate_simulation import TOLERANCE, Day, Outcome, calibrate, simulate
from nightjar.serving.gate.decision import GateConfig


def outcomes(policy: str, world: str) -> list[Outcome]:
    return [simulate(policy, world, 0.3, seed) for seed in range(4)]


def test_small_losses_add_up_without_a_reference_and_do_not_with_one() -> None:
    assert min(one.loss for one in outcomes("champion only", "worse by half")) > 8.0
    assert max(one.loss for one in outcomes("+ reference, 7 days", "worse by half")) < 8.0
    assert max(one.loss for one in outcomes("+ reference, pinned", "worse by half")) <= 1.0 + 1e-9
    assert {one.wrongly_published for one in outcomes("+ reference, 7 days", "worse by half")} == {0.0}


def test_better_models_are_published() -> None:
    assert min(one.published for one in outcomes("+ reference, 7 days", "better by half")) > 0.9


def test_a_history_is_the_same_again_and_another_with_another_seed() -> None:
    first, again, other = (simulate("+ 7 days, sequential", "equal", 0.6, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_days_differences_have_the_standard_error_that_was_asked_for() -> None:
    settings = GateConfig()
    day, random = Day.of(settings.resamples, settings.seed), np.random.default_rng(0)
    mean_NM, mean_NRM = (
        np.concatenate(parts) for parts in zip(*(day.noise(TOLERANCE, random) for _ in range(6)), strict=True)
    )
    assert abs(np.mean(mean_NM[:, 0] - mean_NM[:, 2])) < 0.2 * TOLERANCE
    assert 0.9 < np.std(mean_NM[:, 0] - mean_NM[:, 1]) / TOLERANCE < 1.1
    assert 0.9 < np.mean(np.std(mean_NRM[..., 0] - mean_NRM[..., 1], axis=1)) / TOLERANCE < 1.1


def test_a_perfect_models_ratio_strays_and_its_interval_does_not() -> None:
    found = [calibrate(1.0, seed) for seed in range(60)]
    assert any(not 0.8 <= ratio <= 1.25 for ratio, _ in found)
    assert "worse" not in {state for _, state in found}
