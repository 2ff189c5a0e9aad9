"""Features at scale beside a plain copy by Spark: python -m benchmarks.features [--rows 250000 1000000 ...]

A night over a generated log in Criteo's shape (26 fields, 13 dense features, 6 crosses): one day that holds every value
of the vocabulary, then days of so many rows each. For each size, in turn: Parquet to Parquet by Spark's own reader and
writer, counting (values checked, counts of the day published), encoding (data set published). Merging and fitting cost
by vocabulary, not by row, and are shown apart. With --skew two more days: all values alike often, and one value of each
field in 30 % of the rows, each counted and encoded with a frequency over the largest field. With --nights a history
that grows by days of --rows[0] rows: what merging a night's counts costs from the roll-up before, and from all days.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import SparkSession

from benchmarks.criteo_log import Draw, clicks
from nightjar.features.contract.outputs import date_folder
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.contract.strict import load_yaml
from nightjar.features.counts.rollup import History, publish_rollup
from nightjar.features.dataset.build import BuildDates, BuildPlan, aggregate, build, encode_days, plan_build
from nightjar.features.spark.tables import for_spark
from nightjar.jobs.common.spark_session import spark_session

FIRST = date(2026, 1, 1)
CONFIG = Path(__file__).parents[1] / "conf" / "criteo.yaml"
_STEPS = ("copy", "count", "encode")
OFTEN = Frequency(name="C3_rate", keys=("C3",), windows=("7d", "all"), prior=0.25)


@dataclass
class Cost:
    """What a piece of work took.

    processor: seconds of all processors, which neighbours on the machine move less than the clock's. shuffled: bytes
    that Spark's tasks wrote for others; jvm, python: the most bytes resident, shared ones counted once.
    """

    seconds: float = 0.0
    processor: float = 0.0
    shuffled: int = 0
    jvm: int = 0
    python: int = 0


@dataclass
class Meter:
    """Measures pieces of work in one Spark session, by name, each as often as it is called."""

    spark: SparkSession
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """Run and note it."""
        cost, before, processor = Cost(), self._shuffled(), _processor_seconds()
        with _peaks(cost):
            began = time.perf_counter()
            result = work()
            cost.seconds = time.perf_counter() - began
        cost.processor = _processor_seconds() - processor
        cost.shuffled = self._shuffled() - before
        self.costs.setdefault(name, []).append(cost)
        print(f"  {name}: {cost.seconds:.1f} s", flush=True)
        return result

    def median(self, name: str, what: str = "seconds") -> float:
        """Of what the costs of that name have."""
        return statistics.median(getattr(cost, what) for cost in self.costs[name])

    def _shuffled(self) -> int:
        executors = self.spark.sparkContext._jsc.sc().statusStore().executorList(False)
        return sum(executors.apply(n).totalShuffleWrite() for n in range(executors.size()))


def _processor_seconds() -> float:
    """Of Spark's JVM and of its Python workers, those that have ended included."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


@contextmanager
def _peaks(cost: Cost) -> Iterator[None]:
    """Note the highest resident memory of Spark's JVM and of its Python workers together."""
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.2):
            jvm = python = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name() == "java":
                        jvm += process.memory_info().rss
                    else:
                        python += process.memory_full_info().pss
                except psutil.Error:
                    continue
            cost.jvm, cost.python = max(cost.jvm, jvm), max(cost.python, python)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        done.set()
        sampler.join()


