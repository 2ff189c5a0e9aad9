"""The request log: what it writes, what it leaves out, and that no answer waits or fails for it."""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.serving import InContext, request_log
from nightjar.serving.raw_values import from_json, kind_of, to_json, to_rows
from nightjar.serving.request_log import SCHEMA, RequestLog

ROWS: list[dict[str, Any]] = [
    {"user": "ann", "item": 3, "paid": True, "tags": ["x", None, "x"], "price": 1.5, "gone": None},
    {"user": " ÄB\ud83e", "item": 2**70, "price": float("nan")},
]
AT = datetime(2026, 11, 30, 12, 30, tzinfo=UTC)


def written(path: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(path.glob("*.parquet"))])


def test_a_request_is_written_with_its_answer_and_with_what_it_lacks(tmp_path: Path) -> None:
    with RequestLog(str(tmp_path / "log"), sample_by="user") as log:
        log.write(ROWS, np.array([0.25, 0.5], np.float32), "v1", "2026-11-30-abc", date(2026, 11, 30), AT)
        log.write(ROWS[:1], None, "v1", at=AT, error="no item")
    table = written(tmp_path / "log")
    assert table.schema.names == SCHEMA.names
    rows = table.to_pylist()
    assert [json.loads(row.pop("raw")) for row in rows[:1]] == [ROWS[0]]
    assert rows[0] == {
        "request": "ann",
        "row": 0,
        "at": AT,
        "version": "v1",
        "counters": "2026-11-30-abc",
        "as_of": "2026-11-30",
        "score": 0.25,
        "error": None,
    }
    assert list(from_json(rows[1]["raw"])) == ["user", "item", "price"]
    assert (rows[2]["score"], rows[2]["error"], rows[2]["counters"]) == (None, "no item", None)
    (file,) = (tmp_path / "log").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert log.counts == request_log.LogCounts(seen=2, sampled=2, written=2)


def test_scoring_through_the_log_notes_answers_and_refusals(tmp_path: Path) -> None:
    def refuse(_: Any) -> np.ndarray:
        raise DataError("no such column")

    with RequestLog(str(tmp_path)) as log:
        assert log.answered(lambda rows: np.full(len(rows), 0.5, np.float32), ROWS, "v").tolist() == [0.5, 0.5]
        with pytest.raises(DataError, match="no such column"):
            log.answered(refuse, ROWS, "v")
    assert written(tmp_path).column("error").to_pylist() == [None, None, "no such column", "no such column"]


def test_candidates_in_their_context_are_written_as_whole_rows(tmp_path: Path) -> None:
    candidates: list[dict[str, Any]] = [{"item": 1}, {"item": 2}]
    with RequestLog(str(tmp_path / "log"), sample_by="user") as log:
        log.write(InContext({"user": "ann"}, candidates), np.array([0.25, 0.5], np.float32), "v1", at=AT)
        log.write(InContext({"item": 3}, pa.table({"user": ["bob"]})), np.array([0.75], np.float32), "v1", at=AT)
        candidates.clear()
    rows = written(tmp_path / "log").to_pylist()
    assert [(row["request"], json.loads(row["raw"])) for row in rows] == [
        ("ann", {"user": "ann", "item": 1}),
        ("ann", {"user": "ann", "item": 2}),
        ("bob", {"item": 3, "user": "bob"}),
    ]


def test_raw_values_come_back_as_they_were() -> None:
    row = {
        "text": "\ud83e ü",
        "many": 2**70,
        "truth": False,
        "nothing": None,
        "list": ["a", None, 1.5],
        "infinite": float("-inf"),
        "bytes": b"\xff",
        "day": date(2026, 1, 2),
        "moment": AT,
        "exact": Decimal("1.10"),
    }
    assert from_json(to_json(row)) == row
    assert np.isnan(from_json(to_json({"x": float("nan")}))["x"])
    numpy = {"i": np.int32(3), "f": np.float32(0.1), "b": np.bool_(True), "a": np.array([1, 2]), "na": pd.NA}
    assert from_json(to_json(numpy)) == {"i": 3, "f": float(np.float32(0.1)), "b": True, "a": [1, 2], "na": None}
    assert [kind_of(v) for v in (True, 1, 1.0, "a", None, float("nan"), [None, 1], [])] == [
        "boolean",
        "integer",
        "number",
        "string",
        "missing",
        "missing",
        "list of integer",
        "list of nothing",
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [{"user": "ann", "n": 1}, {"user": None, "n": 2}],
        {"user": ["ann", None], "n": np.array([1, 2])},
        pa.table({"user": ["ann", None], "n": [1, 2]}),
        pa.RecordBatch.from_pydict({"user": ["ann", None], "n": [1, 2]}),
        pd.DataFrame({"user": pd.Series(["ann", None], dtype=object), "n": [1, 2]}),
    ],
    ids=["mappings", "columns", "table", "batch", "frame"],
)
def test_every_shape_of_request_is_written_alike(tmp_path: Path, rows: Any) -> None:
    assert to_rows(rows) == [{"user": "ann", "n": 1}, {"user": None, "n": 2}]
    with RequestLog(str(tmp_path), sample_by="user") as log:
        log.write(rows, [0.1, 0.2], "v")
    assert written(tmp_path).column("request").to_pylist() == ["ann", "ann"]


