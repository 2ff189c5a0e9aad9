"""Logs and a config with as little to compute as a night can have: 600 impressions a day, easily learned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CONFIG: dict[str, Any] = {
    "features": {
        "name": "small",
        "label": "clicked",
        "timestamp": "at",
        "group": "user",
        "fields": [{"name": "user"}, {"name": "item"}],
        "dense": [{"name": "price"}],
        "crosses": [{"name": "user_item", "fields": ["user", "item"], "buckets": 256}],
        "frequencies": [{"name": "item_rate", "keys": ["item"], "windows": ["1d"], "prior": 0.4}],
    },
    "training": {"model": "wide_deep", "epochs": 3, "batch_size": 50, "deep": {"layers": [8]}},
    "nightly": {"train_days": 1},
    "gate": {
        "rules": [{"metric": "log_loss", "tolerance": 1.0}],
        "overall": {"rows": 100, "positives": 20, "groups": 10},
    },
}


def make_day(day: int, rows: int = 600, label: int = 1) -> pa.Table:
    """Impressions of 20 users and 10 items, of which half are clicked nine times as often as the others.

    label: what marks a click; anything but 1 makes the day one that cannot be used.
    """
    rng = np.random.default_rng(day)
    item = rng.integers(10, size=rows)
    begin = datetime(2026, 1, day, tzinfo=UTC)
    return pa.table(
        {
            "clicked": (rng.random(rows) < np.where(item % 2, 0.9, 0.1)).astype(np.int32) * label,
            "at": pa.array([begin + timedelta(minutes=int(n)) for n in rng.integers(1440, size=rows)]),
            "user": rng.integers(20, size=rows),
            "item": item,
            "price": rng.random(rows),
        }
    )


def write_day(logs: Path, day: int, rows: int = 600, label: int = 1) -> None:
    """`make_day` as the log of that day."""
    folder = logs / f"date=2026-01-{day:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(make_day(day, rows, label), folder / "part-0.parquet")
