"""Heads against formulas in NumPy float64 and against finite differences."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from features.errors import UsageError
from features.layout import Column, TableLayout, table_layout
from training.config import DeepConfig
from training.models import MODELS, architecture, build_head
from training.models.heads import dense_inputs, embedding_inputs
from training.models.layers import FactorizationMachine

FIELDS, WIDTH, DENSE = 4, 3, 2
CONFIG = DeepConfig(layers=(5, 4), activation="tanh")


def layout(widths: list[int]) -> TableLayout:
    columns = [
        Column(name=f"f_{i}", feature=f"{i}", role="field", size=9, embedding=width, wide=True)
        for i, width in enumerate(widths)
    ]
    return table_layout(columns + [Column(name=f"d_{i}", feature=f"{i}", role="dense") for i in range(DENSE)])


LAYOUT = layout([WIDTH] * FIELDS)


def inputs(rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(rows,), (rows, FIELDS * WIDTH), (rows, DENSE)]
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradients_agree_with_finite_differences(name: str) -> None:
    head = build_head(name, LAYOUT, CONFIG, seed=1).double()
    parameters = list(head.parameters())

    def loss(first: Tensor, embeddings: Tensor, dense: Tensor, *_: Tensor) -> Tensor:
        return torch.nn.functional.softplus(head(first, embeddings, dense)).sum()

    assert torch.autograd.gradcheck(loss, (*inputs(), *parameters))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_logits_have_one_dimension_for_any_number_of_rows(name: str) -> None:
    head = build_head(name, LAYOUT, CONFIG, seed=1).double()
    for rows in (0, 1, 6):
        assert head(*inputs(rows)).shape == (rows,)


def test_fm_equals_the_pairwise_sum_it_abbreviates() -> None:
    v = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    pairs = [(v[:, i] * v[:, j]).sum(dim=1) for i, j in combinations(range(5), 2)]
    torch.testing.assert_close(FactorizationMachine()(v), torch.stack(pairs).sum(dim=0), rtol=1e-12, atol=1e-14)


def test_fm_head_pairs_fields_and_not_dimensions() -> None:
    first, embeddings, dense = inputs()
    v = embeddings.detach().numpy().reshape(-1, FIELDS, WIDTH)
    expected = first.detach().numpy() + sum((v[:, i] * v[:, j]).sum(axis=1) for i, j in combinations(range(FIELDS), 2))
    actual = build_head("fm", LAYOUT, CONFIG, seed=1)(first, embeddings, dense)
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-12)


def deep_logits(parameters: list[np.ndarray], x: np.ndarray, output_bias: bool) -> np.ndarray:
    """The hidden layers in NumPy: tanh(W x + b), then one linear output."""
    for weight, bias in zip(parameters[0:4:2], parameters[1:4:2], strict=True):
        x = np.tanh(x @ weight.T + bias)
    return (x @ parameters[4].T)[:, 0] + (parameters[5][0] if output_bias else 0.0)


@pytest.mark.parametrize("name", ["deep", "wide_deep", "deepfm"])
def test_logits_are_the_sum_of_the_papers_parts(name: str) -> None:
    head = build_head(name, LAYOUT, CONFIG, seed=1).double()
    first, embeddings, dense = inputs()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    x = np.hstack([embeddings.detach().numpy(), dense.detach().numpy()])
    parameters = [parameter.detach().numpy() for parameter in head.parameters()]
    expected = deep_logits(parameters, x, name == "deep")
    if name != "deep":
        expected = expected + first.detach().numpy()
    if name == "deepfm":
        v = embeddings.detach().numpy().reshape(-1, FIELDS, WIDTH)
        expected = expected + sum((v[:, i] * v[:, j]).sum(axis=1) for i, j in combinations(range(FIELDS), 2))
    np.testing.assert_allclose(head(first, embeddings, dense).detach().numpy(), expected, rtol=1e-12)


def test_lr_is_the_wide_part_alone() -> None:
    first, embeddings, dense = inputs()
    head = build_head("lr", LAYOUT, CONFIG, seed=1)
    assert torch.equal(head(first, embeddings, dense), first)
    assert not list(head.parameters())


def test_heads_are_the_same_for_the_same_seed_whatever_ran_before() -> None:
    one = build_head("deepfm", LAYOUT, CONFIG, seed=1).state_dict()
    torch.rand(17)
    two = build_head("deepfm", LAYOUT, CONFIG, seed=1).state_dict()
    other = build_head("deepfm", LAYOUT, CONFIG, seed=2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_input_widths_count_every_field_and_dense_column() -> None:
    mixed = layout([3, 8, 3])
    assert (embedding_inputs(mixed), dense_inputs(mixed)) == (14, DENSE)


def test_an_unknown_model_is_one_clear_error() -> None:
    with pytest.raises(UsageError) as error:
        architecture("dnn")
    assert str(error.value) == (
        "there is no model 'dnn'. Set training.model to one of ['deep', 'deepfm', 'fm', 'lr', 'wide_deep']."
    )


def test_fm_over_two_widths_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"one width; the data set's fields have the widths \[3, 8\]"):
        build_head("deepfm", layout([3, 8]), CONFIG, seed=1)


def test_a_deep_model_without_embeddings_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="every field of the data set has the width 0"):
        build_head("wide_deep", layout([0, 0]), CONFIG, seed=1)
