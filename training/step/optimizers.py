"""The rules of the head's weights, which every worker holds whole: torch's own, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nightjar.training.config import DeepConfig

# Torch's names of what an optimizer remembers of a parameter, and the tables' names of the same.
_SLOTS = {"sum": "accumulators", "exp_avg": "means", "exp_avg_sq": "squares"}


def head_optimizer(head: nn.Module, config: DeepConfig) -> torch.optim.Optimizer | None:
    """The optimizer of a resolved config over the head's parameters; None for a head without any.

    L2 shrinks matrices only: biases, and the two vectors of batch norm, keep the scale of what they shift.
    """
    parameters = list(head.parameters())
    if not parameters:
        return None
    assert config.learning_rate is not None
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, fused=True)
    if config.optimizer == "adam":
        adam = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
        for p in parameters:  # at once, as AdaGrad's: what continues from another model fills it in
            zeros = {name: torch.zeros_like(p, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            adam.state[p] = {"step": torch.zeros((), device=p.device), **zeros}
        return adam
    return torch.optim.Adagrad(
        groups,
        lr=config.learning_rate,
        initial_accumulator_value=config.initial_accumulator,
        fused=parameters[0].is_cpu,
    )


def head_tensors(head: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """All that a head and its optimizer remember, live: `values/<name>`, the parameters and the averages of batch
    norm, and `<slot>/<name>`, what the optimizer keeps of a parameter (AdaGrad: step, accumulators; Adam: step,
    means, squares; SGD: nothing).
    """
    tensors = {f"values/{name}": tensor for name, tensor in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        for slot, tensor in (optimizer.state.get(parameter, {}) if optimizer else {}).items():
            tensors[f"{_SLOTS.get(slot, slot)}/{name}"] = tensor
    return tensors
