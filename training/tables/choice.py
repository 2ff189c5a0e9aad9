"""From the config to tables: which rule, where it is placed, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import BIAS, TableLayout
from nightjar.training.config import EmbeddingConfig, TableConfig, WideConfig
from nightjar.training.tables.rule import NewTable, UpdateRule
from nightjar.training.tables.rules import RULES
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from nightjar.training.tables.values import Uniform

if TYPE_CHECKING:
    import torch


def wide_table(shard: Shard, config: WideConfig, seed: int = 0) -> Table:
    """The wide part's table. Its rows start at zero; row 0, the bias, is shrunk by neither L1 nor adam's l2.

    Args:
        shard: the rows of this worker.
        config: of the wide part.
        seed: of q2.13's rounding.
    """
    return _rule(config).table(NewTable(1, shard, config.resolved(), Uniform(0.0, seed), shard.place(BIAS)))


def embedding_table(width: int, shard: Shard, config: EmbeddingConfig, seed: int) -> Table:
    """A table of embeddings. Its values start uniform, with standard deviation init_scale / sqrt(width).

    Args:
        width: of a row.
        shard: the rows of this worker.
        config: of the embeddings.
        seed: of the initial values.
    """
    limit = config.init_scale * (3.0 / width) ** 0.5
    initial = Uniform(limit, seed, config.nonnegative)
    return _rule(config).table(NewTable(width, shard, config.resolved(), initial))


def place(config: TableConfig, rows: int, rank: int, world: int) -> Shard:
    """What a worker holds of a table.

    Args:
        config: says where the table is placed.
        rows: of the whole table.
        rank: the worker.
        world: how many workers there are.
    """
    return Shard(rows, rank, world) if config.placement == "sharded" else Shard(rows)


def check_tables(layout: TableLayout, wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> None:
    """Raises UsageError if tables cannot be as configured.

    Args:
        layout: of the tables.
        wide: of the wide table; None for a model without one.
        embeddings: likewise.
    """
    if wide:
        _check("wide", wide, layout.wide_rows)
    if embeddings:
        for width in layout.embeddings:
            _check("embeddings", embeddings, layout.embedding_rows(width))


def check_device(tables_on: str, wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> None:
    """Raises UsageError if tables are to be on a device, and one of them cannot.

    Args:
        tables_on: TrainingConfig.tables_on.
        wide: of the wide table; None for a model without one.
        embeddings: likewise.
    """
    refused = _host_only(wide, embeddings)
    if tables_on == "device" and refused:
        names = ", ".join(rule.name for rule in RULES.values() if rule.on_device)
        raise UsageError(
            f"training.tables_on is device, where the rules {names} run, in float32, but not "
            f"{' and '.join(refused)}. Choose one of them, or set training.tables_on to host."
        )


def on_device(
    tables_on: str, device: torch.device, wide: WideConfig | None, embeddings: EmbeddingConfig | None
) -> bool:
    """Whether tables are on the head's device: by choice, or because it is a GPU and all of their rules run there.
    Raises UsageError as check_device does.

    Args:
        tables_on: TrainingConfig.tables_on.
        device: the head's.
        wide: of the wide table; None for a model without one.
        embeddings: likewise.
    """
    check_device(tables_on, wide, embeddings)
    return tables_on == "device" or (tables_on == "auto" and device.type == "cuda" and not _host_only(wide, embeddings))


def _host_only(wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> list[str]:
    """The settings that keep tables on the host."""
    sections = {"wide": wide and wide.resolved(), "embeddings": embeddings and embeddings.resolved()}
    return [
        f"training.{section}.{setting} {getattr(config, setting)}"
        for section, config in sections.items()
        if config
        for setting in _rule(config).host_only(config)
    ]


def _check(section: str, config: WideConfig | EmbeddingConfig, rows: int) -> None:
    config, chosen = config.resolved(), _rule(config)
    fields = type(config).model_fields
    for rule in RULES.values():
        for setting, refusal in rule.own.items():
            if rule is not chosen and setting in fields and getattr(config, setting) != fields[setting].default:
                said = refusal.format(value=getattr(config, setting), rule=chosen.name)
                raise UsageError(f"training.{section}.{setting} {said}")
    chosen.check(section, config, rows)


def _rule(config: WideConfig | EmbeddingConfig) -> UpdateRule:
    rule = config.resolved().rule
    assert rule is not None
    return RULES[rule]
