"""Kill -9 at every step's start, middle and commit: the night that is run again is the one that nobody disturbed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.publishing import MANIFEST, read_manifest
from tests.faults.mortal import kind_of
from tests.kits.small_night import CONFIG, write_day
from tests.kits.submit import REPOSITORY


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three days of logs, a config with little to compute, and a first night twice, whose model is the champion."""
    for day in (1, 2, 3):
        write_day(tmp_path / "logs", day)
    nightly = CONFIG["nightly"] | {"keep": {"models": 1, "datasets": 1}, "publish": {"learn_evaluated_day": True}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(CONFIG | {"nightly": nightly}))
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
            return process.wait(timeout=1500)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def published(output: Path) -> dict[str, bytes]:
    """What readers go by: every manifest, with the checksums of its files, and every move of the pointer. Its token
    counts the runs, and is left out.
    """
    models = output / "models"
    moves = [*(models / "history").iterdir(), models / "champion.json"]
    assert all(json.loads(path.read_text())["token"] for path in moves)
    content = {path: re.sub(rb'"token": \d+', b"", path.read_bytes()) for path in (*output.rglob(MANIFEST), *moves)}
    return {str(path.relative_to(output)): content[path] for path in sorted(content)}


def moments_of_directories(output: Path) -> set[str]:
    """Where a night can die on the way to each kind of directory that it publishes."""
    moments = set()
    for path in output.rglob(MANIFEST):
        kind = kind_of(str(path.parent.relative_to(output)))
        moments |= {f"started {kind}", f"committing {kind}"}
        if json.loads(path.read_text())["files"]:
            moments.add(f"half written {kind}")
    return moments


@pytest.mark.timeout(1800)  # some seventy nights; a busy machine takes three times as long as an idle one
def test_a_night_killed_at_every_point_ends_as_the_undisturbed_one(place: Path) -> None:
    assert run(place, "undisturbed", "2026-01-03", None) == 0
    began = time.perf_counter()
    # The nights' pages are written once the night is over: the last run finds nothing else to do, which is status 4.
    assert run(place, "killed", "2026-01-03", place / "visited") == 4, (place / "killed.log").read_text()[-4000:]
    points = (place / "visited").read_text().splitlines()
    print(f"{len(points)} kills in {time.perf_counter() - began:.0f} s")
    assert len(set(points)) == len(points)
    directories = moments_of_directories(place / "undisturbed")
    assert {"committing profiles", "committing validations", "half written candidates"} < directories
    assert {"half written finished candidates", "committing finished models", "started finishes"} < directories
    assert directories <= set(points)
    files = ("models/history/000002.json", "models/champion.json", "metrics/latest.prom", "reports/index.html")
    assert {f"{moment} writing {file}" for file in files for moment in ("before", "after")} <= set(points)
    assert {"half removed datasets", "removed datasets", "locked the output"} <= set(points)
    assert published(place / "killed") == published(place / "undisturbed")
    assert '"sequence": 2' in (place / "killed" / "models" / "champion.json").read_text()
    candidate, finished = sorted((place / "killed" / "candidates").glob("2026-01-03-*/"), key=lambda path: path.name)
    parent, judged = (read_manifest(str(path), CandidateManifest).parent for path in (candidate, finished))
    assert parent is not None, "it is a warm start that was killed"
    assert parent.through_date == "2026-01-01"
    assert judged is not None
    assert judged.candidate == candidate.name, "it is a leaf that was killed"
