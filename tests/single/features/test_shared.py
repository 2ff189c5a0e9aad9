"""Encoder states that processes share: made once, equal to the bit, and held by nobody."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from nightjar.features.encoder.encoder import EncoderState, Vocabulary
from nightjar.features.spark.shared import shared

PROCESSES = 4
VALUES = 100_000


def make(made: str) -> EncoderState:
    """Leaves a file with the maker's process id."""
    Path(made, str(os.getpid())).touch()
    rng = np.random.default_rng(3)
    hashes = np.sort(rng.integers(-(2**63), 2**63 - 1, VALUES))
    empty = Vocabulary(np.zeros(0, np.int64), np.zeros(0, np.int32))
    return EncoderState(
        {"user": Vocabulary(hashes, rng.permutation(VALUES).astype(np.int32)), "none": empty},
        {"price": np.array([1.5])},
    )


def look_up(path: str, made: str) -> tuple[bool, int, list[float]]:
    """Whether the arrays are views, the sum of all ids, and the boundaries."""
    state = shared(path, lambda: make(made))
    user = state.vocabularies["user"]
    views = not user.hashes.flags.owndata and not user.hashes.flags.writeable and user.hashes.ctypes.data % 8 == 0
    return views, int(user.lookup(user.hashes).sum()), state.boundaries["price"].tolist()


def test_of_several_processes_one_makes_the_state_and_all_map_it(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    arguments = [(str(tmp_path / "state"), str(made))] * PROCESSES
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.starmap_async(look_up, arguments, chunksize=1).get(timeout=120)
    assert found == [(True, VALUES * (VALUES - 1) // 2, [1.5])] * PROCESSES
    assert len(list(made.iterdir())) == 1


def test_a_state_that_was_not_written_whole_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "state.arrays").write_bytes(b"torn")
    (tmp_path / "state.tmp").write_bytes(b"torn")
    state = shared(str(tmp_path / "state"), lambda: make(str(tmp_path)))
    np.testing.assert_array_equal(state.vocabularies["user"].hashes, make(str(tmp_path)).vocabularies["user"].hashes)
    assert state.vocabularies["none"].lookup(np.array([7])).tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        state.boundaries["price"][0] = 2.0
