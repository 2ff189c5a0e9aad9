"""Rolled-up counts to the ids of fields and crosses, to what is admitted, and to the figures of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.artifact_files import CROSS, SKETCH, VOCABULARY
from nightjar.features.contract.manifests import CrossFigures, FieldFigures, FileEntry
from nightjar.features.contract.spec import CategoricalField, Cross, FeatureSpec
from nightjar.features.counts.conjunctions import is_sketched
from nightjar.features.counts.rollup import ADMISSIONS_SCHEMA, Rollup
from nightjar.features.encoder.admission import RANK_BITS, estimate_distinct, expected_collision_rate
from nightjar.features.fit.vocabularies import with_ids
from nightjar.features.spark.tables import Destination, dealt, read_tables, table_rows, write_tables


@dataclass(frozen=True)
class Written:
    """A table of a state. distinct: what was counted; given: how many were ever given an id."""

    files: list[FileEntry]
    distinct: int
    given: int

    @property
    def rows(self) -> int:
        """Of those, how many are in the files: all that are not retired."""
        return sum(entry.rows or 0 for entry in self.files)


@dataclass(frozen=True)
class Ids:
    """What a roll-up says of the fields and crosses of a spec; a state is made of it in `directory`."""

    spark: SparkSession
    spec: FeatureSpec
    rollup: Rollup
    directory: str

    def write_fields(self) -> dict[str, Written]:
        """The vocabularies, by field; hashed fields have none."""
        return self._write(VOCABULARY, [field for field in self.spec.fields if field.kind == "vocabulary"])

    def write_crosses(self) -> dict[str, Written]:
        """What is admitted, by cross, of those that do not admit everything."""
        return self._write(CROSS, [cross for cross in self.spec.crosses if cross.is_fitted])

    def field_figures(self, fields: dict[str, Written]) -> dict[str, FieldFigures]:
        """By field; fields: what was written."""
        return {
            name: FieldFigures(distinct=of.distinct, known=of.rows, retired=of.given - of.rows)
            for name, of in fields.items()
        }

    def cross_figures(self, crosses: dict[str, Written]) -> dict[str, CrossFigures]:
        """By cross; crosses: what was written."""
        estimates, occupied = self._estimates(), self._occupied()
        figures = {}
        for cross in self.spec.crosses:
            name = cross.name
            distinct = estimates[name] if name in estimates else crosses[name].distinct
            admitted = None if cross.admission.by == "bloom" else crosses[name].rows if cross.is_fitted else distinct
            collisions, expected = None, 0.0
            if cross.vocabulary == "exact":
                collisions = 0.0
            else:
                expected = expected_collision_rate(distinct if admitted is None else admitted, cross.buckets)
            if name in occupied and admitted:
                collisions = 1.0 - occupied[name] / admitted
            figures[name] = CrossFigures(
                distinct=distinct,
                exact=name not in estimates,
                admitted=admitted,
                collision_rate=collisions,
                expected_collision_rate=expected,
            )
        return figures

    def _write(self, kind: str, policies: Sequence[CategoricalField] | Sequence[Cross]) -> dict[str, Written]:
        if not policies:
            return {}
        names = [policy.name for policy in policies]
        merged = {self.rollup.directory: self.rollup.manifest}
        distinct = {name: table_rows(merged, f"{kind}/{name}") for name in names}
        places = [Destination(self.directory, f"{kind}/{name}", distinct[name]) for name in names]
        tables = with_ids(dealt(self._rolled_up(kind, names), places, "hash"), policies, self.rollup.as_of - 1)
        written = dict(zip(names, write_tables(tables, places, "hash"), strict=True))
        forgetting = {policy.name: policy.max_size for policy in policies if policy.retire_after_days}
        given = self._admitted(kind, forgetting)
        return {
            name: Written(files, distinct[name], given.get(name, sum(entry.rows or 0 for entry in files)))
            for name, files in written.items()
        }

    def _admitted(self, kind: str, max_sizes: dict[str, int | None]) -> dict[str, int]:
        """How many ids were ever given, by table."""
        if not max_sizes:
            return {}
        names = list(max_sizes)
        counts = self._rolled_up(kind, names).groupBy("table").agg(F.count("admitted").alias("ids")).collect()
        ids = defaultdict(int, {names[row["table"]]: row["ids"] for row in counts})
        return {name: ids[name] if size is None else min(ids[name], size) for name, size in max_sizes.items()}

    def _occupied(self) -> dict[str, int]:
        """How many ids stand for the conjunctions that are listed, by cross."""
        listed = [cross for cross in self.spec.crosses if cross.is_fitted and cross.admission.by != "bloom"]
        hashed = [cross for cross in listed if cross.vocabulary == "hashed"]
        if not hashed:
            return {}
        last = F.array(*(F.lit(cross.buckets - 1).cast("bigint") for cross in hashed))[F.col("table")]
        admitted = self._rolled_up(CROSS, [cross.name for cross in hashed]).where(F.col("admitted").isNotNull())
        counts = admitted.groupBy("table").agg(F.count_distinct(F.col("hash").bitwiseAND(last)).alias("n")).collect()
        return {hashed[row["table"]].name: row["n"] for row in counts}

    def _estimates(self) -> dict[str, int]:
        """Distinct conjunctions by the sketch, by cross; only registers come to the driver."""
        names = [cross.name for cross in self.spec.crosses if is_sketched(cross)]
        if not names:
            return {}
        rank = F.col("hash").bitwiseAND(F.lit((1 << RANK_BITS) - 1).cast("bigint"))
        by_register = self._rolled_up(SKETCH, names).groupBy("table", F.shiftright("hash", RANK_BITS))
        ranks: dict[str, list[int]] = {name: [] for name in names}
        for row in by_register.agg(F.max(rank).alias("rank")).collect():
            ranks[names[row["table"]]].append(row["rank"])
        return {name: estimate_distinct(np.array(of, dtype=np.int64)) for name, of in ranks.items()}

    def _rolled_up(self, kind: str, names: Sequence[str]) -> DataFrame:
        rolled_up = {self.rollup.directory: self.rollup.manifest}
        return read_tables(self.spark, rolled_up, kind, names, ADMISSIONS_SCHEMA).drop("_metadata")
