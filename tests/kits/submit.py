"""Whole jobs as a user runs them: through spark-submit, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = "local[2]"
CLUSTER = "local-cluster[2,1,1024]"


def start(
    job: str, arguments: Sequence[str], cwd: Path, master: str = LOCAL, output: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start `jobs/<job>.py`. It leads a process group of its own, so that it can be killed with all its children."""
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", master]
    command += ["--conf", f"spark.executorEnv.PYTHONPATH={REPOSITORY}", "--conf", "spark.sql.shuffle.partitions=2"]
    command += ["--driver-java-options", "-XX:TieredStopAtLevel=1"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    environment.pop("PYSPARK_SUBMIT_ARGS", None)
    return subprocess.Popen(
        [*command, str(REPOSITORY / "jobs" / f"{job}.py"), *arguments],
        env=environment,
        cwd=cwd,
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,
    )


def submit(
    job: str, arguments: Sequence[str], cwd: Path, master: str = LOCAL, timeout: float = 500
) -> tuple[int, str, str]:
    """Run `jobs/<job>.py` to its end: exit status, standard output, standard error."""
    process = start(job, arguments, cwd, master, subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        kill(process)
    return process.returncode, out, err


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, the children too."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
    process.wait()
