"""The plan: whole clusters are simulated in one process."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import FileEntry
from nightjar.training.config import BatchRamp, TrainingConfig
from nightjar.training.data.dataset import hold_back
from nightjar.training.data.plan import Plan

FILES = (100, 50, 0, 333, 7, 120, 90, 41)
PLAN = Plan(FILES, batch_size=64, lanes=4, seed=5)
RAMPED = replace(PLAN, ramp=BatchRamp(batch_size=16, rows=200))

Row = tuple[int, int]


def rows_of(plan: Plan, epoch: int, world: int, start: int = 0) -> list[list[Row]]:
    """(file, row) of each global batch, the workers' shares sorted by lane as one worker has them."""
    order = plan.epoch(epoch)
    shares = [list(order.batches(rank, world, start)) for rank in range(world)]
    batches = []
    for parts in zip(*shares, strict=True):
        segments = [segment for part in parts for segment in part]
        batches.append([(s.file, int(row)) for s in segments for row in order.permutation(s.file)[s.start : s.stop]])
    return batches


@pytest.mark.parametrize("plan", [PLAN, RAMPED])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_row_is_used_exactly_once_an_epoch(world: int, epoch: int, plan: Plan) -> None:
    seen = Counter(row for batch in rows_of(plan, epoch, world) for row in batch)
    assert seen == Counter((file, row) for file, rows in enumerate(FILES) for row in range(rows))


@pytest.mark.parametrize(("plan", "epoch"), [(PLAN, 1), (RAMPED, 0)])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_global_batches_hold_the_same_rows_for_any_number_of_workers(world: int, plan: Plan, epoch: int) -> None:
    alone = [Counter(batch) for batch in rows_of(plan, epoch, 1)]
    assert [Counter(batch) for batch in rows_of(plan, epoch, world)] == alone


def test_a_worker_keeps_the_order_of_its_lanes() -> None:
    order = PLAN.epoch(0)
    together = list(order.batches(0, 1))
    for rank in range(2):
        files = {file for lane in order.lanes[rank::2] for file in lane}
        mine = [[segment for segment in batch if segment.file in files] for batch in together]
        assert list(order.batches(rank, 2)) == mine


