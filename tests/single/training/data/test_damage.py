"""A data set's files are what its manifest lists, or their names are in the error; nothing of them is unpickled."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash

from nightjar.features.contract.errors import DataError
from nightjar.training.data.columns import Columns
from nightjar.training.data.dataset import REBUILD, Dataset, to_columns
from nightjar.training.data.loader import epoch_batches, read_tables
from nightjar.training.data.plan import Plan
from tests.kits.training.datasets import make_dataset


def read(dataset: Dataset, file: int) -> Columns:
    [table] = read_tables(dataset, [file])
    return to_columns(table, dataset.columns, dataset.url(file))


def load(dataset: Dataset, plan: Plan, epoch: int, rank: int, world: int) -> list[int]:
    """Rows of each batch."""
    with epoch_batches(dataset, plan.epoch(epoch), rank, world) as batches:
        return [batch.rows for batch in batches]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [30, 30, 30]))
    Path(dataset.url(1)).write_bytes(b"no Parquet at all")
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read: .*Restore the data set"):
        load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)


def test_a_file_whose_pages_are_damaged_is_named(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [3000, 3000]))
    path = Path(dataset.url(1))
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read"):
        load(dataset, Plan(dataset.rows, 800, 2, 0), 0, 0, 1)


def test_every_bit_of_a_file_is_compared_with_the_manifest(tmp_path: Path) -> None:
    """Most flipped bits leave a Parquet file that can be read, with other values in it."""
    directory, rng = str(tmp_path / "dataset"), np.random.default_rng(6)
    dataset = Dataset.of(directory, make_dataset(directory, [200]))
    path = Path(dataset.url(0))
    content = path.read_bytes()
    for position in [0, len(content) - 1, *rng.integers(len(content), size=100).tolist()]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"part-00000\.parquet .* differs from the manifest: sha256"):
            read(dataset, 0)


@pytest.mark.parametrize("digest", ["xxh3", "sha256"])
def test_a_bit_is_found_by_either_digest_and_a_whole_file_is_read(tmp_path: Path, digest: str) -> None:
    directory, rng = str(tmp_path / "dataset"), np.random.default_rng(7)
    manifest = make_dataset(directory, [200])
    path = Path(directory, manifest.data_files[0].path)
    content = path.read_bytes()
    xxh3 = xxhash.xxh3_128_hexdigest(content) if digest == "xxh3" else None
    files = tuple(entry.model_copy(update={"xxh3": xxh3}) for entry in manifest.data_files)
    dataset = Dataset.of(directory, manifest.model_copy(update={"files": files}))
    assert len(read(dataset, 0)["label"]) == 200
    for bit in rng.integers(8 * len(content), size=50).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"part-00000\.parquet .* differs from the manifest: {digest}"):
            read(dataset, 0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_the_next(path: Path) -> None:
    path.write_bytes(path.with_name("part-00001.parquet").read_bytes())


def swap_with_the_last(path: Path) -> None:
    other = path.with_name("part-00002.parquet")
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_folder(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / "part.parquet").write_bytes(content)


@pytest.mark.parametrize("damage", [cut, replace_by_the_next, swap_with_the_last, empty, make_a_folder])
def test_a_file_that_is_another_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Every file has as many rows as any other."""
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [50, 50, 50]))
    damage(Path(dataset.url(0)))
    with pytest.raises(DataError, match=r"part-0000[02]\.parquet cannot be read: .*Restore the data set"):
        load(dataset, Plan(dataset.rows, 8, 1, 0), 0, 0, 1)


def test_a_file_that_changes_between_epochs_is_noticed(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [50, 50]))
    plan = Plan(dataset.rows, 8, 2, 0)
    load(dataset, plan, 0, 0, 1)
    path = Path(dataset.url(1))
    was, content = path.stat(), bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read"):
        load(dataset, plan, 1, 0, 1)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


def test_a_pickled_schema_in_the_data_set_is_never_opened(tmp_path: Path) -> None:
    """Petastorm unpickles the schema that it finds in a folder's _common_metadata."""
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [20, 20]))
    bomb = {b"dataset-toolkit.unischema.v1": pickle.dumps(Bomb(tmp_path / "exploded"))}
    schema = pq.read_schema(dataset.url(0)).with_metadata(bomb)
    for folder in (tmp_path / "dataset", tmp_path / "dataset/data"):
        pq.write_metadata(schema, str(folder / "_common_metadata"))
    path = Path(dataset.url(0))
    table = pq.read_table(path).replace_schema_metadata(bomb)
    assert len(load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)) == 5
    pq.write_table(table, path)
    load(relisted(dataset, 0), Plan(dataset.rows, 8, 2, 0), 0, 0, 1)
    make_a_folder(path)
    pq.write_metadata(schema, str(path / "_common_metadata"))
    with pytest.raises(DataError, match=r"part-00000\.parquet cannot be read"):
        load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)
    assert not (tmp_path / "exploded").exists()


def test_petastorms_unpickler_refuses(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    read(Dataset.of(directory, make_dataset(directory, [20])), 0)
    from petastorm.etl import dataset_metadata

    with pytest.raises(DataError, match="asks to unpickle"):
        dataset_metadata.depickle_legacy_package_name_compatible(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [30, 30]))
    Path(dataset.url(1)).unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read"):
        load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)


def relisted(dataset: Dataset, file: int) -> Dataset:
    """With the file's present content in the manifest, and as many rows as before."""
    content, entries = Path(dataset.url(file)).read_bytes(), list(dataset.files)
    now = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    entries[file] = entries[file].model_copy(update=now)
    return replace(dataset, files=tuple(entries))


def test_a_row_count_that_differs_from_the_manifest_is_an_error(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [30, 30]))
    pq.write_table(pq.read_table(dataset.url(1)).slice(0, 29), dataset.url(1))
    dataset = relisted(dataset, 1)
    with pytest.raises(DataError) as error:
        load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)
    assert str(error.value) == (f"{dataset.url(1)} holds 29 rows, but the manifest of {directory} says 30. {REBUILD}")


def test_a_file_of_several_row_groups_is_an_error(tmp_path: Path) -> None:
    directory = str(tmp_path / "dataset")
    dataset = Dataset.of(directory, make_dataset(directory, [30, 30]))
    pq.write_table(pq.read_table(dataset.url(1)), dataset.url(1), row_group_size=10)
    dataset = relisted(dataset, 1)
    with pytest.raises(DataError, match=r"part-00001.*must hold one row group.*it holds 3"):
        load(dataset, Plan(dataset.rows, 8, 2, 0), 0, 0, 1)
