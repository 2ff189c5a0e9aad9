"""Logs and a fitted state to a published data set: encoded rows in shuffled files, and golden rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DATA, GOLDEN_ENCODED, GOLDEN_RAW
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.layout import ColumnSpec, dataset_columns
from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.outputs import STATES, log_input
from nightjar.features.contract.publishing import begin, commit, describe_files, manifest_digest, read_manifest
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.contract.strict import digest
from nightjar.features.counts.point_in_time import (
    age_column,
    count_column,
    counts_of_rows,
    with_counts,
    with_so_far,
)
from nightjar.features.counts.rollup import History, daily_counts
from nightjar.features.dataset.coverage import covered_rows, id_columns, weighted_rows
from nightjar.features.dataset.sampling import sample_negatives
from nightjar.features.encoder.encoder import ColumnValues, Encoder, HashedBatch
from nightjar.features.encoder.frequency import Counts, KeyHistory
from nightjar.features.encoder.ragged import Ragged, from_arrow
from nightjar.features.encoder.rows import so_far_columns
from nightjar.features.encoder.state import load_encoder_state
from nightjar.features.input.days import day_number
from nightjar.features.input.folders import LogPartition, read_logs
from nightjar.features.input.passes import Pass, RowCount, require_unchanged
from nightjar.features.spark.arrow_tasks import Through, map_arrow
from nightjar.features.spark.equal_rows import first_copies, with_unique_hashes
from nightjar.features.spark.rows import LABEL, ROW_HASH, hashed
from nightjar.features.spark.shared import shared
from nightjar.features.spark.tables import write_arrow, write_table

GOLDEN_ROWS = 64

_READ_HASH = "read_hash"  # ROW_HASH before rows are told apart from their equals
_ROLE_TYPES = {"label": pa.float32(), "weight": pa.float32(), "group": pa.int64(), "truth": pa.float64()}
_FEATURE_TYPES = {"field": pa.int32(), "cross": pa.int32(), "dense": pa.float32()}


@dataclass(frozen=True)
class EncodedDays:
    """A data set to be published: where to, under which state, of which days.

    golden: with golden rows, of the last day. sampled: without the negatives that the spec's sampling leaves out.
    """

    directory: str
    state_directory: str
    days: tuple[LogPartition, ...]
    golden: bool = False
    sampled: bool = False


def publish_dataset(spark: SparkSession, wanted: EncodedDays, history: History, files: int) -> None:
    """Encode and publish the rows of the days.

    Args:
        spark: the session.
        wanted: what to publish.
        history: of the days themselves and of every day that their counts look back to; none of the days is in its
            roll-up.
        files: how many to spread the rows over.
    """
    directory, state_directory, days = wanted.directory, wanted.state_directory, wanted.days
    state = read_manifest(state_directory, StateManifest)
    spec = state.spec
    columns = dataset_columns(spec, state.vocabulary_sizes, state.cross_sizes)
    counts = {
        f.name: daily_counts(spark, f, history, day_number(days[0].date), day_number(days[-1].date))
        for f in spec.frequencies
    }
    begin(directory)
    by_date = {manifest.date: manifest for manifest in history.days.values()}
    counted = {day.date: RowCount(by_date[day.date].rows, by_date[day.date].positives) for day in days}
    read = Pass(spark, spec, days, counted)
    tables = [hashed(raw, spec) for raw in read_logs(spark, days)]
    sampled = wanted.sampled and spec.sampling is not None
    together = reduce(DataFrame.unionAll, tables).withColumn(_READ_HASH, F.col(ROW_HASH))
    all_rows = add_so_far(with_unique_hashes(together), spec)
    # Only what is encoded is counted: keys may be looked for in a second reading of the same rows.
    passing = read.through(all_rows, F.col(LABEL), F.col(_READ_HASH))
    kept, keyed = ((sample_negatives(rows, spec) if sampled else rows).drop(_READ_HASH) for rows in (passing, all_rows))
    rows = add_counts(kept, spec, counts, keyed)
    schema = arrow_schema(columns)
    encode_batches = _encode_with(state_directory, schema)
    written, (positives, weighted, *covered) = write_table(
        shuffle(rows, files),
        directory,
        DATA,
        through=encode_batches,
        schema=schema,
        count=lambda encoded: [
            positive_rows(encoded),
            weighted_rows(encoded),
            *covered_rows(encoded, columns, spec),
        ],
    )
    held = sum(entry.rows or 0 for entry in written)
    if held and not weighted:
        raise DataError(
            f"all {held} rows of {days[0].date} to {days[-1].date} have {spec.weight} 0, so that nothing can be "
            f"learned from them or measured on them. Correct the column, or choose other dates."
        )
    if wanted.golden:
        last = hashed(read_logs(spark, days[-1:])[0], spec, keep=spec.request_columns())
        raw, encoded = golden_rows(spark, last, spec, counts, state_directory, columns)
        for path, table in ((GOLDEN_RAW, raw), (GOLDEN_ENCODED, encoded)):
            write_arrow(table, storage.join(directory, path))
    read.require_all("encoding has read", known_otherwise=not sampled)
    _require_written(RowCount(held, positives), counted.values(), sampled)
    require_unchanged(days)
    manifest = DatasetManifest(
        inputs={log_input(day.date): day.fingerprint for day in days}
        | {storage.join(STATES, storage.name_of(state_directory)): manifest_digest(state_directory)},
        files=describe_files(directory, written),
        spec_fingerprint=spec.fingerprint,
        state=manifest_digest(state_directory),
        first_date=days[0].date,
        last_date=days[-1].date,
        rows=held,
        positives=positives,
        log_rows=sum(count.rows for count in counted.values()),
        columns=columns,
        coverage={c.name: n / held for c, n in zip(id_columns(columns), covered, strict=True)} if held else {},
    )
    commit(directory, manifest)


def add_so_far(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """`with_so_far` of every frequency. Row count unchanged."""
    return reduce(lambda table, f: with_so_far(table, f, spec), spec.frequencies, rows)


def _require_written(written: RowCount, counted: Iterable[RowCount], sampled: bool) -> None:
    """Raises DataError unless all rows that were counted are there; under sampling all positives, and no row more."""
    counts = list(counted)
    all_rows = RowCount(sum(count.rows for count in counts), sum(count.positives for count in counts))
    if written.positives != all_rows.positives or written.rows > all_rows.rows or (not sampled and written != all_rows):
        kept = ", of which sampling keeps every positive," if sampled else ""
        raise DataError(f"of {all_rows} that were counted{kept} {written} were encoded. Run the same command again.")


def positive_rows(encoded: pa.Table) -> int:
    """How many of the encoded rows are positive."""
    return int(pc.sum(encoded.column("label")).as_py() or 0)


def add_counts(
    rows: DataFrame, spec: FeatureSpec, counts: Mapping[str, DataFrame], keyed: DataFrame | None = None
) -> DataFrame:
    """`with_counts` of every frequency. Row count unchanged.

    Args:
        rows: a hashed table.
        spec: the features.
        counts: by key, by frequency name.
        keyed: the same rows, to look for keys in, where `rows` may be read once only.
    """
    keyed = rows if keyed is None else keyed
    of_rows = {f.name: counts_of_rows(keyed, f, spec, counts[f.name]) for f in spec.frequencies}
    return reduce(lambda table, f: with_counts(table, f, spec, of_rows[f.name]), spec.frequencies, rows)


def shuffle(rows: DataFrame, files: int) -> DataFrame:
    """The rows in `files` partitions, in an order that depends on the rows alone and is as good as random.

    In: a table after `with_unique_hashes`, so that copies of a row are spread as others are.
    """
    ties = [name for name in rows.columns if name != ROW_HASH]
    return rows.repartition(files, ROW_HASH).sortWithinPartitions(ROW_HASH, *ties)


def encode(rows: DataFrame, state_directory: str, columns: Sequence[ColumnSpec]) -> DataFrame:
    """Encode hashed rows with their counts under a published state.

    Out: `columns` (features.contract.layout), never null, the rows in their order within each partition.
    """
    schema = arrow_schema(columns)
    return map_arrow(rows, _encode_with(state_directory, schema), from_arrow_schema(schema))


def arrow_schema(columns: Sequence[ColumnSpec]) -> pa.Schema:
    """Names and types of an encoded table."""
    fields = []
    for column in columns:
        kind = _ROLE_TYPES.get(column.role) or _FEATURE_TYPES[column.role]
        if column.multi_valued:
            kind = pa.list_(pa.field("element", kind, nullable=False))
        fields.append(pa.field(column.name, kind, nullable=False))
    return pa.schema(fields)


def golden_rows(
    spark: SparkSession,
    rows: DataFrame,
    spec: FeatureSpec,
    counts: Mapping[str, DataFrame],
    state_directory: str,
    columns: Sequence[ColumnSpec],
) -> tuple[pa.Table, pa.Table]:
    """The distinct rows with the smallest row hashes: raw, as a request brings them, and encoded, in the same order.

    Args:
        spark: the session.
        rows: a hashed table of one whole day that keeps the spec's `request_columns`.
        spec: the features.
        counts: by key and day, by frequency name.
        state_directory: of the encoder's state.
        columns: of the encoded rows.
    """
    largest = rows.select(ROW_HASH).distinct().orderBy(ROW_HASH).limit(GOLDEN_ROWS).agg(F.max(ROW_HASH)).first()
    assert largest is not None
    few = first_copies(add_so_far(rows, spec).where(F.col(ROW_HASH) <= largest[0]))
    table = add_counts(few, spec, counts).orderBy(ROW_HASH).toArrow()
    so_far = [name for f in spec.frequencies if f.as_of == "impression" for name in so_far_columns(f)]
    raw = table.select([*spec.request_columns(), *so_far])
    prefixed = [name for name in table.column_names if ":" in name and name not in spec.request_columns()]
    again = spark.createDataFrame(table.select(prefixed)).coalesce(1)
    return raw, encode(again, state_directory, columns).toArrow()


def _encode_with(state_directory: str, schema: pa.Schema) -> Through:
    def encode_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = _encoder(state_directory)
        for batch in batches:
            yield encode_batch(encoder, batch, schema)

    return encode_batches


@cache
def _encoder(state_directory: str) -> Encoder:
    """Once per worker process, its arrays once per machine: a published state never changes."""
    manifest = read_manifest(state_directory, StateManifest)
    place = storage.join(SparkFiles.getRootDirectory(), f"state-{digest(state_directory)}")
    return Encoder(manifest.spec, shared(place, lambda: load_encoder_state(state_directory, manifest)))


def encode_batch(encoder: Encoder, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Hashed rows with their counts to encoded rows, in the same order."""
    spec = encoder.spec
    encoded = encoder.encode(
        HashedBatch(
            rows=batch.num_rows,
            hashes={field.name: from_arrow(batch.column(f"h:{field.name}")) for field in spec.fields},
            numbers={feature.name: batch.column(f"n:{feature.name}").to_numpy() for feature in spec.dense},
            histories={f.name: _history(f, batch) for f in spec.frequencies},
        )
    )
    arrays = [
        _to_arrow(encoded[field.name], field.type) if field.name in encoded else batch.column(f"row:{field.name}")
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _history(frequency: Frequency, batch: pa.RecordBatch) -> KeyHistory:
    def column(window: str, what: str) -> np.ndarray:
        return batch.column(count_column(frequency, window, what)).to_numpy()

    return KeyHistory(
        {window: Counts(column(window, "impressions"), column(window, "positives")) for window in frequency.windows},
        {window: column(window, "rank") for window in frequency.windows} if frequency.is_ranked else {},
        batch.column(age_column(frequency)).to_numpy() if frequency.is_dated else None,
    )


def _to_arrow(column: ColumnValues, kind: pa.DataType) -> pa.Array:
    if isinstance(column, Ragged):
        return pa.ListArray.from_arrays(column.offsets.astype(np.int32), column.values).cast(kind)
    return pa.array(column, type=kind)
