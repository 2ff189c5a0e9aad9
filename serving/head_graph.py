"""What a head may be, looked at before ONNX Runtime sees it: operations that training's export writes, weights that are
in the file, and results that all together are bounded by what the file holds.

A hundred bytes of a graph can ask for a constant of petabytes, or multiply rows to tables. ONNX's own library is no
part of a serving install, so that the few fields are read here, as Protocol Buffers encode them
(https://protobuf.dev/programming-guides/encoding/); their numbers are those of onnx.proto.

Shapes: those of ONNX, for a batch of BATCH_ROWS rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BATCH_ROWS = 8192
# All results of a head of ours are less than twice what it reads and holds.
_MOST_RESULTS = 16
_TYPES: Mapping[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Node:
    """An operation. constants: of those inputs that are in the file, by their place."""

    kind: str
    shapes: Sequence[Shape]
    constants: Mapping[int, np.ndarray]
    settings: Mapping[str, int]
    outputs: int

    def numbers(self, place: int) -> list[int]:
        """An input that says what to do, such as axes."""
        if place not in self.constants:
            raise ValueError(f"{self.kind} does not say which axes or sizes it has")
        return [int(number) for number in self.constants[place].reshape(-1)]


def check_head(content: bytes) -> None:
    """Raise a ValueError that says why, unless this is a head that scores with bounded memory."""
    try:
        _check(memoryview(content))
    except (IndexError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"an operation of its lacks what it needs: {error!r}") from error


def _check(model: memoryview) -> None:
    if any(_all(model, number) for number in (20, 25)) or _all(model, 7, 15):
        raise ValueError("it has functions, training steps or sparse weights")
    constants = dict(map(_constant, _all(model, 7, 5)))
    shapes = {name: array.shape for name, array in constants.items()}
    read = 0
    for value in _all(model, 7, 11):
        _, *sides = _all(value, 2, 1, 2, 1)
        shape = (BATCH_ROWS, *(_integers(_all(side, 1))[-1] for side in sides))
        if min(shape) < 0:
            raise ValueError(f"it asks for an input of shape {shape}")
        shapes[_text(_all(value, 1))] = shape
        read += math.prod(shape)
    most = _MOST_RESULTS * (read + BATCH_ROWS * (1 + sum(array.size for array in constants.values())))
    made = 0
    for node in _all(model, 7, 1):
        names, outputs = ([_text([name]) for name in _all(node, number)] for number in (1, 2))
        kind = _text(_all(node, 4))
        if kind not in OPERATIONS or _text(_all(node, 7)):
            raise ValueError(f"it has the operation {kind[:40]!r}, which no head of this version has")
        unknown = [name for name in names if name not in shapes]
        if unknown or not names or all(name in constants for name in names):
            raise ValueError(f"{kind} reads {names[:4]}, which depend on nothing that is known")
        of_inputs = {place: constants[name] for place, name in enumerate(names) if name in constants}
        found = _Node(kind, [shapes[name] for name in names], of_inputs, _settings(node), len(outputs))
        results = OPERATIONS[kind](found)
        if len(results) != len(outputs) or set(outputs) & shapes.keys():
            raise ValueError(f"{kind} gives {outputs[:4]}")
        shapes |= dict(zip(outputs, results, strict=True))
        made += sum(map(math.prod, results))
        if made > most:
            raise ValueError(f"its results would hold more than {most} numbers a batch, out of {len(model)} bytes")


def _as_it_is(node: _Node) -> list[Shape]:
    return [node.shapes[0]]


def _broadcast(node: _Node) -> list[Shape]:
    return [np.broadcast_shapes(*node.shapes)]


def _product(node: _Node) -> list[Shape]:
    left, right = node.shapes
    turned = [shape[::-1] if node.settings.get(key) else shape for shape, key in ((left, "transA"), (right, "transB"))]
    left, right = turned
    if left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ValueError(f"it multiplies {left} by {right}")
    if len(right) == 1:
        return [left[:-1]]
    return [(*np.broadcast_shapes(left[:-2], right[:-2]), *left[-2:-1], right[-1])]


def _linear(node: _Node) -> list[Shape]:
    [product] = _product(_Node(node.kind, node.shapes[:2], {}, node.settings, 1))
    return [np.broadcast_shapes(product, *node.shapes[2:])]


def _concatenated(node: _Node) -> list[Shape]:
    axis = node.settings["axis"] % len(node.shapes[0])
    whole = list(node.shapes[0])
    if any(s[:axis] != node.shapes[0][:axis] or s[axis + 1 :] != node.shapes[0][axis + 1 :] for s in node.shapes):
        raise ValueError(f"it joins {list(node.shapes)[:4]}")
    whole[axis] = sum(shape[axis] for shape in node.shapes)
    return [tuple(whole)]


def _split(node: _Node) -> list[Shape]:
    shape, axis = node.shapes[0], node.settings.get("axis", 0) % len(node.shapes[0])
    part = -(-shape[axis] // node.outputs)
    sizes = [min(part, shape[axis] - n * part) for n in range(node.outputs)]
    if len(node.shapes) > 1:
        sizes = node.numbers(1)
    if sum(sizes) != shape[axis] or min(sizes) < 0:
        raise ValueError(f"it splits {shape} into {sizes[:8]}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _reduced(node: _Node) -> list[Shape]:
    shape, axes = node.shapes[0], {axis % len(node.shapes[0]) for axis in node.numbers(1)}
    kept = [1 if axis in axes else side for axis, side in enumerate(shape)]
    return [tuple(s for axis, s in enumerate(kept) if axis not in axes or node.settings.get("keepdims", 1))]


def _squeezed(node: _Node) -> list[Shape]:
    shape, axes = node.shapes[0], {axis % len(node.shapes[0]) for axis in node.numbers(1)}
    return [tuple(side for axis, side in enumerate(shape) if axis not in axes)]


def _unsqueezed(node: _Node) -> list[Shape]:
    shape = list(node.shapes[0])
    axes = node.numbers(1)
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return [tuple(shape)]


def _reshaped(node: _Node) -> list[Shape]:
    values, wanted = math.prod(node.shapes[0]), node.numbers(1)
    if not node.settings.get("allowzero"):
        wanted = [node.shapes[0][axis] if side == 0 else side for axis, side in enumerate(wanted)]
    known = math.prod(side for side in wanted if side != -1)
    shape = tuple(values // max(known, 1) if side == -1 else side for side in wanted)
    if math.prod(shape) != values:
        raise ValueError(f"it makes {wanted[:8]} of {node.shapes[0]}")
    return [shape]


OPERATIONS: Mapping[str, Callable[[_Node], list[Shape]]] = {
    **dict.fromkeys(("Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Erf", "Gelu", "Softplus", "Sqrt"), _as_it_is),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), _broadcast),
    "BatchNormalization": _as_it_is,
    "Concat": _concatenated,
    "Gemm": _linear,
    "MatMul": _product,
    "ReduceSum": _reduced,
    "Reshape": _reshaped,
    "Split": _split,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
}
"""What each operation makes of the shapes of its inputs."""


def _constant(tensor: memoryview) -> tuple[str, np.ndarray]:
    """Name and values of a weight, which all lie in the file."""
    name, shape = _text(_all(tensor, 8)), tuple(_integers(_all(tensor, 1)))
    dtype = _TYPES.get((_integers(_all(tensor, 2)) or [0])[-1])
    raw = _all(tensor, 9)[-1:]
    if dtype is None or not raw or any(_all(tensor, n) for n in (4, 5, 6, 7, 10, 11, 13, 14)):
        raise ValueError(f"its weight {name[:40]!r} is not in the file as float32 or int64")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw[0]):
        raise ValueError(f"its weight {name[:40]!r} has the shape {shape[:8]} and {len(raw[0])} bytes")
    return name, np.frombuffer(raw[0], dtype).reshape(shape)


def _settings(node: memoryview) -> dict[str, int]:
    """Those attributes that are integers. Raises a ValueError for one that holds tensors or graphs."""
    attributes = _all(node, 5)
    if any(_all(attribute, n) for attribute in attributes for n in (5, 6, 10, 11, 22, 23)):
        raise ValueError("an operation of its has tensors or graphs of its own")
    return {_text(_all(a, 1)): _integers(_all(a, 3))[-1] for a in attributes if _all(a, 3)}


def _all(message: memoryview, *path: int) -> list[Any]:
    """Every value of the field that these numbers lead to, through as many messages as there are."""
    found = [message]
    for number in path:
        found = [value for inner in found for field, value in _fields(inner) if field == number]
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a message: an integer, or the bytes of all else."""
    if not isinstance(message, memoryview):
        raise ValueError("a number stands where a message should")
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it is no ONNX file: a field is of the kind {kind}")
        if size > len(message) - place:
            raise ValueError("it ends within a field")
        yield tag >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of 64 bits at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            value &= 2**64 - 1
            return value - 2**64 if value >= 2**63 else value, place
    raise ValueError("it ends within a number")


def _integers(values: Sequence[Any]) -> list[int]:
    """A repeated integer, each in a field of its own or many in one."""
    found: list[int] = []
    for value in values:
        place = 0
        if isinstance(value, int):
            found.append(value)
            continue
        while place < len(value):
            number, place = _varint(value, place)
            found.append(number)
    return found


def _text(values: Sequence[Any]) -> str:
    """The last value of a field that may be there once; empty if it is not."""
    return bytes(values[-1]).decode("utf-8", "replace") if values else ""
