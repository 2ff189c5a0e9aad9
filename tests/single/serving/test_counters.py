"""Weights and counters are two published things: the pointer names both, and who serves follows it."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract import manifests
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import CountersManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.serving import registry
from nightjar.serving.champion import CountersLimit, Ranker, load_champion
from nightjar.serving.model import load, read_counters
from nightjar.serving.packing.pack import pack
from tests.kits.serving import serving_oracle
from tests.kits.serving.counters_kit import SERVED, counts_of, publish
from tests.kits.serving.serving_kit import SPEC, World, make_rows, make_world

ROWS = make_rows(60, seed=11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def models(world: World, tmp_path: Path) -> str:
    """A registry with two versions of one spec."""
    for version in ("old", "new"):
        pack(world.candidate, world.state, world.holdout, str(tmp_path / "models" / version))
    return str(tmp_path / "models")


def names_of(models: str) -> list[str]:
    return sorted(path.name for path in (Path(models) / "counters").iterdir())


def expected(world: World, day: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The oracle's scores with the counters of that day."""
    with monkeypatch.context() as patched:
        patched.setattr(serving_oracle, "COUNTS", counts_of(day))
        return world.model.score(ROWS)


def test_a_model_scores_with_published_counters_and_says_as_of_when_they_are(
    world: World, models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = load(f"{models}/old")
    assert alone.counters_as_of == SERVED
    np.testing.assert_allclose(alone.score(ROWS), world.model.score(ROWS), atol=1e-6)
    name = publish(models, 5)
    model = load(f"{models}/old", counters=f"{models}/counters/{name}")
    assert model.counters_as_of == SERVED + timedelta(5)
    np.testing.assert_allclose(model.score(ROWS), expected(world, 5, monkeypatch), atol=1e-6)
    assert np.abs(model.score(ROWS) - alone.score(ROWS)).max() > 1e-4


def test_a_delta_on_the_counters_before_gives_what_the_whole_tables_give(models: str) -> None:
    held = read_counters(f"{models}/counters/{publish(models, 1)}", SPEC)
    for day in (2, 3, 4):
        directory = f"{models}/counters/{publish(models, day)}"
        whole, moved = read_counters(directory, SPEC), read_counters(directory, SPEC, held)
        assert (moved.as_of, moved.name) == (whole.as_of, whole.name)
        for name, columns in whole.tables.items():
            for column, values in columns.items():
                np.testing.assert_array_equal(moved.tables[name][column], values)
        held = moved


def test_a_delta_is_not_put_on_other_counters_than_those_before(models: str) -> None:
    held = read_counters(f"{models}/counters/{publish(models, 1)}", SPEC)
    directory = f"{models}/counters/{publish(models, 3)}"
    for name, columns in read_counters(directory, SPEC, held).tables.items():
        for column, values in read_counters(directory, SPEC).tables[name].items():
            np.testing.assert_array_equal(columns[column], values)


def test_the_pointer_moves_to_new_counters_without_a_new_model_and_never_back(models: str) -> None:
    registry.promote(models, "old", "by hand")
    assert registry.champion(models).counters is None  # type: ignore[union-attr]
    second, first = publish(models, 2), publish(models, 1)
    moved = registry.renew(models, second, "night")
    assert (moved.version, moved.counters, moved.sequence, moved.previous) == ("old", second, 2, None)
    assert registry.renew(models, first, "an old night again") == moved
    assert registry.renew(models, second, "the same night again") == moved
    assert [pointer.version for pointer in registry.line(models)] == ["old"]


def test_a_rollback_goes_back_to_older_weights_with_the_newest_counters_that_fit(models: str) -> None:
    registry.promote(models, "old", "first", publish(models, 1))
    registry.promote(models, "new", "second", publish(models, 2))
    third = publish(models, 3)
    registry.renew(models, third, "night")
    publish(models, 4, fingerprint="0" * 16)
    back = registry.rollback(models)
    assert (back.version, back.counters) == ("old", third)
    assert load_champion(models).counters_as_of == SERVED + timedelta(3)


def test_the_counters_of_a_day_are_the_newest_that_were_there_for_it(models: str) -> None:
    names = [publish(models, day) for day in (1, 2, 4)]
    found = [registry.newest_counters(models, "old", SERVED + timedelta(day)) for day in range(6)]
    assert found == [None, names[0], names[1], names[1], names[2], names[2]]


def test_a_later_format_serves_the_models_of_the_one_before_with_counters_of_either(
    world: World, models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(models, "old", "first", publish(models, 1))
    monkeypatch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
    for day in (1, 2):
        if day == 2:
            registry.renew(models, publish(models, day), "night")
        np.testing.assert_allclose(load_champion(models).score(ROWS), expected(world, day, monkeypatch), atol=1e-6)
    held = read_counters(registry.counters_directory(models, names_of(models)[0]), SPEC)
    newest = registry.counters_directory(models, names_of(models)[1])
    assert read_manifest(newest, CountersManifest).format == manifests.FORMAT
    np.testing.assert_array_equal(
        read_counters(newest, SPEC, held).tables["pair"]["key"], read_counters(newest, SPEC).tables["pair"]["key"]
    )


def test_counters_that_are_damaged_or_of_other_frequencies_move_nothing(models: str) -> None:
    registry.promote(models, "old", "first")
    other, damaged = publish(models, 1, fingerprint="f" * 16), publish(models, 2)
    part = next((Path(models) / "counters" / damaged / "frequency" / "pair").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    before = registry.champion(models)
    for name, said in ((other, "do not fit"), (damaged, "damaged")):
        with pytest.raises(DataError, match=said):
            registry.renew(models, name, "night")
    assert registry.champion(models) == before


def test_a_held_ranker_follows_counters_and_models(world: World, models: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.promote(models, "old", "first", publish(models, 1))
    ranker = Ranker(models, every_seconds=0.0)
    np.testing.assert_allclose(ranker.score(ROWS), expected(world, 1, monkeypatch), atol=1e-6)
    for day, version in ((2, "old"), (3, "new"), (4, "new")):
        name = publish(models, day)
        if version != ranker.pointer.version:
            registry.promote(models, version, "gate", name)
        else:
            registry.renew(models, name, "night")
        np.testing.assert_allclose(ranker.score(ROWS), expected(world, day, monkeypatch), atol=1e-6)
        assert (ranker.pointer.version, ranker.pointer.counters) == (version, name)


def test_calls_that_overlap_a_move_are_answered_by_one_model_with_its_own_counters(
    world: World, models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {n: expected(world, n, monkeypatch) for n in range(1, 6)}
    registry.promote(models, "old", "first", publish(models, 1))
    ranker, wrong, done = Ranker(models, every_seconds=0.0), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            scores = ranker.score(ROWS)
            if min(np.abs(scores - known).max() for known in wanted.values()) > 1e-6:
                wrong.append(scores)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for day in range(2, 6):
        registry.renew(models, publish(models, day), "night")
    done.set()
    for thread in threads:
        thread.join(60)
    assert not wrong
    np.testing.assert_allclose(ranker.score(ROWS), wanted[5], atol=1e-6)


def test_old_counters_are_warned_of_or_refused(models: str, caplog: pytest.LogCaptureFixture) -> None:
    registry.promote(models, "old", "first", publish(models, 1))
    today = SERVED + timedelta(4)
    warned = Ranker(models, limit=CountersLimit(days=2), today=lambda: today)
    warned.score(ROWS)
    assert "the counters are those for 2024-05-04, 3 days ago; at most 2 are allowed" in caplog.text
    refused = Ranker(models, limit=CountersLimit(days=2, action="refuse"), today=lambda: today)
    with pytest.raises(DataError, match="3 days ago"):
        refused.score(ROWS)
    Ranker(models, limit=CountersLimit(days=3, action="refuse"), today=lambda: today).score(ROWS)


def test_a_ranker_goes_on_while_the_registry_cannot_be_read(models: str) -> None:
    registry.promote(models, "old", "first", publish(models, 1))
    ranker = Ranker(models, every_seconds=0.0)
    before = ranker.score(ROWS)
    pointer = Path(models) / "champion.json"
    pointer.write_text("{")
    np.testing.assert_array_equal(ranker.score(ROWS), before)


def test_specs_share_counters_as_long_as_what_is_counted_is_the_same(world: World) -> None:
    spec = read_manifest(world.state, StateManifest).spec
    first, *others = spec.frequencies
    calmer = spec.model_copy(update={"frequencies": (first.model_copy(update={"prior": 0.4}), *others)})
    longer = spec.model_copy(update={"frequencies": (first.model_copy(update={"delay_days": 3}), *others)})
    assert calmer.counters_fingerprint == spec.counters_fingerprint != longer.counters_fingerprint
