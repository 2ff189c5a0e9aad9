"""Real Horovod workers: what N of them compute is what one computes, and a failure of one ends the run with one error.

The bound on parity: after 200 steps, tables, head and golden scores of 2 and 3 workers differ from those of one
by at most 5e-5 relative or 2e-6 absolute (sums in another order, in float32).
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from nightjar.features.contract.errors import DataError, OutOfMemoryError
from nightjar.features.contract.manifests import CandidateManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.contract.records import WarmStartReport
from nightjar.jobs.finishing.finish import Finish
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.models import MODELS
from nightjar.training.run.launch import WorkerError, run
from nightjar.training.warm_start import WarmStart
from tests.kits.finish_kit import JUDGED, carried_out, finish_in, make_judged
from tests.kits.training.datasets import make_dataset, make_state
from tests.kits.training.model_kit import all_learned, assert_learned_what_one_learns
from tests.parallel.scenarios import Run, account, exchange_tensors, fail, listening, overfill

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILES = (100, 50, 0, 333, 7, 120, 2)
ROWS, BATCH = sum(FILES), 6
CONFIG = TrainingConfig.model_validate(
    {
        "model": "wide_deep",
        "epochs": 2,
        "batch_size": BATCH,
        "lanes": 7,
        "seed": 11,
        "wide": {"lambda1": 0.2, "alpha": 0.05},
        "embeddings": {"learning_rate": 0.05, "init_scale": 0.5},
        "deep": {"layers": [16, 8], "learning_rate": 0.03},
        "validation": {"every_steps": 60},
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("workers")
    for name, seed in (("", 0), ("later_", 2)):
        state = make_state(str(place / f"{name}state"), seed)
        make_dataset(str(place / (name.strip("_") or "dataset")), FILES, seed=seed, state=state)
        make_dataset(str(place / f"{name}holdout"), [10], seed=seed + 1, golden=50, state=state)
    make_judged(place / "finish_by_1", CONFIG.model_copy(update={"epochs": 1, "validation": None}))
    for workers in (2, 3):
        shutil.copytree(place / "finish_by_1", place / f"finish_by_{workers}")
    return place


def trained(place: Path, workers: int) -> list[Run]:
    """A run, and in the same workers one that begins with what one worker has learned, and a judged model's finish."""
    config = CONFIG.model_copy(update={"workers": workers})
    dataset, holdout = str(place / "dataset"), str(place / "holdout")
    job = TrainingJob(config, dataset, str(place / f"by_{workers}"), holdout)
    start = WarmStart(str(place / "by_1"), str(place / "state"), str(place / "later_state"), decay=0.5)
    later = TrainingJob(
        config.model_copy(update={"epochs": 1}),
        str(place / "later"),
        str(place / f"warm_by_{workers}"),
        str(place / "later_holdout"),
        warm_start=start,
    )
    jobs = [later, finish_by(workers, place).job]
    return run(partial(account, job, jobs), workers, threads=1, stall_seconds=120, timeout_seconds=400)


def finish_by(workers: int, place: Path) -> Finish:
    return finish_in(place / f"finish_by_{workers}", CONFIG.model_copy(update={"workers": workers}))


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[int, list[Run]]:
    """The same training by 1, 2 and 3 workers."""
    return {workers: trained(place, workers) for workers in (1, 2, 3)}


def assert_same_candidate(alone: Path, together: Path) -> None:
    """Tables, their rules' memory, head and golden scores, within the bound; which rows were touched, exactly."""
    verify(str(together), read_manifest(str(together), CandidateManifest))
    names = {
        path.relative_to(alone).as_posix()
        for path in alone.rglob("*.np[yz]")
        if not path.name.startswith(("wide_ids", "wide_weights")) or path.parent.name == "optimizer"
    }
    assert {"optimizer/wide_ids.npy", "optimizer/head.npz", "scoring/golden_scores.npy"} <= names
    for name in names:
        expected, found = (np.load(directory / name) for directory in (alone, together))
        for part in expected if name.endswith(".npz") else [...]:
            np.testing.assert_allclose(found[part], expected[part], rtol=5e-5, atol=2e-6, err_msg=f"{name} {part}")


