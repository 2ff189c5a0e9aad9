"""The rules of the head's weights, which every worker holds whole: torch's own, by name. Read with the config, this
file loads torch only when an optimizer is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nightjar.training.tables.adagrad import ADAGRAD
from nightjar.training.tables.adam import ADAM

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nightjar.training.config import DeepConfig

Groups = list[dict[str, Any]]


def _adagrad(groups: Groups, config: DeepConfig) -> torch.optim.Optimizer:
    import torch

    fused = all(p.is_cpu for group in groups for p in group["params"])
    return torch.optim.Adagrad(
        groups, lr=_rate(config), initial_accumulator_value=config.initial_accumulator, fused=fused
    )


def _adam(groups: Groups, config: DeepConfig) -> torch.optim.Optimizer:
    import torch

    adam = torch.optim.Adam(groups, lr=_rate(config), fused=True)
    for p in (p for group in groups for p in group["params"]):
        # At once, as AdaGrad's: what continues from another model fills it in.
        zeros = {name: torch.zeros_like(p, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
        adam.state[p] = {"step": torch.zeros((), device=p.device), **zeros}
    return adam


def _sgd(groups: Groups, config: DeepConfig) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(groups, lr=_rate(config), fused=True)


def _rate(config: DeepConfig) -> float:
    assert config.learning_rate is not None
    return config.learning_rate


@dataclass(frozen=True)
class HeadRule:
    """learning_rate: where the config leaves it open; make: of the parameters' groups; state: the tables' names of what
    torch's optimizer remembers of a parameter, by torch's.
    """

    learning_rate: float | None
    make: Callable[[Groups, DeepConfig], torch.optim.Optimizer]
    state: Mapping[str, str] = field(default_factory=dict)


HEAD_RULES = {
    ADAGRAD.name: HeadRule(ADAGRAD.learning_rate, _adagrad, {"sum": "accumulators"}),
    ADAM.name: HeadRule(ADAM.learning_rate, _adam, {"exp_avg": "means", "exp_avg_sq": "squares"}),
    "sgd": HeadRule(0.1, _sgd),
}


def head_optimizer(head: nn.Module, config: DeepConfig) -> torch.optim.Optimizer | None:
    """The optimizer of a resolved config over the head's parameters; None for a head without any.

    L2 shrinks matrices only: biases, and the two vectors of batch norm, keep the scale of what they shift.
    """
    parameters = list(head.parameters())
    if not parameters:
        return None
    assert config.optimizer is not None
    groups: Groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return HEAD_RULES[config.optimizer].make(groups, config)


def head_tensors(head: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """All that a head and its optimizer remember, live: `values/<name>`, the parameters and the averages of batch
    norm, and `<slot>/<name>`, what the optimizer keeps of a parameter (AdaGrad: step, accumulators; Adam: step,
    means, squares; SGD: nothing).
    """
    names = {theirs: ours for rule in HEAD_RULES.values() for theirs, ours in rule.state.items()}
    tensors = {f"values/{name}": tensor for name, tensor in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        for slot, tensor in (optimizer.state.get(parameter, {}) if optimizer else {}).items():
            tensors[f"{names.get(slot, slot)}/{name}"] = tensor
    return tensors
