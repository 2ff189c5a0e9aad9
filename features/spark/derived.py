"""Derived columns in Spark's tasks, by the evaluator that a request calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
from pyspark.sql.types import StructType

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.derived.evaluate import types_of
from nightjar.features.encoder.derived.evaluate import with_derived as evaluated
from nightjar.features.spark.arrow_tasks import map_arrow
from nightjar.features.spark.rows import source


def with_derived(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Append the derived columns that the spec's features read; the rows as they are where there are none.

    In:  the columns of the log that the spec reads; one that is not there is missing in every row.
    Raises DataError, before any Spark job runs, if one cannot be computed of columns of these types.
    """
    wanted = spec.derived_sources()
    if not wanted:
        return rows
    derived, columns = spec.derive, rows.columns
    read = spec.request_columns()
    types = types_of(to_arrow_schema(rows.select(*(source(n) for n in read if n in columns)).schema), derived, wanted)
    schema = StructType(list(rows.schema))
    for name, kind in types.items():
        schema = schema.add(name, from_arrow_type(kind))

    def derive(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            values = {n: batch.column(n) if n in columns else pa.nulls(batch.num_rows) for n in read}
            found = evaluated(values, derived, wanted)
            made = [found[name].cast(kind) for name, kind in types.items()]
            yield pa.RecordBatch.from_arrays([*batch.columns, *made], names=[*columns, *types])

    return map_arrow(rows, derive, schema)