@pytest.mark.parametrize("kind", ["by", "warm_by"])
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_publish_what_one_worker_publishes(
    place: Path, runs: dict[int, list[Run]], workers: int, kind: str
) -> None:
    assert runs[1][0].statistics["steps"] >= 200
    assert_same_candidate(place / f"{kind}_1", place / f"{kind}_{workers}")
    for name, value in runs[1][0].statistics.items():
        assert all(worker.statistics[name] == pytest.approx(value, rel=1e-6) for worker in runs[workers])


def test_a_warm_start_carried_rows_between_workers(place: Path, runs: dict[int, list[Run]]) -> None:
    """Ids were dealt anew: of two workers, most rows have another owner. Or the comparison above would be one of
    nothing.
    """
    report = WarmStartReport.model_validate_json((place / "warm_by_3/warm_start.json").read_text())
    assert all(slot.carried == slot.rows for slot in report.slots)
    assert {tensor.how for tensor in report.head} == {"carried"}


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_finish_a_judged_model_as_one_does(place: Path, runs: dict[int, list[Run]], workers: int) -> None:
    """All that it remembers is carried to the rows' owners, and the day that judged it is learned once."""
    finishes = [finish_by(n, place) for n in (1, workers)]
    [alone, together] = (Path(finish.job.output) for finish in finishes)
    assert_same_candidate(alone, together)
    manifests = [read_manifest(str(candidate), CandidateManifest) for candidate in (alone, together)]
    assert [manifest.statistics["rows"] for manifest in manifests] == [600] * 2
    assert manifests[0].inputs == manifests[1].inputs
    judged, finished = (np.load(alone.parent / name / "scoring/embedding_4.npy") for name in (JUDGED, alone.name))
    assert np.abs(finished - judged).max() > 1e-3, "or it compared what nobody has moved"
    if workers == 2:
        assert carried_out(finishes[1]).verdict == "published"


