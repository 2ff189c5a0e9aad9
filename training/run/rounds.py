"""Messages of any size, by an operation that carries 2^31 bytes at the most: they travel in rounds.

All workers must begin the same operations. Nobody knows what others send to others; so every message begins with how
many rounds its sender needs, and who has the first round of all others' messages knows how many there are. What fits
into one round, as a step's messages do, costs no more than the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nightjar.training.step.messages import pack, size, unpack, what_is_said

Begin = Callable[[Tensor, list[int]], Callable[[], Sequence[Tensor]]]
"""Begin to send the next lengths[r] bytes of a uint8 tensor to each worker r; wait for what came from each."""


def begin_swap(
    outgoing: Sequence[Sequence[Tensor] | None], like: Sequence[Tensor], begin: Begin, round_bytes: int
) -> Callable[[], list[list[Tensor] | None]]:
    """Begin to send rows of several tensors to each worker. Every worker calls this, and then what it returns, which
    gives the rows that came from each, None from itself.

    Args:
        outgoing: by rank, rows of each tensor; None for this worker itself.
        like: tensors of the same types and shapes, but for the number of rows.
        begin: the operation.
        round_bytes: what it may carry from one worker to another: 8 or more.
    """
    rounds = max((-(-size(rows) // round_bytes) for rows in outgoing if rows is not None), default=1)
    messages = [pack(rows, rounds) if rows is not None else [] for rows in outgoing]
    nothing = torch.empty(0, dtype=torch.uint8, device=like[0].device)
    whole = torch.cat([nothing, *(piece for pieces in messages for piece in pieces)])
    to_each = whole.split([sum(map(len, pieces)) for pieces in messages])

    def begin_round(number: int) -> Callable[[], Sequence[Tensor]]:
        now = slice(number * round_bytes, (number + 1) * round_bytes)
        parts = [message[now] for message in to_each]
        return begin(torch.cat(parts) if rounds > 1 else whole[: sum(map(len, parts))], list(map(len, parts)))

    first = begin_round(0)

    def wait() -> list[list[Tensor] | None]:
        came = first()
        others = [message for message, rows in zip(came, outgoing, strict=True) if rows is not None]
        if more := range(1, max([rounds, *map(what_is_said, others)])):
            came = [torch.cat(parts) for parts in zip(came, *(begin_round(n)() for n in more), strict=True)]
        return [
            unpack(message, like) if rows is not None else None for message, rows in zip(came, outgoing, strict=True)
        ]

    return wait
