"""The gate's sums against exact figures: python -m benchmarks.gate.sums [--rows 1000000] [--cases 200] [--processes 2]

First, every figure of generated impressions by the sums and by sorting all rows (benchmarks.gate.exact): values, and
standard errors and bounds of differences of the candidate to champion and reference, on all rows and in ten slices.
Then cases: days of many kinds and candidates from much better to much worse. Each is judged by the sums, exactly with
the same draws, and exactly with the multinomial draws of the gate until 2026-11-30. With other draws any gate says
something else where a bound is within chance of the tolerance. How often that is shows in the exact gate against itself
with another seed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

import numpy as np

from benchmarks.gate.exact import measure_exactly
from nightjar.features.encoder.hashing import hash_long
from nightjar.serving.gate.bootstrap import compare_paired
from nightjar.serving.gate.decision import Decision, GateConfig, Reference
from nightjar.serving.gate.gate import decide, verdict_of
from nightjar.serving.sums.measure import Measured, see
from nightjar.serving.sums.rows import CANDIDATE, CHAMPION, REFERENCE, InMemory, Observations
from nightjar.serving.sums.slices import Slices

SLICES = {"slot": Slices(names={n: str(n) for n in range(10)})}
OLD = Reference(version="old", days=7)
LITTLE = {"rows": 200, "positives": 20, "groups": 10}


def day_of(rows: int, seed: int, *, rate: float, a_user: float, noises: Sequence[float]) -> InMemory:
    """Impressions of users, of whom some see much more than others.

    Args:
        rows: how many.
        seed: of the day.
        rate: about the share of positives.
        a_user: rows of a user on average; below 1 no row has a user.
        noises: what candidate's, champion's and reference's log-odds are off by, standard deviations.
    """
    random = np.random.default_rng(seed)
    users = max(1, int(rows / max(a_user, 1.0)))
    user = np.minimum(random.exponential(0.35, rows), 0.999)
    user = (user * users).astype(np.int64)
    worth = random.normal(0.0, 0.7, users)[user]
    logit = np.log(rate / (1.0 - rate)) + worth + random.normal(0.0, 1.0, rows)
    label = (random.random(rows) < 1.0 / (1.0 + np.exp(-logit))).astype(np.float64)
    weight = np.ones(rows) if seed % 3 else random.choice([0.5, 1.0, 3.0], rows)
    scores = {
        name: (1.0 / (1.0 + np.exp(-logit - noise * random.normal(size=rows)))).astype(np.float32)
        for name, noise in zip((CANDIDATE, CHAMPION, REFERENCE), noises, strict=True)
    }
    if seed % 4 == 1:
        scores = {name: np.round(score, 3) for name, score in scores.items()}
    group = hash_long(user) if a_user >= 1.0 else None
    slot = np.minimum(random.exponential(2.0, rows), 9.0).astype(np.float64) // 1.0
    return InMemory.of(Observations(label, weight, group), scores, {"slot": slot})


def figures(rows: int) -> Iterator[str]:
    """The table's rows."""
    config = GateConfig(slices=("slot",))
    host = day_of(rows, 2, rate=0.05, a_user=10.0, noises=(0.3, 0.25, 0.35))
    begin = perf_counter()
    sight = see(host, SLICES)
    summed = decide(config, host, sight, SLICES, reference=OLD).measured
    seconds = perf_counter() - begin
    begin = perf_counter()
    exact = measure_exactly(host.rows, sight, SLICES, config, poisson=True)
    exact_seconds = perf_counter() - begin
    assert summed
    users = sight.whole.units
    yield f"{rows:,} rows, {users:,} users: sums {seconds:.1f} s, exactly {exact_seconds:.1f} s, one process."
    yield ""
    columns = ["metric", "figures", "value is off by", "bound", "beyond it", "standard error is off by"]
    yield "| " + " | ".join([*columns, "interval's ends are off by"]) + " |"
    yield "|" + " --- |" * 7
    found = defaultdict(list)
    for against in (CHAMPION, REFERENCE):
        ours, theirs = (compare_paired(one.sums[CANDIDATE], one.sums[against]) for one in (summed, exact))
        for a, b in zip(ours, theirs, strict=True):
            ends = zip(a.bounds(0.95) or (), b.bounds(0.95) or (), strict=True)
            error, other = a.standard_error or np.nan, b.standard_error or np.nan
            off = max(abs(a.candidate - b.candidate), abs(a.other - b.other))
            moved = max(abs(x - y) for x, y in ends) / other
            found[a.metric.label].append((off, a.error_bound, abs(error / other - 1.0), moved))
    for label, values in found.items():
        off, bound, error, moved = np.array(values).T
        beyond = np.count_nonzero(off > bound + 1e-8)
        yield (
            f"| {label} | {len(values)} | {off.max():.1e} | {bound.max():.1e} | {beyond} | {error.max():.2%} "
            f"| {moved.max():.3f} standard errors |"
        )


