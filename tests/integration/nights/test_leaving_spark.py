"""A signal that comes in the middle of a call to Spark ends the night in order: one status, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from nightjar.features.contract import storage
from nightjar.jobs.common.cli import EXIT_INTERRUPTED, EXIT_TERMINATED
from nightjar.jobs.nightly.lease import Lease
from tests.kits.small_night import CONFIG, write_day


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, EXIT_TERMINATED), (signal.SIGINT, EXIT_INTERRUPTED)])
def test_a_signal_within_spark_decides_the_status(tmp_path: Path, number: signal.Signals, status: int) -> None:
    logs, output = tmp_path / "logs", tmp_path / "out"
    for day in (1, 2):
        write_day(logs, day)
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(CONFIG))
    places = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(logs), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "nightjar.jobs.run_nightly", *places, "--date", "2026-01-02"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "checking and counting" in line:
            time.sleep(3.0)  # the JVM has started, or starts, or works: wherever it is, the end must be the same
            process.send_signal(number)
            break
    _, said = process.communicate(timeout=300)
    assert process.returncode == status
    assert "Traceback" not in said, said
    assert "\tat org.apache.spark" not in said
    assert ("interrupted" in said) == (number == signal.SIGINT)
    [entry] = storage.list_files(str(output / "models" / "lock"))
    assert Lease.model_validate_json((output / "models" / "lock" / entry).read_bytes()).released