def test_training_moved_the_tables(place: Path, runs: dict[int, list[Run]]) -> None:
    """Or the comparison above would be one of nothing."""
    statistics = runs[1][0].statistics
    assert statistics["last_epoch_log_loss"] < 0.95 * statistics["first_epoch_log_loss"]
    assert np.std(np.load(place / "by_1/scoring/golden_scores.npy")) > 0.05


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_row_is_used_exactly_once_an_epoch(runs: dict[int, list[Run]], workers: int) -> None:
    steps = -(-ROWS // BATCH)
    for epoch in range(2):
        used = [row for worker in runs[workers] for batch in worker.rows[epoch * steps :][:steps] for row in batch]
        assert sorted(used) == list(range(ROWS))


@pytest.mark.parametrize("workers", [2, 3])
def test_global_batches_are_those_of_one_worker(runs: dict[int, list[Run]], workers: int) -> None:
    [alone] = runs[1]
    together = [sorted(sum(parts, [])) for parts in zip(*(w.rows for w in runs[workers]), strict=True)]  # noqa: RUF017
    assert together == [sorted(batch) for batch in alone.rows]


def test_a_worker_took_part_with_empty_batches(runs: dict[int, list[Run]]) -> None:
    assert any(not batch for worker in runs[3] for batch in worker.rows)


def test_all_workers_start_with_the_same_head(runs: dict[int, list[Run]]) -> None:
    [alone] = runs[1]
    for worker in runs[2] + runs[3]:
        assert all(np.array_equal(worker.head[name], values) for name, values in alone.head.items())


def test_messages_arrive_and_tables_of_every_rule_learn_what_one_worker_learns(runs: dict[int, list[Run]]) -> None:
    assert [worker.wrong for workers in (2, 3) for worker in runs[workers]] == [[]] * 5


def test_four_workers_learn_what_one_learns_of_every_model_in_either_placement() -> None:
    workers = run(all_learned, 4, threads=1, stall_seconds=120, timeout_seconds=300)
    assert len(workers[0]) == 2 * len(MODELS)
    for model, placement in workers[0]:
        assert_learned_what_one_learns(model, placement, [worker[model, placement] for worker in workers])


def test_an_error_for_people_arrives_as_it_is() -> None:
    with pytest.raises(DataError) as error:
        run(partial(fail, "data"), 2, threads=1, timeout_seconds=120)
    assert str(error.value) == "part-7 is broken. Build it again."


def test_a_bug_in_a_worker_arrives_with_its_traceback_and_not_its_victims() -> None:
    with pytest.raises(WorkerError, match=r"worker 1 failed:\n(.|\n)*ZeroDivisionError: a bug in worker 1"):
        run(partial(fail, "bug"), 3, threads=1, timeout_seconds=120)


def test_a_killed_worker_ends_the_run() -> None:
    began = time.monotonic()
    with pytest.raises(WorkerError, match="ended without a report"):
        run(partial(fail, "killed"), 2, threads=1, stall_seconds=60, timeout_seconds=200)
    assert time.monotonic() - began < 150


def test_a_run_ends_at_its_time_limit() -> None:
    with pytest.raises(WorkerError, match="2 workers did not finish in 15 seconds and were stopped"):
        run(partial(fail, "sleep"), 2, threads=1, timeout_seconds=15)


def test_nobody_on_another_machine_reaches_a_local_run() -> None:
    assert run(listening, 2, threads=1, timeout_seconds=200) == [{"127.0.0.1"}] * 2


@pytest.mark.parametrize("how", ["limit", "torch"])
def test_a_worker_that_runs_out_of_memory_is_named(how: str) -> None:
    with pytest.raises(
        OutOfMemoryError, match=r"worker 1 of 2 ran out of memory: .*It holds .* GB of the .* GB that it"
    ):
        run(partial(overfill, how), 2, threads=1, timeout_seconds=200)


def test_a_spark_run_listens_at_its_machines_own_addresses_and_strangers_cost_nothing(spark: SparkSession) -> None:
    """Horovod's services on the driver and in its tasks, its rendezvous and workers, and the launcher's own line."""
    context, over = spark.sparkContext, threading.Event()
    host = socket.gethostbyname(context.getConf().get("spark.driver.host"))
    found: dict[tuple[int, int], str] = {}
    silent: list[socket.socket] = []
    driver = psutil.Process()

    def listening_now() -> Iterator[tuple[tuple[int, int], str]]:
        for process in [driver, *driver.children(recursive=True)]:
            with suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        yield (process.pid, connection.laddr.port), connection.laddr.ip.removeprefix("::ffff:")

    before = dict(listening_now())

    def look() -> None:
        while not over.wait(0.1):
            for (pid, port), ip in listening_now():
                if (pid, port) not in before and (pid, port) not in found:
                    found[pid, port] = ip
                    with suppress(OSError):
                        silent.append(socket.create_connection((ip, port), timeout=5))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert run(exchange_tensors, 2, launcher="spark", threads=1) == [[], []]
    finally:
        over.set()
        thread.join()
        for connection in silent:
            connection.close()
    assert set(found.values()) == {host}
    at_the_driver = sum(pid == driver.pid for pid, _ in found)
    assert at_the_driver >= 3
    assert len(found) - at_the_driver >= 2, "the tasks' services were not seen"


def test_spark_tasks_are_workers_too(spark: SparkSession) -> None:
    assert run(exchange_tensors, 2, launcher="spark", threads=1) == [[], []]
    with pytest.raises(DataError) as error:
        run(partial(fail, "data"), 2, launcher="spark", threads=1)
    assert str(error.value) == "part-7 is broken. Build it again."
