"""What the gate costs: python -m benchmarks.gate.speed --work FOLDER [--rows 1000000] [--slices 10] [--models 3]

A small night trains a model on generated days. Then a day of --rows rows is scored by --models models, i.e. by this one
as candidate, champion and reference, and judged with 200 resamples in ten slices of one column. Scoring alone is the
same Spark frame, of which no row is kept. Memory is the most that the driver's Python process has held, and that of its
JVM, which runs the tasks too where Spark is local.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from time import perf_counter

from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.outputs import MODELS
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.input.folders import LogPartition, check_logs
from nightjar.jobs import generate_logs, run_nightly
from nightjar.jobs.common.cli import EXIT_NOTHING_TO_DO, EXIT_REJECTED, entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.judging.passes import scored_day
from nightjar.jobs.judging.rows import score_day
from nightjar.serving.gate.decision import GateConfig, Reference
from nightjar.serving.gate.gate import decide
from nightjar.serving.raw_scores import ServedModel
from nightjar.serving.sums.measure import see
from nightjar.serving.sums.rows import CANDIDATE, CHAMPION, REFERENCE
from nightjar.serving.sums.slices import find_slices

CONFIG, SLICES = "conf/app_store.yaml", ("position",)
FIRST, DAYS = date(2026, 1, 1), 3
LENIENT = (
    "nightly.train_days=2",
    "nightly.baselines=[]",
    "training.epochs=1",
    "gate.slices=[]",
    "gate.calibration=[0.0, 1000.0]",
    "gate.overall={rows: 100, positives: 20, groups: 10}",
)


@dataclass(frozen=True)
class Judged:
    """A day to be judged, and the models that it is judged by."""

    day: LogPartition
    models: dict[str, ServedModel]
    rows: int


def prepared(work: str, rows: int, models: int) -> Judged:
    """Run the small night and generate the day, or find them.

    Args:
        work: folder for all of it.
        rows: of the day.
        models: how many are judged, three at most.
    """
    logs, output, last = storage.join(work, "logs"), storage.join(work, "nights"), str(FIRST + timedelta(DAYS - 1))
    made = ["--start-date", str(FIRST), "--days", str(DAYS), "--rows-per-day", "20000"]
    generate_logs.main(["--output", logs, *made])
    changes = [part for change in LENIENT for part in ("--set", change)]
    night = ["--config", CONFIG, "--logs", logs, "--output", output, "--date", last]
    if run_nightly.main([*night, *changes]) not in (0, EXIT_REJECTED, EXIT_NOTHING_TO_DO):
        sys.exit("the night failed")
    large = storage.join(work, f"logs-{rows}")
    generate_logs.main(["--output", large, "--start-date", last, "--days", "1", "--rows-per-day", str(rows)])
    [version] = [name for name in storage.list_folders(storage.join(output, MODELS)) if name.startswith(last)]
    model = ServedModel(storage.join(output, MODELS, version))
    spec = read_manifest(storage.join(model.artifact, ENCODER), StateManifest).spec
    [day] = check_logs(large, [last], spec)
    return Judged(day, dict.fromkeys((CANDIDATE, CHAMPION, REFERENCE)[:models], model), rows)


def small_day(work: str, judged: Judged) -> LogPartition:
    """The same day of the small night's log."""
    spec = read_manifest(storage.join(judged.models[CANDIDATE].artifact, ENCODER), StateManifest).spec
    [day] = check_logs(storage.join(work, "logs"), [judged.day.date], spec)
    return day


def score_alone(spark: SparkSession, judged: Judged) -> None:
    """Score every row, and keep none."""
    score_day(spark, judged.day, judged.models, CANDIDATE, SLICES).write.format("noop").mode("overwrite").save()


def judge(spark: SparkSession, judged: Judged) -> str:
    """Score and judge. How many parts there are, and the verdict, for people."""
    config = GateConfig(slices=SLICES)
    with scored_day(spark, judged.day, judged.models, CANDIDATE, SLICES, rows=judged.rows) as host:
        slices = find_slices(judged.models[CANDIDATE].artifact, SLICES, host)
        reference = Reference(version="old", days=7) if REFERENCE in judged.models else None
        decision = decide(config, host, see(host, slices), slices, reference=reference).decision
    return f"{len(decision.parts) - 1} slices, {decision.outcome}"


def memory_mib(process: int | str = "self") -> float:
    """The most that a process has held."""
    with open(f"/proc/{process}/status") as status:
        [peak] = [line.split()[1] for line in status if line.startswith("VmHWM")]
    return int(peak) / 1024


def jvm_of(spark: SparkSession) -> int:
    """The process of the session's JVM."""
    pid: int = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]
    return pid


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a line of a Markdown table."""
    parser = argparse.ArgumentParser(prog="speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for logs and models")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, choices=(1, 2, 3), default=3)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    with spark_session("gate speed") as spark:
        judged = prepared(os.path.abspath(args.work), args.rows, args.models)
        small = replace(judged, day=small_day(os.path.abspath(args.work), judged), rows=20_000)
        judge(spark, small)  # Python's workers are there, and have loaded the models
        begin = perf_counter()
        score_alone(spark, judged)
        alone, begin = perf_counter() - begin, perf_counter()
        found = judge(spark, judged)
        seconds = perf_counter() - begin
        print(
            f"| {args.rows:,} | {args.models} | {alone:.1f} | {seconds:.1f} | {seconds / alone:.2f} "
            f"| {memory_mib():.0f} | {memory_mib(jvm_of(spark)):.0f} | {found} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
