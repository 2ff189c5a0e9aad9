"""Batch norm and dropout: against torch's own in one process, and the same however a batch is shared out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nightjar.training.config import DeepConfig
from nightjar.training.data.columns import row_keys
from nightjar.training.kernels.kernels import splitmix64
from nightjar.training.layers.batch_norm import BatchNorm
from nightjar.training.layers.dense import ACTIVATIONS, Mlp
from nightjar.training.layers.dropout import Dropout, _mix, keep_mask
from nightjar.training.layers.global_batch import GlobalBatch
from nightjar.training.run.collective import Solo
from nightjar.training.step.optimizers import head_optimizer, head_tensors
from tests.kits.training.cluster import ThreadCollective, run_cluster

ROWS, UNITS = 17, 5


def alone(rows: int = ROWS, step: int = 3) -> GlobalBatch:
    return GlobalBatch(Solo(), step, torch.from_numpy(row_keys(2, rows)))


def normal(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(norm: torch.nn.Module) -> torch.nn.Module:
    """With a weight and a bias that are not where they start."""
    for n, parameter in enumerate(norm.parameters()):
        torch.nn.init.normal_(parameter, generator=generator(n))
    return norm


def test_batch_norm_is_torchs_in_one_process() -> None:
    ours, theirs = filled(BatchNorm(UNITS).double()), filled(torch.nn.BatchNorm1d(UNITS).double())
    for seed in range(3):
        x = 3.0 * normal(ROWS, UNITS, seed=seed) + 50.0
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, expected = ours(one, alone()), theirs(other)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
        y.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)
    for parameter, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad, rtol=1e-9, atol=1e-9)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-12)
    x = normal(ROWS, UNITS, seed=9)
    torch.testing.assert_close(ours(x, None), theirs.eval()(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_batch_norm_over_workers_is_batch_norm_over_all_their_rows(world: int) -> None:
    """The last worker has no rows; the mean is far from 0, where sums of squares would lose their digits."""
    x, slope = normal(ROWS, UNITS).float() + 100.0, normal(ROWS, UNITS, seed=8).float()

    def work(collective: ThreadCollective | Solo) -> tuple[Tensor, list[Tensor]]:
        rank, workers = collective.rank, max(collective.size - 1, 1)
        part = slice(rank, None, workers) if rank < workers else slice(0, 0)
        norm = filled(BatchNorm(UNITS))
        mine = x[part].clone().requires_grad_()
        y = norm(mine, GlobalBatch(collective, 0, torch.arange(ROWS)[part]))
        (y * slope[part]).sum().backward()
        sums = [collective.all_reduce_sum_(parameter.grad.clone()) for parameter in norm.parameters()]
        result = torch.empty(ROWS, 2 * UNITS)
        result[part] = torch.cat([y.detach(), mine.grad], dim=1)
        return result, [norm.running_mean, norm.running_var, *sums]

    expected, expected_state = work(Solo())
    workers = run_cluster(world, work)
    for rank, (result, state) in enumerate(workers[:-1]):
        part = slice(rank, None, world - 1)
        torch.testing.assert_close(result[part], expected[part], rtol=1e-4, atol=1e-4)
        for tensor, reference in zip(state, expected_state, strict=True):
            torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-4)
    for tensor, reference in zip(workers[-1][1], expected_state, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-4)


def test_a_unit_is_dropped_at_the_rate_and_the_others_make_up_for_it() -> None:
    layer = Dropout(0.3, generator())
    y = layer(torch.ones(400, 500), alone(400))
    dropped = (y == 0.0).double()
    deviation = (0.3 * 0.7 / y.numel()) ** 0.5
    assert dropped.mean().item() == pytest.approx(0.3, abs=5 * deviation)
    assert dropped.mean(dim=0).std().item() == pytest.approx((0.3 * 0.7 / 400) ** 0.5, rel=0.2)
    assert dropped.mean(dim=1).std().item() == pytest.approx((0.3 * 0.7 / 500) ** 0.5, rel=0.2)
    assert y.unique().tolist() == pytest.approx([0.0, 1.0 / 0.7])


def test_masks_differ_between_layers_and_steps_and_rows_and_files() -> None:
    keys, other_file = torch.from_numpy(row_keys(2, 8)), torch.from_numpy(row_keys(3, 8))
    masks = [keep_mask(1, 1, keys, 64, 0.5), keep_mask(2, 1, keys, 64, 0.5), keep_mask(1, 2, keys, 64, 0.5)]
    masks.append(keep_mask(1, 1, other_file, 64, 0.5))
    rows = torch.cat(masks)
    agreements = torch.tensor([(a == b).double().mean() for n, a in enumerate(rows) for b in rows[:n]])
    assert agreements.max() < 0.9
    assert agreements.mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_rows_mask_does_not_depend_on_the_rows_beside_it() -> None:
    keys = torch.from_numpy(row_keys(2, ROWS))
    whole = keep_mask(5, 9, keys, UNITS, 0.4)
    order = torch.randperm(ROWS, generator=generator())
    assert torch.equal(keep_mask(5, 9, keys[order][:6], UNITS, 0.4), whole[order][:6])


def test_two_kernels_give_one_mask() -> None:
    """PyTorch's, which runs on every device, and Numba's: bit for bit."""
    values = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 1000)
    expected = np.array([splitmix64(np.uint64(value & (2**64 - 1))) for value in values.tolist()], dtype=np.uint64)
    assert np.array_equal(_mix(torch.from_numpy(values)).numpy().view(np.uint64), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_gives_the_same_mask() -> None:
    keys = torch.from_numpy(row_keys(7, 300))
    assert torch.equal(
        keep_mask(2**61 + 5, 12345, keys.cuda(), 77, 0.37).cpu(), keep_mask(2**61 + 5, 12345, keys, 77, 0.37)
    )


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("batch_norm", "dropout"), [(True, 0.0), (False, 0.4), (True, (0.2, 0.5))])
def test_gradients_agree_with_finite_differences(activation: str, batch_norm: bool, dropout: object) -> None:
    config = DeepConfig(layers=(4, 3), activation=activation, batch_norm=batch_norm, dropout=dropout)
    layers = Mlp(UNITS, config, generator(), bias=True).double()
    for layer in layers.hidden:
        if layer.linear.bias is not None:  # away from 0, where a row whose inputs are all dropped meets ReLU's kink
            torch.nn.init.constant_(layer.linear.bias, 0.1)
    x = normal(6, UNITS).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layers(x, alone(6)), (x, *layers.parameters()))


def test_an_evaluation_neither_drops_nor_looks_at_the_batch() -> None:
    config = DeepConfig(layers=(8, 8), batch_norm=True, dropout=0.5)
    layers = Mlp(UNITS, config, generator(), bias=True)
    x = normal(ROWS, UNITS).float()
    layers(x, alone())
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    together, apart = layers(x, None), torch.cat([layers(x[:5], None), layers(x[5:], None)])
    torch.testing.assert_close(together, apart)
    assert all(torch.equal(before[name], tensor) for name, tensor in layers.state_dict().items())
    assert not torch.allclose(layers(x, alone()), together)


@pytest.mark.parametrize("optimizer", ["adagrad", "adam", "sgd"])
def test_optimizers_step_as_their_papers_say(optimizer: str) -> None:
    """Two steps by hand, in NumPy: L2 in the gradient of matrices only."""
    layer = torch.nn.Linear(3, 2).double()
    config = DeepConfig(optimizer=optimizer, learning_rate=0.1, initial_accumulator=0.2, weight_decay=0.3)
    rule = head_optimizer(layer, config)
    assert rule is not None
    expected = [p.detach().numpy().copy() for p in layer.parameters()]
    first, second = ([np.full_like(p, v) for p in expected] for v in (0.0, 0.2 if optimizer == "adagrad" else 0.0))
    for t in (1, 2):
        for n, parameter in enumerate(layer.parameters()):
            gradient = normal(*parameter.shape, seed=10 * t + n)
            parameter.grad = gradient.clone()
            g = gradient.numpy() + (0.3 * expected[n] if expected[n].ndim > 1 else 0.0)
            if optimizer == "sgd":
                expected[n] -= 0.1 * g
            elif optimizer == "adagrad":
                second[n] += g**2
                expected[n] -= 0.1 * g / (np.sqrt(second[n]) + 1e-10)
            else:
                first[n], second[n] = 0.9 * first[n] + 0.1 * g, 0.999 * second[n] + 0.001 * g**2
                corrected = first[n] / (1 - 0.9**t), second[n] / (1 - 0.999**t)
                expected[n] -= 0.1 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        rule.step()
    for parameter, reference in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [("adagrad", {"step", "accumulators"}), ("adam", {"step", "means", "squares"}), ("sgd", set())],
)
def test_what_an_optimizer_remembers_is_there_from_the_start_and_live(optimizer: str, slots: set[str]) -> None:
    layers = Mlp(UNITS, DeepConfig(layers=(4,), batch_norm=True), generator(), bias=True)
    rule = head_optimizer(layers, DeepConfig(optimizer=optimizer, learning_rate=0.1))
    assert rule is not None
    tensors = head_tensors(layers, rule)
    assert {name.partition("/")[0] for name in tensors} == slots | {"values"}
    assert {"values/hidden.0.norm.running_mean", "values/hidden.0.norm.running_var"} <= set(tensors)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    layers(normal(ROWS, UNITS).float(), alone()).square().sum().backward()
    rule.step()
    moved = {name for name, tensor in head_tensors(layers, rule).items() if not torch.equal(tensor, before[name])}
    assert {f"{slot}/output.weight" for slot in slots | {"values"}} <= moved
    assert all(
        tensors[name] is tensor or torch.equal(tensors[name], tensor)
        for name, tensor in head_tensors(layers, rule).items()
    )
