"""Explanations against the independent float64 scorer: every coordinate by name, the deep part's integral, the sum."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import table_layout
from nightjar.serving import ServingModel, explain_change
from nightjar.serving.explain.explanation import Change, Contribution
from nightjar.serving.explain.paths import shares
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import World, make_rows, make_world
from tests.kits.serving.serving_oracle import COUNTS, SPEC, Oracle, raw_hash, tuple_hash

ROW: dict[str, Any] = {
    "user": "ann",
    "item_id": 1,
    "premium": None,
    "seen": [9, None, 3, 3],
    "tags": [],
    "words": ["a", "zzz"],
    "age": 29.5,
    "price": -2.5,
    "depth": 1,
    "pair_impressions_so_far": 2,
    "pair_positives_so_far": 1,
}


@pytest.fixture(scope="module", params=["wide_deep", "lr", "deep"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, ServingModel]:
    world = make_world(tmp_path_factory.mktemp("world"), request.param)
    return world, serving.load(artifact_of(world))


@pytest.fixture(scope="module")
def wide_deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, ServingModel]:
    world = make_world(tmp_path_factory.mktemp("world"))
    return world, serving.load(artifact_of(world))


def artifact_of(world: World) -> str:
    output = str(Path(world.state).parent / "artifact")
    pack(world.candidate, world.state, world.holdout, output)
    return output


def test_an_explanation_adds_up_to_the_rows_logit(packed: tuple[World, ServingModel]):
    world, model = packed
    for row in make_rows(60, seed=11):
        found = model.explain(row)
        assert found.logit == pytest.approx(world.model.logit(row), abs=1e-5)
        assert found.base + sum(c.logit for c in found.contributions) == pytest.approx(found.logit, abs=1e-5)
        assert sum(found.by_feature().values()) == pytest.approx(found.logit - found.base, abs=1e-5)
        assert found.probability == pytest.approx(float(model.score([row])[0]), abs=1e-6)
        assert [abs(c.logit) for c in found.contributions] == sorted(abs(c.logit) for c in found.contributions)[::-1]


def test_the_wide_part_is_every_coordinate_by_name(wide_deep: tuple[World, ServingModel]):
    world, model = wide_deep
    for row in make_rows(60, seed=12):
        ids, dense = world.model._ids(row), world.model._dense(row)
        expected: dict[str, float] = {}
        for slot in table_layout(world.columns).wide:
            if slot.column.role == "dense":
                weights = [world.model.wide.get(slot.offset, 0.0) * dense[slot.column.feature]]
            else:
                weights = [world.model.wide.get(slot.offset + n, 0.0) for n in ids[slot.column.name]]
            expected[slot.column.name] = sum(weights)
        found: dict[str, float] = {}
        by_kind = {"x_": {c.name for c in SPEC.crosses}, "f_": {f.name for f in SPEC.fields}}
        for c in model.explain(row).contributions:
            if c.part == "wide":
                kind = next((k for k, names in by_kind.items() if c.feature in names), "d_")
                name = f"d_{c.name}" if kind == "d_" else kind + c.feature
                found[name] = found.get(name, 0.0) + c.logit
        assert found.keys() <= expected.keys()
        for name, total in expected.items():
            assert found.get(name, 0.0) == pytest.approx(total, abs=1e-5), name


def test_values_conjunctions_missing_and_unknown_ones_are_called_by_their_names(wide_deep: tuple[World, ServingModel]):
    world, model = wide_deep
    offsets = {slot.column.name: slot.offset for slot in table_layout(world.columns).wide}
    found = {(c.feature, c.name): c for c in wide_of(model, ROW)}
    bucket = tuple_hash(raw_hash("ann"), raw_hash(1)) % 64
    assert weight(found, "user_item", "user=ann & item=1") == weight_at(world, offsets["x_user_item"] + bucket)
    assert weight(found, "user", "user=ann") == weight_at(world, offsets["f_user"] + 2)
    assert weight(found, "premium", "premium is missing") == weight_at(world, offsets["f_premium"])
    assert weight(found, "words", "words=zzz") == weight_at(world, offsets["f_words"] + 1)
    for (feature, name), c in found.items():
        assert c.shared.startswith("unknown, the one id") == (name == "words=zzz")
        assert c.shared.startswith("by hash, one of") == (feature in ("user_item", "seen_item"))


def test_conjunctions_of_a_row_that_fall_into_one_bucket_are_told_together(wide_deep: tuple[World, ServingModel]):
    world, model = wide_deep
    offset = next(s.offset for s in table_layout(world.columns).wide if s.column.name == "x_seen_item")
    buckets = {n: tuple_hash(raw_hash(n), raw_hash(1)) % 128 for n in range(100)}
    pairs = combinations(buckets, 2)
    a, b = next((a, b) for a, b in pairs if buckets[a] == buckets[b] and world.model.wide.get(offset + buckets[a]))
    row = {**ROW, "seen": [a, b]}
    (both,) = [c for c in wide_of(model, row) if c.feature == "seen_item"]
    names = sorted([f"seen={a} & item=1", f"seen={b} & item=1"])
    assert (both.name, both.logit) == (" | ".join(names), pytest.approx(weight_at(world, offset + buckets[a])))


def test_the_deep_part_is_the_integral_of_the_gradient_over_each_field(wide_deep: tuple[World, ServingModel]):
    world, model = wide_deep
    oracle = world.model
    golden = np.array([deep_inputs(oracle, row) for row in world.rows[:16]])
    groups = [slot for slots in table_layout(world.columns).embeddings.values() for slot in slots]
    widths = [slot.column.embedding for slot in groups] + [1] * len(SPEC.dense_names())
    names = [slot.column.feature for slot in groups] + list(SPEC.dense_names())
    for row in make_rows(10, seed=13):
        x, baseline = deep_inputs(oracle, row), golden.mean(axis=0)
        middles = (np.arange(20_000) + 0.5) / 20_000
        hidden = (baseline + middles[:, None] * (x - baseline)) @ oracle.hidden
        gradient = ((hidden > 0) * oracle.output).mean(axis=0) @ oracle.hidden.T
        per_input = gradient * (x - baseline)
        expected = dict(zip(names, np.add.reduceat(per_input, np.append(0, np.cumsum(widths)[:-1])), strict=True))
        found = dict.fromkeys(names, 0.0)
        for c in model.explain(row).contributions:
            if c.part == "deep":
                found[c.feature if c.x is None else c.name] = c.logit
        assert found == pytest.approx(expected, abs=4e-3)
        ends = np.maximum(np.stack([baseline, x]) @ oracle.hidden, 0.0) @ oracle.output
        assert sum(found.values()) == pytest.approx(ends[1] - ends[0], abs=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_shares_add_up_whatever_the_steps_and_become_the_integral(steps: int):
    x = np.array([2.0, 3.0, 5.0, 7.0], np.float32)
    found = shares(lambda p: p[:, 0] ** 2 * p[:, 1] + p[:, 2] + p[:, 3], 0 * x, x, np.array([0, 1, 2, 2]), steps)
    assert found.sum() == pytest.approx(12.0 + 12.0, abs=1e-4)
    # Of x^2 y along the line from 0: two thirds are x's.
    assert found == pytest.approx([8.0, 4.0, 12.0], abs=12.0 / steps**2)


def test_nothing_has_a_share_where_there_are_no_inputs():
    assert shares(lambda p: np.zeros(len(p)), np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).tolist() == []


def test_counters_are_told_with_their_counts_todays_included(wide_deep: tuple[World, ServingModel]):
    found = {(k.frequency, k.window): k for k in wide_deep[1].explain(ROW).counters}
    of_item = COUNTS["item_rate"][tuple_hash(raw_hash(1))]
    assert {
        window: (k.impressions, k.positives) for (name, window), k in found.items() if name == "item_rate"
    } == of_item
    pair = found["pair", "all"]
    assert (pair.keys, pair.impressions, pair.positives) == ("user=ann & item=1", 9 + 2, 5 + 1)


def test_a_change_says_what_moved_and_adds_up(wide_deep: tuple[World, ServingModel]):
    _, before = wide_deep
    table = dict(before.counters.tables["item_rate"])
    table["impressions_all"] = table["impressions_all"] + 900
    after = before.with_counters(replace(before.counters, tables={**before.counters.tables, "item_rate": table}))
    change = explain_change(ROW, before, after)
    assert change.after.logit - change.before.logit == pytest.approx(
        change.base + sum(m.logit for m in change.moved), abs=1e-5
    )
    assert change.moved[0].feature == "item_rate"
    moved = {m.feature for m in change.moved if m.part == "wide" and m.logit}
    assert moved == {"item_rate"}
    assert {k.impressions for k in change.after.counters if k.frequency == "item_rate" and k.window == "all"} == {950}
    same = explain_change(ROW, before, before)
    assert same.base == 0.0
    assert {m.logit for m in same.moved} == {0.0}


def test_what_one_model_alone_has_moves_from_or_to_nothing(wide_deep: tuple[World, ServingModel], tmp_path: Path):
    other = serving.load(artifact_of(make_world(tmp_path, "lr", seed=5)))
    change = explain_change(ROW, wide_deep[1], other)
    assert change.after.logit - change.before.logit == pytest.approx(
        change.base + sum(m.logit for m in change.moved), abs=1e-4
    )
    assert all(m.after == 0.0 for m in change.moved if m.part == "deep")


@pytest.mark.parametrize("rows", [[], make_rows(2, seed=1)])
def test_one_row_is_explained_at_a_time(wide_deep: tuple[World, ServingModel], rows: list[dict[str, Any]]):
    with pytest.raises(DataError, match=f"one row is explained at a time; the request has {len(rows)}"):
        wide_deep[1].explain(rows)


def test_an_explanation_is_text_for_people(wide_deep: tuple[World, ServingModel]):
    said = str(wide_deep[1].explain(ROW)).splitlines()
    assert said[0].startswith("probability 0.")
    assert any("user=ann & item=1" in line and "by hash, one of 64 buckets" in line for line in said)
    assert said[-1] == "pair, all: 11 impressions, 6 positives of user=ann & item=1"


def adds_up(change: Change) -> bool:
    difference = change.after.logit - change.before.logit
    return bool(abs(change.base + sum(moved.logit for moved in change.moved) - difference) < 1e-5)


def wide_of(model: ServingModel, row: dict[str, Any]) -> list[Contribution]:
    return [c for c in model.explain(row).contributions if c.part == "wide"]


def weight(found: dict[tuple[str, str], Contribution], feature: str, name: str) -> float:
    """0 where nothing is told, as of a coordinate that weighs nothing."""
    return found[feature, name].logit if (feature, name) in found else 0.0


def weight_at(world: World, coordinate: int) -> float:
    return float(np.float32(world.model.wide.get(coordinate, 0.0)))


def deep_inputs(oracle: Oracle, row: dict[str, Any]) -> np.ndarray:
    dense = oracle._dense(row)
    return np.array(oracle._embed(oracle._ids(row)) + [dense[name] for name in SPEC.dense_names()])
