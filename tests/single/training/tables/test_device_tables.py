"""Tables on a device against those in the host's memory: the same formulas in torch and in numba, up to the rounding of
float32 sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.manifests import Manifest
from nightjar.training.checkpoint.saved_state import load_state, save_state
from nightjar.training.config import DeepConfig, EmbeddingConfig, TrainingConfig, WideConfig
from nightjar.training.data.batch import Batch, make_batch
from nightjar.training.data.dataset import to_columns
from nightjar.training.export.table_files import write_embeddings, write_wide
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step.step import Learner
from nightjar.training.tables.choice import check_device, on_device
from nightjar.training.tables.device_table import DeviceTable
from tests.kits.training.cluster import run_cluster
from tests.kits.training.datasets import SIZES, SPEC, make_table, take

COLUMNS = [column for column in dataset_columns(SPEC, SIZES) if column.role not in ("group", "truth")]
LAYOUT = table_layout(COLUMNS)
ROWS, STEPS = 24, 120
FTRL = WideConfig(alpha=0.2, beta=0.5, lambda1=0.3, lambda2=0.1)
ADAGRAD = EmbeddingConfig(rule="adagrad", learning_rate=0.1, initial_accumulator=0.05, init_scale=0.5)
CONFIG = TrainingConfig(model="wide_deep", seed=3, wide=FTRL, embeddings=ADAGRAD, deep=DeepConfig(layers=(6,)))
RULES: Mapping[str, tuple[Any, Any]] = {
    "ftrl and adagrad": (FTRL, ADAGRAD),
    "adagrad and row_adagrad": (WideConfig(rule="adagrad"), ADAGRAD.model_copy(update={"rule": "row_adagrad"})),
    "nothing to begin with": (
        WideConfig(rule="adagrad", initial_accumulator=0.0),
        ADAGRAD.model_copy(update={"initial_accumulator": 0.0}),
    ),
    "not negative": (FTRL, ADAGRAD.model_copy(update={"nonnegative": True})),
}
GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)


def batch_of(seed: int, rank: int = 0, workers: int = 1) -> Batch:
    """Every workers-th row of a batch; none for the ranks from `workers` on."""
    part = np.arange(ROWS)[rank::workers] if rank < workers else np.arange(0)
    columns = to_columns(make_table(COLUMNS, ROWS, 0, np.random.default_rng(seed)).combine_chunks(), COLUMNS, "test")
    return make_batch(take(columns, part), LAYOUT, seed)


def learned(config: TrainingConfig, collective: Collective, steps: int = STEPS) -> Learner:
    """After these many steps. Of several workers the last one has no rows."""
    learner = Learner(config, LAYOUT, collective)
    workers = max(1, collective.size - 1)
    for batch in learner.ahead(batch_of(seed, collective.rank, workers) for seed in range(steps)):
        learner.step(batch)
    return learner


def state(learner: Learner) -> dict[str, np.ndarray]:
    arrays = {f"{t.width}/{name}": a.copy() for t in learner.tables for name, a in t.state().items()}
    return arrays | {name: tensor.numpy(force=True).copy() for name, tensor in learner.head.state_dict().items()}


def configs(device: str, **changes: object) -> tuple[TrainingConfig, TrainingConfig]:
    """With the tables on the host, and with them on this device."""
    config = CONFIG.model_copy(update=changes)
    host = config.model_copy(update={"device": "cpu", "tables_on": "host"})
    return host, config.model_copy(update={"device": device, "tables_on": "device"})


def assert_alike(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("rules", RULES)
def test_a_device_learns_what_the_host_learns(rules: str, device: str) -> None:
    wide, embeddings = RULES[rules]
    host, there = (learned(c, Solo()) for c in configs(device, wide=wide, embeddings=embeddings))
    assert all(isinstance(table, DeviceTable) for table in there.tables)
    assert_alike(state(there), state(host))
    later = batch_of(STEPS)
    np.testing.assert_allclose(there.logits(later).numpy(), host.logits(later).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("placements", [("sharded", "sharded"), ("sharded", "replicated")])
def test_workers_with_tables_on_devices_learn_what_those_on_hosts_learn(
    placements: tuple[str, str], world: int, device: str
) -> None:
    wide, embeddings = (c.model_copy(update={"placement": p}) for c, p in zip((FTRL, ADAGRAD), placements, strict=True))
    host, there = configs(device, wide=wide, embeddings=embeddings)
    expected = run_cluster(world, lambda collective: state(learned(host, collective)))
    actual = run_cluster(world, lambda collective: state(learned(there, collective)))
    for mine, theirs in zip(actual, expected, strict=True):
        assert_alike(mine, theirs)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("model", ["lr", "deep"])
def test_a_model_may_use_some_of_the_tables(model: str, device: str) -> None:
    host, there = (learned(config, Solo(), 30) for config in configs(device, model=model))
    assert_alike(state(there), state(host))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_same_batches_give_the_same_bits(device: str) -> None:
    _, config = configs(device)
    first, second = (run_cluster(2, lambda collective: state(learned(config, collective, 20))) for _ in range(2))
    for mine, theirs in zip(first, second, strict=True):
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_state_goes_from_the_device_to_the_host_and_back(device: str, tmp_path: Path) -> None:
    """By the files of a checkpoint; and the candidate's files of both tables are the same."""
    config, there = configs(device)
    learner, host, other = learned(there, Solo(), 20), Learner(config, LAYOUT, Solo()), learned(there, Solo(), 3)
    for target in (host, other):
        directory = str(tmp_path / "state")
        files = save_state(directory, learner, Solo())
        assert files
        load_state(directory, Manifest.model_construct(files=files), target)
        storage.remove(directory)
    names = ("learner", "host", "other")
    for name, one in zip(names, (learner, host, other), strict=True):
        write_wide(str(tmp_path / name), one.wide, Solo())
        for table in one.embeddings.values():
            write_embeddings(str(tmp_path / name), table, Solo())
    written = [{str(f.relative_to(tmp_path / n)): f.read_bytes() for f in (tmp_path / n).rglob("*.npy")} for n in names]
    assert len(written[0]) >= 6
    assert written[0] == written[1] == written[2]
    for one in (learner, host, other):
        one.step(batch_of(77))
    assert_alike(state(host), state(learner))
    assert all(np.array_equal(array, state(learner)[name]) for name, array in state(other).items())


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_what_is_written_into_the_state_is_learned_from(device: str) -> None:
    _, config = configs(device)
    learner = learned(config, Solo(), 3)
    assert learner.wide
    learner.wide.state()["ftrl"][:] = [0.0, 1.0]
    for table in learner.embeddings.values():
        table.state()["values"][:] = 0.0
    empty = Learner(config, LAYOUT, Solo())
    for table in empty.embeddings.values():
        table.state()["values"][:] = 0.0
    empty.head.load_state_dict(learner.head.state_dict())
    batch = batch_of(50)
    assert torch.equal(learner.logits(batch), empty.logits(batch))


