"""A warm start against an oracle that goes by value, one value at a time, in plain Python.

The oracle knows a model as {what a parameter stands for: parameter}; two such dictionaries, before and after, say
everything about what was carried over, whatever the ids, widths and places.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import TableLayout, dataset_columns, table_layout
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest, StateManifest
from nightjar.features.contract.publishing import commit, describe_files, manifest_digest, read_manifest, verify
from nightjar.features.contract.spec import FeatureSpec
from nightjar.jobs.train_model import main
from nightjar.training.config import TrainingConfig
from nightjar.training.export import candidate
from nightjar.training.export.arrays import ArrayFile
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step.step import Learner
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart
from nightjar.training.warm_start import rows as warm_rows
from tests.kits.cluster import run_cluster
from tests.kits.datasets import make_dataset
from tests.kits.table_kit import copy_of

SPEC: dict[str, Any] = {
    "name": "spec",
    "label": "clicked",
    "timestamp": "time",
    "fields": [
        {"name": "user", "column": "user_id", "embedding": 4},
        {"name": "item", "embedding": 3},
        {"name": "tags", "multi_valued": True, "embedding": 4},
        {"name": "place", "embedding": 0},
    ],
    "dense": [{"name": "age"}, {"name": "price", "transform": "log"}],
    "crosses": [
        {"name": "user_item", "fields": ["user", "item"], "buckets": 16},
        {"name": "user_tags", "fields": ["user", "tags"], "buckets": 8},
    ],
    "frequencies": [{"name": "ctr", "keys": ["item"], "windows": ["1d", "7d"], "prior": 0.2}],
}
CHANGED: dict[str, Any] = {
    **SPEC,
    "fields": [
        {"name": "hour", "embedding": 4},  # new, and first
        {"name": "item", "embedding": 4},  # wider
        {"name": "visitor", "column": "user_id", "embedding": 4},  # renamed
        {"name": "place", "embedding": 2},  # joins the deep part
    ],  # tags are gone
    "dense": [{"name": "cost", "column": "price", "transform": "log"}, {"name": "age", "transform": "log"}],
    "crosses": [
        {"name": "pair", "fields": ["visitor", "item"], "buckets": 16},  # renamed
        {"name": "user_item", "fields": ["item", "visitor"], "buckets": 16},  # another order: another cross
    ],
    "frequencies": [{"name": "ctr", "keys": ["item"], "windows": ["7d"], "prior": 0.2}],
}
VALUES = {"user": range(100, 130), "item": range(20), "tags": range(7), "place": range(5)}
LATER = {"hour": range(24), "item": range(8, 40), "visitor": range(110, 160), "place": range(1, 6)}
OUTPUT = "deep.layers.output.weight"
TRAINING: dict[str, Any] = {
    "batch_size": 64,
    "lanes": 2,
    "wide": {"alpha": 0.1, "lambda1": 0.4, "lambda2": 0.1},
    "embeddings": {"init_scale": 0.5, "initial_accumulator": 1e-6},
    "deep": {"layers": [6, 4], "initial_accumulator": 1e-6},
}


@dataclass(frozen=True)
class Place:
    """A published state and a data set that was encoded under it. values: of each field, by id from 2 on."""

    state: str
    dataset: str
    values: Mapping[str, list[int]]
    spec: FeatureSpec

    @property
    def layout(self) -> TableLayout:
        return table_layout(dataset_columns(self.spec, {name: 2 + len(v) for name, v in self.values.items()}))


def make_place(root: Path, spec: Mapping[str, Any], values: Mapping[str, Any], seed: int) -> Place:
    """Ids are dealt to the values at random."""
    rng = np.random.default_rng(seed)
    dealt = {name: rng.permutation(list(v)).tolist() for name, v in values.items()}
    features = FeatureSpec.model_validate(spec)
    for field, of_field in dealt.items():
        (root / "state" / "vocabulary" / field).mkdir(parents=True)
        for part in range(2):
            table = pa.table(
                {
                    "hash": pa.array([hashed(v) for v in of_field[part::2]], pa.int64()),
                    "id": pa.array([2 + of_field.index(v) for v in of_field[part::2]], pa.int32()),
                }
            )
            pq.write_table(table, root / "state" / "vocabulary" / field / f"part-{part}.parquet")
    sizes = {name: 2 + len(v) for name, v in dealt.items()}
    state = StateManifest(
        files=describe_files(str(root / "state")),
        spec=features,
        spec_fingerprint=features.fingerprint,
        first_date="2025-01-01",
        through_date=f"2025-01-0{seed}",
        vocabulary_sizes=sizes,
        boundaries={},
    )
    commit(str(root / "state"), state)
    digest = manifest_digest(str(root / "state"))
    make_dataset(str(root / "dataset"), [150, 100], spec=features, sizes=sizes, seed=seed, state=digest, golden=30)
    return Place(str(root / "state"), str(root / "dataset"), dealt, features)


def hashed(value: int) -> int:
    return (value + 1) * 7_919_777_777_777 % 2**62 - 2**61


def train(place: Place, output: Path, warm_start: WarmStart | None = None, **changes: Any) -> str:
    config = TrainingConfig.model_validate(TRAINING | changes)
    run_job(TrainingJob(config, place.dataset, str(output), place.dataset, warm_start=warm_start))
    return str(output)


@dataclass(frozen=True)
class Old:
    """A parent, trained, and the place that it was trained at."""

    place: Place
    candidate: str


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    root = tmp_path_factory.mktemp("parent")
    place = make_place(root, SPEC, VALUES, seed=1)
    return Old(place, train(place, root / "candidate"))


def warm(old: Old, place: Place, decay: float = 1.0) -> WarmStart:
    return WarmStart(old.candidate, old.place.state, place.state, decay)


def begin(place: Place, warm_start: WarmStart | None, collective: Collective, **changes: Any) -> Learner:
    """A learner that has not taken a step."""
    config = TrainingConfig.model_validate(TRAINING | changes)
    job = TrainingJob(config, place.dataset, "", warm_start=warm_start)
    learner = Learner(config, job.open().layout, collective)
    transfer = job.transfer(read_manifest(place.dataset, DatasetManifest))
    if transfer:
        transfer.fill(learner.wide, learner.embeddings, learner.head_tensors(), collective)
    return learner


def named_rows(place: Place) -> dict[str, dict[Hashable, tuple[str, int]]]:
    """By table, then by what a row stands for: (kind of thing, log columns, value)."""
    sources = {field.name: field.source for field in place.spec.fields}
    crosses = {c.name: tuple(sources[f] for f in c.fields) for c in place.spec.crosses}
    transforms = {d.name: (d.source, d.transform) for d in place.spec.dense}
    transforms |= {f"{d.name}_missing": (d.source, "missing") for d in place.spec.dense}

    def meanings(column: Any) -> list[Hashable]:
        if column.role == "field":
            values = ["missing", "oov", *place.values[column.feature]]
            return [("field", sources[column.feature], value) for value in values]
        if column.role == "cross":
            return [("cross", crosses[column.feature], column.size, bucket) for bucket in range(column.size)]
        return [("dense", transforms.get(column.feature, column.feature))]

    tables: dict[str, dict[Hashable, Any]] = {"wide": {"bias": 0}}
    for slot in place.layout.wide:
        tables["wide"] |= {m: slot.offset + i for i, m in enumerate(meanings(slot.column))}
    for width, slots in place.layout.embeddings.items():
        for slot in slots:
            rows = {m: slot.offset + i for i, m in enumerate(meanings(slot.column))}
            tables.setdefault(f"embedding_{width}", {}).update(rows)
    return tables


def embeddings_by_meaning(place: Place, arrays: Mapping[int, np.ndarray]) -> dict[Hashable, np.ndarray]:
    tables = named_rows(place)
    return {m: array[row] for width, array in arrays.items() for m, row in tables[f"embedding_{width}"].items()}


def of_parent(old: Old, kind: str) -> dict[Hashable, np.ndarray]:
    names = {"values": "scoring/embedding_{}.npy", "accumulators": "optimizer/embedding_{}_accumulators.npy"}
    widths = old.place.layout.embeddings
    return embeddings_by_meaning(old.place, {w: np.load(f"{old.candidate}/{names[kind].format(w)}") for w in widths})


def wide_weights(learner: Learner) -> np.ndarray:
    assert learner.wide is not None
    return learner.wide.weights(np.arange(learner.wide.shard.size))[:, 0]


def wide_array(old: Old, name: str, kind: str = "optimizer") -> np.ndarray:
    """An array of the parent's wide table, by row, float64; 0 where it has none."""
    array = np.load(f"{old.candidate}/{kind}/wide_{name}.npy")
    rows = np.zeros((old.place.layout.wide_rows, *array.shape[1:]))
    rows[np.load(f"{old.candidate}/{kind}/wide_ids.npy")] = array
    return rows


