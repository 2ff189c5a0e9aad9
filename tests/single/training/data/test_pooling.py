"""Lists of values count as their sum, their mean or their sum over the root of their length, under weighted rows."""

from __future__ import annotations

import numpy as np
import pytest

from nightjar.features.contract.categorical import Pooling
from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.encoder.ragged import Ragged, offsets_of
from nightjar.training.config import DeepConfig, EmbeddingConfig, TrainingConfig
from nightjar.training.data.batch import make_batch
from nightjar.training.run.collective import Solo
from nightjar.training.step.step import Learner

LISTS = [[3, 3, 1], [], [4], [0, 1, 2, 3]]
LABELS, WEIGHTS = [1.0, 0.0, 0.0, 1.0], [0.5, 3.0, 2.0, 1.5]


@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn"])
def test_a_weighted_step_over_lists_equals_the_formula(pooling: Pooling) -> None:
    """deep with one hidden unit; AdaGrad without a start is w -= rate sign(g), which hides g: its squares show it."""
    field = CategoricalField(name="tags", multi_valued=True, embedding=2, pooling=pooling, wide=False)
    spec = FeatureSpec(name="s", label="y", timestamp="t", weight="w", fields=(field,))
    columns = {
        "label": np.array(LABELS, dtype=np.float32),
        "weight": np.array(WEIGHTS, dtype=np.float32),
        "f_tags": Ragged(
            np.array([i for ids in LISTS for i in ids], dtype=np.int32), offsets_of(np.array([len(i) for i in LISTS]))
        ),
    }
    config = TrainingConfig(
        model="deep",
        embeddings=EmbeddingConfig(initial_accumulator=0.0, init_scale=1.0),
        deep=DeepConfig(layers=(1,), activation="tanh"),
    )
    layout = table_layout(dataset_columns(spec, {"tags": 5}))
    learner = Learner(config, layout, Solo())
    table = learner.embeddings[2].state()["values"].astype(np.float64)
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in learner.head.parameters())
    score = learner.step(make_batch(columns, layout))

    loss, g = 0.0, np.zeros_like(table)
    for ids, label, weight in zip(LISTS, LABELS, WEIGHTS, strict=True):
        coefficient = {"sum": 1.0, "mean": 1.0 / max(len(ids), 1), "sqrtn": max(len(ids), 1) ** -0.5}[pooling]
        pooled = coefficient * sum((table[i] for i in ids), start=np.zeros(2))
        hidden = np.tanh(w1 @ pooled + b1)
        logit = (w2 @ hidden + b2).item()
        p = 1.0 / (1.0 + np.exp(-logit))
        loss -= weight * np.log(p if label else 1.0 - p)
        back = weight * (p - label) * (w2[0] * (1.0 - hidden**2)) @ w1
        for i in ids:
            g[i] += coefficient * back
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert score.weight == sum(WEIGHTS)
    squares = learner.embeddings[2].state()["accumulators"]
    np.testing.assert_allclose(squares, (g / sum(WEIGHTS)) ** 2, rtol=1e-4, atol=1e-12)
