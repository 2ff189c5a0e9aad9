"""What a request costs: raw candidates to scores, on one core, encoding included.

    python -m benchmarks.request --model build/nightly/models/VERSION --beside ../before

Requests are of 200 candidates and of one row, drawn from the artifact's golden rows: as Arrow and as dicts, each with a
context of its own, and with one user's context, repeated in every row or given once. `--beside` names another checkout;
both are measured in turn, in processes of their own. Figures are medians over the rounds of p50, p99 and the least by
the clock and of the p50 of the thread's processor time; the last two a busy neighbour disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CANDIDATES = 200
DISTINCT = 20
ROOT = Path(__file__).resolve().parents[1]
Timed = tuple[float, float, float, float]


def measure(directory: str, requests: int, context: Sequence[str]) -> dict[str, Timed]:
    """p50, p99 and the least by the clock and p50 in processor time, in milliseconds, of every kind of request."""
    import nightjar

    model = nightjar.load(directory)
    figures = {}
    for name, made in kinds(pq.read_table(f"{directory}/golden/raw.parquet"), context).items():
        figures[name] = _timed(model.score, made, requests)
    return figures


def kinds(golden: pa.Table, context: Sequence[str]) -> dict[str, list[Any]]:
    """DISTINCT requests of each kind. context: the columns that are of the user."""
    rng = np.random.default_rng(1)
    drawn = [golden.take(rng.integers(0, golden.num_rows, CANDIDATES)).combine_chunks() for _ in range(DISTINCT)]
    of_user = [{name: table[name][0].as_py() for name in context} for table in drawn]
    own = [table.drop_columns(list(context)) for table in drawn]
    repeated = [_with(table, user, golden.schema) for table, user in zip(own, of_user, strict=True)]
    made: dict[str, list[Any]] = {
        "200 candidates, Arrow": list(drawn),
        "200 candidates, dicts": [table.to_pylist() for table in drawn],
        "200 candidates of one user, Arrow": list(repeated),
        "200 candidates of one user, dicts": [table.to_pylist() for table in repeated],
        "one row, a dict": [table.slice(0, 1).to_pylist() for table in drawn],
    }
    try:
        from nightjar.serving import InContext
    except ImportError:  # the checkout beside may be older
        return made
    pairs = list(zip(of_user, own, strict=True))
    made["200 candidates in their context, Arrow"] = [InContext(user, table) for user, table in pairs]
    made["200 candidates in their context, dicts"] = [InContext(user, table.to_pylist()) for user, table in pairs]
    return made


def _with(table: pa.Table, user: dict[str, Any], schema: pa.Schema) -> pa.Table:
    for name, value in user.items():
        table = table.append_column(schema.field(name), pa.array([value] * table.num_rows, schema.field(name).type))
    return table


def _timed(score: Callable[[Any], np.ndarray], made: Sequence[Any], requests: int) -> Timed:
    for request in made:
        score(request)
    clock, processor = np.empty(requests), np.empty(requests)
    for n in range(requests):
        began, worked = time.perf_counter(), time.thread_time()
        score(made[n % len(made)])
        clock[n], processor[n] = time.perf_counter() - began, time.thread_time() - worked
    return (
        1e3 * float(np.median(clock)),
        1e3 * float(np.quantile(clock, 0.99)),
        1e3 * float(clock.min()),
        1e3 * float(np.median(processor)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="request", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of an artifact")
    parser.add_argument("--beside", help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=500, help="timed requests of each kind and round")
    parser.add_argument(
        "--context",
        nargs="*",
        default=["user_id", "country", "language", "device", "hour", "weekday", "installed_apps", "age"],
        help="columns that a request's candidates have in common",
    )
    parser.add_argument("--once", action="store_true", help="measure in this process, and print JSON")
    args = parser.parse_args(argv)
    if args.once:
        print(json.dumps(measure(args.model, args.requests, args.context)))
        return 0
    checkouts = {"here": str(ROOT)} | ({"beside": args.beside} if args.beside else {})
    found: dict[tuple[str, str], list[Timed]] = defaultdict(list)
    for _ in range(args.rounds):
        for name, checkout in checkouts.items():
            command = [sys.executable, __file__, "--once", "--model", args.model, "--requests", str(args.requests)]
            done = subprocess.run(
                [*command, "--context", *args.context],
                env={**os.environ, "PYTHONPATH": checkout},
                check=True,
                capture_output=True,
                text=True,
            )
            for kind, figures in json.loads(done.stdout.splitlines()[-1]).items():
                found[kind, name].append(figures)
    print("| request | checkout | p50, ms | p99, ms | least, ms | processor time p50, ms |\n" + "|---" * 6 + "|")
    for kind in dict.fromkeys(kind for kind, _ in found):
        for name in checkouts:
            if (kind, name) in found:
                shown = " | ".join(f"{median(figure):.2f}" for figure in zip(*found[kind, name], strict=True))
                print(f"| {kind} | {name} | {shown} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
