"""The rows that a night is judged on, scored by every model as it serves: one pass of Spark over a day's raw log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import ENCODER
from nightjar.features.contract.manifests import ArtifactManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.point_in_time import with_so_far
from nightjar.features.encoder.rows import so_far_columns
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition, read_logs
from nightjar.features.spark.arrow_tasks import map_arrow
from nightjar.features.spark.derived import with_derived
from nightjar.features.spark.rows import LABEL, ROW_HASH, WEIGHT, hashed, source
from nightjar.features.spark.tables import DAY
from nightjar.serving.raw_scores import (
    AS_SERVED,
    SCORE,
    SLICE,
    ServedModel,
    has_stand_ins,
    score_raw,
    so_far_of,
)
from nightjar.serving.sums.rows import Observations, ScoredRows

GROUP, TRUTH = "row:group", "row:truth"
_KNOWN = {LABEL: pa.float32(), WEIGHT: pa.float32(), GROUP: pa.int64(), TRUTH: pa.float64()}


def score_day(
    spark: SparkSession, day: LogPartition, models: Mapping[str, ServedModel], candidate: str, sliced_by: Iterable[str]
) -> DataFrame:
    """Score every row of a day's log, once the frame is read.

    Out: a row each: ROW_HASH, what is known of it (LABEL, and WEIGHT, GROUP, TRUTH if there are such), `score:<model>`,
    `served:<model>` of models with values that stand in for columns, `slice:<name>`, in no order.

    Args:
        spark: whose tasks load the models and score.
        day: of the log.
        models: by name; each sees the raw columns that its own spec reads, and its own counters.
        candidate: the one whose spec says what labels, weights, groups and slices are.
        sliced_by: single-valued fields and dense features of the candidate.

    Raises:
        DataError: the log cannot be read, or a model or its counters are damaged.
    """
    specs = {name: _spec(model) for name, model in models.items()}
    columns = {c.feature: c.name for c in reversed(read_manifest(models[candidate].artifact, ArtifactManifest).columns)}
    slices = {name: columns[name] for name in sliced_by}
    with damage_reported():
        [log] = read_logs(spark, [day], derived=False)
        rows = _with_requests(log, specs, candidate)
    known = [name for name in _KNOWN if name in rows.columns]
    schema = pa.schema(
        [pa.field(ROW_HASH, pa.int64()), *(pa.field(name, _KNOWN[name]) for name in known)]
        + [pa.field(SCORE + name, pa.float32()) for name in models]
        + [pa.field(AS_SERVED + name, pa.float32()) for name in models if has_stand_ins(specs[name])]
        + [pa.field(SLICE + name, pa.float64()) for name in slices]
    )

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            found = score_raw(models, table, slices, candidate)
            kept = [table.column(name).combine_chunks() for name in (ROW_HASH, *known)]
            made = [pa.array(found[field.name], field.type, safe=False) for field in list(schema)[len(kept) :]]
            yield pa.RecordBatch.from_arrays([*kept, *made], schema=schema)

    return map_arrow(rows, score, from_arrow_schema(schema))


def scored_rows(table: pa.Table) -> ScoredRows:
    """Rows of `score_day`, in their order. table: some of them."""
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    label, weight = columns[LABEL].astype(np.float64), columns.get(WEIGHT)

    def named(prefix: str, kept: str = "") -> dict[str, np.ndarray]:
        return {kept + name.removeprefix(prefix): of for name, of in columns.items() if name.startswith(prefix)}

    return ScoredRows(
        Observations(
            label=label,
            weight=np.ones(len(label)) if weight is None else weight.astype(np.float64),
            group=columns.get(GROUP),
            truth=columns.get(TRUTH),
        ),
        columns[ROW_HASH],
        named(SCORE) | named(AS_SERVED, kept=AS_SERVED),
        named(SLICE),
    )


def _with_requests(log: DataFrame, specs: Mapping[str, FeatureSpec], candidate: str) -> DataFrame:
    """What is known of the rows, the raw columns that requests bring, and today's counts so far by model."""
    here = set(log.columns)
    raw = list(dict.fromkeys(c for spec in specs.values() for c in spec.request_columns() if c in here))
    read = dict.fromkeys(c for spec in specs.values() for c in spec.source_columns() if c in here)
    log = log.select(*map(source, read), DAY)
    for name, spec in specs.items():
        counted = [frequency for frequency in spec.frequencies if frequency.as_of == "impression"]
        if not counted:
            continue
        kept = [column for column in log.columns if column != DAY]
        spec, lacking = _counting(spec, specs[candidate], here)
        rows = hashed(with_derived(log.withColumns(lacking), spec), spec, keep=kept)
        for frequency in counted:
            rows = with_so_far(rows, frequency, spec)
        so_far = [column for frequency in counted for column in so_far_columns(frequency)]
        log = rows.select(
            *map(source, kept), F.col(DAY), *(source(column).alias(so_far_of(name, column)) for column in so_far)
        )
    raw += [column for column in log.columns if column not in here]
    of_rows = hashed(with_derived(log, specs[candidate]), specs[candidate], keep=raw)
    wanted = [ROW_HASH, *(name for name in _KNOWN if name in of_rows.columns), *raw]
    return of_rows.select(*map(source, wanted))


def _counting(spec: FeatureSpec, candidate: FeatureSpec, here: Set[str]) -> tuple[FeatureSpec, dict[str, Column]]:
    """What a spec's counts of the day so far are made of, and nothing else of it; the columns of their keys that the
    log does not have, as missing values. Without the label or the timestamp of an older spec, the candidate's count.
    """
    counted = tuple(frequency for frequency in spec.frequencies if frequency.as_of == "impression")
    keys = tuple(spec.field(name) for name in dict.fromkeys(name for one in counted for name in one.keys))
    by = spec if here >= {spec.timestamp, *spec.label_columns} else candidate
    there = {*here, *(one.name for one in spec.derive)}
    lists = {key.source: key.multi_valued and not key.split for key in keys if key.source not in there}
    lacking = {name: F.lit(None).cast("array<string>" if listed else "string") for name, listed in lists.items()}
    known = FeatureSpec.model_construct(
        name=spec.name, label=by.label, timestamp=by.timestamp, derive=spec.derive, fields=keys, frequencies=counted
    )
    return known, lacking


def _spec(model: ServedModel) -> FeatureSpec:
    return read_manifest(storage.join(model.artifact, ENCODER), StateManifest).spec
