"""Small logs with a known truth, for looks at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.jobs.initialise.look import Look, take_look

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 2000


def impressions(day: int, rows: int = ROWS) -> dict[str, Any]:
    """Columns of a day: 40 users, 8 items of which half are clicked five times as often, a price and a device."""
    rng = np.random.default_rng(day)
    item = rng.integers(8, size=rows)
    return {
        "clicked": (rng.random(rows) < np.where(item % 2, 0.5, 0.1)).astype(np.int64),
        "shown_at": pa.array(
            [FIRST + timedelta(days=day, seconds=int(s)) for s in np.sort(rng.integers(86_400, size=rows))]
        ),
        "user_id": np.char.add("u", rng.integers(40, size=rows).astype(str)),
        "item": np.char.add("i", item.astype(str)),
        "price": np.round(rng.gamma(2.0, 10.0, size=rows), 2),
        "device": rng.choice(["phone", "tablet"], size=rows),
    }


def folder_of(logs: Path, day: int) -> Path:
    return logs / f"date={(FIRST + timedelta(days=day)).date()}"


def write_logs(logs: Path, days: int = 3, rows: int = ROWS, **more: Any) -> Path:
    """Parquet in date folders. more: further columns by name, each a function of a day's columns and a generator."""
    for day in range(days):
        columns = impressions(day, rows)
        rng = np.random.default_rng(1000 + day)
        for name, make in more.items():
            columns[name] = make(columns, rng)
        folder = folder_of(logs, day)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / "part-0.parquet")
    return logs


def look_at(logs: Path, rows: int = 100_000, **roles: str) -> Look:
    """What is told of the log. roles: label, timestamp, group, where given."""
    return take_look(str(logs), rows, roles.get("label"), roles.get("timestamp"), roles.get("group"))
