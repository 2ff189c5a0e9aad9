"""Rows of several tensors as the bytes of one message: an operation costs a round of coordination, whatever it carries.

A message holds a number that its sender tells everybody, how many rows of each tensor it has, and then the rows; each
begins at a multiple of 8 bytes, so that they can be used where they arrived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ALIGNMENT = 8


def size(tensors: Sequence[Tensor]) -> int:
    """Bytes of the message."""
    return 8 * (1 + len(tensors)) + sum(tensor.nbytes + -tensor.nbytes % _ALIGNMENT for tensor in tensors)


def pack(tensors: Sequence[Tensor], said: int = 0) -> list[Tensor]:
    """The message, uint8, in pieces that are to be joined. said: the number that goes in front."""
    device = tensors[0].device
    pieces = [_bytes(torch.tensor([said, *map(len, tensors)], device=device))]
    for tensor in tensors:
        rows = _bytes(tensor)
        pieces.append(rows)
        if padding := -len(rows) % _ALIGNMENT:
            pieces.append(rows.new_zeros(padding))
    return pieces


def what_is_said(message: Tensor) -> int:
    """The number in front of a message, of which the first 8 bytes are enough."""
    return int(message[:8].view(torch.int64).item())


def unpack(message: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The rows of each tensor, views of the message, which begins at a multiple of 8 bytes. like: tensors of the same
    types and shapes, but for the number of rows.
    """
    start = 8 * (1 + len(like))
    rows = []
    for count, tensor in zip(message[8:start].view(torch.int64).tolist(), like, strict=True):
        stop = start + count * math.prod(tensor.shape[1:]) * tensor.itemsize
        rows.append(message[start:stop].view(tensor.dtype).view(count, *tensor.shape[1:]))
        start = stop + -stop % _ALIGNMENT
    return rows


def join(parts: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """The rows of all parts, one part below the other, and how many each part has."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts)), list(map(len, parts))


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.contiguous().view(-1)
    # Of one row or none any stride is contiguous, but only that of 1 can be read as bytes.
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)
