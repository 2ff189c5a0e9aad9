"""First nights of logs with few and with many positives: python -m benchmarks.nights.first_nights --work FOLDER

Four days of rows by base rate; what a user and an item add to the log-odds is known. A wide & deep model is trained on
three days in one epoch, and judged on the fourth by the gate as it is: published or not, and calibrated or not.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.nights.spec_changes import decision_of
from nightjar.jobs import run_nightly
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session

FIRST, DAYS, USERS, ITEMS = datetime(2026, 1, 1, tzinfo=UTC), 4, 2000, 500
CONFIG = {
    "features": {
        "name": "rates",
        "label": "clicked",
        "timestamp": "at",
        "group": "user",
        "fields": [{"name": "user", "min_count": 5}, {"name": "item", "min_count": 5}],
        "dense": [{"name": "price"}],
        "crosses": [{"name": "user_x_item", "fields": ["user", "item"], "buckets": 65536}],
    },
    "training": {"model": "wide_deep", "epochs": 1, "batch_size": 1024},
    "nightly": {"train_days": DAYS - 1, "baselines": ["lr"]},
}


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table, a line a base rate."""
    parser = argparse.ArgumentParser(prog="first_nights", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the logs and the nights")
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.01, 0.5, 0.99])
    parser.add_argument("--rows-per-day", type=int, default=100_000)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    with spark_session("first_nights"):
        lines = [night(Path(os.path.abspath(args.work)) / str(rate), rate, args.rows_per_day) for rate in args.rates]
    print("\n| base rate | positives of the day | verdict | calibration | 95 % each way | NE | AUC |")
    print("| --- " * 7 + "|")
    print("\n".join(lines))
    return 0


def night(place: Path, rate: float, rows: int) -> str:
    """A log, and its first night."""
    random = np.random.default_rng(5)
    positives = [write_day(place / "logs", day, rate, rows, random) for day in range(DAYS)]
    (place / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    date = str((FIRST + timedelta(DAYS - 1)).date())
    where = ["--config", str(place / "config.yaml"), "--logs", str(place / "logs"), "--output", str(place / "nights")]
    run_nightly.main([*where, "--date", date])
    decision = decision_of(str(place / "nights"), date)
    calibration = next(check for check in decision.checks if check.metric == "calibration_ratio")
    low, high = calibration.interval or (float("nan"), float("nan"))
    values = {str(figure.metric): figure.candidate for figure in decision.parts[0].figures}
    cells = [f"{rate:.1%}", f"{positives[-1]:,}", decision.outcome, f"{calibration.candidate:.4f}"]
    cells += [f"{low:.4f} .. {high:.4f}", f"{values['normalized_entropy']:.4f}", f"{values['auc']:.4f}"]
    return f"| {' | '.join(cells)} |"


def write_day(logs: Path, day: int, rate: float, rows: int, random: np.random.Generator) -> int:
    """Rows of a day; how many are positive."""
    user, item = random.integers(USERS, size=rows), random.zipf(1.3, rows) % ITEMS
    log_odds = np.log(rate / (1.0 - rate)) + 0.5 * np.sin(item) + 0.3 * np.cos(user)
    clicked = random.random(rows) < 1.0 / (1.0 + np.exp(-log_odds))
    midnight = np.datetime64((FIRST + timedelta(day)).replace(tzinfo=None), "us")
    at = midnight + (random.random(rows) * 86_400e6).astype("timedelta64[us]")
    columns = {"clicked": clicked.astype(np.int32), "user": user, "item": item, "price": random.random(rows)}
    folder = logs / f"date={(FIRST + timedelta(day)).date()}"
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({**columns, "at": pa.array(at, pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, folder / "part-0.parquet")
    return int(clicked.sum())


if __name__ == "__main__":
    sys.exit(main())
