"""The loader: the plan's rows, in the plan's order, every one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import table_layout
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import describe_files
from nightjar.features.encoder.ragged import Ragged
from nightjar.training.data.batch import Batch, make_batch
from nightjar.training.data.columns import Columns, ShuffledFile, empty_columns, join
from nightjar.training.data.dataset import Dataset, read_table, to_columns
from nightjar.training.data.loader import epoch_batches, read_tables
from nightjar.training.data.plan import Plan
from nightjar.training.data.prefetch import Prefetched
from tests.kits.training.datasets import make_dataset, matrix_of, take

FILES = (100, 50, 0, 333, 7, 120)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    directory = str(tmp_path_factory.mktemp("loader") / "dataset")
    return Dataset.of(directory, make_dataset(directory, FILES))


def row_numbers(batch: Batch) -> list[int]:
    """Undo tests.datasets: weight = 1 + number / 2^20."""
    return [round((float(weight) - 1) * 2**20) for weight in batch.weight_B]


def read(dataset: Dataset, file: int) -> Columns:
    [table] = read_tables(dataset, [file])
    return to_columns(table, dataset.columns, dataset.url(file))


def values_of(column: np.ndarray | Ragged) -> list[object]:
    """Row by row."""
    if isinstance(column, Ragged):
        return [part.tolist() for part in np.split(column.values, column.offsets[1:-1])]
    return column.tolist()


def type_of(column: np.ndarray | Ragged) -> np.dtype:
    return column.values.dtype if isinstance(column, Ragged) else column.dtype


def load(dataset: Dataset, plan: Plan, epoch: int, rank: int, world: int, start: int = 0) -> list[list[int]]:
    with epoch_batches(dataset, plan.epoch(epoch), rank, world, start) as batches:
        return [row_numbers(batch) for batch in batches]


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_rows_come_in_the_plans_order(dataset: Dataset, rank: int, world: int, start: int) -> None:
    plan = Plan(dataset.rows, 64, 3, seed=1)
    first = np.concatenate([[0], np.cumsum(FILES)])
    order = plan.epoch(2)
    planned = [
        [int(first[s.file] + row) for s in batch for row in order.permutation(s.file)[s.start : s.stop]]
        for batch in order.batches(rank, world, start)
    ]
    assert load(dataset, plan, 2, rank, world, start) == planned


def test_keys_name_the_same_rows_whoever_reads_them_and_steps_count_through_the_run(dataset: Dataset) -> None:
    plan, keys = Plan(dataset.rows, 64, 3, seed=1), []
    for epoch, world in ((0, 1), (1, 2), (1, 3)):
        found: dict[int, int] = {}
        for rank in range(world):
            with epoch_batches(dataset, plan.epoch(epoch), rank, world, 2) as shares:
                batches = list(shares)
            assert [batch.step for batch in batches] == list(
                range(plan.steps_before(epoch) + 2, plan.steps_before(epoch + 1))
            )
            for batch in batches:
                assert batch.keys_B.dtype == np.int64
                found |= dict(zip(row_numbers(batch), batch.keys_B.tolist(), strict=True))
        keys.append(found)
    assert keys[1] == keys[2]
    assert len(set((keys[0] | keys[1]).values())) == len(keys[0] | keys[1])
    assert all(keys[0][row] == keys[1][row] for row in keys[0].keys() & keys[1].keys())
    assert {key >> 32 for key in keys[0].values()} == {n for n, rows in enumerate(FILES) if rows}


def test_a_worker_without_rows_in_a_batch_gets_an_empty_one(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [40, 2]))
    plan = Plan(dataset.rows, 5, lanes=2, seed=0)
    shares = [load(dataset, plan, 0, rank, 2) for rank in range(2)]
    assert min(len(rows) for rows in shares[1]) == 0
    assert len(shares[0]) == len(shares[1]) == plan.epoch(0).steps == 9
    assert sorted(row for share in shares for rows in share for row in rows) == list(range(42))


def test_lists_and_scalars_arrive_as_they_were_written(dataset: Dataset) -> None:
    columns = read(dataset, 3)
    table = pq.read_table(dataset.url(3))
    tags, user = columns["f_tags"], columns["f_user"]
    assert isinstance(tags, Ragged)
    assert isinstance(user, np.ndarray)
    lists = table.column("f_tags").to_pylist()
    assert [tags.values[a:b].tolist() for a, b in zip(tags.offsets, tags.offsets[1:], strict=False)] == lists
    assert [] in lists
    assert user.tolist() == table.column("f_user").to_pylist()
    assert user.dtype == np.int32


def test_only_the_columns_that_training_needs_are_read(dataset: Dataset) -> None:
    columns = read(dataset, 0)
    assert set(columns) == {column.name for column in dataset.columns}
    assert not {"group", "truth"} & set(columns)


def test_200_readers_lose_no_row(tmp_path: Path) -> None:
    """Petastorm's own pools came short in up to 25 of 60 such readers."""
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [3, 1, 2, 1, 4, 1, 1, 2]))
    plan = Plan(dataset.rows, 4, lanes=3, seed=0)
    for epoch in range(200):
        rows = [row for batch in load(dataset, plan, epoch, 0, 1) for row in batch]
        assert sorted(rows) == list(range(15))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("f_user", pa.array([1, None]), "'f_user' must be int32 without nulls; it is int64 with 1 nulls"),
        ("f_tags", pa.array([1, 2], pa.int32()), "'f_tags' must be lists of int32 without nulls; it is int32"),
        ("label", pa.array([1.0, 0.0]), "'label' must be float without nulls; it is double"),
    ],
)
def test_a_column_of_another_type_is_named(
    dataset: Dataset, tmp_path: Path, column: str, values: pa.Array, said: str
) -> None:
    table = pq.read_table(dataset.url(0)).slice(0, 2)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), str(tmp_path / "wrong.parquet"))
    [entry] = describe_files(str(tmp_path))
    with pytest.raises(DataError, match=said):
        read_table(str(tmp_path), entry, dataset.columns)


