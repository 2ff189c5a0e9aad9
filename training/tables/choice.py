"""From the config to tables: which rule, where it is placed, and what is refused."""

from __future__ import annotations

import torch

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.layout import BIAS, TableLayout
from nightjar.training.config import EmbeddingConfig, TableConfig, WideConfig
from nightjar.training.tables.adagrad import Adagrad, RowAdagrad
from nightjar.training.tables.adam import Adam, LazyAdam
from nightjar.training.tables.fixed_point import LIMIT, FixedPointFtrlTable
from nightjar.training.tables.ftrl import FtrlTable
from nightjar.training.tables.shard import Shard
from nightjar.training.tables.table import Table
from nightjar.training.tables.values import Rule, Uniform, ValueTable

_ON_DEVICE = ("ftrl", "adagrad", "row_adagrad")


def wide_table(shard: Shard, config: WideConfig, seed: int = 0) -> Table:
    """The wide part's table. seed: of q2.13's rounding. Its rows start at zero; row 0, the bias, is shrunk by
    neither L1 nor adam's l2.
    """
    config = config.resolved()
    if config.rule != "ftrl":
        return ValueTable(1, shard, _rule(config.rule, config, shard.place(BIAS)), Uniform(0.0))
    if config.precision == "q2.13":
        return FixedPointFtrlTable(shard, config, seed)
    return FtrlTable(shard, config)


def embedding_table(width: int, shard: Shard, config: EmbeddingConfig, seed: int) -> Table:
    """A table of embeddings. Its values start uniform, with standard deviation init_scale / sqrt(width)."""
    config = config.resolved()
    limit = config.init_scale * (3.0 / width) ** 0.5
    return ValueTable(width, shard, _rule(config.rule, config, -1), Uniform(limit, seed, config.nonnegative))


def place(config: TableConfig, rows: int, rank: int, world: int) -> Shard:
    """What worker `rank` holds of a table."""
    return Shard(rows, rank, world) if config.placement == "sharded" else Shard(rows)


def check_tables(layout: TableLayout, wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> None:
    """Raises UsageError if tables of this layout, those that are not None, cannot be as configured."""
    if wide:
        wide = wide.resolved()
        _check("wide", wide, wide.rule, layout.wide_rows)
        if wide.squares == "examples" and wide.rule != "ftrl":
            raise UsageError(
                f"training.wide.squares examples is a way of the rule ftrl to count, not of {wide.rule}. "
                f"Remove it, or choose the rule ftrl."
            )
        if wide.precision == "q2.13" and wide.rule != "ftrl":
            raise UsageError(
                f"training.wide.precision q2.13 is made for the rule ftrl, not for {wide.rule}. "
                f"Choose float32, or the rule ftrl."
            )
        # Half of the range is for weights, the other for what L1 takes off them.
        room = LIMIT / 2 * (wide.beta / wide.alpha + wide.lambda2)
        if wide.precision == "q2.13" and wide.lambda1 > room:
            raise UsageError(
                f"training.wide.precision q2.13 holds values below {LIMIT:g}, too few for lambda1 = {wide.lambda1:g}: "
                f"it may be at most 2 (beta / alpha + lambda2) = {room:g}. Lower lambda1 or alpha, or choose float32."
            )
    if embeddings:
        embeddings = embeddings.resolved()
        for width in layout.embeddings:
            _check("embeddings", embeddings, embeddings.rule, layout.embedding_rows(width))


def check_device(tables_on: str, wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> None:
    """Raises UsageError if TrainingConfig.tables_on is device and one of these tables, None aside, cannot be there."""
    refused = _host_only(wide, embeddings)
    if tables_on == "device" and refused:
        raise UsageError(
            f"training.tables_on is device, where the rules {', '.join(_ON_DEVICE)} run, in float32, but not "
            f"{' and '.join(refused)}. Choose one of them, or set training.tables_on to host."
        )


def on_device(
    tables_on: str, device: torch.device, wide: WideConfig | None, embeddings: EmbeddingConfig | None
) -> bool:
    """Whether tables are on the head's device: by choice, or because it is a GPU and all of their rules run there.
    Raises UsageError as check_device does.
    """
    check_device(tables_on, wide, embeddings)
    return tables_on == "device" or (tables_on == "auto" and device.type == "cuda" and not _host_only(wide, embeddings))


def _host_only(wide: WideConfig | None, embeddings: EmbeddingConfig | None) -> list[str]:
    """The settings that keep tables on the host."""
    sections = {"wide": wide and wide.resolved(), "embeddings": embeddings and embeddings.resolved()}
    rules = {name: config.rule for name, config in sections.items() if config}
    refused = [f"training.{name}.rule {rule}" for name, rule in rules.items() if rule not in _ON_DEVICE]
    if rules.get("wide") == "ftrl" and wide and wide.precision != "float32":
        refused.append(f"training.wide.precision {wide.precision}")
    if rules.get("wide") == "ftrl" and wide and wide.squares != "round":
        refused.append(f"training.wide.squares {wide.squares}")
    return refused


def _check(section: str, config: TableConfig, rule: str | None, rows: int) -> None:
    if config.l2 and rule != "adam":
        raise UsageError(
            f"training.{section}.l2 = {config.l2:g} shrinks the whole table in every step, which only the rule adam "
            f"does, not {rule}. Remove l2, or choose the rule adam."
        )
    if rule == "adam" and rows > config.dense_rows_limit:
        raise UsageError(
            f"training.{section}.rule adam moves every row of a table in every step, and a table has {rows} rows, more "
            f"than training.{section}.dense_rows_limit = {config.dense_rows_limit}. Choose a sparse rule (adagrad, "
            f"lazy_adam), or raise the limit and wait."
        )


def _rule(name: str | None, config: TableConfig, unshrunk: int) -> Rule:
    rate = config.learning_rate
    assert rate is not None
    if name == "adagrad":
        return Adagrad(rate, config.initial_accumulator)
    if name == "row_adagrad":
        return RowAdagrad(rate, config.initial_accumulator)
    if name == "lazy_adam":
        return LazyAdam(rate, config.beta1, config.beta2, config.epsilon)
    return Adam(rate, config.beta1, config.beta2, config.epsilon, config.l2, unshrunk)
