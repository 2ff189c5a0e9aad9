"""A file of raw candidates, or a folder of them: checked against what the model asks for before Spark starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from nightjar.features.contract.errors import DataError, UsageError, did_you_mean
from nightjar.features.encoder.rows import so_far_columns
from nightjar.features.input.config import InputConfig
from nightjar.features.input.files import FileHead, read_heads, schema_of
from nightjar.features.input.reading import named_columns, open_log, pieces_of
from nightjar.features.spark.rows import source
from nightjar.serving.model import ServingModel


@dataclass(frozen=True)
class Candidates:
    """Where raw candidates are. asked: columns that the model reads and the files have; kept: that name a row.

    rows: of all files, as their footers say; None of text. identity: JSON values that are others when the content is.
    """

    location: str
    config: InputConfig
    heads: tuple[FileHead, ...]
    schema: pa.Schema
    asked: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def find(cls, location: str, config: InputConfig, model: ServingModel, kept: tuple[str, ...]) -> Candidates:
        """Look at the files' heads.

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
        asked = tuple(column.name for column in model.inputs if column.name in schema.names)
        try:
            model.score(_one_row(schema, asked, model))
        except DataError as error:
            raise DataError(f"the candidates in {location} cannot be scored: {error}") from error
        return cls(location, config, tuple(heads), schema, asked, kept)

    @property
    def rows(self) -> int | None:
        """Of all files, as they say themselves; None if only reading tells."""
        counts = [head.rows for head in self.heads]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def identity(self) -> list[object]:
        """JSON values that are others when a row is."""
        return [self.config.reading, [head.identity for head in self.heads]]

    def read(self, spark: SparkSession) -> DataFrame:
        """Their rows: the columns that the model reads, and those that are kept."""
        wanted = tuple(dict.fromkeys((*self.asked, *self.kept)))
        pieces = pieces_of(self.heads, self.config)
        pieces = pieces or ((named_columns(self.schema, wanted, self.config), (self.location,)),)
        tables = [open_log(spark, self.config, urls, columns) for columns, urls in pieces]
        return reduce(DataFrame.unionAll, [table.select(*map(source, wanted)) for table in tables])


def _one_row(schema: pa.Schema, asked: Sequence[str], model: ServingModel) -> pa.Table:
    """Missing values, empty lists and counts of zero, to see whether the model takes columns of these types."""
    types = {name: schema.field(name).type for name in asked}
    row = {name: pa.array([[] if pa.types.is_nested(kind) else None], kind) for name, kind in types.items()}
    counts = [name for frequency in model.state.spec.frequencies for name in so_far_columns(frequency)]
    for name in (name for name in counts if name in row and pa.types.is_integer(row[name].type)):
        row[name] = pa.array([0], row[name].type)
    return pa.table(row)
