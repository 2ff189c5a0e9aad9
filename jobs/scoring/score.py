"""Scores of raw candidates, published: every row's, or those of the best of each request.

The tasks load the artifact and its counters from where they are published, once a process, and map local files into
memory, so that the processes of a machine share them. A score is what `serving` answers to the same row, to the bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import SCORES
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import Manifest
from nightjar.features.contract.publishing import begin, commit, is_published, manifest_digest, read_manifest
from nightjar.features.contract.strict import digest
from nightjar.features.input.damage import damage_reported
from nightjar.features.spark.arrow_tasks import map_arrow
from nightjar.features.spark.rows import source
from nightjar.features.spark.tables import write_table
from nightjar.jobs.scoring.candidates import Candidates
from nightjar.serving.raw_scores import ServedModel

SCORE, RANK = "score", "rank"

log = logging.getLogger(__name__)


class ScoresManifest(Manifest):
    """Scores of candidates: scores/*.parquet with the kept columns, `score`, and `rank` from 1 where the best are asked
    for. counters_as_of: the day that the model's counters were for. candidates: rows read; rows: written.
    """

    kind: Literal["scores"] = "scores"
    model: str
    counters_as_of: str
    candidates: int
    rows: int


@dataclass(frozen=True)
class Best:
    """The best of every request. request: the column that rows of one share; k: how many at most."""

    request: str
    k: int


@dataclass(frozen=True)
class Scoring:
    """What is scored by what, and where it goes. version: what the model is called; output: directory to publish."""

    candidates: Candidates
    model: ServedModel
    version: str
    output: str
    best: Best | None = None

    def inputs(self) -> dict[str, str]:
        """Digests of all that the scores depend on."""
        how = [self.candidates.identity, list(self.candidates.kept), self.best and [self.best.request, self.best.k]]
        counters = {"counters": manifest_digest(self.model.counters)} if self.model.counters else {}
        return {"artifact": manifest_digest(self.model.artifact), "candidates": digest(how), **counters}

    def is_done(self) -> bool:
        """True if just this is published. Raises DataError if something else is."""
        if not is_published(self.output):
            return False
        if read_manifest(self.output, ScoresManifest).inputs == self.inputs():
            return True
        raise DataError(
            f"{self.output} holds the scores of other candidates, or of another model. Remove it, or give another "
            f"--output."
        )

    def run(self, spark: SparkSession) -> ScoresManifest:
        """Score and publish. Raises DataError if a row is lost or comes in, or if the candidates cannot be read."""
        begin(self.output)
        observed = Observation()
        with damage_reported(self.candidates.config):
            scored = self._scored(spark).observe(observed, F.count(F.lit(1)).alias("rows"))
            table = _best(scored, self.best, self.candidates.kept) if self.best else scored
            schema = to_arrow_schema(table.schema)
            files, [rows] = write_table(
                table, self.output, SCORES, through=iter, schema=schema, count=lambda part: [part.num_rows]
            )
        read = int(observed.get["rows"])
        expected = read if self.candidates.rows is None else self.candidates.rows
        if read != expected or (self.best is None and rows != read):
            raise DataError(
                f"the files of {self.candidates.location} hold {expected} rows, of which {read} were scored and {rows} "
                f"written; nothing was published. Was a file written meanwhile? Score them again."
            )
        manifest = ScoresManifest(
            files=tuple(files),
            inputs=self.inputs(),
            model=self.version,
            counters_as_of=self.model.counters_as_of,
            candidates=read,
            rows=rows,
        )
        commit(self.output, manifest)
        log.info("%d candidates, %d scores in %s", read, rows, storage.join(self.output, SCORES))
        return manifest

    def _scored(self, spark: SparkSession) -> DataFrame:
        """In: the candidates' rows. Out: the kept columns, score float. Row count unchanged."""
        rows, kept, asked, model = self.candidates.read(spark), self.candidates.kept, self.candidates.asked, self.model
        types = {field.name: field for field in to_arrow_schema(rows.schema)}
        schema = pa.schema([*(types[name] for name in kept), pa.field(SCORE, pa.float32())])

        def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                scores = pa.array(model.open().score(batch.select(list(asked))), pa.float32())
                yield pa.RecordBatch.from_arrays([*(batch.column(name) for name in kept), scores], schema=schema)

        return map_arrow(rows, score, from_arrow_schema(schema))


def _best(scored: DataFrame, best: Best, kept: Sequence[str]) -> DataFrame:
    """In: scored rows. Out: the best of every request, with their rank int from 1; equal scores by what is kept."""
    order: list[Column] = [F.col(SCORE).desc(), *map(source, kept)]
    ranked = scored.withColumn(RANK, F.row_number().over(Window.partitionBy(source(best.request)).orderBy(*order)))
    return ranked.where(F.col(RANK) <= best.k)
