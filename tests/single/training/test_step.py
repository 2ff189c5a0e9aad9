"""The joint step against a plain NumPy float64 one, written row by row from the papers' formulas."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from nightjar.features.contract.layout import TableLayout, dataset_columns, table_layout
from nightjar.training.config import DeepConfig, EmbeddingConfig, TrainingConfig, WideConfig
from nightjar.training.data.batch import Batch, make_batch
from nightjar.training.data.columns import Columns
from nightjar.training.data.dataset import to_columns
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.step.lookup.pooling import gradient_of_rows, pool
from nightjar.training.step.step import Learner, logistic_loss
from tests.kits.training.cluster import ThreadCollective, run_cluster
from tests.kits.training.datasets import SIZES, SPEC, make_table, matrix_of, take

CONFIG = TrainingConfig(
    model="wide_deep",
    seed=3,
    wide=WideConfig(alpha=0.2, beta=0.5, lambda1=0.3, lambda2=0.1),
    embeddings=EmbeddingConfig(learning_rate=0.1, initial_accumulator=0.05, init_scale=0.5),
    deep=DeepConfig(layers=(6,), learning_rate=0.03, initial_accumulator=0.02),
)
COLUMNS = [column for column in dataset_columns(SPEC, SIZES) if column.role not in ("group", "truth")]
LAYOUT = table_layout(COLUMNS)
FM_COLUMNS = [column.model_copy(update={"embedding": 4 * (column.embedding > 0)}) for column in COLUMNS]
FM_LAYOUT = table_layout(FM_COLUMNS)


def table(rows: int, seed: int) -> pa.Table:
    return make_table(COLUMNS, rows, 0, np.random.default_rng(seed))


def batch_of(rows: pa.Table) -> Batch:
    columns = to_columns(rows.combine_chunks(), COLUMNS, "test")
    return make_batch(take(columns, np.arange(len(rows))), LAYOUT)


class Oracle:
    """Wide & Deep with one hidden ReLU layer: dense tables, loops over rows, one joint logistic loss."""

    def __init__(self, learner: Learner, layout: TableLayout, *, example_squares: bool = False) -> None:
        self.layout = layout
        self.example_squares = example_squares
        self.z = np.zeros(layout.wide_rows)
        self.n = np.zeros(layout.wide_rows)
        self.tables = {w: t.state()["values"].astype(np.float64) for w, t in learner.embeddings.items()}
        self.squares = {w: np.full(t.shape, 0.05) for w, t in self.tables.items()}
        self.head = [p.detach().numpy().astype(np.float64) for p in learner.head.parameters()]
        self.head_squares = [np.full(p.shape, 0.02) for p in self.head]

    def weights(self) -> np.ndarray:
        wide = CONFIG.wide
        l1 = np.full(len(self.z), wide.lambda1)
        l1[0] = 0.0
        w = -(self.z - np.sign(self.z) * l1) / ((wide.beta + np.sqrt(self.n)) / wide.alpha + wide.lambda2)
        return np.where(np.abs(self.z) <= l1, 0.0, w)

    def features(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, list[tuple[int, np.ndarray, float]]]:
        """Wide x of every coordinate, and the sum of the squares of its parts; for each field (width, rows,
        coefficient).
        """
        x, squares = np.zeros(len(self.z)), np.zeros(len(self.z))
        x[0] = squares[0] = 1.0
        for slot in self.layout.wide:
            value = row[slot.column.name]
            if slot.column.role == "dense":
                x[slot.offset], squares[slot.offset] = value, value**2
            else:
                for parts in (x, squares):
                    np.add.at(parts, slot.offset + np.atleast_1d(value).astype(int), 1.0)
        fields = []
        for width, slots in sorted(self.layout.embeddings.items()):
            for slot in slots:
                ids = slot.offset + np.atleast_1d(row[slot.column.name]).astype(int)
                count = max(len(ids), 1)
                by = {"sum": 1.0, "mean": count, "sqrtn": count**0.5}[slot.column.pooling]
                fields.append((width, ids, 1.0 / by))
        return x, squares, fields

    def step(self, rows: list[dict[str, Any]]) -> float:
        w, (w1, b1, w2) = self.weights(), self.head
        wide_g, wide_s = np.zeros_like(w), np.zeros_like(w)
        table_g = {width: np.zeros_like(t) for width, t in self.tables.items()}
        head_g = [np.zeros_like(p) for p in self.head]
        loss = 0.0
        for row in rows:
            x, x_squares, fields = self.features(row)
            pooled = [c * self.tables[width][ids].sum(axis=0) for width, ids, c in fields]
            dense = [row[column.name] for column in COLUMNS if column.role == "dense"]
            inputs = np.concatenate([*pooled, dense])
            hidden = np.maximum(w1 @ inputs + b1, 0.0)
            logit = x @ w + w2[0] @ hidden
            p = 1.0 / (1.0 + np.exp(-logit))
            loss -= row["weight"] * (row["label"] * np.log(p) + (1 - row["label"]) * np.log(1 - p))
            delta = row["weight"] * (p - row["label"])
            wide_g += delta * x
            wide_s += delta**2 * x_squares
            back = delta * w2[0] * (hidden > 0)
            head_g[0] += np.outer(back, inputs)
            head_g[1] += back
            head_g[2] += delta * hidden[None, :]
            at, input_g = 0, w1.T @ back
            for width, ids, c in fields:
                np.add.at(table_g[width], ids, c * input_g[at : at + width])
                at += width
        total = sum(row["weight"] for row in rows)
        square = wide_s if self.example_squares else wide_g**2
        sigma = (np.sqrt(self.n + square) - np.sqrt(self.n)) / CONFIG.wide.alpha
        self.z += wide_g - sigma * w
        self.n += square
        for width, g in table_g.items():
            self.squares[width] += (g / total) ** 2
            self.tables[width] -= 0.1 * (g / total) / np.sqrt(self.squares[width])
        for parameter, square, g in zip(self.head, self.head_squares, head_g, strict=True):
            square += (g / total) ** 2
            parameter -= 0.03 * (g / total) / np.sqrt(square)
        return loss


@pytest.mark.parametrize("squares", ["round", "examples"])
def test_joint_steps_equal_the_formulas(squares: str) -> None:
    config = CONFIG.model_copy(update={"wide": CONFIG.wide.model_copy(update={"squares": squares})})
    learner = Learner(config, LAYOUT, Solo())
    oracle = Oracle(learner, LAYOUT, example_squares=squares == "examples")
    for seed in range(5):
        rows = table(40, seed)
        loss = oracle.step(rows.to_pylist())
        score = learner.step(batch_of(rows))
        assert score.loss == pytest.approx(loss, rel=1e-5)
        assert score.weight == pytest.approx(sum(rows.column("weight").to_pylist()), rel=1e-6)
        assert score.rows == 40
    assert learner.wide is not None
    ftrl = learner.wide.state()["ftrl"]
    np.testing.assert_allclose(ftrl, np.stack([oracle.z, oracle.n], axis=1), rtol=1e-4, atol=1e-5)
    for width, t in learner.embeddings.items():
        np.testing.assert_allclose(t.state()["values"], oracle.tables[width], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(t.state()["accumulators"], oracle.squares[width], rtol=1e-4, atol=1e-7)
    for parameter, expected in zip(learner.head.parameters(), oracle.head, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert np.count_nonzero(oracle.weights()) < np.count_nonzero(oracle.n)


def test_what_is_scored_was_not_learned_from_yet() -> None:
    learner, batch = Learner(CONFIG, LAYOUT, Solo()), batch_of(table(30, 0))
    logits = learner.logits(batch).double().numpy()
    expected = batch.weight_B @ np.logaddexp(0.0, np.where(batch.label_B == 1, -logits, logits))
    assert learner.step(batch).loss == pytest.approx(expected, rel=1e-6)
    assert learner.step(batch).loss < expected


def test_scoring_changes_nothing() -> None:
    learner, batch = Learner(CONFIG, LAYOUT, Solo()), batch_of(table(30, 0))
    learner.step(batch)
    before = state(learner)
    learner.logits(batch)
    assert all(before[name].tobytes() == array.tobytes() for name, array in state(learner).items())


def test_a_batch_without_weight_teaches_nothing() -> None:
    learner, batch = Learner(CONFIG, LAYOUT, Solo()), batch_of(table(30, 0))
    learner.step(batch)
    before = state(learner)
    score = learner.step(replace(batch, weight_B=np.zeros_like(batch.weight_B)))
    assert (score.loss, score.weight, score.rows) == (0.0, 0.0, 30)
    assert np.isnan(score.mean)
    assert all(before[name].tobytes() == array.tobytes() for name, array in state(learner).items())


@pytest.mark.parametrize("rows", [0, 1, 37])
def test_pooling_is_the_matrix_that_entries_describe_and_its_gradient_the_transpose(rows: int) -> None:
    batch, rng = batch_of(table(rows, 4)), np.random.default_rng(5)
    for width, entries in [(1, batch.wide), *batch.embeddings.items()]:
        count = LAYOUT.wide_rows if entries is batch.wide else LAYOUT.embedding_rows(width)
        matrix, values = matrix_of(entries, count), rng.normal(size=(count, width)).astype(np.float32)
        before, inputs = (0, 1) if entries is batch.wide else (2, 2 + entries.cells * width + 3)
        out = np.full((rows, inputs), 9.0, dtype=np.float32)
        pool(values[entries.ids_U], entries, out, before)
        cells = slice(before, before + entries.cells * width)
        np.testing.assert_allclose(
            out[:, cells], (matrix @ values).reshape(rows, entries.cells * width), rtol=1e-5, atol=1e-6
        )
        assert np.all(np.delete(out, cells, axis=1) == 9.0)

        gradient = gradient_of_rows(out, entries, width, before)
        expected = np.einsum("bcr,bcd->rd", matrix, out[:, cells].reshape(rows, entries.cells, width))
        np.testing.assert_allclose(gradient, expected[entries.ids_U], rtol=1e-5, atol=1e-5)
        assert not np.any(np.delete(expected, entries.ids_U, axis=0))


@pytest.mark.parametrize("world", [1, 2])
def test_bf16_layers_learn_as_well_as_float32_ones_of_one_worker(world: int) -> None:
    """Workers sum their gradients in float32, whatever the layers multiply in."""
    batches = [to_columns(table(200, seed).combine_chunks(), COLUMNS, "test") for seed in range(60)]

    def losses(precision: str, collective: Collective) -> np.ndarray:
        learner = Learner(CONFIG.model_copy(update={"precision": precision}), LAYOUT, collective)
        mine = np.arange(collective.rank, 200, collective.size)
        scores = [learner.step(make_batch(take(columns, mine), LAYOUT)) for columns in batches]
        assert learner.logits(batch_of(table(5, 0))).dtype == torch.float32
        assert {parameter.dtype for parameter in learner.head.parameters()} == {torch.float32}
        return np.array([score.mean for score in scores])

    float32 = losses("float32", Solo())
    bf16, *others = run_cluster(world, partial(losses, "bf16"))
    assert float32[40:].mean() < 0.95 * float32[:5].mean()
    assert bf16[40:].mean() == pytest.approx(float32[40:].mean(), rel=2e-3)
    assert not np.array_equal(bf16, float32)
    assert all(np.array_equal(other, bf16) for other in others)


def test_batches_asked_for_ahead_teach_the_same_on_every_worker() -> None:
    """The rows are looked up after the update before, however early their ids were sent."""
    batches = [batch_of(table(24, seed)) for seed in range(6)]

    def work(collective: ThreadCollective) -> dict[str, np.ndarray]:
        early, late = Learner(CONFIG, LAYOUT, collective), Learner(CONFIG, LAYOUT, collective)
        for batch in early.ahead(batches):
            early.step(batch)
        for batch in batches:
            late.step(batch)
        assert {k: v.tobytes() for k, v in state(early).items()} == {k: v.tobytes() for k, v in state(late).items()}
        return state(early)

    first, second = run_cluster(2, work)
    assert any(not np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit_of_the_tables(threads: int) -> None:
    def tables(count: int) -> dict[str, bytes]:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            learner = Learner(CONFIG.model_copy(update={"model": "fm"}), FM_LAYOUT, Solo())
            for seed in range(3):
                columns = to_columns(table(4000, seed), FM_COLUMNS, "test")
                learner.step(make_batch(take(columns, np.arange(4000)), FM_LAYOUT))
            return {name: array.tobytes() for name, array in state(learner).items()}
        finally:
            torch.set_num_threads(before)

    assert tables(threads) == tables(1)


def state(learner: Learner) -> dict[str, np.ndarray]:
    arrays = {f"wide/{k}": v.copy() for k, v in (learner.wide.state() if learner.wide else {}).items()}
    for width, t in learner.embeddings.items():
        arrays |= {f"{width}/{k}": v.copy() for k, v in t.state().items()}
    return arrays | {k: v.numpy().copy() for k, v in learner.head.state_dict().items()}


@pytest.mark.parametrize(
    ("model", "wide"),
    [("lr", {}), ("deep", {}), ("wide_deep", {}), ("lr", {"squares": "examples"}),
     ("lr", {"squares": "examples", "placement": "replicated"})],
)  # fmt: skip
@pytest.mark.parametrize("world", [2, 3])
def test_workers_that_share_a_batch_learn_what_one_learns(model: str, wide: dict[str, str], world: int) -> None:
    """The last worker has no rows in every other batch."""
    config = CONFIG.model_copy(update={"model": model, "wide": CONFIG.wide.model_copy(update=wide)})
    batches = [to_columns(table(24, seed).combine_chunks(), COLUMNS, "test") for seed in range(10)]

    def share_of(columns: Columns, part: slice) -> Batch:
        return make_batch(take(columns, np.arange(24)[part]), LAYOUT)

    def work(collective: ThreadCollective) -> dict[str, np.ndarray]:
        learner = Learner(config, LAYOUT, collective)
        for step, columns in enumerate(batches):
            sharing = world - step % 2
            part = slice(collective.rank, None, sharing) if collective.rank < sharing else slice(0, 0)
            learner.step(share_of(columns, part))
        return state(learner)

    alone = Learner(config, LAYOUT, Solo())
    for columns in batches:
        alone.step(share_of(columns, slice(None)))
    workers = run_cluster(world, work)
    for name, expected in state(alone).items():
        if "/" in name:
            joined = np.empty_like(expected)
            for rank in range(world):
                replicated = "placement" in wide and name.startswith("wide/")
                part = slice(None) if replicated else slice(rank, None, world)
                joined[part] = workers[rank][name]
            np.testing.assert_allclose(joined, expected, rtol=1e-4, atol=1e-6)
        else:
            for worker in workers:
                np.testing.assert_allclose(worker[name], expected, rtol=1e-4, atol=1e-6)


def test_the_logistic_loss_and_its_gradient_are_exact_also_of_extreme_logits() -> None:
    """Against log(1 + exp(-s x)) and p - y in float64; a weight counts so many times."""
    logit_B = np.array([-200.0, -30.0, -15.0, -1e-4, 0.0, 0.7, 15.0, 30.0, 200.0] * 2, dtype=np.float32)
    label_B = np.repeat(np.array([0.0, 1.0], dtype=np.float32), 9)
    weight_B = np.linspace(0.5, 3.0, 18, dtype=np.float32)
    x = torch.from_numpy(logit_B).requires_grad_()
    loss = logistic_loss(x, torch.from_numpy(label_B), torch.from_numpy(weight_B))
    loss.backward()
    wide, sign = logit_B.astype(np.float64), 1.0 - 2.0 * label_B.astype(np.float64)
    losses = np.logaddexp(0.0, sign * wide)
    np.testing.assert_allclose(loss.item(), np.dot(weight_B, losses), rtol=1e-6)
    assert x.grad is not None
    p_minus_y = sign / (1.0 + np.exp(-sign * wide))
    np.testing.assert_allclose(x.grad.numpy(), weight_B * p_minus_y, rtol=1e-6, atol=1e-37)
