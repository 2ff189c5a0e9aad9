"""Every pass over a log must have seen the same rows: what was read is compared before anything is committed.

A log is read several times, to check, to count and to encode it. Between two of them a compaction, a retention or an
upload may take a file away, bring one, or write one again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.days import day_number
from nightjar.features.input.files import read_heads
from nightjar.features.input.folders import DAY, LogPartition, fingerprint_of, read_logs
from nightjar.features.input.sides.look import changed_sides
from nightjar.features.spark.rows import positive

_REMEDY = "Nothing was published from it. Let nothing write to the log of these days, and run the same command again."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowCount:
    """Rows, and how many of them are positive."""

    rows: int
    positives: int

    def __str__(self) -> str:
        return f"{self.rows} rows with {self.positives} positives"


@dataclass
class Pass:
    """One reading of the rows of some days: counted while they pass, by Spark itself.

    days: with what their rows are. counted: rows and positives of each of them, by date.
    """

    spark: SparkSession
    spec: FeatureSpec
    days: Sequence[LogPartition]
    counted: Mapping[str, RowCount]
    _seen: list[Observation] = field(default_factory=list)

    def through(self, rows: DataFrame, label: Column, row_hash: Column | None = None) -> DataFrame:
        """The same rows, counted when they are read; each row of the pass must come by once.

        Args:
            rows: a part of the rows of all days, or all of them.
            label: 1 for a positive, else 0.
            row_hash: of features.spark.rows.row_hash, if it is known.
        """
        seen = Observation()
        self._seen.append(seen)
        figures = [F.count(F.lit(1)).alias("rows"), F.sum(label.cast("bigint")).alias("positives")]
        if row_hash is not None:
            figures.append(F.sum(row_hash.cast("decimal(20,0)")).cast("string").alias("hashes"))
        return rows.observe(seen, *figures)

    def require_all(self, what: str, *, known_otherwise: bool = False) -> None:
        """After the pass. Raises DataError, with the numbers, unless it has read what was counted.

        Args:
            what: the pass has done, for people.
            known_otherwise: the caller knows how many rows came through, so that too many here may be tasks that ran
                twice: Spark counts those again whose executor was lost after them.
        """
        if not self._seen:  # the spec has no table of this kind
            return
        counts = [self.counted[day.date] for day in self.days]
        wanted = RowCount(sum(count.rows for count in counts), sum(count.positives for count in counts))
        seen = [observation.get for observation in self._seen]
        found = RowCount(sum(one.get("rows") or 0 for one in seen), sum(one.get("positives") or 0 for one in seen))
        known = [day.hashes for day in self.days if day.hashes is not None]
        hashes = [int(one["hashes"]) for one in seen if one.get("hashes") is not None]
        if found == wanted and (not hashes or len(known) < len(self.days) or sum(hashes) == sum(known)):
            return
        changed = self._changed_days()
        if not changed and known_otherwise and found.rows > wanted.rows:
            log.info("%s %s, some in tasks that ran twice", what, found)
            return
        raise DataError(
            f"the log has changed since its rows were counted: {what} {found}, not {wanted}."
            + "".join(f"\n{line}" for line in changed)
            + f"\n{_REMEDY}"
        )

    def _changed_days(self) -> list[str]:
        """The days that are not as they were counted, from a look at the log itself: one a line, with the numbers."""
        label = positive(self.spec).alias("positive")
        rows = reduce(DataFrame.unionAll, [raw.select(DAY, label) for raw in read_logs(self.spark, self.days)])
        counts = rows.groupBy(DAY).agg(F.count(F.lit(1)).alias("rows"), F.sum("positive").alias("positives")).collect()
        there = {row[DAY]: RowCount(row["rows"], row["positives"]) for row in counts}
        return [
            f"  date {day.date}: there were {self.counted[day.date]}; there are {now}"
            for day in self.days
            if (now := there.get(day_number(day.date), RowCount(0, 0))) != self.counted[day.date]
        ]


def require_unchanged(days: Sequence[LogPartition]) -> None:
    """Raises DataError if files of a day or a side table are others than when the run began, also with as many rows."""
    changed: list[str] = []
    for day in days:
        if (
            not (day.timestamp or day.is_empty)
            and fingerprint_of(day.input, read_heads(day.url, day.input)[0]) != day.files
        ):
            changed.append(f"  date {day.date}: {day.url}")
    changed += changed_sides((joined, day.date) for day in days for joined in day.sides)
    if changed:
        raise DataError(
            "files of the log were written, removed or added while it was read:\n" + "\n".join(changed) + f"\n{_REMEDY}"
        )
