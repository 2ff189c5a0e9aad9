"""The request log: what requests brought and what they were answered, as Parquet, beside the answering.

    <path>/requests-<time>-<process>-<number>.parquet

One row a scored row: request, row (its place in the request), at, version, counters, as_of, score, error and raw, the
row as JSON (serving.raw_values). A request that was refused has no scores, but the error. Files appear whole, are the
user's alone (mode 0600), and the oldest go when the folder is full. Nothing here delays or fails an answer: what does
not fit into the queue is dropped and counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from nightjar.features.contract.errors import NightjarError, UsageError
from nightjar.serving.raw_values import first_value, kept, to_json, to_rows

log = logging.getLogger(__name__)

PREFIX, SUFFIX = "requests-", ".parquet"
_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    {
        "request": _NAME,
        "row": pa.int32(),
        "at": pa.timestamp("us", tz="UTC"),
        "version": _NAME,
        "counters": _NAME,
        "as_of": _NAME,
        "score": pa.float32(),
        "error": _NAME,
        "raw": pa.string(),
    }
)


@dataclass(frozen=True)
class LogCounts:
    """What became of requests. seen: all that were given; sampled: those to be written; written: in files; dropped: for
    want of room in the queue or on the disk; failed: they could not be read or written. removed_files: old ones.
    """

    seen: int = 0
    sampled: int = 0
    written: int = 0
    dropped: int = 0
    failed: int = 0
    removed_files: int = 0


@dataclass(frozen=True)
class Answered:
    """A request and its answer. rows: as they were brought; scores: None if it was refused, for the reason `error`."""

    request: str
    rows: Any
    scores: np.ndarray | None
    version: str
    counters: str | None
    as_of: str | None
    at: datetime
    error: str | None


class RequestLog:
    """Writes a sample of requests in a thread of its own. Safe to share by threads; goes on in a forked process."""

    def __init__(
        self,
        path: str,
        *,
        sample: float = 1.0,
        sample_by: str | None = None,
        seed: int = 0,
        max_mib: float = 1024.0,
        max_queue: int = 100_000,
        file_rows: int = 50_000,
        every_seconds: float = 60.0,
    ) -> None:
        """Open a log.

        Args:
            path: a local folder, made if it is not there. Several processes may share it.
            sample: which part of the requests is written, in [0, 1]; of a request all rows are, or none.
            sample_by: a column whose value in the first row names the request; the same names are sampled everywhere.
                None: every request has a random name.
            seed: another one samples other names.
            max_mib: of all files in the folder together; the oldest go first.
            max_queue: rows that wait to be written, at most; a request that does not fit is dropped.
            file_rows: a file is written when so many rows have come,
            every_seconds: or when the first of them is so old.

        Raises UsageError if one of them cannot be.
        """
        if "://" in path:
            raise UsageError(f"the request log {path} must be a local folder; copy its files elsewhere from there.")
        if not 0.0 <= sample <= 1.0:
            raise UsageError(f"sample must lie in [0, 1]; got {sample}.")
        if not (max_mib > 0 and max_queue > 0 and file_rows > 0 and every_seconds > 0):
            raise UsageError(
                f"the bounds of a request log must be above 0; got max_mib={max_mib}, max_queue={max_queue}, "
                f"file_rows={file_rows}, every_seconds={every_seconds}."
            )
        self._path, self._sample, self._sample_by, self._seed = path, sample, sample_by, seed
        self._bytes, self._max_queue = int(max_mib * 2**20), max_queue
        self._file_rows, self._every = file_rows, every_seconds
        os.makedirs(path, mode=0o700, exist_ok=True)
        self._begin()
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self.close)

    def _begin(self) -> None:
        """Nothing waits. In a forked process the parent's thread is not there, and what waited is the parent's."""
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Answered | threading.Event | None] = queue.SimpleQueue()
        self._waiting_rows = 0
        self._counts = LogCounts()
        self._thread: threading.Thread | None = None
        self._buffer = _Buffer()

    @property
    def counts(self) -> LogCounts:
        """What has become of requests until now, in this process."""
        return self._counts

    def write(
        self,
        rows: Any,
        scores: Sequence[float] | np.ndarray | None,
        version: str,
        counters: str | None = None,
        as_of: date | None = None,
        at: datetime | None = None,
        *,
        error: str | None = None,
    ) -> None:
        """Note a request and its answer. Never raises, never waits for the disk.

        Args:
            rows: as they were given to the model; not an iterator, which scoring has used up.
            scores: the answer; None if the request was refused.
            version: of the model that answered.
            counters: those it served with; None for those that it was packed with.
            as_of: the day that they are for.
            at: when; now if None.
            error: why it was refused.
        """
        try:
            self._add(seen=1)
            named = first_value(rows, self._sample_by) if self._sample_by else None
            request = uuid.uuid4().hex if named is None else str(named)
            if not self._is_sampled(request):
                return
            count = len(scores) if scores is not None else 1
            with self._lock:
                full = self._waiting_rows + count > self._max_queue
                if not full:
                    self._waiting_rows += count
            self._add(sampled=1, dropped=int(full))
            if not full:
                answer = None if scores is None else np.array(scores, dtype=np.float32)
                day, now = as_of.isoformat() if as_of else None, at or datetime.now(UTC)
                self._put(Answered(request, kept(rows), answer, version, counters, day, now, error), count)
        except Exception as problem:  # an answer must not fail for its log
            self._failed(problem)

    def answered(
        self,
        score: Callable[[Any], np.ndarray],
        rows: Any,
        version: str,
        counters: str | None = None,
        as_of: date | None = None,
    ) -> np.ndarray:
        """`score(rows)`, noted as `write` does; a request that is refused is noted, too, and raises as it did."""
        try:
            scores = score(rows)
        except NightjarError as error:
            self.write(rows, None, version, counters, as_of, error=str(error))
            raise
        self.write(rows, scores, version, counters, as_of)
        return scores

    def flush(self, seconds: float = 30.0) -> bool:
        """Write what waits now. True if it is done within so many seconds."""
        done = threading.Event()
        with self._lock:
            if self._thread is None:
                return True
        self._waiting.put(done)
        return done.wait(seconds)

    def close(self, seconds: float = 30.0) -> None:
        """Write what waits, and end. What is written later begins anew."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(seconds)

    def __enter__(self) -> RequestLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_sampled(self, request: str) -> bool:
        return xxhash.xxh64_intdigest(request.encode("utf-8", "surrogatepass"), self._seed) < self._sample * 2.0**64

    def _put(self, answered: Answered, count: int) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="request log", daemon=True)
                self._thread.start()
        self._waiting.put(answered)

    def _work(self) -> None:
        while True:
            due = self._buffer.since + self._every - time.monotonic() if self._buffer.rows else None
            item: Answered | threading.Event | None
            try:
                item = self._waiting.get(timeout=None if due is None else max(due, 0.0))
            except queue.Empty:
                self._write_file()
                continue
            if isinstance(item, Answered):
                self._take(item)
                continue
            self._write_file()
            if item is None:
                return
            item.set()

    def _take(self, item: Answered) -> None:
        count = len(item.scores) if item.scores is not None else 1
        with self._lock:
            self._waiting_rows -= count
        try:
            self._buffer.add(item)
        except Exception as problem:  # a value that cannot be read is one request's
            self._failed(problem)
        if self._buffer.rows >= self._file_rows:
            self._write_file()

    def _write_file(self) -> None:
        buffer, self._buffer = self._buffer, _Buffer()
        if not buffer.rows:
            return
        try:
            content = buffer.content()
            if len(content) > self._bytes:
                self._add(dropped=buffer.requests)
                return
            self._make_room(len(content))
            name = f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            temporary = os.path.join(self._path, f".{name}.tmp")
            try:
                with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, os.path.join(self._path, name + SUFFIX))
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            self._add(written=buffer.requests)
        except Exception as problem:  # a full disk, say: the next file may find room
            self._failed(problem, buffer.requests)

    def _make_room(self, size: int) -> None:
        """Remove the oldest files until so many bytes fit; those of a killed process, too."""
        found = []
        for entry in os.scandir(self._path):
            if entry.name.lstrip(".").startswith(PREFIX):
                with suppress(FileNotFoundError):  # another process's log has removed it
                    found.append((entry.name.lstrip("."), entry.path, entry.stat().st_size))
        total = sum(size_ for _, _, size_ in found)
        for _, path, size_ in sorted(found):
            if total + size <= self._bytes:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= size_
            self._add(removed_files=1)

    def _add(self, **more: int) -> None:
        with self._lock:
            self._counts = replace(self._counts, **{n: v + more.get(n, 0) for n, v in asdict(self._counts).items()})

    def _failed(self, problem: Exception, requests: int = 1) -> None:
        if not self._counts.failed:
            log.warning("requests are missing from the log %s: %s", self._path, problem)
        self._add(failed=requests)


