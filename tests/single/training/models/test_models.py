"""Models against formulas in NumPy float64, finite differences, the exported graph, and the run of one worker."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import TableLayout, table_layout
from nightjar.serving.head_graph import check_head
from nightjar.training.config import DeepConfig, ModelName, TrainingConfig
from nightjar.training.data.batch import make_batch
from nightjar.training.export.onnx_export import INPUTS, export_head
from nightjar.training.layers.dense import FactorizationMachine, dense_inputs, embedding_inputs
from nightjar.training.layers.global_batch import GlobalBatch
from nightjar.training.models import MODELS, build_head, find_model, model_columns, model_sections
from nightjar.training.models.mf import MatrixFactorizationConfig
from nightjar.training.run.collective import Solo
from nightjar.training.step.step import Learner
from tests.kits.training.cluster import run_cluster
from tests.kits.training.model_kit import (
    DENSE,
    FIELDS,
    MF,
    PLACEMENTS,
    REGULARISED,
    WIDTH,
    assert_learned_what_one_learns,
    batches,
    columns_of,
    learned,
    tables_of,
)

CONFIG = DeepConfig(layers=(5, 4), activation="tanh")
HEADS = pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param(name, config, id=f"{name}, {how}")
        for name in sorted(MODELS)
        for how, config in (("plain", CONFIG), ("regularised", REGULARISED))
    ],
)


def layout(widths: list[int], model: str = "deepfm") -> TableLayout:
    return table_layout(model_columns(TrainingConfig(model=model, mf=MF), columns_of(widths)))


LAYOUT = layout([WIDTH] * FIELDS)


def head_of(model: str, config: DeepConfig = CONFIG, seed: int = 1) -> torch.nn.Module:
    return build_head(TrainingConfig(model=model, deep=config, seed=seed), layout([WIDTH] * FIELDS, model))


def inputs(model: str = "deepfm", rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    used = layout([WIDTH] * FIELDS, model)
    generator = torch.Generator().manual_seed(7)
    shapes = [(rows,), (rows, embedding_inputs(used)), (rows, dense_inputs(used))]
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)  # type: ignore[return-value]


@HEADS
def test_gradients_agree_with_finite_differences(name: str, config: DeepConfig) -> None:
    head = head_of(name, config).double()
    batch = GlobalBatch(Solo(), 5, torch.arange(6))

    def loss(first: Tensor, embeddings: Tensor, dense: Tensor, *_: Tensor) -> Tensor:
        return torch.nn.functional.softplus(head(first, embeddings, dense, batch)).sum()

    assert torch.autograd.gradcheck(loss, (*inputs(name), *head.parameters()))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_logits_have_one_dimension_for_any_number_of_rows(name: str) -> None:
    head = head_of(name).double()
    for rows in (0, 1, 6):
        assert head(*inputs(name, rows)).shape == (rows,)


@HEADS
def test_the_exported_head_gives_the_same_logits(name: str, config: DeepConfig) -> None:
    head = head_of(name, config)
    given = tuple(tensor.detach().float() for tensor in inputs(name, 64))
    with torch.no_grad():
        for step in range(3):
            head(*given, GlobalBatch(Solo(), step, torch.arange(64)))
        expected = head(*given).numpy()
    exported = export_head(head, layout([WIDTH] * FIELDS, name))
    check_head(exported)
    session = onnxruntime.InferenceSession(exported)
    asked = {node.name for node in session.get_inputs()}
    feed = {key: tensor.numpy() for key, tensor in zip(INPUTS, given, strict=True) if key in asked}
    np.testing.assert_allclose(session.run(["logit"], feed)[0], expected, rtol=1e-5, atol=1e-6)


def test_fm_equals_the_pairwise_sum_it_abbreviates() -> None:
    v = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    pairs = [(v[:, i] * v[:, j]).sum(dim=1) for i, j in combinations(range(5), 2)]
    torch.testing.assert_close(FactorizationMachine()(v), torch.stack(pairs).sum(dim=0), rtol=1e-12, atol=1e-14)


def test_fm_head_pairs_fields_and_not_dimensions() -> None:
    first, embeddings, dense = inputs()
    v = embeddings.detach().numpy().reshape(-1, FIELDS, WIDTH)
    expected = first.detach().numpy() + sum((v[:, i] * v[:, j]).sum(axis=1) for i, j in combinations(range(FIELDS), 2))
    actual = head_of("fm")(first, embeddings, dense)
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=1e-12)


def deep_logits(parameters: list[np.ndarray], x: np.ndarray, output_bias: bool) -> np.ndarray:
    """The hidden layers in NumPy: tanh(W x + b), then one linear output."""
    for weight, bias in zip(parameters[0:4:2], parameters[1:4:2], strict=True):
        x = np.tanh(x @ weight.T + bias)
    return (x @ parameters[4].T)[:, 0] + (parameters[5][0] if output_bias else 0.0)


@pytest.mark.parametrize("name", ["deep", "wide_deep", "deepfm"])
def test_logits_are_the_sum_of_the_papers_parts(name: str) -> None:
    head = head_of(name).double()
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
    head = head_of("lr")
    assert torch.equal(head(first, embeddings, dense), first)
    assert not list(head.parameters())


def test_heads_are_the_same_for_the_same_seed_whatever_ran_before() -> None:
    one = head_of("deepfm", seed=1).state_dict()
    torch.rand(17)
    two = head_of("deepfm", seed=1).state_dict()
    other = head_of("deepfm", seed=2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_mf_adds_the_product_of_its_two_fields() -> None:
    first, embeddings, dense = inputs("mf")
    p, q = np.split(embeddings.detach().numpy(), 2, axis=1)
    expected = first.detach().numpy() + np.einsum("bd,bd->b", p, q)
    np.testing.assert_allclose(head_of("mf")(first, embeddings, dense).detach().numpy(), expected, rtol=1e-12)


def test_mf_is_fm_on_two_one_hots() -> None:
    """Trained: the same tables after ten steps, the biases and their L1 included."""
    two = [column for column in columns_of([WIDTH, WIDTH]) if column.role in ("label", "field")]
    states = []
    for model in ("mf", "fm"):
        config = TrainingConfig(
            model=model,
            mf={"fields": ["0", "1"]},
            wide={"lambda1": 0.1},
            embeddings={"init_scale": 1.0, "initial_accumulator": 1e-3},
        )
        learner = Learner(config, table_layout(model_columns(config, two)), Solo())
        for columns in batches(two, 10, 32):
            learner.step(make_batch(columns, table_layout(two)))
        states.append(tables_of(learner))
    mf, fm = states
    assert set(mf) == set(fm) == {"wide/ftrl", "embeddings/values", "embeddings/accumulators"}
    for name, expected in fm.items():
        np.testing.assert_allclose(mf[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_workers_that_share_batches_learn_what_one_learns(name: str, world: int, placement: str) -> None:
    assert_learned_what_one_learns(name, placement, run_cluster(world, partial(learned, name, placement)))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("lr", ["label", "f_0", "f_1", "f_3", "x_c", "d_0", "d_1"]),
        ("mf", ["label", "f_0", "f_2"]),
        ("nmf", ["label", "f_0", "f_2"]),
        ("deep", ["label", "f_0", "f_1", "f_2", "f_3", "d_0", "d_1"]),
        ("wide_deep", ["label", "f_0", "f_1", "f_2", "f_3", "x_c", "d_0", "d_1"]),
    ],
)
def test_a_model_reads_the_columns_that_it_uses(model: str, names: list[str]) -> None:
    used = model_columns(TrainingConfig(model=model, mf=MF), columns_of([WIDTH] * FIELDS))
    assert [column.name for column in used] == names


def test_the_two_fields_of_mf_have_biases_though_the_wide_part_has_none_for_them() -> None:
    assert [slot.column.name for slot in layout([WIDTH] * FIELDS, "mf").wide] == ["f_0", "f_2"]


@pytest.mark.parametrize(
    ("fields", "widths", "message"),
    [
        (None, [3] * 4, r"'mf' factorises two fields, and training.mf is missing. Set training.mf: .* \['0', '1', "),
        (None, [3], r"training.mf is missing. features.fields holds only \['0'\]: add a field, or choose another"),
        (("0", "9"), [3] * 4, r"training.mf.fields is \['0', '9'\]"),
        (("0", "2"), [3, 3, 8, 3], r"one width, but those of \['0', '2'\] are \[3, 8\]"),
        (("0", "2"), [0, 3, 0, 3], r"one width, but those of \['0', '2'\] are \[0, 0\]"),
    ],
)
def test_mf_without_two_suitable_fields_is_one_clear_error(
    fields: tuple[str, str] | None, widths: list[int], message: str
) -> None:
    config = TrainingConfig(model="mf", mf=fields and MatrixFactorizationConfig(fields=fields))
    with pytest.raises(UsageError, match=message):
        model_columns(config, columns_of(widths))


def test_input_widths_count_every_field_and_dense_column() -> None:
    mixed = layout([3, 8, 3])
    assert (embedding_inputs(mixed), dense_inputs(mixed)) == (14, DENSE)


def test_a_config_may_name_every_model_and_no_other() -> None:
    assert get_args(ModelName) == tuple(MODELS)
    assert all(name == model.name for name, model in MODELS.items())


@pytest.mark.parametrize("name", MODELS)
def test_settings_hold_no_section_of_another_model(name: str) -> None:
    """But that of `mf`, which has been in the settings of all: directories are named by their digest."""
    sections = model_sections()
    found = {key for key in TrainingConfig(model=name).settings if key in sections}
    own = MODELS[name].section
    assert found == {"mf"} | ({own.name} if own else set())


def test_an_unknown_model_is_one_clear_error() -> None:
    with pytest.raises(UsageError) as error:
        find_model("dnn")
    assert str(error.value) == f"there is no model 'dnn'. Set training.model to one of {sorted(MODELS)}."
    with pytest.raises(ValidationError, match="'wide_deep'"):
        TrainingConfig(model="dnn")


def test_fm_over_two_widths_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"one width; the data set's fields have the widths \[3, 8\]"):
        build_head(TrainingConfig(model="deepfm"), layout([3, 8]))


def test_a_deep_model_without_embeddings_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="every field of the data set has the width 0"):
        layout([0, 0], "wide_deep")


@pytest.mark.parametrize(
    ("model", "deep", "optimizer", "learning_rate"),
    [
        ("wide_deep", {}, "adagrad", 0.05),
        ("deepfm", {}, "adam", 0.001),
        ("deepfm", {"optimizer": "adagrad"}, "adagrad", 0.05),
        ("deep", {"optimizer": "sgd", "learning_rate": 0.3}, "sgd", 0.3),
    ],
)
def test_settings_say_what_was_left_to_the_model(
    model: str, deep: dict[str, object], optimizer: str, learning_rate: float
) -> None:
    found = TrainingConfig(model=model, deep=deep).settings["deep"]
    assert (found["optimizer"], found["learning_rate"]) == (optimizer, learning_rate)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"deep": {"layers": [4, 4], "dropout": [0.1]}}, "2 layers take one dropout or one each"),
        ({"deep": {"dropout": 1.0}}, "less than 1"),
        ({"mf": {"fields": ["user", "user"]}}, "the two fields must differ"),
    ],
)
def test_settings_that_cannot_be_are_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(section)
