"""The head's part of a warm start: weights of the layers, by what they connect.

An axis of a weight stands for the head's inputs (an embedding's columns, dense columns), for the units of a hidden
layer, or for nothing that can change. Inputs correspond by feature; units by their number, as far as both layers go.
So that a wider head begins as the function that the parent was, a unit that is carried over gives a new input or a
new unit below it the weight 0 (it learns from its gradient, which is not 0); a new unit begins as in a fresh head. It
is the identity initialisation of Chen et al. 2016 (Net2Net) with zeros in place of duplicates. A layer whose
neighbours changed their order, or another activation, or batch norm where there was none, starts afresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nightjar.features.contract.layout import ColumnSpec, Slot, TableLayout
from nightjar.training.config import TrainingConfig
from nightjar.training.models import build_head, find_model
from nightjar.training.warm_start.tables import SUMS_OF_SQUARES, VALUES, decayed

INPUTS = "inputs"


@dataclass(frozen=True)
class HeadShape:
    """Of a head: every tensor's shape, what each axis stands for (None: nothing that can change), its inputs."""

    shapes: Mapping[str, tuple[int, ...]]
    axes: Mapping[str, tuple[str | None, ...]]
    inputs: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, config: TrainingConfig, layout: TableLayout) -> HeadShape:
        """Found by making the inputs, and then all else that the model says axes stand for, larger by one, and looking
        which axes of which tensors grow.
        """

        def shapes(config: TrainingConfig, layout: TableLayout) -> dict[str, tuple[int, ...]]:
            state = build_head(config, layout).state_dict()
            return {name: tuple(tensor.shape) for name, tensor in state.items()}

        plain = shapes(config, layout)
        larger = {INPUTS: shapes(config, _with_one_more_input(layout))}
        for label, of_label in find_model(config.model).axes(config).items():
            larger[label] = shapes(of_label, layout)
        axes = {
            name: tuple(
                next((label for label, found in larger.items() if found[name][axis] != size), None)
                for axis, size in enumerate(shape)
            )
            for name, shape in plain.items()
        }
        return cls(plain, axes, _inputs(layout))


@dataclass(frozen=True)
class TensorMap:
    """Which entries of a tensor come from the parent's: by axis, the places here and there, of equal length."""

    shape: tuple[int, ...]
    here: tuple[np.ndarray, ...]
    there: tuple[np.ndarray, ...]

    @property
    def carried(self) -> int:
        """How many entries come from the parent."""
        return int(np.prod([len(places) for places in self.here], dtype=np.int64))

    def fill(self, name: str, target: np.ndarray, source: np.ndarray, decay: float) -> None:
        """Carry one array over; name: VALUES, or the state of the optimizer that it is."""
        if name == VALUES and target.ndim > 1:
            target[self.here[0]] = 0.0
        here, rows = np.ix_(*self.here), source[np.ix_(*self.there)]
        target[here] = decayed(rows, decay, target[here]) if name in SUMS_OF_SQUARES else rows


def tensor_maps(parent: HeadShape, child: HeadShape, columns: Mapping[str, str]) -> dict[str, TensorMap]:
    """By name, the child's tensors that take over something.

    Args:
        parent: the head that was.
        child: the head that is to be.
        columns: the parent's column of each of the child's.
    """
    place = {entry: n for n, entry in enumerate(parent.inputs)}
    wanted = [(columns.get(column), n) for column, n in child.inputs]
    [kept] = np.nonzero([entry in place for entry in wanted])
    inputs = kept, np.array([place[wanted[n]] for n in kept], dtype=np.int64)
    unmoved = np.array_equal(np.arange(len(child.inputs)), inputs[1]) and len(child.inputs) == len(parent.inputs)
    maps = {}
    for name, axes in child.axes.items():
        if parent.axes.get(name) != axes or not _fixed_axes_agree(parent, child, name, unmoved):
            continue
        pairs = []
        for axis, label in enumerate(axes):
            units = np.arange(min(child.shapes[name][axis], parent.shapes[name][axis]))
            pairs.append(inputs if label == INPUTS else (units, units))
        maps[name] = TensorMap(child.shapes[name], tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
    return maps


def fill_head(
    tensors: Mapping[str, Tensor],
    source: Mapping[str, np.ndarray],
    maps: Mapping[str, TensorMap],
    decay: float,
    *,
    same_rule: bool,
) -> None:
    """Carry weights over, and what their rule remembers if it is the same.

    Args:
        tensors: live, by `<state>/<name>`.
        source: the parent's, likewise.
        maps: where entries go, by name.
        decay: of sums of squares.
        same_rule: whether the parent's rule is the child's.
    """
    for key, tensor in tensors.items():
        state, _, name = key.partition("/")
        if name in maps and key in source and (same_rule or state == VALUES):
            if source[key].ndim:
                filled = tensor.detach().cpu().numpy()
                maps[name].fill(state, filled, source[key], decay)
                tensor.detach().copy_(torch.from_numpy(filled))
            else:
                tensor.detach().fill_(source[key].item())


def _fixed_axes_agree(parent: HeadShape, child: HeadShape, name: str, unmoved: bool) -> bool:
    """An axis without a label may follow the fields in a way not seen here: then only the same inputs will do."""
    fixed = [n for n, label in enumerate(child.axes[name]) if label is None]
    if any(child.shapes[name][n] != parent.shapes[name][n] for n in fixed):
        return False
    return unmoved or all(child.shapes[name][n] == 1 for n in fixed)


def _inputs(layout: TableLayout) -> tuple[tuple[str, int], ...]:
    """(column, place in its embedding) of every input, in the order of the heads' inputs."""
    embeddings = [
        (slot.column.name, n) for width, slots in layout.embeddings.items() for slot in slots for n in range(width)
    ]
    return (*embeddings, *((slot.column.name, 0) for slot in layout.wide if slot.column.role == "dense"))


def _with_one_more_input(layout: TableLayout) -> TableLayout:
    column = ColumnSpec(name="d_one_more", feature="one_more", role="dense", wide=True)
    return TableLayout((*layout.wide, Slot(column, layout.wide_rows)), layout.embeddings)
