"""A file of raw candidates, or a folder of them: checked against what the model asks for before Spark starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError, UsageError, did_you_mean
from nightjar.features.encoder.rows import so_far_columns
from nightjar.features.input.config import InputConfig
from nightjar.features.input.days import day_number
from nightjar.features.input.files import FileHead, read_heads, schema_of
from nightjar.features.input.reading import named_columns, open_log, pieces_of
from nightjar.features.input.sides.join import require_one_row_a_key, with_sides
from nightjar.features.input.sides.joined import JoinedSide, side_problems, with_side_kinds
from nightjar.features.input.sides.look import Sides
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import DAY
from nightjar.serving.model import ServingModel


@dataclass(frozen=True)
class Candidates:
    """Where raw candidates are. asked: columns that the model reads and that the files have or side tables bring; kept:
    that name a row; sides: what is joined to the rows, as of the day `as_of`.

    rows: of all files, as their footers say; None of text. identity: JSON values that are others when the content is.
    """

    location: str
    config: InputConfig
    heads: tuple[FileHead, ...]
    schema: pa.Schema
    asked: tuple[str, ...]
    kept: tuple[str, ...]
    as_of: str
    sides: tuple[JoinedSide, ...] = ()

    @classmethod
    def find(cls, location: str, config: InputConfig, model: ServingModel, kept: tuple[str, ...]) -> Candidates:
        """Look at the files' heads. A column that they lack and a side table of the config brings is joined, as of the
        day that the model's counters serve.

        Args:
            location: a file, or a folder whose files are read.
            config: how they are read.
            model: what shall score them.
            kept: columns that the scores stand beside.

        Raises:
            DataError: there are no rows, a column is missing, or one is of a type that the model does not take.
            UsageError: a column to keep is not there.
        """
        if not config.is_files:
            raise UsageError(
                f"candidates are read from files; input.format is {config.format!r}. Write them as Parquet."
            )
        heads, problems = read_heads(location, config)
        if not any(len(head.schema) for head in heads) and not problems:
            problems = [f"there are no {config.format} files with columns"]
        if (
            not problems
            and len({str(head.schema) for head in heads if len(head.schema)}) > 1
            and config.format != "csv"
        ):
            problems = ["its files do not have the same columns and types. Write one schema"]
        if problems:
            raise DataError(f"the candidates in {location} cannot be scored: " + "; ".join(problems))
        schema = schema_of(heads, config)
        if absent := [name for name in kept if name not in schema.names]:
            raise UsageError(
                f"the candidates have no columns {absent}; they have {schema.names}"
                f"{did_you_mean(absent, schema.names) or '.'}"
            )
        as_of = model.counters_as_of.isoformat()
        sides = _sides(schema, config, [column.name for column in model.inputs], as_of)
        known = with_side_kinds(schema, sides)
        asked = tuple(column.name for column in model.inputs if column.name in known.names)
        try:
            if problems := list(side_problems([schema], sides)):
                raise DataError("; ".join(problems))
            model.score(_one_row(known, asked, model))
        except DataError as error:
            raise DataError(f"the candidates in {location} cannot be scored: {error}") from error
        return cls(location, config, tuple(heads), schema, asked, kept, as_of, sides)

    @property
    def rows(self) -> int | None:
        """Of all files, as they say themselves; None if only reading tells."""
        counts = [head.rows for head in self.heads]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def identity(self) -> list[object]:
        """JSON values that are others when a row is."""
        joined = [[one.side.joined_by, [name for name, _ in one.kinds], one.files, self.as_of] for one in self.sides]
        return [self.config.reading, [head.identity for head in self.heads], *joined]

    def read(self, spark: SparkSession) -> DataFrame:
        """Their rows: the columns that the model reads, and those that are kept.

        Raises DataError if a side table has a key twice.
        """
        wanted = tuple(dict.fromkeys((*self.asked, *self.kept)))
        if not self.sides:
            return self._read(spark, wanted)
        require_one_row_a_key(spark, self.sides, self.as_of)
        brought = {name for one in self.sides for name, _ in one.kinds}
        keys = [name for one in self.sides for name in one.side.keys]
        own = [name for name in dict.fromkeys((*wanted, *keys)) if name not in brought]
        rows = self._read(spark, own).withColumn(DAY, F.lit(day_number(self.as_of)))
        return with_sides(spark, rows, self.sides).select(*map(source, wanted))

    def _read(self, spark: SparkSession, wanted: Sequence[str]) -> DataFrame:
        pieces = pieces_of(self.heads, self.config)
        pieces = pieces or ((named_columns(self.schema, wanted, self.config), (self.location,)),)
        tables = [open_log(spark, self.config, urls, columns) for columns, urls in pieces]
        return reduce(DataFrame.unionAll, [table.select(*map(source, wanted)) for table in tables])


def _sides(schema: pa.Schema, config: InputConfig, asked: Sequence[str], as_of: str) -> tuple[JoinedSide, ...]:
    """What brings the columns that a model asks for and the candidates lack. Raises DataError if these lack a key."""
    lacking = [name for name in asked if name not in schema.names]
    for side in config.sides_of(lacking):
        if absent := [name for name in side.keys if name not in schema.names]:
            raise DataError(
                f"the candidates have neither the columns {[name for name in lacking if name in side.brought]} nor the "
                f"key {absent}, by which the side table {side.name!r} brings them; they have {schema.names}."
            )
    return Sides(config, None).joined(lacking, [as_of])


def _one_row(schema: pa.Schema, asked: Sequence[str], model: ServingModel) -> pa.Table:
    """Missing values, empty lists and counts of zero, to see whether the model takes columns of these types."""
    types = {name: schema.field(name).type for name in asked}
    row = {name: pa.array([[] if pa.types.is_nested(kind) else None], kind) for name, kind in types.items()}
    counts = [name for frequency in model.state.spec.frequencies for name in so_far_columns(frequency)]
    for name in (name for name in counts if name in row and pa.types.is_integer(row[name].type)):
        row[name] = pa.array([0], row[name].type)
    return pa.table(row)
