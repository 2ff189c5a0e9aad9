"""Side tables joined to rows by Spark: every row stays one row, and gets what was valid when its day began.

Of the table in the tasks:  side:key:<n> string, the canonical text of a key's column, never null; the columns that it
brings; side:from int, the first day that the row counts for, where there are versions; side:moment bigint, its
valid_from in microseconds.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError
from nightjar.features.input.days import date_of, day_number
from nightjar.features.input.reading import open_log
from nightjar.features.input.sides.config import FOLDERS
from nightjar.features.input.sides.joined import JoinedSide
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY, day_of_file

WITHOUT = "row:without:"
"""And a side table's name: true in a row whose key the table does not have, boolean."""

_FROM, _MOMENT, _UNTIL, _THERE = "side:from", "side:moment", "side:until", "side:there"
_SHOWN = 3

log = logging.getLogger(__name__)


def with_sides(spark: SparkSession, rows: DataFrame, sides: Sequence[JoinedSide], *, marked: bool = False) -> DataFrame:
    """Append the columns that side tables bring; missing in a row whose key is null, or was not there yet.

    In:  rows with the log's columns of the keys and their `DAY`.
    Out: the same rows, row count unchanged. marked: with `WITHOUT` of each table.
    """
    for joined in sides:
        rows = _with_side(spark, rows, joined, marked)
    return rows


def _with_side(spark: SparkSession, rows: DataFrame, joined: JoinedSide, marked: bool) -> DataFrame:
    table = _table(spark, joined)
    if joined.side.valid_from:
        # Of two rows that are valid from the same day on, the first counts for no day.
        order = Window.partitionBy(*map(source, _keys(joined))).orderBy(source(_FROM), source(_MOMENT))
        table = table.withColumn(_UNTIL, F.lead(source(_FROM)).over(order))
    on = [source(name).cast("string") == source(key) for name, key in zip(joined.side.keys, _keys(joined), strict=True)]
    if joined.side.valid_from:
        on += [source(DAY) >= source(_FROM), source(_UNTIL).isNull() | (source(DAY) < source(_UNTIL))]
    elif joined.side.versions == FOLDERS:
        on.append(_version_of_day(joined) == source(_FROM))
    found = rows.join(table.withColumn(_THERE, F.lit(True)), on=reduce(Column.__and__, on), how="left")
    without = [source(_THERE).isNull().alias(WITHOUT + joined.side.name)] if marked else []
    return found.select(*map(source, rows.columns), *(source(name) for name, _ in joined.kinds), *without)


def _version_of_day(joined: JoinedSide) -> Column:
    """The day of the folder that counts for a row: int, null before the first."""
    latest, *earlier = sorted(map(day_number, joined.dates), reverse=True)
    version = F.when(source(DAY) >= latest, F.lit(latest))
    for number in earlier:
        version = version.when(source(DAY) >= number, F.lit(number))
    return version


def _keys(joined: JoinedSide) -> list[str]:
    return [f"side:key:{n}" for n in range(len(joined.side.keys))]


def _table(spark: SparkSession, joined: JoinedSide) -> DataFrame:
    """See the module's docstring."""
    side, wanted = joined.side, {name for name, _ in joined.kinds}
    keys = [
        source(column).cast("string").alias(key) for key, column in zip(_keys(joined), side.keys.values(), strict=True)
    ]
    columns = [*keys, *(source(column).alias(name) for name, column in side.brought.items() if name in wanted)]
    if side.versions == FOLDERS:
        columns.append(day_of_file().alias(_FROM))
    elif side.valid_from:
        moment = source(side.valid_from).cast("timestamp")
        begin = F.to_date(moment)
        # What becomes valid during a day was not known when the day began.
        columns.append((F.unix_date(begin) + (moment > begin.cast("timestamp")).cast("int")).alias(_FROM))
        columns.append(F.unix_micros(moment).alias(_MOMENT))
    tables = [open_log(spark, side, urls, of_piece).select(*columns) for of_piece, urls in joined.pieces]
    table = reduce(DataFrame.unionAll, tables)
    return table.where(reduce(Column.__and__, (source(key).isNotNull() for key in _keys(joined))))


def unmatched_of(sides: Sequence[JoinedSide], counted: Row, rows: str) -> dict[str, int]:
    """Of rows that were counted, those whose key a side table does not have, by its name; a warning tells them.

    counted: has `WITHOUT` of each table, summed up; rows: what they are called.
    """
    found = {joined.side.name: counted[WITHOUT + joined.side.name] for joined in sides}
    for joined in sides:
        if count := found[joined.side.name]:
            log.warning("%s: %d rows have a %s that %s does not have", rows, count, list(joined.side.keys), joined)
    return found


def contents_by_day(spark: SparkSession, joined: JoinedSide) -> dict[int, list[str]]:
    """What becomes valid on each day: how many rows, and the sum of their hashes, whatever their order.

    Raises DataError if a row is valid from no time on.
    """
    table = _table(spark, joined)
    read = [*_keys(joined), *(name for name, _ in joined.kinds), _MOMENT]
    row = F.xxhash64(*map(source, read), *(source(name).isNull() for name in read))
    sums = F.sum(row.cast("decimal(20,0)")).cast("string").alias("hashes")
    found = table.groupBy(_FROM).agg(F.count(F.lit(1)).alias("rows"), sums).collect()
    by_day = {of[_FROM]: [str(of["rows"]), of["hashes"]] for of in found}
    if None in by_day:
        raise DataError(
            f"{joined} has {by_day[None][0]} row(s) whose {joined.side.valid_from} is missing. Give the date that each "
            f"is valid from."
        )
    return by_day


def require_one_row_a_key(spark: SparkSession, sides: Collection[JoinedSide], last_day: str) -> None:
    """Raises DataError, with the keys, if a side table has a key twice in a version that counts by `last_day`."""
    for joined in sides:
        table = _table(spark, joined)
        version = {"none": [], FOLDERS: [_FROM]}.get(joined.side.versions, [_FROM, _MOMENT])
        if version:
            table = table.where(source(_FROM) <= day_number(last_day))
        names = [*_keys(joined), *version]
        twice = table.groupBy(*map(source, names)).count().where("count > 1")
        worst = twice.orderBy(F.desc("count"), *map(source, names)).limit(_SHOWN + 1).collect()
        if not worst:
            continue
        columns = list(joined.side.keys.values())
        shown = [
            ", ".join(f"{column} = {row[key]!r}" for column, key in zip(columns, _keys(joined), strict=True))
            + (f" from {date_of(row[_FROM])}" if version else "")
            + f" ({row['count']} rows)"
            for row in worst[:_SHOWN]
        ]
        raise DataError(
            f"{joined} has more than one row of a key: {'; '.join(shown)}{'; and more' * (len(worst) > _SHOWN)}. Keep "
            f"one of each{'' if version else ', or say since when each is valid (versions)'}."
        )
