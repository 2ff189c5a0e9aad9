"""Nothing of a step comes to the host unasked: run on a device whose tensors have no values, where every other way to
read one, and every mixture of devices, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nightjar.features.contract.layout import table_layout
from nightjar.training.config import TrainingConfig
from nightjar.training.data.batch import make_batch
from nightjar.training.models import MODELS, model_columns
from nightjar.training.run.collective import Solo
from nightjar.training.step import step
from nightjar.training.step.step import Learner
from nightjar.training.tables.device_table import DeviceTable
from tests.kits.training.model_kit import FIELDS, MF, REGULARISED, WIDTH, batches, columns_of

NOWHERE = torch.device("meta")
ROWS = 10


class Copies(TorchFunctionMode):
    """Lets `Tensor.cpu` through, with ones for what there is not, and writes down of which shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.cpu and args[0].is_meta:
            self.shapes.append(tuple(args[0].shape))
            return torch.ones(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head's device; autocast does not know it, and is not what is looked at."""
    monkeypatch.setattr(step, "device_of_worker", lambda choice, rank: NOWHERE)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)


@pytest.mark.parametrize("rules", [("ftrl", "adagrad"), ("adagrad", "row_adagrad")], ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
def test_two_sums_of_a_step_come_to_the_host_and_nothing_else(model: str, rules: tuple[str, str]) -> None:
    config = TrainingConfig.model_validate(
        {"model": model, "mf": MF, "deep": REGULARISED, "tables_on": "device"}
        | {"wide": {"rule": rules[0]}, "embeddings": {"rule": rules[1]}}
    )
    columns = model_columns(config, columns_of([WIDTH] * FIELDS))
    layout = table_layout(columns)
    learner = Learner(config, layout, Solo())
    assert all(isinstance(table, DeviceTable) for table in learner.tables)
    steps = [make_batch(batch, layout, i) for i, batch in enumerate(batches(columns, 2, ROWS))]
    with Copies() as copies:
        for batch in learner.ahead(steps):
            learner.step(batch)
        assert copies.shapes == [(2,), (3,)] * len(steps)  # loss and weight; the same and the rows, of all workers
        learner.logits(steps[0])
    assert copies.shapes[2 * len(steps) :] == [(ROWS,)]


def test_the_device_of_these_tests_has_nothing_to_read() -> None:
    there = torch.ones(2, device=NOWHERE)
    for read in (Tensor.tolist, Tensor.cpu, lambda t: t.numpy(force=True), lambda t: t[0].item(), lambda t: bool(t[0])):
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            read(there)
    with pytest.raises(RuntimeError, match="device"):
        there + torch.ones(2)