@dataclass
class _Buffer:
    """Rows of the next file. since: when the first came, on the monotonic clock."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})
    requests: int = 0
    since: float = 0.0

    @property
    def rows(self) -> int:
        return len(self.columns["raw"])

    def add(self, answered: Answered) -> None:
        rows = to_rows(answered.rows)
        scores = [None] * len(rows) if answered.scores is None else answered.scores.tolist()
        if len(scores) != len(rows):
            raise ValueError(f"a request of {len(rows)} rows has {len(scores)} scores")
        raw = [to_json(row) for row in rows]
        self.since = self.since or time.monotonic()
        self.requests += 1
        said = [answered.version, answered.counters, answered.as_of, answered.error]
        for name, value in zip(("version", "counters", "as_of", "error"), said, strict=True):
            self.columns[name] += [value] * len(rows)
        self.columns["request"] += [answered.request] * len(rows)
        self.columns["at"] += [answered.at] * len(rows)
        self.columns["row"] += range(len(rows))
        self.columns["score"] += scores
        self.columns["raw"] += raw

    def content(self) -> bytes:
        sink = pa.BufferOutputStream()
        arrays = {name: pa.array(self.columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}
        pq.write_table(pa.table(arrays, schema=SCHEMA), sink, compression="zstd")
        return sink.getvalue().to_pybytes()
