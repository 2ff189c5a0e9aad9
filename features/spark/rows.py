"""Spark's host stage: raw log rows to hashed columns, by native expressions only. The twin of features.encoder.rows.

Columns of a hashed table (prefixes keep them apart from raw columns that travel along):

    row:hash   bigint    hash of every column that the spec reads and of the date: shuffles, breaks ties
    row:day    int       days since 1970-01-01
    row:micros bigint    microseconds since 1970-01-01 UTC
    row:label  float     0 or 1; row:weight float, row:truth double, row:group and row:request bigint hashes, if any
    h:<field>  bigint    hash, 42 if missing; array<bigint> without missing values if multi-valued
    n:<dense>  double    NaN if missing

None is null, except label, weight, truth and micros of rows that features.counts.aggregate.check_values refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from nightjar.features.contract.spec import CategoricalField, FeatureSpec, Frequency
from nightjar.features.encoder.dense import interval_names
from nightjar.features.spark.tables import DAY

ROW_HASH = "row:hash"
MICROS = "row:micros"
LABEL = "row:label"
WEIGHT = "row:weight"
REQUEST = "row:request"
ROLES = {"label": "float", "weight": "float", "truth": "double"}
HASHED_ROLES = ("group", "request")


def hashed(log: DataFrame, spec: FeatureSpec, keep: Sequence[str] = ()) -> DataFrame:
    """Hash raw rows.

    In:  raw rows and their `DAY`, from features.input.folders.read_logs.
    Out: the hashed table of the module's docstring, then the raw columns `keep`. Row count unchanged.
    """
    columns = [
        row_hash(spec).alias(ROW_HASH),
        F.col(DAY),
        F.unix_micros(source(spec.timestamp).cast("timestamp")).alias(MICROS),
    ]
    for role, kind in ROLES.items():
        if column := getattr(spec, role):
            value = label_of(spec) if role == "label" else source(column)
            columns.append(value.cast(kind).alias(f"row:{role}"))
    for role in HASHED_ROLES:
        if column := getattr(spec, role):
            columns.append(hash_value(source(column)).alias(f"row:{role}"))
    if spec.is_weighted and not spec.weight:
        columns.append(F.lit(1.0).cast("float").alias(WEIGHT))
    columns += [hash_field(field).alias(f"h:{field.name}") for field in spec.fields]
    columns += [
        F.coalesce(source(feature.source).cast("double"), F.lit(float("nan"))).alias(f"n:{feature.name}")
        for feature in spec.dense
    ]
    return log.select(*columns, *(source(name) for name in keep))


def source(name: str) -> Column:
    """The raw column with exactly this name, dots and all."""
    return F.col("`" + name.replace("`", "``") + "`")


def label_of(spec: FeatureSpec) -> Column:
    """A row's label: double, 0 or 1 of rows that features.counts.aggregate.check_values lets pass, null if missing."""
    rule = spec.label
    if isinstance(rule, str):
        return source(rule).cast("double")
    if rule.sql:
        return F.expr(rule.sql).cast("double")
    number = source(str(rule.column)).cast("double")
    if rule.share_of:
        number = F.try_divide(number, source(rule.share_of).cast("double"))
    holds = number > F.lit(rule.above) if rule.at_least is None else number >= F.lit(rule.at_least)
    return F.when(~F.isnan(number), holds.cast("double"))


def positive(spec: FeatureSpec) -> Column:
    """1 where the label is, else 0: bigint, of labels that features.counts.aggregate.check_values lets pass."""
    return label_of(spec).cast("bigint")


def hash_value(value: Column) -> Column:
    """features.encoder.hashing.hash_strings(canonical(value)): bigint, 42 if missing."""
    return F.xxhash64(value.cast("string"))


def hash_field(field: CategoricalField) -> Column:
    """bigint, or array<bigint> (nulls dropped, null list empty) if multi-valued."""
    if not field.multi_valued:
        return hash_value(value_of(field))
    return F.coalesce(F.transform(values_of(field), hash_value), F.array().cast("array<bigint>"))


def value_of(field: CategoricalField) -> Column:
    """The value of a single-valued field as string, features.encoder.hashing.canonical; null if missing."""
    value = source(field.source)
    if not field.boundaries:
        return value.cast("string")
    number = value.cast("double")
    below = F.size(F.filter(F.array(*map(F.lit, field.boundaries)), lambda boundary: boundary <= number))
    names = F.array(*map(F.lit, interval_names(field.boundaries)))
    return F.when(number.isNotNull() & ~F.isnan(number), F.get(names, below))


def values_of(field: CategoricalField) -> Column:
    """Values of a multi-valued field as array<string> without nulls. encoder.raw_columns.split_lists is the twin."""
    column = source(field.source)
    if not field.split:
        return F.array_compact(column.cast("array<string>"))
    # Of what is not UTF-8, Java and Python make different characters.
    pieces = F.when(F.is_valid_utf8(column), F.split(column, _literally(field.split)))
    return F.filter(pieces, lambda piece: piece != "")


def _literally(text: str) -> str:
    """The regular expression of Java's that matches this text: its Pattern.quote."""
    return r"\Q" + text.replace(r"\E", r"\E\\E\Q") + r"\E"


def each_key(frequency: Frequency, spec: FeatureSpec) -> Column:
    """encoder.hashing.combine of the key's hashed fields: bigint. Where a row has several keys: one row a key."""
    keys = keys_of(frequency.keys, spec)
    return F.explode(keys) if spec.has_key_lists(frequency) else keys


def all_keys(frequency: Frequency, spec: FeatureSpec) -> Column:
    """A row's key; where it has several, one hash of them all, whatever their order: bigint."""
    keys = keys_of(frequency.keys, spec)
    return F.xxhash64(F.array_sort(keys)) if spec.has_key_lists(frequency) else keys


def keys_of(fields: Sequence[str], spec: FeatureSpec) -> Column:
    """encoder.hashing.conjoin of hashed fields: bigint, or array<bigint> without repeats if one is multi-valued."""

    def choices(names: Sequence[str], chosen: Sequence[Column]) -> Column:
        if not names:
            return F.array(F.xxhash64(*chosen))
        side = F.col(f"h:{names[0]}")
        if not spec.field(names[0]).multi_valued:
            return choices(names[1:], [*chosen, side])
        return F.flatten(F.transform(side, lambda value: choices(names[1:], [*chosen, value])))

    if any(spec.field(name).multi_valued for name in fields):
        return F.array_distinct(choices(fields, []))
    return F.xxhash64(*(F.col(f"h:{name}") for name in fields))


def row_hash(spec: FeatureSpec) -> Column:
    """bigint, a function of the columns that the spec reads and of the day.

    xxhash64 skips nulls, so each column is told apart from its neighbour by whether it is null.
    """
    columns = [source(name) for name in spec.source_columns()]
    return F.xxhash64(*columns, *(column.isNull() for column in columns), F.col(DAY))
