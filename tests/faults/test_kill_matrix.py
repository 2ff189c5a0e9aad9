"""Kill -9 at every step's start, middle and commit: the night that is run again is the one that nobody disturbed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from features.manifest import MANIFEST
from tests.submit import REPOSITORY

KINDS = ("aggregates", "states", "datasets", "candidates", "models", "evaluations", "decisions", "nights")
MOMENTS = ("started", "half written", "committing", "committed")


CONFIG = {
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
    "nightly": {"train_days": 1, "keep": {"models": 1, "datasets": 1}},
    "gate": {
        "rules": [{"metric": "log_loss", "tolerance": 1.0}],
        "overall": {"rows": 100, "positives": 20, "groups": 10},
    },
}


def write_day(logs: Path, day: int, rows: int = 600) -> None:
    """Impressions of 20 users and 10 items, of which half are clicked nine times as often as the others."""
    rng = np.random.default_rng(day)
    item = rng.integers(10, size=rows)
    begin = datetime(2026, 1, day, tzinfo=UTC)
    table = pa.table(
        {
            "clicked": (rng.random(rows) < np.where(item % 2, 0.9, 0.1)).astype(np.int32),
            "at": pa.array([begin + timedelta(minutes=int(n)) for n in rng.integers(1440, size=rows)]),
            "user": rng.integers(20, size=rows),
            "item": item,
            "price": rng.random(rows),
        }
    )
    folder = logs / f"date=2026-01-{day:02d}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three days of logs, a config with little to compute, and a first night twice, whose model is the champion."""
    for day in (1, 2, 3):
        write_day(tmp_path / "logs", day)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(CONFIG))
    assert run(tmp_path, "undisturbed", "2026-01-02", None) == 0, (tmp_path / "undisturbed.log").read_text()[-4000:]
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "killed")
    return tmp_path


def run(place: Path, output: str, night: str, visited: Path | None) -> int:
    """A night, killed at every point that `visited` does not name yet; its exit status in the end."""
    command = [sys.executable, "-m", "tests.faults.mortal", str(visited or "-"), "--", "--date", night]
    command += ["--config", str(place / "conf.yaml"), "--logs", str(place / "logs"), "--output", str(place / output)]
    settings = "--master local[2] --driver-memory 1g --driver-java-options -XX:TieredStopAtLevel=1"
    settings += " --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYSPARK_SUBMIT_ARGS": settings}
    with (place / f"{output}.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, cwd=place, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(timeout=540)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def published(output: Path) -> dict[str, bytes]:
    """What readers go by: every manifest, with the checksums of its files, and every move of the pointer."""
    paths = [*output.rglob(MANIFEST), *(output / "models").rglob("0*.json"), output / "models" / "champion.json"]
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(paths)}


def test_a_night_killed_at_every_point_ends_as_the_undisturbed_one(place: Path) -> None:
    assert run(place, "undisturbed", "2026-01-03", None) == 0
    began = time.perf_counter()
    assert run(place, "killed", "2026-01-03", place / "visited") == 0, (place / "killed.log").read_text()[-4000:]
    points = (place / "visited").read_text().splitlines()
    print(f"{len(points)} kills in {time.perf_counter() - began:.0f} s")
    assert len(set(points)) == len(points)
    for kind in KINDS:
        for moment in MOMENTS:
            assert [point for point in points if point.startswith(f"{moment} {kind}/")], (kind, moment)
    for written in ("models/history/000002.json", "models/champion.json", "metrics/latest.prom"):
        assert {f"before writing {written}", f"after writing {written}"} <= set(points)
    assert [point for point in points if point.startswith("half removed datasets/")]
    assert published(place / "killed") == published(place / "undisturbed")
    champion = (place / "killed" / "models" / "champion.json").read_text()
    assert '"sequence": 2' in champion
    assert run(place, "killed", "2026-01-03", None) == 4
