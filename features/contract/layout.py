"""The encoded data set's columns, and how their ids are laid out in the trainer's and the artifact's tables.

Wide table: one coordinate for the bias, one for each id of every wide field and cross, one for each dense column.
Embedding tables: one per width, holding the ids of every field of that width. Both are plain concatenations in the
order of the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from nightjar.features.contract.categorical import Pooling
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict

Role = Literal["label", "weight", "group", "truth", "field", "cross", "dense"]
BIAS = 0


class ColumnSpec(Strict):
    """A column of the encoded data set.

    label, weight: float32; truth: float64; group: int64 hash; field, cross: int32 ids in [0, size), a list of them when
    multi_valued; dense: float32. size is 0 where the column holds no ids.
    """

    name: str
    feature: str
    role: Role
    multi_valued: bool = False
    size: int = 0
    embedding: int = 0
    pooling: Pooling = "mean"
    wide: bool = False

    @property
    def dtype(self) -> str:
        """Of its values, by NumPy's and Arrow's common name."""
        return {"truth": "float64", "group": "int64", "field": "int32", "cross": "int32"}.get(self.role, "float32")


def dataset_columns(
    spec: FeatureSpec, vocabulary_sizes: Mapping[str, int], cross_sizes: Mapping[str, int] = MappingProxyType({})
) -> tuple[ColumnSpec, ...]:
    """Every column of a data set that is encoded under `spec` with vocabularies of these sizes: those of all fields,
    and of the crosses that have an exact one.
    """
    columns = [ColumnSpec(name="label", feature=str(spec.label), role="label")]
    for role in ("weight", "group", "truth"):
        source = getattr(spec, role)
        if source or (role == "weight" and spec.is_weighted):
            columns.append(ColumnSpec(name=role, feature=source or role, role=role))
    columns += [
        ColumnSpec(
            name=f"f_{field.name}",
            feature=field.name,
            role="field",
            multi_valued=field.multi_valued,
            size=vocabulary_sizes[field.name],
            embedding=field.embedding,
            pooling=field.pooling,
            wide=field.wide,
        )
        for field in spec.fields
    ]
    columns += [
        ColumnSpec(
            name=f"x_{cross.name}",
            feature=cross.name,
            role="cross",
            multi_valued=spec.is_multi_valued(cross),
            size=cross_sizes[cross.name] if cross.vocabulary == "exact" else cross.hashed_size,
            wide=True,
        )
        for cross in spec.crosses
    ]
    columns += [ColumnSpec(name=f"d_{name}", feature=name, role="dense", wide=True) for name in spec.dense_names()]
    return tuple(columns)


@dataclass(frozen=True)
class Slot:
    """The rows [offset, offset + size) of a table belong to `column`; local id i is row offset + i."""

    column: ColumnSpec
    offset: int

    @property
    def size(self) -> int:
        """Rows of the slot."""
        return self.column.size or 1


@dataclass(frozen=True)
class TableLayout:
    """Who owns which rows of the wide table and of each embedding table.

    wide: id columns first, then dense columns, after the bias at row 0.
    embeddings: by width, the fields of that width.
    """

    wide: tuple[Slot, ...]
    embeddings: Mapping[int, tuple[Slot, ...]]

    @property
    def wide_rows(self) -> int:
        """Coordinates of the wide table, the bias included."""
        return _end(self.wide, 1)

    def embedding_rows(self, width: int) -> int:
        """Rows of the embedding table of this width."""
        return _end(self.embeddings[width], 0)


def table_layout(columns: Iterable[ColumnSpec]) -> TableLayout:
    """Lay the columns of a data set out in tables."""
    columns = tuple(columns)
    wide = [c for c in columns if c.wide and c.role in ("field", "cross")] + [c for c in columns if c.role == "dense"]
    widths = sorted({c.embedding for c in columns if c.embedding})
    embeddings = {width: _slots((c for c in columns if c.embedding == width), 0) for width in widths}
    return TableLayout(_slots(wide, 1), embeddings)


def _slots(columns: Iterable[ColumnSpec], start: int) -> tuple[Slot, ...]:
    slots = []
    for column in columns:
        slots.append(Slot(column, start))
        start += slots[-1].size
    return tuple(slots)


def _end(slots: tuple[Slot, ...], empty: int) -> int:
    return slots[-1].offset + slots[-1].size if slots else empty
