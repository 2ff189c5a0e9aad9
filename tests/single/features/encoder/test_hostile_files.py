"""Files that say what they are not: a DataError, and memory that follows the file and not its claims."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.files import MOST_VALUES, read_array, read_arrays, read_table
from nightjar.training.export.arrays import ArrayFile

BOUND = 64 << 20


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a.npy") if request.param == "local" else f"memory://{uuid.uuid4().hex}/a.npy"


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def unpickled() -> None:
    """Nobody may get here."""
    raise AssertionError("a file was unpickled")


class Unpickled:
    """What tells if somebody unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return unpickled, ()


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Unpickled()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(1 << 20))
    return stream.getvalue()


HOSTILE = {
    "huge": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }"),
    "longer than the file": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }", bytes(31)),
    "shorter than the file": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }", bytes(33)),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-8,), }", bytes(32)),
    "many sides": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'99999999, ' * 200}), }}"),
    "deep": npy("(" * 8000),
    "signs": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1,), }"),
    "wide values": npy("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (1,), }"),
    "text": npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }", bytes(16)),
    "fortran": npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", bytes(16)),
    "pickle in the array": pickled(),
    "pickle": pickle.dumps(Unpickled()),
    "archive": zipped(),
    "junk": b"\x00\x01\x02" * 100,
    "empty": b"",
    "cut off": b"\x93NUMPY\x01\x00\xff\xff{",
    "other version": b"\x93NUMPY\x09\x00" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_array_that_is_none_is_a_data_error_in_bounded_memory(name: str, url: str) -> None:
    storage.write_bytes(url, HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.npy"):
            read_array(url)
        assert tracemalloc.get_traced_memory()[1] < BOUND
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["pickle in the array", "deep", "signs", "junk", "archive", "empty", "fortran"])
def test_training_reads_pieces_of_arrays_under_the_same_rule(name: str, url: str) -> None:
    storage.write_bytes(url, HOSTILE[name])
    with pytest.raises(DataError, match=r"a\.npy"):
        ArrayFile(url)


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), (), (5,)])
def test_an_array_is_read_as_it_was_written(shape: tuple[int, ...], url: str) -> None:
    array = np.random.default_rng(1).random(shape).astype(np.float32)
    stream = io.BytesIO()
    np.save(stream, array)
    storage.write_bytes(url, stream.getvalue())
    np.testing.assert_array_equal(read_array(url), array)


def test_an_archive_of_arrays_is_read_uncompressed_or_not_at_all() -> None:
    stream = io.BytesIO()
    np.savez(stream, **{"values/a": np.arange(3.0), "b": np.array(7)})
    arrays = read_arrays(stream.getvalue(), "head.npz")
    assert {name: array.tolist() for name, array in arrays.items()} == {"values/a": [0.0, 1.0, 2.0], "b": 7}
    for content in (zipped(), b"PK junk", pickled(), stream.getvalue()[:-9]):
        with pytest.raises(DataError, match=r"head\.npz"):
            read_arrays(content, "head.npz")
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("a.npy", HOSTILE["huge"])
    with pytest.raises(DataError, match=r"a\.npy"):
        read_arrays(stream.getvalue(), "head.npz")


def parquet(table: pa.Table, **options: object) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, **options)
    content: bytes = stream.getvalue().to_pybytes()
    return content


def test_a_table_that_would_fill_the_memory_is_a_data_error() -> None:
    """Twenty million equal values are a few hundred bytes of Parquet, and long equal texts are zstd's best."""
    many = parquet(pa.table({"a": pa.nulls(MOST_VALUES + 1, pa.int8())}), row_group_size=MOST_VALUES + 1)
    assert len(many) < 1 << 20
    with pytest.raises(DataError, match="16777217 rows"):
        read_table(many, "t.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"junk" * 100])
def test_a_table_that_is_none_is_a_data_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    for source in (content, path.open("rb")):
        with pytest.raises(DataError, match=r"t\.parquet cannot be read"):
            read_table(source, "t.parquet")


def test_a_table_with_every_byte_damaged_in_turn_is_read_or_a_data_error() -> None:
    whole = bytearray(parquet(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), compression="zstd"))
    for place in range(0, len(whole), 3):
        damaged = whole.copy()
        damaged[place] ^= 0x55
        with suppress(DataError):
            read_table(bytes(damaged), "t.parquet")


def test_columns_that_a_table_lacks_are_named() -> None:
    content = parquet(pa.table({"a": [1]}))
    assert read_table(content, "t.parquet", ["a"]).to_pydict() == {"a": [1]}
    with pytest.raises(DataError, match=r"lacks the columns \['b'\]"):
        read_table(content, "t.parquet", ["a", "b"])
