"""Many tensors in one message, and gradients in buckets, arrive as they were sent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nightjar.training.run.rounds import begin_swap
from nightjar.training.step import gradients
from nightjar.training.step.gradients import HeadGradients
from nightjar.training.step.messages import join, pack, size, unpack
from tests.kits.training.cluster import ThreadCollective, run_cluster

LIKE = [
    torch.empty(0, dtype=torch.int64),
    torch.empty(0, 3),
    torch.empty(0, 2, dtype=torch.uint8),
    torch.empty(0, 1, 2),
]


def tensors(rows: tuple[int, ...], seed: int) -> list[Tensor]:
    """Random bits of LIKE's types, NaNs among them."""
    rng = np.random.default_rng(seed)
    made = []
    for count, like in zip(rows, LIKE, strict=True):
        values = torch.empty((count, *like.shape[1:]), dtype=like.dtype)
        values.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(rng.bytes(values.nbytes), dtype=np.uint8)
        made.append(values)
    return made


def test_rows_of_several_tensors_come_out_of_messages_bit_for_bit() -> None:
    """Odd numbers of bytes in front of int64s, tensors without rows, and a message without any."""
    senders = [tensors(rows, seed) for seed, rows in enumerate([(2, 1, 3, 0), (0, 0, 0, 0), (1, 4, 1, 2)])]
    messages = [torch.cat(pack(sent)) for sent in senders]
    came = torch.cat(messages)
    arrived = [unpack(message, LIKE) for message in came.split([len(message) for message in messages])]
    for t in range(len(LIKE)):
        rows, counts = join([parts[t] for parts in arrived])
        expected = torch.cat([sent[t] for sent in senders])
        assert counts == [len(sent[t]) for sent in senders]
        assert (rows.dtype, rows.shape) == (expected.dtype, expected.shape)
        assert rows.numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("round_bytes", [8, 12, 40, 1000])
def test_messages_of_any_size_arrive_in_rounds_that_are_bounded_and_that_all_take_part_in(round_bytes: int) -> None:
    """Worker 1 has much for one peer and nothing for the other; the others learn of it."""
    rows = [[(1, 0, 2, 3), (0, 0, 0, 0), (2, 1, 0, 0)], [(0, 0, 0, 0), (), (40, 9, 1, 3)], [(5, 1, 1, 1)] * 3]
    sent = [[tensors(of_peer or (0,) * 4, 10 * s + t) for t, of_peer in enumerate(to)] for s, to in enumerate(rows)]

    def swap(collective: ThreadCollective) -> tuple[int, list[list[Tensor] | None]]:
        operations = []

        def begin(message: Tensor, lengths: list[int]) -> Callable[[], list[Tensor]]:
            assert max(lengths) <= round_bytes
            assert sum(lengths) == len(message)
            assert lengths[collective.rank] == 0, "what a worker has for itself stays there"
            operations.append(lengths)
            pending = collective.begin_all_to_all([message], [lengths])
            return lambda: pending.wait()[0]

        me = collective.rank
        wait = begin_swap([None if t == me else sent[me][t] for t in range(3)], LIKE, begin, round_bytes)
        came = wait()
        return len(operations), came

    workers = run_cluster(3, swap)
    largest = max(size(sent[s][t]) for s in range(3) for t in range(3) if s != t)
    assert [rounds for rounds, _ in workers] == [-(-largest // round_bytes)] * 3
    for rank, (_, came) in enumerate(workers):
        assert came[rank] is None
        for source in {0, 1, 2} - {rank}:
            found = came[source]
            assert found
            for tensor, expected in zip(found, sent[source][rank], strict=True):
                assert (tensor.dtype, tensor.shape) == (expected.dtype, expected.shape)
                assert tensor.numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("rows", [0, 1])
def test_rows_without_a_stride_travel_too(rows: int) -> None:
    """As PyTorch takes them from a NumPy array of one row or none."""
    sent = torch.full((1,), 7)[:rows].as_strided((rows,), (0,))
    assert unpack(torch.cat(pack([sent])), [sent])[0].tolist() == [7] * rows


def test_rows_that_did_not_travel_join_those_that_did() -> None:
    mine, theirs = torch.arange(3.0)[:, None], torch.tensor([[7.0]])
    [came] = unpack(torch.cat(pack([theirs])), [mine])
    rows, counts = join([mine, came])
    assert (rows.tolist(), counts) == ([[0.0], [1.0], [2.0], [7.0]], [3, 1])


@pytest.mark.parametrize("bucket_bytes", [1, 100, 1 << 20])
def test_gradients_of_any_bucket_size_are_the_sums_over_the_workers(
    monkeypatch: pytest.MonkeyPatch, bucket_bytes: int
) -> None:
    """A bucket for each parameter, for some, and for all. The second worker has no rows in the second step."""
    monkeypatch.setattr(gradients, "_BUCKET_BYTES", bucket_bytes)

    def inputs(rank: int, step: int) -> Tensor:
        rows = 0 if (rank, step) == (1, 1) else 5
        return torch.randn(rows, 4, generator=torch.Generator().manual_seed(10 * step + rank))

    def steps(collective: ThreadCollective) -> list[list[Tensor]]:
        head = network()
        sums, found = HeadGradients(list(head.parameters()), collective), []
        for step in range(2):
            sums.clear()
            head(inputs(collective.rank, step)).square().sum().backward()
            sums.flush()
            sums.finish()
            found.append([p.grad.clone() for p in head.parameters() if p.grad is not None])
        return found

    workers = run_cluster(2, steps)
    for step in range(2):
        alone = network()
        alone(torch.cat([inputs(0, step), inputs(1, step)])).square().sum().backward()
        for worker in workers:
            for gradient, parameter in zip(worker[step], alone.parameters(), strict=True):
                torch.testing.assert_close(gradient, parameter.grad)


def network() -> nn.Module:
    """The same on every worker."""
    layers, generator = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.normal_(generator=generator)
    return layers