@dataclass
class Bench:
    """A log, an output and what was measured. day: the next free one."""

    spark: SparkSession
    root: Path
    vocabulary: int
    meter: Meter
    day: date = FIRST

    def write(self, rows: int, draw: Draw) -> date:
        """Append a day to the log."""
        day, self.day = self.day, self.day + timedelta(1)
        files = max(2, rows // 500_000)
        table = clicks(self.spark, day, rows, self.vocabulary, draw).coalesce(files)
        table.write.parquet(for_spark(str(self.root / "logs" / date_folder(day.isoformat()))))
        return day

    def plan(self, spec: FeatureSpec, through: date, holdout: date | None) -> BuildPlan:
        """All days through one, and the one to encode after it."""
        logs, output = str(self.root / "logs"), str(self.root / "features")
        after = holdout.isoformat() if holdout else None
        return plan_build(
            spec,
            logs,
            output,
            BuildDates(
                train_from=through.isoformat(), train_to=through.isoformat(), history_from=str(FIRST), holdout=after
            ),
        )

    def copy(self, day: date) -> None:
        """Spark's own reader and writer."""
        source = self.spark.read.parquet(for_spark(str(self.root / "logs" / date_folder(day.isoformat()))))
        source.write.mode("overwrite").parquet(for_spark(str(self.root / "copy")))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[250_000, 1_000_000])
    parser.add_argument("--vocabulary", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1, help="days of each size and of each draw")
    parser.add_argument("--skew", type=int, default=0, metavar="ROWS", help="rows of the uniform and the skewed day")
    parser.add_argument("--nights", type=int, default=0, help="days of the growing history, instead of all the others")
    parser.add_argument("--folder", help="where to put logs and features; a temporary folder if absent")
    args = parser.parse_args(argv)
    spec = load_yaml(CONFIG, FeatureSpec, "features")
    spec = spec.model_copy(update={"fields": tuple(f.model_copy(update={"min_count": 1}) for f in spec.fields)})
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, spark_session("benchmark") as spark:
        bench = Bench(spark, Path(folder), args.vocabulary, Meter(spark))
        if args.nights:
            growth(bench, spec.model_copy(update={"frequencies": (OFTEN,)}), args.nights, args.rows[0])
            print_costs(bench.meter)
            return 0
        every = bench.write(args.vocabulary * 3 // 10, "every")
        plan = bench.plan(spec, every, None)
        # The JVM compiles a reader and a writer on their first megabytes; counting gets the same warm-up.
        bench.copy(every)
        bench.meter.measure("count the first day", lambda: aggregate(spark, plan))
        bench.meter.measure("fit and encode it", lambda: build(spark, plan))
        sizes = [rows for _ in range(args.repeats) for rows in args.rows]
        for rows in sizes:
            one_size(bench, spec, plan, rows)
        for draw in ("uniform", "skewed") * args.repeats if args.skew else ():
            one_draw(bench, spec, args.skew, draw)
        print_costs(bench.meter)
        if args.rows:
            print_rates(bench.meter, args.rows)
    return 0


def one_size(bench: Bench, spec: FeatureSpec, state: BuildPlan, rows: int) -> None:
    """Copy, count and encode a day of so many rows under the state of the days before."""
    day = bench.write(rows, "zipf")
    plan = bench.plan(spec, day, None)
    bench.meter.measure(f"copy {rows}", lambda: bench.copy(day))
    bench.meter.measure(f"count {rows}", lambda: aggregate(bench.spark, plan))
    state_dir = state.built.state_dir
    bench.meter.measure(f"encode {rows}", lambda: encode_days(bench.spark, plan, state_dir, [str(day)]))


def one_draw(bench: Bench, spec: FeatureSpec, rows: int, draw: Draw) -> None:
    """Count, merge, fit and encode a day that is drawn so, with a frequency."""
    often = spec.model_copy(update={"frequencies": (OFTEN,)})
    day = bench.write(rows, draw)
    plan = bench.plan(often, day - timedelta(1), day)
    build(bench.spark, bench.plan(often, day - timedelta(1), None))
    bench.meter.measure(f"{draw} count {rows}", lambda: aggregate(bench.spark, plan))
    bench.meter.measure(f"{draw} encode {rows}", lambda: build(bench.spark, plan))


def growth(bench: Bench, spec: FeatureSpec, nights: int, rows: int) -> None:
    """Merge the counts of every tenth night both ways, which must give the same files."""
    before = None
    for night in range(1, nights + 1):
        day = bench.write(rows, "zipf")
        plan = bench.plan(spec, day, None)
        days = aggregate(bench.spark, plan)
        merged = partial(publish_rollup, bench.spark, spec)
        rolled = partial(merged, plan.rollup_dirs[str(day)], History(days, before))
        if night % 10 and night > 1:
            before = rolled()
            continue
        all_days = partial(merged, str(bench.root / f"all-{night}"), History(days))
        again = bench.meter.measure(f"{night} days: from all", all_days)
        before = bench.meter.measure(f"{night} days: from the roll-up before", rolled)
        if before.manifest != again.manifest:
            raise SystemExit(f"night {night}: the two ways differ")


def print_costs(meter: Meter) -> None:
    """Seconds are medians, memory is the highest."""
    print("\n| | seconds | processor seconds | shuffled MB | JVM MB | Python workers MB |\n|---|---|---|---|---|---|")
    for name, costs in meter.costs.items():
        seconds, processor = meter.median(name), meter.median(name, "processor")
        jvm, python = (max(getattr(cost, what) for cost in costs) / 1e6 for what in ("jvm", "python"))
        shuffled = costs[-1].shuffled / 1e6
        print(f"| {name} | {seconds:.1f} | {processor:.1f} | {shuffled:,.0f} | {jvm:,.0f} | {python:,.0f} |")


def print_rates(meter: Meter, sizes: Sequence[int]) -> None:
    """Rows a second, and what a row costs, beside the copy's."""
    print("\n| rows | copy rows/s | count + encode rows/s | times the copy | processor µs a row | times the copy |")
    print("|---|---|---|---|---|---|")
    for rows in sizes:
        costs = {what: [meter.median(f"{step} {rows}", what) for step in _STEPS] for what in ("seconds", "processor")}
        (copy, *ours), (copy_processor, *our_processor) = costs["seconds"], costs["processor"]
        print(
            f"| {rows:,} | {rows / copy:,.0f} | {rows / sum(ours):,.0f} | {sum(ours) / copy:.1f} | "
            f"{sum(our_processor) / rows * 1e6:.1f} | {sum(our_processor) / copy_processor:.1f} |"
        )


if __name__ == "__main__":
    raise SystemExit(main())
