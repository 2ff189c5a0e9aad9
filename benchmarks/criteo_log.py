"""A click log in Criteo's shape: 26 categorical, 13 numeric columns, label and time. A row is a function of its number.

The cardinalities are those of the contest's log, the large ones scaled to a vocabulary of the size that is asked for.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

Draw = Literal["every", "zipf", "uniform", "skewed"]

CARDINALITIES = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)
HEAVY_SHARE = 0.3
_LARGE = 20_000
_DAY_MICROS = 86_400_000_000


def cardinalities(vocabulary: int) -> list[int]:
    """Values of each field, about `vocabulary` in all."""
    small = sum(n for n in CARDINALITIES if n < _LARGE)
    scale = (vocabulary - small) / (sum(CARDINALITIES) - small)
    return [n if n < _LARGE else max(_LARGE, int(n * scale)) for n in CARDINALITIES]


def clicks(spark: SparkSession, day: date, rows: int, vocabulary: int, draw: Draw) -> DataFrame:
    """A day of the log.

    draw: `every` value of a field in turn; or at random, the k-th with a probability of about 1/k (`zipf`), all alike
    (`uniform`), or so but one value of each field in HEAVY_SHARE of the rows (`skewed`).
    """
    salt = day.toordinal()

    def random(*of: object) -> Column:
        bits = F.xxhash64(F.col("id"), F.lit(salt), *(F.lit(part) for part in of))
        return F.pmod(bits, F.lit(1 << 53)) / float(1 << 53)

    def category(n: int, size: int) -> Column:
        if draw == "every":
            number = F.pmod(F.col("id"), F.lit(size))
        elif draw == "zipf":
            number = F.floor(F.exp(random("C", n) * math.log(size + 1)) - 1)
        else:
            number = F.floor(random("C", n) * size)
        if draw == "skewed":
            number = F.when(random("heavy", n) < HEAVY_SHARE, F.lit(0)).otherwise(number)
        value = F.lower(F.lpad(F.hex(F.shiftrightunsigned(F.xxhash64(F.lit(n), number.cast("bigint")), 32)), 8, "0"))
        return F.when(random("missing", n) < 0.03 * (n % 4), None).otherwise(value).alias(f"C{n}")

    def number(n: int) -> Column:
        amount = F.floor(F.exp(random("I", n) * (2 + n / 2)) - 1).cast("int")
        return F.when(random("no", n) < 0.03 * (n % 5), None).otherwise(amount).alias(f"I{n}")

    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    return spark.range(rows).select(
        (random("label") < 0.25).cast("int").alias("label"),
        F.timestamp_micros(F.lit(midnight) + F.floor(F.col("id") * (_DAY_MICROS / rows))).alias("timestamp"),
        *(number(n) for n in range(1, 14)),
        *(category(n, size) for n, size in enumerate(cardinalities(vocabulary), 1)),
    )
