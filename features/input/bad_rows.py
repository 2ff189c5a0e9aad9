"""Rows that cannot be used: told by one expression, and left out by every reading of a log if the config says so.

The expression is a function of the row, the spec's roles and the columns that the config declares, never of the columns
that a pass happens to need. So every pass leaves out the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from nightjar.features.contract.artifact_files import QUARANTINE
from nightjar.features.contract.categorical import LabelRule
from nightjar.features.contract.manifests import FileEntry
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.config import BadRowLimits, InputConfig
from nightjar.features.input.source_config import MALFORMED_ROW
from nightjar.features.spark.rows import label_of, source
from nightjar.features.spark.tables import DAY, Destination, dealt, position, write_tables

REASON = "row:reason"
RAW = "row:raw"

_SHOWN = 3
_SHOWN_LETTERS = 200


@dataclass(frozen=True)
class ValueRule:
    """What a role's values must be. name: of the column, or the rule; bad: true or null for a value that cannot be
    used; reason: of a row that is left out; wanted: what the values must do, for people.
    """

    role: str
    name: str
    value: Column
    bad: Column
    reason: str
    wanted: str


def value_rules(spec: FeatureSpec) -> Iterator[ValueRule]:
    """Of labels, timestamps, weights and truths, in the order in which a row's reason is looked for."""
    label, name = label_of(spec), str(spec.label)
    yield ValueRule("label", name, label, label.isNull(), "null_label", "be 0 or 1")
    at = source(spec.timestamp)
    yield ValueRule("timestamp", spec.timestamp, at, at.isNull(), "null_timestamp", "not be null")
    yield ValueRule(
        "label",
        name,
        label if isinstance(spec.label, LabelRule) else source(name),
        ~label.isin(0.0, 1.0),
        "out_of_range",
        "be 0 or 1",
    )
    if spec.weight:
        weight = source(spec.weight).cast("float")
        bad = ~((weight >= 0) & (weight < float("inf")))
        yield ValueRule("weight", spec.weight, source(spec.weight), bad, "out_of_range", "be finite and not negative")
    if spec.truth:
        truth = source(spec.truth).cast("double")
        bad = ~((truth >= 0) & (truth <= 1))
        yield ValueRule("truth", spec.truth, truth, bad, "out_of_range", "lie between 0 and 1")


def with_reason(rows: DataFrame, spec: FeatureSpec, config: InputConfig) -> DataFrame:
    """Append `REASON`: why a row cannot be used, a name of BadRowLimits, string; null for all others."""
    cases = [(F.coalesce(rule.bad, F.lit(True)), rule.reason) for rule in value_rules(spec)]
    if MALFORMED_ROW in rows.columns:
        declared = [source(name) for name in config.columns if name in rows.columns]
        # Never true. Spark converts only the columns that a pass asks for, and so would find other rows malformed.
        converted = F.xxhash64(*declared).bitwiseOR(F.lit(1)) == 0
        cases.insert(0, (source(MALFORMED_ROW).isNotNull() | converted, "malformed"))
    reason = F.lit(None).cast("string")
    for bad, name in reversed(cases):
        reason = F.when(bad, F.lit(name)).otherwise(reason)
    return rows.withColumn(REASON, reason)


def with_raw(rows: DataFrame, spec: FeatureSpec, config: InputConfig) -> DataFrame:
    """Append `RAW`: what is read of the row as people may read it, a malformed one as it is in the file, string."""
    read = {*spec.source_columns(), *config.columns}
    columns = [source(name) for name in rows.columns if name in read]
    raw = F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})
    return rows.withColumn(RAW, F.coalesce(source(MALFORMED_ROW), raw) if MALFORMED_ROW in rows.columns else raw)


def usable(rows: DataFrame, spec: FeatureSpec, config: InputConfig) -> DataFrame:
    """The rows without a `REASON`, if the config leaves out the others; otherwise all."""
    if config.bad_rows == "fail":
        return rows
    return with_reason(rows, spec, config).where(F.col(REASON).isNull()).drop(REASON, MALFORMED_ROW)


def too_many(rows: int, left_out: Mapping[str, int], limits: BadRowLimits) -> str:
    """Which bound a day's left out rows are beyond, with the numbers; empty if none.

    Args:
        rows: of the day, with those that are left out.
        left_out: by reason.
        limits: the bounds.
    """
    total = sum(left_out.values())
    found = [
        f"{count} of {rows} rows ({count / rows:.3g}) are more than input.bad_rows_at_most.{name} = {limit:g}"
        for name, count in {"any": total, **left_out}.items()
        if (limit := getattr(limits, name)) is not None and count > limit * rows
    ]
    reasons = ", ".join(f"{name} {count}" for name, count in left_out.items())
    return f"{'; '.join(found)} ({reasons})" if found else ""


def examples(rows: DataFrame) -> str:
    """Some rows that cannot be used, for people. In: `REASON` and `RAW`."""
    found = rows.where(F.col(REASON).isNotNull()).select(REASON, RAW).limit(_SHOWN).collect()
    return "".join(f"\n    {row[REASON]}: {row[RAW][:_SHOWN_LETTERS]}" for row in found)


def write_quarantine(
    rows: Sequence[DataFrame], directories: Mapping[int, str], most: Mapping[int, int]
) -> dict[str, list[FileEntry]]:
    """Write what is left out of some days: quarantine/*.parquet of each, with hash bigint, reason string, row string,
    rows bigint (how many are equal), rows int64.

    Args:
        rows: with DAY, `REASON` and `RAW`.
        directories: by day.
        most: how many rows are left out, by day.

    Returns the entries of the files by directory.
    """
    places = [Destination(url, QUARANTINE, most[day]) for day, url in directories.items()]
    tables = [
        one.where(F.col(REASON).isNotNull() & F.col(DAY).isin(list(directories))).select(
            position(F.col(DAY), list(directories)).alias("table"),
            F.col(REASON).alias("reason"),
            F.col(RAW).alias("row"),
        )
        for one in rows
    ]
    together = tables[0]
    for more in tables[1:]:
        together = together.unionAll(more)
    counted = together.groupBy("table", F.xxhash64("reason", "row").alias("hash"), "reason", "row").agg(
        F.count(F.lit(1)).alias("rows")
    )
    written = write_tables(dealt(counted, places, "hash"), places, "hash")
    return {place.directory: entries for place, entries in zip(places, written, strict=True)}
