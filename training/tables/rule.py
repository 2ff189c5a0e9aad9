"""What a rule's file says of it. It is read with the config, so it loads neither torch nor numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table

if TYPE_CHECKING:
    from nightjar.training.tables.values import Rule, Uniform

TableSettings = Any
"""The section of a table, WideConfig or EmbeddingConfig, resolved. A rule reads the settings that are its own."""


@dataclass(frozen=True)
class NewTable:
    """What a rule makes a table of. unshrunk: the place of the row that no L1 or L2 shrinks, or -1."""

    width: int
    shard: Shard
    config: TableSettings
    initial: Uniform
    unshrunk: int = -1


def _any_table(section: str, config: TableSettings, rows: int) -> None:
    """Nothing stands in the way."""


@dataclass(frozen=True)
class UpdateRule:
    """An update rule of tables.

    name: what training.wide.rule and training.embeddings.rule call it.
    table: makes a table that it moves.
    learning_rate: where the config leaves it open; None for a rule whose rate is among its own settings.
    of_wide, of_embeddings: which tables it is for.
    own: settings that no other rule takes, and how one is refused: what follows the setting's name in the message.
    on_device, on_device_with: whether a device can run it, and the settings that it must have then.
    sums_of_squares: of its state, what only grows; a warm start may let it decay. Averages forget by themselves.
    check: (section, config, rows of the table): raises UsageError if a table cannot be as configured.
    """

    name: str
    table: Callable[[NewTable], Table]
    learning_rate: float | None = None
    of_wide: bool = True
    of_embeddings: bool = True
    own: Mapping[str, str] = field(default_factory=dict)
    on_device: bool = False
    on_device_with: Mapping[str, str] = field(default_factory=dict)
    sums_of_squares: tuple[str, ...] = ()
    check: Callable[[str, TableSettings, int], None] = _any_table

    def host_only(self, config: TableSettings) -> list[str]:
        """The settings that keep a table on the host: none if a device can run it."""
        if not self.on_device:
            return ["rule"]
        return [name for name, value in self.on_device_with.items() if getattr(config, name) != value]


def stored(make: Callable[[TableSettings, float, int], Rule]) -> Callable[[NewTable], Table]:
    """The tables of a rule that moves stored weights. make: of (config, learning rate, NewTable.unshrunk)."""

    def table(new: NewTable) -> Table:
        from nightjar.training.tables.values import ValueTable

        return ValueTable(new.width, new.shard, make(new.config, new.config.learning_rate, new.unshrunk), new.initial)

    return table
