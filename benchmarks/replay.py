"""A million logged scores, reproduced: requests of a log are answered and logged, and the log is replayed.

    python -m benchmarks.replay --models FOLDER --logs FOLDER --work FOLDER [--rows 1000000]

Requests are rows of the log in their order, 200 at a time, the days in turn and again from the first. The champion
answers them through its artifact. What the request log costs is the answering with it beside the answering without it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract import storage
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.replay_requests import open_model
from nightjar.serving import registry
from nightjar.serving.model import load
from nightjar.serving.replay.logged import read_log
from nightjar.serving.replay.models import Models
from nightjar.serving.replay.replay import Replay
from nightjar.serving.request_log import RequestLog

REQUEST_ROWS = 200


def requests(logs: str, rows: int) -> Iterator[pa.Table]:
    """So many rows of a log's files, a request at a time."""
    left = rows
    while left:
        for file in storage.list_files(logs, ".parquet"):
            table = pq.read_table(storage.join(logs, file))
            for start in range(0, table.num_rows, REQUEST_ROWS):
                request = table.slice(start, min(REQUEST_ROWS, left))
                left -= request.num_rows
                if request.num_rows:
                    yield request
                if not left:
                    return


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print how many scores are reproduced, the largest difference, and what answering, logging and replaying took."""
    parser = argparse.ArgumentParser(prog="replay", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", required=True, help="a registry with a champion")
    parser.add_argument("--logs", required=True, help="the folder of its logs, Parquet")
    parser.add_argument("--work", required=True, help="an empty folder for the request log")
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args(argv)
    version = registry.load_champion(args.models).rpartition("/")[2]
    model = load(storage.join(args.models, version))
    pointer_at = datetime.now(UTC)
    answering = {"bare": 0.0, "logged": 0.0}
    with RequestLog(os.path.abspath(args.work), max_queue=args.rows, max_mib=8192) as log:
        for request in requests(args.logs, args.rows):
            began = time.perf_counter()
            scores = model.score(request)
            answering["bare"] += time.perf_counter() - began
            log.write(request, scores, version, at=pointer_at)
            answering["logged"] += time.perf_counter() - began
    size = sum(entry.stat().st_size for entry in os.scandir(args.work))
    print(f"{log.counts}; {size:,} bytes")
    print(", ".join(f"answering, {how}: {seconds:.1f} s" for how, seconds in answering.items()))
    began = time.perf_counter()
    replay = Replay(Models(args.models, open_model))
    replay.add_all(read_log(args.work))
    print(*replay.replayed().lines(), sep="\n")
    print(f"replayed in {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