def test_another_learning_rate_changes_no_weight() -> None:
    _, config = configs("cpu")
    learner, batch = learned(config, Solo(), 10), batch_of(50)
    before = learner.logits(batch)
    learner.scale_learning_rates(0.1)
    torch.testing.assert_close(learner.logits(batch), before, rtol=1e-4, atol=1e-5)
    values = {width: table.state()["values"].copy() for width, table in learner.embeddings.items()}
    learner.step(batch)
    moves = [abs(table.state()["values"] - values[width]).max() for width, table in learner.embeddings.items()]
    assert 0.0 < max(moves) <= 0.0101


@pytest.mark.parametrize(
    ("wide", "embeddings", "named"),
    [
        (WideConfig(rule="adam"), None, "training.wide.rule adam"),
        (WideConfig(precision="q2.13"), ADAGRAD, "training.wide.precision q2.13"),
        (WideConfig(squares="examples"), ADAGRAD, "training.wide.squares examples"),
        (None, EmbeddingConfig(rule="lazy_adam"), "training.embeddings.rule lazy_adam"),
    ],
)
def test_rules_that_only_the_host_has_are_refused_or_stay_there(wide: Any, embeddings: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        check_device("device", wide, embeddings)
    cuda = torch.device("cuda", 0)
    assert not on_device("auto", cuda, wide, embeddings)
    assert on_device("auto", cuda, FTRL, ADAGRAD)
    assert not on_device("auto", torch.device("cpu"), FTRL, ADAGRAD)
    assert not on_device("host", cuda, FTRL, ADAGRAD)


def test_where_the_tables_are_is_not_part_of_a_models_identity() -> None:
    host, there = configs("cpu")
    assert host.settings == there.settings
