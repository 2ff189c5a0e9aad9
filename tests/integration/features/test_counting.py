"""Counts of many columns in one pass, against counters in pure Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from nightjar.features.counts.counting import partial_counts

DAYS = (20_000, 20_001)
WORDS = ["", "a", "Zoë", "日本", "🦉", "null", None]
ROWS = 300


def drawn_rows() -> pa.Table:
    """Rows of two days, mixed; a word, a list of words, a word that only the first day has."""
    rng = np.random.default_rng(5)
    days = rng.choice(DAYS, ROWS)

    def words(size: int) -> list[str | None]:
        return [WORDS[n] for n in rng.integers(0, len(WORDS), size)]

    lists = [None if size == 4 else [w for w in words(size) if w is not None] for size in rng.integers(0, 5, ROWS)]
    return pa.table(
        {
            "day": pa.array(days, pa.int32()),
            "positive": pa.array(rng.integers(0, 2, ROWS), pa.int64()),
            "word": pa.array(words(ROWS)),
            "words": pa.array(lists, pa.list_(pa.string())),
            "early": pa.array(["x" if day == 20_000 else None for day in days]),
        }
    )


def counted_by_hand(rows: Iterable[dict[str, Any]]) -> dict[tuple[int, int, str], list[int]]:
    """[impressions, positives] by table, day and value."""
    impressions: Counter[tuple[int, int, str]] = Counter()
    positives: Counter[tuple[int, int, str]] = Counter()
    for row in rows:
        for table, values in enumerate(([row["word"]], row["words"] or [], [row["early"]])):
            for value in values:
                if value is not None:
                    impressions[table, row["day"], value] += 1
                    positives[table, row["day"], value] += row["positive"]
    return {key: [count, positives[key]] for key, count in impressions.items()}


@pytest.mark.parametrize("piece_bytes", [1, 1 << 30])
def test_partial_counts_of_pieces_of_any_size_add_up_to_a_count_by_hand(spark: SparkSession, piece_bytes: int) -> None:
    table = drawn_rows()
    session = spark.newSession()
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "16")
    partial = partial_counts(session.createDataFrame(table).coalesce(1), "string", piece_bytes).collect()
    found: dict[tuple[int, int, str], list[int]] = {}
    for row in partial:
        sums = found.setdefault((row["table"], row["day"], row["value"]), [0, 0])
        sums[0] += row["impressions"]
        sums[1] += row["positives"]
    expected = counted_by_hand(table.to_pylist())
    assert found == expected
    assert (len(partial) > len(expected)) == (piece_bytes == 1), "small pieces leave something to add up"