def test_a_manifest_that_does_not_add_up_is_an_error(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    manifest: DatasetManifest = make_dataset(directory, [30, 30])
    with pytest.raises(DataError, match="claims 61 rows, but its files add up to 60"):
        Dataset.of(directory, manifest.model_copy(update={"rows": 61}))


def test_batches_lay_ids_out_in_table_coordinates(dataset: Dataset) -> None:
    columns = read(dataset, 1)
    batch, layout = make_batch(columns, dataset.layout), table_layout(dataset.columns)
    wide = matrix_of(batch.wide, layout.wide_rows)[:, 0]
    fields = {width: matrix_of(batch.embeddings[width], layout.embedding_rows(width)) for width in layout.embeddings}
    for entries in (batch.wide, *batch.embeddings.values()):
        assert len(set(entries.ids_U.tolist())) == len(entries.ids_U)
    table = pq.read_table(dataset.url(1)).to_pylist()
    for r, row in enumerate(table):
        expected = np.zeros(layout.wide_rows)
        expected[0] = 1.0
        for slot in layout.wide:
            value = row[slot.column.name]
            if slot.column.role == "dense":
                expected[slot.offset] = value
            else:
                np.add.at(expected, slot.offset + np.atleast_1d(value).astype(int), 1.0)
        np.testing.assert_array_equal(wide[r], expected)
        for width, slots in layout.embeddings.items():
            for f, slot in enumerate(slots):
                ids = np.atleast_1d(row[slot.column.name]).astype(int)
                pooled = np.zeros(layout.embedding_rows(width))
                by = {"sum": 1.0, "mean": len(ids), "sqrtn": len(ids) ** 0.5}[slot.column.pooling]
                np.add.at(pooled, slot.offset + ids, 1.0 / max(by, 1.0))
                np.testing.assert_allclose(fields[width][r, f], pooled, rtol=1e-6)
    assert batch.dense_BN.tolist() == [[row[c.name] for c in dataset.columns if c.role == "dense"] for row in table]


def test_slices_of_shuffled_files_join_as_the_rows_they_are(dataset: Dataset) -> None:
    orders = [np.random.default_rng(number).permutation(FILES[number]) for number in (0, 1)]
    columns = [read(dataset, number) for number in (0, 1)]
    first, second = (ShuffledFile.of(c, order) for c, order in zip(columns, orders, strict=True))
    joined = join([(first, slice(90, 100)), (second, slice(0, 3)), (first, slice(5, 5))])
    expected = [take(columns[0], orders[0][90:100]), take(columns[1], orders[1][:3])]
    assert set(joined) == set(columns[0])
    for name, column in joined.items():
        assert values_of(column) == [value for part in expected for value in values_of(part[name])]
        assert type_of(column) == type_of(columns[0][name])


def test_an_empty_batch_has_the_shapes_of_a_full_one(dataset: Dataset) -> None:
    batch = make_batch(empty_columns(dataset.columns), dataset.layout)
    assert batch.rows == 0
    assert batch.dense_BN.shape == (0, 3)
    assert batch.wide.ids_U.tolist() == [
        0,
        *(slot.offset for slot in dataset.layout.wide if slot.column.role == "dense"),
    ]
    assert batch.wide.index_CB.shape == (4, 0)
    assert {width: (len(e.ids_U), e.cells) for width, e in batch.embeddings.items()} == {3: (0, 2), 4: (0, 3)}


def test_the_thread_ends_when_the_consumer_leaves_early(dataset: Dataset) -> None:
    plan = Plan(dataset.rows, 5, lanes=3, seed=0)
    with epoch_batches(dataset, plan.epoch(0), 0, 1) as batches:
        next(iter(batches))
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_an_error_arrives_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise DataError("broken")

    seen = []
    with pytest.raises(DataError, match="broken"), Prefetched(source(), 1) as items:  # noqa: PT012
        for item in items:
            seen.append(item)
    assert seen == [1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
