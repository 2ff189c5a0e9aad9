"""DCN-V2 against the paper's formula in NumPy float64; its warm start; the scores that its artifact gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from nightjar import serving
from nightjar.features.contract.layout import ColumnSpec, TableLayout, table_layout
from nightjar.features.contract.strict import load_yaml
from nightjar.serving.head_graph import check_head
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.export.onnx_export import INPUTS, export_head
from nightjar.training.job import TrainingJob
from nightjar.training.layers.dense import dense_inputs, embedding_inputs
from nightjar.training.models import MODELS, build_head, model_columns
from nightjar.training.step.optimizers import head_tensors
from nightjar.training.trainer import run_job
from nightjar.training.warm_start.head import HeadShape, fill_head, tensor_maps
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_state
from tests.kits.training.model_kit import FIELDS, WIDTH, columns_of

RANKS = pytest.mark.parametrize("rank", [None, 4])
DEEP = {"layers": [5, 4], "activation": "tanh"}


def config_of(**section: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"model": "dcnv2", "deep": DEEP, "dcnv2": section})


def layout_of(columns: list[ColumnSpec]) -> TableLayout:
    return table_layout(model_columns(config_of(), columns))


LAYOUT = layout_of(columns_of([WIDTH] * FIELDS))


def inputs(layout: TableLayout, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(rows,), (rows, embedding_inputs(layout)), (rows, dense_inputs(layout))]
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)  # type: ignore[return-value]


def drawn(config: TrainingConfig, layout: TableLayout) -> torch.nn.Module:
    """A head none of whose weights is 0."""
    head = build_head(config, layout).double()
    for n, parameter in enumerate(head.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(n))
    return head


@RANKS
@pytest.mark.parametrize("cross_layers", [1, 3])
def test_logits_are_the_papers(cross_layers: int, rank: int | None) -> None:
    head = drawn(config_of(cross_layers=cross_layers, rank=rank), LAYOUT)
    first, embeddings, dense = inputs(LAYOUT)
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    x0 = x = np.hstack([embeddings, dense])
    for n in range(cross_layers):
        w = weights[f"cross.{n}.weight"]
        if rank:
            assert w.shape == (x.shape[1], rank)
            w = w @ weights[f"low_rank.{n}.weight"]
        x = x0 * (x @ w.T + weights[f"cross.{n}.bias"]) + x
    for n in range(2):
        x = np.tanh(x @ weights[f"layers.hidden.{n}.linear.weight"].T + weights[f"layers.hidden.{n}.linear.bias"])
    expected = (x @ weights["layers.output.weight"].T)[:, 0] + weights["layers.output.bias"][0]
    with torch.no_grad():
        np.testing.assert_allclose(head(first, embeddings, dense).numpy(), expected, rtol=1e-12)


@RANKS
def test_the_exported_head_gives_the_same_logits(rank: int | None) -> None:
    head = build_head(config_of(rank=rank), LAYOUT)
    given = [tensor.float() for tensor in inputs(LAYOUT, 64)]
    exported = export_head(head, LAYOUT)
    check_head(exported)
    session = onnxruntime.InferenceSession(exported)
    feed = {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True) if name != "first_order"}
    with torch.no_grad():
        np.testing.assert_allclose(session.run(["logit"], feed)[0], head(*given).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(None, None), (3, 3), (3, 5)])
def test_a_warm_start_with_moved_and_new_inputs_is_the_function_that_the_parent_was(
    before: int | None, after: int | None
) -> None:
    old = [column for column in columns_of([WIDTH] * FIELDS) if column.name != "d_0"]
    new = [column for column in columns_of([WIDTH] * FIELDS) if column.name != "f_3"]
    new.insert(1, ColumnSpec(name="f_hour", feature="hour", role="field", size=9, embedding=WIDTH))
    old.remove(next(column for column in old if column.name == "f_3"))
    theirs, ours = layout_of(old), layout_of(new)
    configs = config_of(rank=before), config_of(rank=after)
    parent, child = drawn(configs[0], theirs), drawn(configs[1], ours)
    shapes = HeadShape.of(configs[0], theirs), HeadShape.of(configs[1], ours)
    maps = tensor_maps(*shapes, {name: name for name, _ in shapes[0].inputs})
    assert set(maps) == set(child.state_dict())
    source = {name: tensor.numpy(force=True) for name, tensor in head_tensors(parent, None).items()}
    fill_head(head_tensors(child, None), source, maps, 1.0, same_rule=True)
    first, embeddings, dense = inputs(ours)
    places = {entry: n for n, entry in enumerate(shapes[1].inputs)}
    x = torch.cat([embeddings, dense], dim=1)[:, [places[entry] for entry in shapes[0].inputs]]
    width = embedding_inputs(theirs)
    with torch.no_grad():
        expected = parent(first, x[:, :width], x[:, width:])
        torch.testing.assert_close(child(first, embeddings, dense), expected, rtol=1e-10, atol=1e-12)
        moved = child(first, embeddings, dense + 1.0)
    assert not torch.allclose(moved, expected)


def test_a_cross_layer_that_the_parent_lacks_begins_afresh() -> None:
    deeper = HeadShape.of(config_of(cross_layers=3), LAYOUT)
    maps = tensor_maps(HeadShape.of(config_of(cross_layers=2), LAYOUT), deeper, {n: n for n, _ in deeper.inputs})
    assert set(deeper.shapes) - set(maps) == {"cross.2.weight", "cross.2.bias"}


def test_its_section_is_among_its_own_settings_only_and_checked() -> None:
    assert config_of(rank=8).settings["dcnv2"] == {"cross_layers": 3, "rank": 8}
    assert TrainingConfig(model="dcnv2").settings["dcnv2"] == {"cross_layers": 3, "rank": None}
    other = config_of(rank=8).model_copy(update={"model": "deep"})
    assert other.settings == TrainingConfig(model="deep", deep=DEEP).settings
    with pytest.raises(ValidationError, match=r"dcnv2\.rank"):
        config_of(rank=0)


def test_its_config_is_read() -> None:
    config = load_yaml(Path(__file__).parents[4] / "conf/frappe/dcnv2.yaml", TrainingConfig, "training")
    assert config.model == MODELS["dcnv2"].name


@RANKS
def test_its_artifact_scores_raw_rows_as_the_trainer_does(tmp_path: Path, rank: int | None) -> None:
    state, rows = make_state(tmp_path / "state"), make_rows(60, 2)
    dataset = make_holdout(tmp_path / "dataset", state, make_rows(200, 1), seed=1)
    holdout = make_holdout(tmp_path / "holdout", state, rows, seed=2)
    settings = {"model": "dcnv2", "batch_size": 32, "lanes": 2, "deep": DEEP, "dcnv2": {"rank": rank}}
    job = TrainingJob.of(TrainingConfig.model_validate(settings), dataset, str(tmp_path / "candidate"), holdout)
    run_job(job)
    pack(job.output, state, holdout, str(tmp_path / "artifact"))
    golden = np.load(tmp_path / "candidate/scoring/golden_scores.npy")
    assert golden.std() > 1e-3
    np.testing.assert_allclose(serving.load(str(tmp_path / "artifact")).score(rows[:16]), golden, rtol=1e-5, atol=1e-6)
