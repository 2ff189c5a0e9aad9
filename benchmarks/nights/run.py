"""Many nights on tiny logs, in one process: what each of them costs, as a line of JSON.

    python -m benchmarks.nights.run --work FOLDER [--nights 400] [--rows-per-day 400] [--expire 15]

The log of a day is written before its night, and removed when it is older than --expire days. Users and items are
always the same ones, so that the number of distinct keys stands still, and with it what a night may cost. Every model
is let through, so that the pointer moves every night. FOLDER/nights.jsonl grows by a line a night; a run that is
started again goes on after the last one. `python -m benchmarks.nights.draw` shows it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.nights.measure import Meter, Night, read_nights
from nightjar.jobs import run_nightly
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session

FIRST = date(2025, 1, 1)
DAYS_BEFORE = 3
USERS, ITEMS = 200, 60
# For tables of a few hundred rows: to compile code for them takes longer than to go without.
SPARK = {
    "spark.sql.shuffle.partitions": 1,
    "spark.default.parallelism": 1,
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
SUBMIT = f"--master local[2] --driver-memory 1g {' '.join(f'--conf {k}={v}' for k, v in SPARK.items())} pyspark-shell"
CONFIG = {
    "features": {
        "name": "nights",
        "label": "clicked",
        "timestamp": "at",
        "group": "user",
        "fields": [{"name": "user"}, {"name": "item"}],
        "frequencies": [{"name": "item_rate", "keys": ["item"], "windows": ["1d", "7d", "all"], "prior": 0.3}],
    },
    "training": {"model": "lr", "epochs": 1, "batch_size": 100},
    "nightly": {
        "train_days": 3,
        "keep": {"models": 3, "datasets": 3, "days": 10, "counters": 3, "nights": 14},
    },
    "validation": {
        "reference_days": 3,
        "rows": 100.0,
        "label_rate": 100.0,
        "missing": 1.0,
        "unseen": 1.0,
        "drift": 1.0,
    },
    "gate": {
        "rules": [{"metric": "log_loss", "tolerance": 10.0}],
        "reference_days": 0,
        "calibration": [0.0, 1000.0],
        "normalized_entropy": 0.999999,
        "overall": {"rows": 10, "positives": 2, "groups": 2},
        "resamples": 100,
    },
}


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the nights that are missing."""
    parser = argparse.ArgumentParser(prog="nights", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the log, the nights and the measurements")
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--rows-per-day", type=int, default=400)
    parser.add_argument("--expire", type=int, default=15, help="days after which a log is removed")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", SUBMIT)
    work = Path(args.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    config, lines = work / "config.yaml", work / "nights.jsonl"
    config.write_text(yaml.safe_dump(CONFIG))
    done = len(read_nights(lines)) if lines.exists() else 0
    for day in range(max(-DAYS_BEFORE, done - args.expire), done):
        write_day(work / "logs", FIRST + timedelta(day), args.rows_per_day)
    with spark_session("nights"):
        meter = Meter(work)
        for number in range(done + 1, args.nights + 1):
            night = FIRST + timedelta(number - 1)
            write_day(work / "logs", night, args.rows_per_day)
            shutil.rmtree(folder_of(work / "logs", night - timedelta(args.expire)), ignore_errors=True)
            with lines.open("a") as file:
                file.write(measured(meter, number, night, config).model_dump_json() + "\n")
    return 0


def measured(meter: Meter, number: int, night: date, config: Path) -> Night:
    """Run a night, and say what it cost."""
    meter.begin()
    paths = ["--config", str(config), "--logs", str(meter.work / "logs"), "--output", str(meter.output)]
    status = run_nightly.main([*paths, "--date", str(night)])
    if status:
        sys.exit(f"night {night} ended with status {status}")
    return meter.end(number)


def folder_of(logs: Path, day: date) -> Path:
    """Of a day's log."""
    return logs / f"date={day}"


def write_day(logs: Path, day: date, rows: int) -> None:
    """The log of a day, in two files: half of the items are clicked three times as often as the others."""
    rng = np.random.default_rng(day.toordinal())
    folder, begin = folder_of(logs, day), datetime(day.year, day.month, day.day, tzinfo=UTC)
    folder.mkdir(parents=True, exist_ok=True)
    for file, count in enumerate((rows // 2, rows - rows // 2)):
        item = rng.integers(ITEMS, size=count)
        table = {
            "clicked": (rng.random(count) < np.where(item % 2, 0.6, 0.2)).astype(np.int32),
            "at": pa.array([begin + timedelta(seconds=int(n)) for n in rng.integers(86_400, size=count)]),
            "user": rng.integers(USERS, size=count),
            "item": item,
        }
        pq.write_table(pa.table(table), folder / f"part-{file}.parquet")


if __name__ == "__main__":
    sys.exit(main())
