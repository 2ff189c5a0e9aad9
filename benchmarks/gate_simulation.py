"""How often the gate errs, and what adds up: python -m benchmarks.gate_simulation [--histories 1000] [--processes 2]

Histories of nights. Every night trains a candidate that is truly better or worse than the present champion by a fixed
share of the tolerance, and a day of users sees candidate, champion and reference. Users' sums of log loss are drawn,
and resampled by the gate's own draws; the verdicts are those of the gate's own rule code (serving.gate.rules,
.reference, .sequence), with the one rule on log loss. Losses are in units of the tolerance.

Then the calibration of perfect and of wrong models on days of about 59 positives, by the gate as a whole.

Shapes: N nights, R resamples, U users, M models: candidate, champion, reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from itertools import chain
from typing import Self

import numpy as np

from nightjar.features.contract.metrics.registry import LOG_LOSS
from nightjar.features.encoder.hashing import hash_long
from nightjar.serving.gate.bootstrap import PairedComparison
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, Reference
from nightjar.serving.gate.gate import decide
from nightjar.serving.gate.reference import choose_reference
from nightjar.serving.gate.rules import judge
from nightjar.serving.gate.sequence import differences_of, since_promotion
from nightjar.serving.sums.draws import draws
from nightjar.serving.sums.measure import see
from nightjar.serving.sums.parts import Part
from nightjar.serving.sums.rows import CANDIDATE, InMemory, Observations

NIGHTS, WEEK, USERS = 60, 7, 400
TOLERANCE = 0.002
FIRST_NIGHT, FIRST_MODEL = date(2026, 1, 1), "v0"
WORLDS = {"equal": 0.0, "better by half": -0.5, "worse by half": 0.5, "worse by 1.25": 1.25}
RULE = {"metric": "log_loss", "tolerance": TOLERANCE}
POLICIES: dict[str, dict[str, object]] = {
    "champion only": {"reference_days": 0},
    "+ reference, 7 days": {},
    "+ reference, pinned": {"reference": FIRST_MODEL},
    "+ 7 days, sequential": {"sequential": True},
    "+ pinned, sequential": {"reference": FIRST_MODEL, "sequential": True},
}


@dataclass(frozen=True)
class Day:
    """The users that every day has. rows_U: a user's impressions; drawn_RU: the gate's resamples of them."""

    rows_U: np.ndarray
    drawn_RU: np.ndarray

    @classmethod
    @cache
    def of(cls, resamples: int, seed: int) -> Self:
        """The same for all histories."""
        rows_U = np.ceil(np.random.default_rng(0).lognormal(3.0, 1.0, USERS))
        return cls(rows_U, draws(hash_long(np.arange(USERS)), resamples, seed).T)

    def noise(self, error: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What chance adds to the mean loss of three models on every night, and in every resample of it.

        Returns float64[NIGHTS, 3] and float64[NIGHTS, R, 3].

        Args:
            error: the standard error of a difference of two models.
            random: draws how the models differ user by user.
        """
        deviation_U = error * np.sqrt(self.rows_U.sum() / 2.0 * self.rows_U)
        sums_NUM = deviation_U[:, None] * random.normal(size=(NIGHTS, len(self.rows_U), 3))
        sums_NRM = self.drawn_RU @ sums_NUM
        return sums_NUM.sum(axis=1) / self.rows_U.sum(), sums_NRM / (self.drawn_RU @ self.rows_U)[:, None]


@dataclass(frozen=True)
class Outcome:
    """Of a history: shares of its nights, and the loss after the last, in tolerances."""

    published: float
    wrongly_published: float
    wrongly_rejected: float
    inconclusive: float
    loss: float


