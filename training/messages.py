"""Rows of several tensors as the bytes of one message: an operation costs a round of coordination, whatever it carries.

A message holds how many rows of each tensor it has, and then the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def pack(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The message, uint8, in pieces that are to be joined."""
    counts = torch.tensor([len(tensor) for tensor in tensors], device=tensors[0].device)
    return [_bytes(counts), *map(_bytes, tensors)]


def unpack(message: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The rows of each tensor, as bytes. like: tensors of the same types and shapes, but for the number of rows."""
    head = 8 * len(like)
    counts = message[:head].clone().view(torch.int64).tolist()
    sizes = [count * _row_bytes(tensor) for count, tensor in zip(counts, like, strict=True)]
    return list(message[head:].split(sizes))


def join(parts: Sequence[Tensor], like: Tensor) -> tuple[Tensor, list[int]]:
    """Rows from their bytes, one part below the other, and how many each part has. like: see unpack."""
    rows = torch.cat(list(map(_bytes, parts))).view(like.dtype).reshape(-1, *like.shape[1:])
    return rows, [part.nbytes // _row_bytes(like) for part in parts]


def _row_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape[1:]) * tensor.itemsize


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.contiguous().view(-1)
    # Of one row or none any stride is contiguous, but only that of 1 can be read as bytes.
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)
