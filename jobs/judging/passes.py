"""Passes over a day's scored rows in Spark's tasks: the gate's host of a night (serving.sums.rows).

The rows are scored once. They are dealt by the units of the bootstrap, so that the rows of a user meet in one task, and
kept on the executors' disks: some tens of bytes a row. Each pass reads them there. A task sees its own rows as a whole,
and sends tables of integers. Where there are many tasks, further ones merge what they leave by name. The driver gets
one table of each name, so that its memory depends on the number of models and slices, and neither on rows nor on tasks.

Spark, and not processes of this machine, because the log is read there, the night has a session already, and a day may
be larger than a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.metrics.tally import Table, Tally, merge
from nightjar.features.encoder.hashing import MISSING
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition
from nightjar.features.spark.arrow_tasks import map_arrow
from nightjar.features.spark.rows import ROW_HASH
from nightjar.jobs.judging.rows import GROUP, score_day, scored_rows
from nightjar.serving.raw_scores import AS_SERVED, SCORE, ServedModel
from nightjar.serving.sums.rows import Pass

ROWS_A_TASK = 1 << 18
_FEW_ROWS = 1 << 14
"""So few are not worth a task of their own."""
_FEW_TASKS = 16
"""What so many leave the driver merges by itself."""
_TABLES = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("largest", pa.bool_()),
        pa.field("columns", pa.int32()),
        pa.field("keys", pa.binary()),
        pa.field("values", pa.binary()),
    ]
)
_TABLES_DDL = "name string, largest boolean, columns int, keys binary, values binary"


@dataclass(frozen=True)
class SparkRows:
    """Scored rows of `score_day`, those of a unit in one partition. tasks: how many partitions there are."""

    rows: DataFrame
    tasks: int

    @property
    def models(self) -> tuple[str, ...]:
        """Whose scores they have, as logged and as served."""
        scored = [name.removeprefix(SCORE) for name in self.rows.columns if name.startswith(SCORE)]
        return (*scored, *(name for name in self.rows.columns if name.startswith(AS_SERVED)))

    def tally(self, over: Pass) -> Mapping[str, Table]:
        """Take a pass over all rows. Raises DataError if there are none, or if the log or a model cannot be read."""

        def take(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            own = list(batches)
            if sum(batch.num_rows for batch in own):
                yield _packed(over(scored_rows(pa.Table.from_batches(own).combine_chunks())))

        left = map_arrow(self.rows, take, _TABLES_DDL)
        if self.tasks > _FEW_TASKS:
            left = map_arrow(left.repartition("name"), _merged, _TABLES_DDL)
        with damage_reported():
            merged = merge(_unpacked(left.toArrow().to_batches()))
        if not merged:
            raise DataError("the log of the judged day has no rows.")
        return merged


@contextmanager
def scored_day(
    spark: SparkSession,
    day: LogPartition,
    models: Mapping[str, ServedModel],
    candidate: str,
    sliced_by: Iterable[str],
    *,
    tasks: int | None = None,
    rows: int = 0,
) -> Iterator[SparkRows]:
    """Yield a day's rows, scored by the first pass over them and kept until the end.

    Args:
        spark: whose tasks score and take the passes.
        day: of the log.
        models: by name.
        candidate: the one whose spec says what labels, weights, groups and slices are.
        sliced_by: single-valued fields and dense features of the candidate.
        tasks: of a pass; None for what suits the rows.
        rows: about how many there are.
    """
    scored = score_day(spark, day, models, candidate, sliced_by)
    unit = F.col(f"`{ROW_HASH}`")
    if GROUP in scored.columns:
        group = F.col(f"`{GROUP}`")
        unit = F.when(group == int(MISSING), unit).otherwise(group)
    at_once = min(spark.sparkContext.defaultParallelism, rows // _FEW_ROWS)
    tasks = tasks or max(1, at_once, -(-rows // ROWS_A_TASK))
    dealt = scored.repartition(tasks, unit).persist(StorageLevel.DISK_ONLY)
    try:
        yield SparkRows(dealt, tasks)
    finally:
        dealt.unpersist()


def _packed(tally: Tally) -> pa.RecordBatch:
    columns = {
        "name": list(tally),
        "largest": [table.largest for table in tally.values()],
        "columns": [table.values.shape[1] for table in tally.values()],
        "keys": [table.keys.tobytes() for table in tally.values()],
        "values": [np.ascontiguousarray(table.values).tobytes() for table in tally.values()],
    }
    return pa.RecordBatch.from_pydict(columns, schema=_TABLES)


def _unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[Tally]:
    for batch in batches:
        for row in batch.to_pylist():
            keys, values = (np.frombuffer(row[name], np.int64) for name in ("keys", "values"))
            yield {row["name"]: Table(keys, values.reshape(-1, row["columns"]), row["largest"])}


def _merged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    merged = merge(_unpacked(batches))
    if merged:
        yield _packed(merged)