def simulate(policy: str, world: str, error: float, seed: int) -> Outcome:
    """One history.

    Args:
        policy: of POLICIES.
        world: of WORLDS.
        error: standard error of a night's difference, in tolerances.
        seed: of the history.
    """
    config = GateConfig.model_validate({"rules": [RULE], **POLICIES[policy]})
    day, random = Day.of(config.resamples, config.seed), np.random.default_rng(seed)
    part = Part(None, rows=USERS, positives=0, units=USERS, groups=0)
    truth = {FIRST_MODEL: 0.0}
    history, decisions = [(FIRST_MODEL, FIRST_NIGHT)], list[Decision]()
    tally = dict.fromkeys(("published", "wrongly_published", "wrongly_rejected", "inconclusive"), 0)
    mean_NM, mean_NRM = day.noise(error * TOLERANCE, random)
    for n in range(NIGHTS):
        night, (champion, _) = FIRST_NIGHT + timedelta(n + 1), history[-1]
        truth[str(night)] = truth[champion] + WORLDS[world] * TOLERANCE
        reference = choose_reference(config, history, night)
        against = {"champion": champion} | ({"reference": reference.version} if reference else {})
        qualities = [truth[version] for version in (str(night), *against.values())]
        mean_M, mean_RM = (noise[..., : len(qualities)] + qualities for noise in (mean_NM[n], mean_NRM[n]))
        checks = [
            check_of(
                config,
                PairedComparison(LOG_LOSS, part, mean_M[0], mean_M[m], mean_RM[:, 0] - mean_RM[:, m]),
                name,
                decisions,
            )
            for m, name in enumerate(against, start=1)
        ]
        accepted = all(check.passed for check in checks)
        decisions.append(Decision(verdict="published" if accepted else "rejected", rows=USERS, checks=tuple(checks)))
        week_ago = choose_reference(GateConfig(reference_days=WEEK), history, night) or Reference(version=champion)
        lost = truth[str(night)] - min(truth[champion], truth[week_ago.version])
        tally["published"] += accepted
        tally["wrongly_published"] += accepted and lost > TOLERANCE * (1 + 1e-9)
        tally["wrongly_rejected"] += not accepted and lost <= 0.0
        tally["inconclusive"] += not accepted and all(c.passed or c.state == "inconclusive" for c in checks)
        if accepted:
            history.append((str(night), night))
    shares = {name: count / NIGHTS for name, count in tally.items()}
    return Outcome(**shares, loss=truth[history[-1][0]] / TOLERANCE)


def check_of(
    config: GateConfig, comparison: PairedComparison, against: str, decisions: Sequence[Decision]
) -> GateCheck:
    """The one rule, as the gate holds it against a comparison."""
    before = differences_of(since_promotion(decisions), LOG_LOSS.name, against) if config.sequential else None
    return judge(config.rules[0], comparison, "champion" if against == "champion" else "reference", before)


def histories(args: argparse.Namespace, run: Callable[..., Iterator[Outcome]]) -> Iterator[str]:
    """The table's rows."""
    columns = ["nightly candidate", "rule", "published", "wrongly published", "histories with one", "wrongly rejected"]
    columns += ["inconclusive", "loss after 60 nights", "95th percentile"]
    yield "| " + " | ".join(columns) + " |"
    yield "|" + " --- |" * len(columns)
    for world, step in WORLDS.items():
        for policy in POLICIES:
            found = list(run(partial(simulate, policy, world, args.error), range(args.histories)))
            mean = {name: np.mean([getattr(one, name) for one in found]) for name in Outcome.__dataclass_fields__}
            most = np.quantile([one.loss for one in found], 0.95)
            any_wrong = np.mean([one.wrongly_published > 0 for one in found])
            wrong = "–" if step > 0 else f"{mean['wrongly_rejected']:.1%}"
            yield (
                f"| {world} | {policy} | {mean['published']:.1%} | {mean['wrongly_published']:.2%} | {any_wrong:.1%} "
                f"| {wrong} | {mean['inconclusive']:.1%} | {mean['loss']:+.1f} | {most:+.1f} |"
            )


def calibrate(shift: float, seed: int) -> tuple[float, str]:
    """The ratio and the gate's state on a day of 2,950 users with 2 % positives, for a model `shift` times too high."""
    random = np.random.default_rng(seed)
    probability = random.beta(2.0, 98.0, 2950)
    label = (random.random(len(probability)) < probability).astype(np.float64)
    config = GateConfig.model_validate({"overall": {"rows": 1, "positives": 1, "groups": 2}})
    scores = {CANDIDATE: np.clip(shift * probability, 0.0, 1.0)}
    rows = InMemory.of(Observations(label, np.ones(len(label))), scores)
    decision = decide(config, rows, see(rows, {})).decision
    check = next(check for check in decision.checks if check.metric == "calibration_ratio")
    assert check.candidate is not None
    return check.candidate, str(check.state)


def calibrations(args: argparse.Namespace, run: Callable[..., Iterator[tuple[float, str]]]) -> Iterator[str]:
    """The table's rows."""
    low, high = GateConfig().calibration
    yield "| scores are high by | bare ratio fails | interval fails | in doubt, passes | passes |"
    yield "| --- | --- | --- | --- | --- |"
    for shift in (0.5, 0.8, 1.0, 1.25, 2.0):
        found = list(run(partial(calibrate, shift), range(args.histories)))
        bare = np.mean([not low <= ratio <= high for ratio, _ in found])
        states = [np.mean([state == wanted for _, state in found]) for wanted in ("worse", "inconclusive", "passed")]
        yield f"| × {shift:g} | {bare:.1%} | " + " | ".join(f"{share:.1%}" for share in states) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument(
        "--error", type=float, default=0.3, help="standard error of a night's difference, in tolerances"
    )
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    with ProcessPoolExecutor(args.processes) as pool:
        run = partial(pool.map, chunksize=max(1, args.histories // (4 * args.processes)))
        for line in chain(histories(args, run), [""], calibrations(args, run)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