def test_one_row_may_be_a_mapping_of_values() -> None:
    assert to_rows({"user": "ann", "tags": ["a", "b"]}) == [{"user": "ann", "tags": ["a", "b"]}]


def test_what_the_caller_changes_after_the_answer_is_not_written(tmp_path: Path) -> None:
    rows = [{"user": "ann", "tags": ["a"]}]
    with RequestLog(str(tmp_path)) as log:
        log.write(rows, [0.5], "v")
        rows[0]["user"] = "bob"
        rows[0]["tags"].append("b")  # type: ignore[attr-defined]
    assert from_json(written(tmp_path).column("raw")[0].as_py()) == {"user": "ann", "tags": ["a"]}


def test_a_sample_is_of_whole_requests_by_name_and_the_same_everywhere(tmp_path: Path) -> None:
    kept = []
    for place in ("one", "other"):
        with RequestLog(str(tmp_path / place), sample=0.25, sample_by="id") as log:
            for n in range(2000):
                log.write([{"id": n}, {"id": -1}], [0.5, 0.5], "v")
        kept.append(written(tmp_path / place).column("request").to_pylist())
    assert kept[0] == kept[1]
    names = set(kept[0])
    assert len(kept[0]) == 2 * len(names)
    assert 400 < len(names) < 600  # 500, standard deviation 19


def test_the_oldest_files_make_room_and_the_folder_stays_within_its_bound(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / ".requests-0-killed.tmp").write_bytes(b"x" * 100_000)
    with RequestLog(str(tmp_path), max_mib=0.2, file_rows=50) as log:
        for n in range(40):
            rows = [{"n": n, "noise": rng.bytes(400).hex()} for _ in range(50)]
            log.write(rows, [0.5] * 50, "v")
    files = list(tmp_path.iterdir())
    assert sum(file.stat().st_size for file in files) <= 0.2 * 2**20
    assert not [file for file in files if file.name.startswith(".")]
    newest = {from_json(text)["n"] for text in written(tmp_path).column("raw").to_pylist()}
    assert max(newest) == 39
    assert newest == set(range(min(newest), 40))
    assert log.counts.written == 40
    assert log.counts.removed_files == 40 - len(files) + 1


def test_a_full_queue_drops_requests_and_a_blocked_disk_delays_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, reached = threading.Event(), threading.Event()
    real = os.replace

    def stuck(source: str, target: str) -> None:
        reached.set()
        blocked.wait(60)
        real(source, target)

    monkeypatch.setattr(request_log.os, "replace", stuck)
    log = RequestLog(str(tmp_path), max_queue=10, file_rows=1)
    log.write([{"n": 0}], [0.5], "v")
    assert reached.wait(60)
    for n in range(1, 31):
        log.write([{"n": n}], [0.5], "v")
    assert (log.counts.seen, log.counts.dropped) == (31, 20)
    blocked.set()
    log.close()
    assert written(tmp_path).num_rows == 11


def test_a_full_disk_or_odd_rows_are_counted_and_raise_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with RequestLog(str(tmp_path)) as log:
        with monkeypatch.context() as patched:
            patched.setattr(request_log.os, "replace", full)
            log.write([{"n": 1}], [0.5], "v")
            assert log.flush()
        log.write(iter([{"n": 2}]), [0.5], "v")
        log.write([{"n": 3}], [0.5, 0.5], "v")
        log.write([{"n": 4}], [0.5], "v")
    assert (log.counts.failed, log.counts.written) == (3, 1)
    assert [from_json(text) for text in written(tmp_path).column("raw").to_pylist()] == [{"n": 4}]
    assert "No space left on device" in caplog.text
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_written_when_its_first_row_is_old(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path), every_seconds=0.01)
    log.write([{"n": 1}], [0.5], "v")
    for _ in range(6000):
        if list(tmp_path.glob("*.parquet")):
            break
        threading.Event().wait(0.01)
    assert written(tmp_path).num_rows == 1
    log.close()


def test_threads_and_a_forked_process_share_a_folder(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path))
    threads = [threading.Thread(target=log.write, args=([{"n": n}], [0.5], "v")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = os.fork()
    if not child:
        log.write([{"n": 99}], [0.5], "v")
        log.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log.close()
    found = sorted(from_json(text)["n"] for text in written(tmp_path).column("raw").to_pylist())
    assert found == [*range(20), 99]


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("s3://bucket/log", {}, "must be a local folder"),
        ("log", {"sample": 1.5}, r"sample must lie in \[0, 1\]; got 1.5"),
        ("log", {"max_mib": 0}, "must be above 0; got max_mib=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, path: str, settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RequestLog(path if "://" in path else str(tmp_path / path), **settings)
