"""Rows of the tables go by what they stand for; see tests.kits.training.warm_start_kit for the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.training.export.arrays import ArrayFile
from nightjar.training.run.collective import Solo
from nightjar.training.warm_start import rows as warm_rows
from tests.kits.training.cluster import run_cluster
from tests.kits.training.warm_start_kit import (
    SPEC,
    VALUES,
    Old,
    Place,
    begin,
    embeddings_by_meaning,
    make_place,
    named_rows,
    of_parent,
    parent_wide,
    warm,
    wide_weights,
)


@pytest.mark.parametrize("block", [7, 1 << 16])
def test_every_wide_row_is_that_of_its_value_or_fresh(
    old: Old, new: Place, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_rows, "BLOCK_ROWS", block)
    learner = begin(new, warm(old, new), Solo())
    assert learner.wide is not None
    weights, state = parent_wide(old)
    theirs, ours = named_rows(old.place)["wide"], named_rows(new)["wide"]
    ours_now = learner.wide.state()["ftrl"]
    common = theirs.keys() & ours.keys()
    for meaning, row in ours.items():
        expected = state[theirs[meaning]] if meaning in common else np.zeros(2)
        np.testing.assert_array_equal(ours_now[row], expected, err_msg=str(meaning))
        assert wide_weights(learner)[row] == (weights[theirs[meaning]] if meaning in common else 0.0)
    kinds = {m[0] for m in common if m != "bias" and state[theirs[m]].any()}
    assert kinds == {"field", "cross", "dense"}, "or the test is one of nothing"
    assert ("field", "user_id", 115) in common
    assert ("field", "user_id", 105) not in ours
    assert ("cross", ("item", "user_id"), 16, 3) not in theirs
    assert ("dense", ("price", "log")) in common
    assert ("dense", ("age", "log")) not in common
    assert ("dense", ("age", "missing")) in common
    assert ("dense", "ctr_7d_rate") in common


def test_every_embedding_is_that_of_its_value_in_the_columns_that_both_have(old: Old, new: Place) -> None:
    fresh, started = (begin(new, start, Solo()) for start in (None, warm(old, new)))
    for kind in ("values", "accumulators"):
        theirs = of_parent(old, kind)
        ours, untouched = (
            embeddings_by_meaning(new, {w: t.state()[kind] for w, t in learner.embeddings.items()})
            for learner in (started, fresh)
        )
        for meaning, row in ours.items():
            expected = untouched[meaning].copy()
            if meaning in theirs:
                common = min(len(expected), len(theirs[meaning]))
                expected[:common] = theirs[meaning][:common]
            np.testing.assert_array_equal(row, expected, err_msg=str(meaning))
        carried = theirs.keys() & ours.keys()
        assert {m[1] for m in carried} == {"user_id", "item"}
        assert ours["field", "place", 3].shape == (2,)


@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_workers_starts_the_same(
    old: Old, new: Place, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_rows, "BLOCK_ROWS", 5)
    alone = begin(new, warm(old, new, 0.5), Solo())
    together = run_cluster(world, lambda collective: begin(new, warm(old, new, 0.5), collective))
    for rank, worker in enumerate(together):
        assert alone.wide is not None
        assert worker.wide is not None
        np.testing.assert_array_equal(worker.wide.state()["ftrl"], alone.wide.state()["ftrl"][rank::world])
        for width, table in worker.embeddings.items():
            for name, array in table.state().items():
                np.testing.assert_array_equal(array, alone.embeddings[width].state()[name][rank::world])
        for name, tensor in worker.head_tensors().items():
            torch.testing.assert_close(tensor, alone.head_tensors()[name], rtol=0, atol=0)


@pytest.mark.parametrize("model", ["lr", "deep", "fm"])
def test_another_architecture_takes_over_the_tables_that_both_have(old: Old, model: str, tmp_path: Path) -> None:
    spec = {**SPEC, "fields": [{**field, "embedding": 4} for field in SPEC["fields"]]}
    place = make_place(tmp_path, spec, VALUES, seed=4)
    learner = begin(place, warm(old, place), Solo(), model=model)
    if learner.wide:
        ours, theirs = named_rows(place)["wide"], named_rows(old.place)["wide"]
        weights, _ = parent_wide(old)
        for meaning, row in ours.items():
            assert wide_weights(learner)[row] == weights[theirs[meaning]]
    if learner.embeddings:
        ours_now = embeddings_by_meaning(place, {4: learner.embeddings[4].state()["values"]})
        for meaning, row in of_parent(old, "values").items():
            np.testing.assert_array_equal(ours_now[meaning][: len(row)], row)


def test_rows_of_an_array_are_read_from_any_file_system_a_piece_at_a_time() -> None:
    array = np.arange(60, dtype=np.float32).reshape(20, 3)
    content = io.BytesIO()
    np.save(content, array)
    storage.write_bytes("memory://arrays/whole.npy", content.getvalue())
    storage.write_bytes("memory://arrays/cut.npy", content.getvalue()[:-1])
    storage.write_bytes("memory://arrays/none.npy", b"PAR1")
    with ArrayFile("memory://arrays/whole.npy") as rows:
        assert len(rows) == 20
        for start, stop in ((0, 20), (3, 7), (19, 25), (5, 5)):
            np.testing.assert_array_equal(rows[start:stop], array[start:stop])
    with ArrayFile("memory://arrays/cut.npy") as rows:
        np.testing.assert_array_equal(rows[0:19], array[:19])
        with pytest.raises(DataError, match="ends within its rows 18 to 20"):
            rows[18:20]
    with pytest.raises(DataError, match="is no array that can be read"):
        ArrayFile("memory://arrays/none.npy")