def parent_wide(old: Old) -> tuple[np.ndarray, np.ndarray]:
    """Weights and (z, n) of every row."""
    return wide_array(old, "weights", "scoring"), wide_array(old, "ftrl")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Another spec, other values, other ids."""
    return make_place(tmp_path_factory.mktemp("child"), CHANGED, LATER, seed=2)


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


CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "fixed point, adagrad by row": {
        "wide": TRAINING["wide"] | {"precision": "q2.13"},
        "embeddings": TRAINING["embeddings"] | {"rule": "row_adagrad"},
    },
    "lazy adam, batch norm": {
        "wide": {"rule": "lazy_adam"},
        "embeddings": {"rule": "lazy_adam"},
        "deep": TRAINING["deep"] | {"optimizer": "adam", "batch_norm": True},
    },
    "adam": {"wide": {"rule": "adam"}, "embeddings": {"rule": "adam"}, "deep": TRAINING["deep"] | {"optimizer": "sgd"}},
    "adagrad": {"wide": {"rule": "adagrad"}},
}


@pytest.fixture(scope="module")
def olds(old: Old, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Old]:
    """Parents of every rule."""
    root = tmp_path_factory.mktemp("parents")
    trained = {name: Old(old.place, train(old.place, root / name, **c)) for name, c in CHOICES.items() if c}
    return {"default": old, **trained}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_same_features_and_no_step_publish_the_parent_again(
    olds: dict[str, Old], choice: str, tmp_path: Path
) -> None:
    """Byte for byte: golden scores, steps and running averages included."""
    old = olds[choice]
    config = TrainingConfig.model_validate(TRAINING | CHOICES[choice])
    start = warm(old, old.place)
    job = TrainingJob(config, old.place.dataset, str(tmp_path / "again"), old.place.dataset, warm_start=start)
    candidate.publish(job, begin(old.place, start, Solo(), **CHOICES[choice]), {}, Solo())
    paths = [e.path for e in read_manifest(old.candidate, CandidateManifest).files]
    assert "scoring/golden_scores.npy" in paths
    for path in paths:
        assert (tmp_path / "again" / path).read_bytes() == (Path(old.candidate) / path).read_bytes(), path


@pytest.mark.parametrize(
    ("parent", "child", "begin_afresh"),
    [
        ("default", "adam", {"wide", "embeddings", "head"}),
        ("adam", "lazy adam, batch norm", {"wide", "embeddings", "head"}),  # both have means and squares
        ("fixed point, adagrad by row", "adam", {"wide", "embeddings", "head"}),  # both have squares
        ("lazy adam, batch norm", "default", {"wide", "embeddings", "head"}),
        ("default", "adagrad", {"wide"}),
        ("default", "fixed point, adagrad by row", {"embeddings"}),
    ],
)
def test_another_rule_takes_over_the_weights_and_begins_with_its_own_state(
    olds: dict[str, Old], parent: str, child: str, begin_afresh: set[str]
) -> None:
    """A step count or an average of another rule would be misread."""
    old, changes = olds[parent], CHOICES[child]
    fresh, started = (begin(old.place, start, Solo(), **changes) for start in (None, warm(old, old.place)))
    precisely = started.wide is not None and "values" in started.wide.state()
    weights = wide_array(old, "weights", "scoring")
    assert np.count_nonzero(weights) > 20
    np.testing.assert_allclose(wide_weights(started), weights, rtol=2e-6, atol=1e-7 if precisely else 2**-13)
    for width, table in started.embeddings.items():
        theirs = np.load(f"{old.candidate}/scoring/embedding_{width}.npy")
        np.testing.assert_array_equal(table.state()["values"], theirs)
    tables = {"wide": [(started.wide, fresh.wide)]}
    tables["embeddings"] = [(started.embeddings[width], fresh.embeddings[width]) for width in fresh.embeddings]
    for part in begin_afresh - {"head"}:
        for ours, untouched in tables[part]:
            assert ours is not None
            assert untouched is not None
            remembered, expected = copy_of(ours), copy_of(untouched)
            for name in expected.keys() - {"values", "ftrl"}:
                np.testing.assert_array_equal(remembered[name], expected[name], err_msg=f"{part} {name}")
    untouched_head = fresh.head_tensors()
    for name, tensor in started.head_tensors().items():
        if "head" in begin_afresh and not name.startswith("values/"):
            torch.testing.assert_close(tensor, untouched_head[name], rtol=0, atol=0)
    transfer = TrainingJob(
        TrainingConfig.model_validate(TRAINING | changes), old.place.dataset, "", warm_start=warm(old, old.place)
    ).transfer(read_manifest(old.place.dataset, DatasetManifest))
    assert transfer is not None
    report = transfer.report()
    assert {rule.part for rule in report.rules if rule.state == "fresh"} == begin_afresh
    assert report.summary().count(" begins, after ") == len(begin_afresh)


@pytest.mark.parametrize(("decay", "wide"), [(1.0, {}), (0.5, {"alpha": 0.2, "beta": 2.0, "lambda2": 0.3})])
@pytest.mark.parametrize(("parent", "precision"), [("fixed", "float32"), ("default", "q2.13"), ("fixed", "q2.13")])
def test_weights_are_kept_between_float32_and_fixed_point(
    olds: dict[str, Old], parent: str, precision: str, decay: float, wide: dict[str, float]
) -> None:
    old = olds["fixed point, adagrad by row" if parent == "fixed" else parent]
    config = TRAINING["wide"] | wide | {"precision": precision}
    learner = begin(old.place, warm(old, old.place, decay), Solo(), wide=config)
    weights, n = (
        wide_array(old, "weights", "scoring"),
        wide_array(old, "ftrl" if parent == "default" else "squares")[:, -1],
    )
    assert np.count_nonzero(weights) > 20
    assert np.count_nonzero((weights == 0) & (n > 0)) > 5
    np.testing.assert_allclose(wide_weights(learner), weights, rtol=2e-6, atol=2**-14 if precision == "q2.13" else 1e-6)
    assert learner.wide is not None
    state = learner.wide.state()
    ours = state["squares"][:, 0] if precision == "q2.13" else state["ftrl"][:, 1]
    np.testing.assert_allclose(ours, decay * n, rtol=1e-6)
    # What L1 holds at 0 keeps its evidence.
    divisor = (config.get("beta", 1.0) + np.sqrt(decay * n)) / config["alpha"] + config["lambda2"]
    z = -state["q2_13"][:, 0] * 2.0**-13 * divisor if precision == "q2.13" else state["ftrl"][:, 0]
    if parent == "default":
        theirs = wide_array(old, "ftrl")[:, 0]
    else:
        theirs = -wide_array(old, "q2_13")[:, 0] * 2.0**-13 * ((1.0 + np.sqrt(n)) / 0.1 + 0.1)
    held = (weights == 0) & (n > 0)
    assert (np.abs(z - theirs)[held] <= 2.0**-13 * divisor[held] + 1e-5).all()
    assert np.abs(theirs[held]).max() > 0.05


def test_running_averages_go_by_unit(olds: dict[str, Old]) -> None:
    old = olds["lazy adam, batch norm"]
    deep = CHOICES["lazy adam, batch norm"]["deep"] | {"layers": [9, 4]}
    started = begin(old.place, warm(old, old.place), Solo(), deep=deep).head_tensors()
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    for name, beginning in (("running_mean", 0.0), ("running_var", 1.0)):
        ours = started[f"values/deep.layers.hidden.0.norm.{name}"].numpy()
        theirs = source[f"values/deep.layers.hidden.0.norm.{name}"]
        assert (theirs != beginning).all()
        np.testing.assert_array_equal(ours, [*theirs, *[beginning] * 3])


def test_permuted_ids_and_a_wider_head_score_as_the_parent_does(old: Old, tmp_path: Path) -> None:
    """Values that the parent knows, encoded under other ids, with a field more and more units in both layers."""
    spec = {**SPEC, "fields": [{"name": "hour", "embedding": 4}, *SPEC["fields"]]}
    place = make_place(tmp_path, spec, {"hour": range(24), **VALUES}, seed=3)
    learner = begin(place, warm(old, place), Solo(), deep={**TRAINING["deep"], "layers": [9, 5]})
    parent = begin(old.place, warm(old, old.place), Solo())
    rng = np.random.default_rng(0)
    chosen = {name: [rng.choice(list(v)) for _ in range(20)] for name, v in VALUES.items()}
    dense = torch.from_numpy(rng.random((20, 8), dtype=np.float32))
    scores = []
    for model, where in ((parent, old.place), (learner, place)):
        rows = named_rows(where)
        embedded, first_order = [], torch.zeros(20)
        for width, slots in where.layout.embeddings.items():
            table = model.embeddings[width].state()["values"]
            for slot in slots:
                values = chosen.get(slot.column.feature, [5] * 20)
                source = where.spec.field(slot.column.feature).source
                picked = [rows[f"embedding_{width}"]["field", source, v] for v in values]
                embedded.append(torch.from_numpy(table[picked]))
        scores.append(model.head(first_order, torch.cat(embedded, dim=1), dense).detach())
    assert scores[0].std() > 0.001
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-6)


def test_the_head_goes_by_feature(old: Old, new: Place) -> None:
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    fresh, started = (begin(new, start, Solo()).head_tensors() for start in (None, warm(old, new)))

    def inputs(place: Place) -> list[Hashable]:
        sources = {field.name: field.source for field in place.spec.fields}
        embedded = [
            (sources[s.column.feature], d)
            for width, slots in place.layout.embeddings.items()
            for s in slots
            for d in range(width)
        ]
        return [*embedded, *(m for m in named_rows(place)["wide"] if m[0] == "dense")]

    theirs, ours = inputs(old.place), inputs(new)
    shared = [meaning for meaning in ours if meaning in theirs]
    assert {("item", 2), ("user_id", 3), ("dense", ("price", "log"))} <= set(shared)
    assert ("item", 3) not in shared
    for state in ("values", "accumulators"):
        key = f"{state}/deep.layers.hidden.0.linear.weight"
        for unit in range(6):
            for n, meaning in enumerate(ours):
                otherwise = 0.0 if state == "values" else fresh[key][unit, n]
                expected = source[key][unit, theirs.index(meaning)] if meaning in theirs else otherwise
                assert started[key][unit, n] == expected
        for name in ("deep.layers.hidden.0.linear.bias", "deep.layers.hidden.1.linear.weight", OUTPUT):
            np.testing.assert_array_equal(started[f"{state}/{name}"].detach(), source[f"{state}/{name}"])


@pytest.mark.parametrize(
    ("deep", "fresh"),
    [
        ({"layers": [6, 4, 3]}, {"deep.layers.hidden.2.linear.weight", "deep.layers.hidden.2.linear.bias", OUTPUT}),
        ({"layers": [6]}, {OUTPUT}),
        ({"layers": [6, 4], "activation": "tanh"}, None),
    ],
)
def test_layers_that_are_not_the_parents_start_afresh(old: Old, deep: dict[str, Any], fresh: set[str] | None) -> None:
    config = TrainingConfig.model_validate(TRAINING | {"deep": deep})
    job = TrainingJob(config, old.place.dataset, "", warm_start=warm(old, old.place))
    transfer = job.transfer(read_manifest(old.place.dataset, DatasetManifest))
    assert transfer is not None
    found = {tensor.tensor for tensor in transfer.report().head if tensor.how == "fresh"}
    assert found == (fresh or {tensor.tensor for tensor in transfer.report().head})


@pytest.mark.parametrize(
    ("decay", "wide"), [(0.25, {}), (1.0, {"alpha": 0.03, "beta": 2.0, "lambda2": 0.5}), (0.5, {"alpha": 0.3})]
)
def test_decay_and_other_learning_rates_leave_the_wide_weights_as_they_are(
    old: Old, decay: float, wide: dict[str, float]
) -> None:
    learner = begin(old.place, warm(old, old.place, decay), Solo(), wide=TRAINING["wide"] | wide)
    weights, state = parent_wide(old)
    assert np.count_nonzero(weights) > 20
    assert np.count_nonzero((weights == 0) & (state[:, 0] != 0)) > 5
    np.testing.assert_allclose(wide_weights(learner), weights, rtol=2e-6, atol=1e-7)
    assert learner.wide is not None
    np.testing.assert_allclose(learner.wide.state()["ftrl"][:, 1], decay * state[:, 1], rtol=1e-6)


def test_more_l1_shrinks_the_carried_weights_but_not_the_bias(old: Old) -> None:
    learner = begin(old.place, warm(old, old.place, 0.5), Solo(), wide=TRAINING["wide"] | {"lambda1": 0.9})
    weights, state = parent_wide(old)
    shrink = (0.9 - 0.4) / ((1.0 + np.sqrt(0.5 * state[:, 1])) / 0.1 + 0.1)
    expected = np.sign(weights) * np.maximum(np.abs(weights) - shrink, 0.0)
    expected[0] = weights[0]
    assert 5 < np.count_nonzero(expected) < np.count_nonzero(weights)
    np.testing.assert_allclose(wide_weights(learner), expected, rtol=1e-5, atol=1e-7)


def test_decay_lets_old_rows_move_faster_but_not_faster_than_new_ones(old: Old) -> None:
    learner = begin(old.place, warm(old, old.place, 0.1), Solo())
    for width, table in learner.embeddings.items():
        theirs = np.load(f"{old.candidate}/optimizer/embedding_{width}_accumulators.npy")
        expected = np.maximum(np.float32(0.1) * theirs, np.float32(1e-6))
        np.testing.assert_array_equal(table.state()["accumulators"], expected)
        np.testing.assert_array_equal(
            table.state()["values"], np.load(f"{old.candidate}/scoring/embedding_{width}.npy")
        )
    source = np.load(io.BytesIO((Path(old.candidate) / "optimizer/head.npz").read_bytes()))
    for name, tensor in learner.head_tensors().items():
        expected = source[name]
        if name.startswith("accumulators/"):
            expected = np.maximum(np.float32(0.1) * expected, np.float32(1e-6))
            assert (expected > 1e-6).any()
        np.testing.assert_array_equal(tensor.detach(), expected)


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


def test_the_report_counts_what_was_carried(old: Old, new: Place, tmp_path: Path) -> None:
    directory = train(new, tmp_path / "child", warm(old, new))
    manifest = read_manifest(directory, CandidateManifest)
    verify(directory, manifest)
    assert manifest.parent is not None
    assert (manifest.parent.candidate, manifest.parent.through_date) == ("candidate", "2025-01-01")
    assert manifest.parent.digest == manifest.inputs["parent"] == manifest_digest(old.candidate)
    transfer = TrainingJob(
        TrainingConfig.model_validate(TRAINING), new.dataset, "", warm_start=warm(old, new)
    ).transfer(read_manifest(new.dataset, DatasetManifest))
    assert transfer is not None
    report = transfer.report()
    assert (Path(directory) / "warm_start.json").read_text() == report.model_dump_json(indent=1) + "\n"
    slots = {(s.table, s.slot): (s.parent_rows, s.rows, s.carried, s.new, s.dropped) for s in report.slots}
    assert slots["wide", "f_visitor"] == (32, 52, 22, 30, 10)  # 110 to 129, missing, unknown
    assert slots["embedding_4", "f_item"] == (22, 34, 14, 20, 8)  # 8 to 19
    assert slots["embedding_2", "f_place"] == (0, 7, 0, 7, 0)
    assert slots["wide", "f_place"] == (7, 7, 6, 1, 1)
    assert slots["wide", "x_pair"] == (16, 16, 16, 0, 0)
    assert slots["wide", "x_user_item"] == (0, 16, 0, 16, 0)  # the parent's of this name became x_pair
    assert slots["wide", "x_user_tags"] == (8, 0, 0, 0, 8)
    assert slots["embedding_4", "f_tags"] == (9, 0, 0, 0, 9)
    assert slots["wide", "d_age"] == (1, 1, 0, 1, 1)
    assert slots["wide", "bias"] == (1, 1, 1, 0, 0)
    assert next(s.renamed_from for s in report.slots if s.slot == "f_visitor") == "f_user"
    assert "2 in part" not in report.summary()
    assert "candidate: " in report.summary()


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


def test_a_damaged_parent_ends_the_job_before_any_worker_starts(old: Old, tmp_path: Path) -> None:
    for damage in ("optimizer/embedding_4_accumulators.npy", "scoring/wide_ids.npy"):
        copy = tmp_path / damage.partition("/")[0]
        for path in [e.path for e in read_manifest(old.candidate, CandidateManifest).files] + ["manifest.json"]:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            content = (Path(old.candidate) / path).read_bytes()
            (copy / path).write_bytes(content[:-1] + b"?" if path == damage else content)
        start = WarmStart(str(copy), old.place.state, old.place.state)
        with pytest.raises(DataError, match=f"is damaged: .*{damage}"):
            train(old.place, tmp_path / "never", start)
    assert not (tmp_path / "never").exists()


def test_what_does_not_belong_together_is_refused(old: Old, new: Place, tmp_path: Path) -> None:
    for start, message in (
        (WarmStart(str(tmp_path / "gone"), old.place.state, new.state), "is not a published directory"),
        (WarmStart(old.candidate, new.state, new.state), "is not the encoder state of the parent"),
        (WarmStart(old.candidate, old.place.state, old.place.state), "is not the encoder state of the data set"),
    ):
        with pytest.raises(DataError, match=message):
            train(new, tmp_path / "never", start)
    with pytest.raises(UsageError, match="must lie in"):
        train(new, tmp_path / "never", warm(old, new, 0.0))
    other = make_place(tmp_path / "other", {**SPEC, "label": "bought"}, VALUES, seed=5)
    with pytest.raises(UsageError, match="has learned to predict 'clicked', not 'bought'"):
        train(other, tmp_path / "never", warm(old, other))


def test_the_job_takes_a_parent_by_the_command_line(
    old: Old, new: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"training": TRAINING}))
    output = str(tmp_path / "child")
    arguments = ["--dataset", new.dataset, "--config", str(tmp_path / "config.yaml"), "--output", output]
    parent = ["--parent", old.candidate, "--parent-state", old.place.state]
    assert main([*arguments, *parent]) == 2
    assert "--parent, --parent-state and --state belong together" in capsys.readouterr().err
    assert main([*arguments, *parent, "--state", new.state, "--decay", "0.5"]) == 0
    found = read_manifest(output, CandidateManifest).parent
    assert found is not None
    assert found.decay == 0.5
    assert main([*arguments, *parent, "--state", new.state]) == 2
    assert "holds a candidate of other inputs" in capsys.readouterr().err


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
