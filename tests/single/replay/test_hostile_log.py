"""A request log names directories of a registry and holds rows as JSON: what is neither is an error naming the file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.serving.replay.logged import read_log
from nightjar.serving.request_log import PREFIX, SCHEMA, SUFFIX

GOOD: dict[str, Any] = {
    "request": "r",
    "row": 0,
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "version": "2026-01-01-lr-aa",
    "counters": "2026-01-02-bb",
    "as_of": "2026-01-02",
    "score": 0.5,
    "error": None,
    "raw": '{"user": 1}',
}


def log_with(folder: Path, **changes: Any) -> str:
    path = folder / f"{PREFIX}1{SUFFIX}"
    pq.write_table(pa.Table.from_pylist([{**GOOD, **changes}], schema=SCHEMA), path)
    return str(path)


def test_what_a_server_writes_is_read(tmp_path: Path) -> None:
    [batch] = read_log(log_with(tmp_path))
    assert (batch.model.version, batch.model.counters, batch.rows) == (GOOD["version"], GOOD["counters"], [{"user": 1}])


@pytest.mark.parametrize(
    "change",
    [
        {"version": "../../elsewhere"},
        {"version": "/etc"},
        {"version": "history"},
        {"version": None},
        {"counters": "../2026-01-01-lr-aa"},
        {"counters": ""},
        {"raw": "{"},
        {"raw": "[1"},
    ],
    ids=str,
)
def test_a_name_that_leads_elsewhere_or_a_row_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = log_with(tmp_path, **change)
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        list(read_log(path))
