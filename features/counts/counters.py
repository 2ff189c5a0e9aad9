"""The counters of a serving model, published every night: what is known of every key as of the day that it serves.

<models>/counters/<as of>-<key>/
frequency/<name>/*.parquet: as in a fitted state, of all days before the day `as of`: the roll-up's tables
delta/<name>/*.parquet: key, the same counts and gone boolean: the rows that are not in the counters before, and the
keys that are in them alone. Who holds those needs nothing else.

A night merges its newest day for the roll-up that the next night fits on anyway; what counters add to it is a copy of
the tables and a comparison with yesterday's.
"""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DELTA, FREQUENCY, table_folder
from nightjar.features.contract.manifests import CountersManifest, FileEntry
from nightjar.features.contract.publishing import begin, commit, describe_files
from nightjar.features.contract.spec import FeatureSpec, Frequency
from nightjar.features.contract.verified import verify_files
from nightjar.features.counts.point_in_time import counts_schema
from nightjar.features.counts.rollup import Rollup
from nightjar.features.encoder.counters import GONE
from nightjar.features.spark.tables import Destination, dealt, read_table, write_tables


def publish_counters(
    spark: SparkSession,
    spec: FeatureSpec,
    rollup: Rollup,
    directory: str,
    previous: tuple[str, CountersManifest] | None = None,
) -> CountersManifest:
    """Publish the counters of a roll-up for models of a spec.

    Args:
        spec: of the models; its frequencies are the roll-up's.
        rollup: of all days before the one that is served.
        directory: where they go.
        previous: directory and manifest of the counters that the delta is from; they must fit the same specs.
    """
    begin(directory)
    tables = [entry for entry in rollup.manifest.files if entry.path.startswith(f"{FREQUENCY}/")]
    verify_files(rollup.directory, tables)
    for entry in tables:
        storage.copy(storage.join(rollup.directory, entry.path), storage.join(directory, entry.path))
    deltas: list[FileEntry] = []
    if previous:
        for frequency in spec.frequencies:
            deltas += _write_delta(spark, frequency, rollup, previous, directory)
    manifest = CountersManifest(
        inputs=dict(rollup.manifest.inputs),
        files=describe_files(directory, [*tables, *deltas]),
        fingerprint=spec.counters_fingerprint,
        first_date=rollup.manifest.first_date,
        through_date=rollup.manifest.through_date,
        previous=previous[0].rpartition("/")[2] if previous else None,
        keys={frequency.name: _rows(tables, table_folder(FREQUENCY, frequency.name)) for frequency in spec.frequencies},
        changed={f.name: _rows(deltas, table_folder(DELTA, f.name)) for f in spec.frequencies} if previous else {},
    )
    commit(directory, manifest)
    return manifest


def _write_delta(
    spark: SparkSession, frequency: Frequency, rollup: Rollup, previous: tuple[str, CountersManifest], directory: str
) -> list[FileEntry]:
    before, manifest = previous
    schema = f"key bigint, {counts_schema(frequency)}"

    folder = table_folder(FREQUENCY, frequency.name)
    ours = read_table(spark, rollup.directory, rollup.manifest, folder, schema)
    theirs = read_table(spark, before, manifest, folder, schema)
    changed = ours.exceptAll(theirs).withColumn(GONE, F.lit(False))
    gone = theirs.join(ours, on="key", how="left_anti").withColumn(GONE, F.lit(True))
    rows = changed.unionByName(gone).withColumn("table", F.lit(0))
    places = [Destination(directory, table_folder(DELTA, frequency.name), manifest.keys[frequency.name])]
    return write_tables(dealt(rows, places, "key"), places, "key")[0]


def _rows(entries: list[FileEntry], folder: str) -> int:
    return sum(entry.rows or 0 for entry in entries if entry.path.startswith(f"{folder}/"))