@pytest.mark.parametrize("batch_size", [1, 3, 64, 740, 741, 742, 5000])
def test_batches_are_even_and_lanes_end_together(batch_size: int) -> None:
    plan = Plan(FILES, batch_size, lanes=4, seed=5)
    sizes = [len(batch) for batch in rows_of(plan, 0, 1)]
    assert len(sizes) == plan.epoch(0).steps == -(-sum(FILES) // batch_size)
    even = sum(FILES) / len(sizes)
    assert all(even - 4 < size < even + 4 for size in sizes)
    assert max(sizes) <= batch_size + 4


@pytest.mark.parametrize(("batch_size", "rows", "small"), [(16, 200, 13), (64, 64, 1), (4, 741, 186), (64, 5000, 12)])
def test_a_run_begins_with_smaller_batches(batch_size: int, rows: int, small: int) -> None:
    plan = replace(PLAN, ramp=BatchRamp(batch_size=batch_size, rows=rows))
    sizes = [len(batch) for batch in rows_of(plan, 0, 1)]
    ramped = min(rows, sum(FILES))
    assert len(sizes) == plan.epoch(0).steps == small + -(-(sum(FILES) - ramped) // 64)
    assert abs(sum(sizes[:small]) - ramped) < 4
    assert all(abs(size - ramped / small) < 4 for size in sizes[:small])
    assert all(abs(size - (sum(FILES) - ramped) / (len(sizes) - small)) < 4 for size in sizes[small:])
    assert rows_of(plan, 1, 1) == rows_of(PLAN, 1, 1)


def test_steps_count_through_a_run_whose_first_epoch_has_more_of_them() -> None:
    assert [RAMPED.epoch(epoch).steps for epoch in range(3)] == [13 + 9, 12, 12]
    assert [RAMPED.steps_before(epoch) for epoch in range(4)] == [0, 22, 34, 46]
    assert [RAMPED.epoch_of(step) for step in (1, 22, 23, 34, 35, 46)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
@pytest.mark.parametrize(("plan", "epoch", "steps"), [(PLAN, 2, 12), (RAMPED, 0, 22)])
def test_resuming_at_a_batch_continues_the_sequence(plan: Plan, epoch: int, steps: int, start: int) -> None:
    assert plan.epoch(epoch).steps == steps
    for world in (1, 3):
        assert rows_of(plan, epoch, world, start) == rows_of(plan, epoch, world)[start:]


@pytest.mark.parametrize("plan", [PLAN, RAMPED])
def test_files_are_read_in_order_of_first_use_and_only_if_needed(plan: Plan) -> None:
    order = plan.epoch(0)
    last = order.steps - 1
    assert sorted(order.reading_order(0, 1)) == [0, 1, 3, 4, 5, 6, 7]
    late = order.reading_order(0, 1, start=last)
    assert set(late) == {segment.file for segment in list(order.batches(0, 1))[last]}
    for rank, world, start in itertools.product(range(2), (2, 4), (0, 1, 6, last, last + 1)):
        drawn = [segment.file for batch in order.batches(rank, world, start) for segment in batch]
        assert order.reading_order(rank, world, start) == list(dict.fromkeys(drawn))


def test_files_of_a_lane_that_begin_in_one_batch_are_read_in_the_lanes_order() -> None:
    """Their numbers say nothing."""
    order = Plan((3,) * 20, batch_size=24, lanes=2, seed=0).epoch(0)
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        drawn = [segment.file for batch in order.batches(rank, world) for segment in batch]
        assert order.reading_order(rank, world) == list(dict.fromkeys(drawn)) != sorted(drawn)
        assert list(order.batches(rank, world)) == list(order.batches(rank, world, 0))


def test_files_are_dealt_by_other_draws_than_the_rows_of_the_first() -> None:
    plan = Plan((8,) * 8, batch_size=8, lanes=1, seed=0)
    assert all(list(plan.epoch(n).lanes[0]) != plan.epoch(n).permutation(0).tolist() for n in range(5))


def test_epochs_and_seeds_differ_and_repeat_themselves() -> None:
    assert rows_of(PLAN, 0, 1) != rows_of(PLAN, 1, 1)
    assert rows_of(PLAN, 0, 1) != rows_of(Plan(FILES, 64, 4, seed=6), 0, 1)
    assert rows_of(PLAN, 1, 1) == rows_of(Plan(FILES, 64, 4, seed=5), 1, 1)


def test_rows_of_a_file_are_shuffled() -> None:
    permutation = PLAN.epoch(0).permutation(3)
    assert sorted(permutation) == list(range(333))
    assert not np.array_equal(permutation, np.arange(333))
    assert not np.array_equal(permutation, PLAN.epoch(1).permutation(3))


def test_lanes_are_balanced_longest_file_first() -> None:
    loads = sorted(sum(FILES[file] for file in lane) for lane in PLAN.epoch(0).lanes)
    assert loads[-1] == 333
    assert loads[0] >= 120
    assert len(Plan((5, 5), 2, lanes=8, seed=0).epoch(0).lanes) == 2
    assert all(Plan((0, 0, 5), 2, lanes=3, seed=0).epoch(0).lanes)


def test_no_batch_is_empty_however_small_the_batches_are() -> None:
    plan = Plan((100,) * 8, batch_size=4, lanes=8, seed=0)
    assert {len(batch) for batch in rows_of(plan, 0, 1)} == {4}


def test_workers_beyond_the_rows_of_a_batch_have_nothing_to_read() -> None:
    plan = Plan((10,) * 8, batch_size=4, lanes=8, seed=0)
    assert rows_of(plan, 0, 8) == rows_of(plan, 0, 1)
    assert plan.epoch(0).reading_order(7, 8) == []


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("lanes", [2, 8, 16])
def test_a_night_writes_files_for_all_lanes_whatever_share_is_held_back(lanes: int, share: float) -> None:
    """Of as many files as lanes, none could be held back. Rows are dealt to files at random."""
    config = TrainingConfig.model_validate({"workers": lanes, "lanes": lanes, "validation": {"share": share}})
    rng = np.random.default_rng(lanes)
    for _ in range(50):
        rows = rng.multinomial(200 * lanes, [1.0 / config.least_files] * config.least_files).tolist()
        files = [FileEntry(path=f"data/part-{n}.parquet", bytes=1, sha256="0" * 64, rows=r) for n, r in enumerate(rows)]
        kept, held = hold_back(files, share)
        assert held
        assert len(kept) >= lanes
    assert TrainingConfig(workers=lanes, lanes=lanes).least_files == lanes


def test_more_workers_than_files_is_one_clear_error() -> None:
    with pytest.raises(UsageError) as error:
        Plan((1,) * 6, 64, 8, 0).check_world(8, "s3://logs/day=01")
    assert str(error.value) == (
        "dataset s3://logs/day=01 holds 6 Parquet files but 8 workers were asked for; every worker needs at "
        "least one. Build it with --min-files 8 or more, or lower training.workers."
    )


def test_more_workers_than_lanes_is_one_clear_error() -> None:
    PLAN.check_world(4, "d")
    with pytest.raises(UsageError) as error:
        PLAN.check_world(5, "d")
    assert str(error.value) == (
        "training.lanes is 4 but 5 workers were asked for; every worker serves at least one lane. "
        "Raise training.lanes to 5 or more, or lower training.workers."
    )


def test_no_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows"):
        Plan((0, 0), 64, 4, 0)