def judge_case(seed: int) -> tuple[Decision, ...]:
    """A day judged by the sums; exactly, with the same draws, with multinomial ones, and with others of these."""
    random = np.random.default_rng(10_000 + seed)
    rows = int(random.choice([1500, 4000, 12_000]))
    champion = random.uniform(0.1, 0.5)
    noises = (champion + random.choice([-0.1, 0.0, 0.05, 0.1, 0.2, 0.4]), champion, champion + 0.05)
    rate, a_user = random.choice([0.02, 0.1, 0.3]), random.choice([0.0, 3.0, 20.0])
    host = day_of(rows, seed, rate=rate, a_user=a_user, noises=noises)
    rules: list[dict[str, object]] = [
        {"metric": "log_loss", "tolerance": random.choice([0.002, 0.01])},
        {"metric": "auc", "tolerance": random.choice([0.005, 0.02])},
        {"metric": "auc", "tolerance": 0.05, "slice": "slot"},
    ]
    config = GateConfig.model_validate({"rules": rules, "overall": LITTLE, "slice_support": LITTLE})
    sight = see(host, SLICES)

    def exactly(settings: GateConfig, *, poisson: bool) -> Decision:
        found: Measured = measure_exactly(host.rows, sight, SLICES, settings, poisson=poisson)
        return verdict_of(settings, sight, found, reference=OLD)

    return (
        decide(config, host, sight, SLICES, reference=OLD).decision,
        exactly(config, poisson=True),
        exactly(config, poisson=False),
        exactly(config.model_copy(update={"seed": 1}), poisson=False),
    )


def verdicts(cases: int, processes: int) -> Iterator[str]:
    """The table's rows."""
    with ProcessPoolExecutor(processes) as pool:
        found = list(pool.map(judge_case, range(cases), chunksize=4))
    outcomes = [one[0].outcome for one in found]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("published", "rejected", "inconclusive"))
    yield f"{cases} cases by the sums: {counts}."
    yield ""
    yield "| compared | verdicts that differ | outcomes that differ | checks | of which in another state |"
    yield "|" + " --- |" * 5
    pairs = {
        "sums, and exactly with the same draws": (0, 1),
        "sums, and exactly with multinomial draws": (0, 2),
        "exactly with multinomial draws, and with others": (2, 3),
    }
    for name, (a, b) in pairs.items():
        verdict = sum(one[a].verdict != one[b].verdict for one in found)
        outcome = sum(one[a].outcome != one[b].outcome for one in found)
        states = [x.state != y.state for one in found for x, y in zip(one[a].checks, one[b].checks, strict=True)]
        yield f"| {name} | {verdict} | {outcome} | {len(states):,} | {sum(states)} |"


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the figures; 0 leaves them out")
    parser.add_argument("--cases", type=int, default=200, help="of the verdicts; 0 leaves them out")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    if args.rows:
        for line in figures(args.rows):
            print(line, flush=True)
        print()
    if args.cases:
        for line in verdicts(args.cases, args.processes):
            print(line, flush=True)


if __name__ == "__main__":
    main()
