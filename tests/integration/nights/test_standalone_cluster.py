"""A whole night on a standalone Spark cluster: a master and two workers, submitted by conf/schedule/standalone.sh."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from nightjar import serving
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.jobs.nightly.lineage import code
from nightjar.serving import registry
from tests.kits.small_night import CONFIG, write_day
from tests.kits.submit import REPOSITORY, kill

BINARIES = Path(sys.executable).parent


@contextmanager
def daemon(place: Path, name: str, *arguments: str) -> Iterator[Path]:
    """A process of Spark's, on loopback; its log."""
    log = place / f"{name}.log"
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "512m"}
    environment.pop("PYTHONPATH", None)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(BINARIES / "spark-class"), *arguments, "--host", "127.0.0.1", "--webui-port", "0"],
            env=environment,
            cwd=place,
            stdout=stream,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
        try:
            yield log
        finally:
            kill(process)


def found(log: Path, pattern: str, seconds: float = 60) -> re.Match[str]:
    """Wait until a log says something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if match := re.search(pattern, log.read_text()):
            return match
        time.sleep(0.05)
    raise AssertionError(f"{log} does not say {pattern!r}:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The master's URL, once two workers with a core each have registered, and where they leave their logs."""
    place = tmp_path_factory.mktemp("cluster")
    package = "org.apache.spark.deploy"
    with ExitStack() as stack:
        master = stack.enter_context(daemon(place, "master", f"{package}.master.Master", "--port", "0"))
        url = found(master, r"spark://127\.0\.0\.1:\d+")[0]
        for name in ("worker1", "worker2"):
            options = ["--cores", "1", "--memory", "2g", "--work-dir", str(place / name)]
            log = stack.enter_context(daemon(place, name, f"{package}.worker.Worker", url, *options))
            found(log, "Successfully registered with master")
        yield url, place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of logs, a config for two Horovod workers, the code's archive and an archive of the environment's."""
    place = tmp_path_factory.mktemp("submitted")
    for day in (1, 2):
        write_day(place / "logs", day)
    config = CONFIG | {
        "training": CONFIG["training"] | {"workers": 2},
        "nightly": {"hook": {"command": f"tee {place}/told.json"}},
    }
    (place / "conf.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([sys.executable, str(REPOSITORY / ".ci/code_archive.py"), str(place / "nightjar.zip")], check=True)
    with tarfile.open(place / "env.tar.gz", "w:gz") as archive:
        archive.add(REPOSITORY / "pyproject.toml", "pyproject.toml")
    return place


def test_a_night_runs_on_a_standalone_cluster_with_two_horovod_workers_in_spark(
    place: Path, cluster: tuple[str, Path]
) -> None:
    submit = "--executor-cores 1 --total-executor-cores 2 --executor-memory 1g --driver-memory 1g"
    submit += " --conf spark.sql.shuffle.partitions=2 --conf spark.driver.bindAddress=127.0.0.1"
    environment = os.environ | {
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "SPARK_MASTER": cluster[0],
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "NIGHTJAR_CONFIG": str(place / "conf.yaml"),
        "NIGHTJAR_LOGS": str(place / "logs"),
        "NIGHTJAR_OUTPUT": str(place / "out"),
        "NIGHTJAR_ZIP": str(place / "nightjar.zip"),
        "NIGHTJAR_ENV": str(place / "env.tar.gz"),
        "NIGHTJAR_SUBMIT": submit,
    }
    for name in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [str(REPOSITORY / "conf/schedule/standalone.sh"), "2026-01-02"],
        env=environment,
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=400)
    finally:
        kill(process)
    assert process.returncode == 0, err[-4000:]
    executors = [path.read_text() for path in cluster[1].glob("worker?/app-*/*/stderr")]
    assert sum("[rank 0/2] trained on 1800 rows" in text for text in executors) == 1
    models = str(place / "out" / "models")
    champion = registry.load_champion(models)
    assert f"champion: {champion.rpartition('/')[2]}" in out
    manifest = read_manifest(champion, ArtifactManifest)
    verify(champion, manifest)
    assert manifest.lineage.code == code()
    assert set(manifest.lineage.logs) == {"2026-01-01", "2026-01-02"}
    raw = pq.read_table(f"{champion}/golden/raw.parquet")
    expected = np.load(f"{champion}/golden/scores.npy")
    np.testing.assert_allclose(serving.load(champion).score(raw), expected, rtol=0, atol=1e-5)
    told = json.loads((place / "told.json").read_text())
    assert (told["event"], told["date"], told["champion"]) == ("published", "2026-01-02", champion.rpartition("/")[2])
    [log] = (place / "out" / "runs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["step"] for line in lines} >= {"validate", "encode", "train", "pack", "evaluate", "gate", "publish"}
    assert {line["run"] for line in lines} == {told["run"]}
    assert (place / "out" / "metrics" / "2026-01-02.prom").read_text().endswith("# EOF\n")
