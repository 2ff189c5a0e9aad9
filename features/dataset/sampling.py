"""Negative down-sampling with importance weights (McMahan et al. 2013, section 4.4)."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.hashing import MISSING
from nightjar.features.input.folders import DAY
from nightjar.features.spark.rows import LABEL, REQUEST, ROW_HASH, WEIGHT

# Sampling must not follow the row hash, which deals the rows to files.
_SALT = 0x5EED
_RESOLUTION = 1 << 32


def sample_negatives(rows: DataFrame, spec: FeatureSpec) -> DataFrame:
    """Keep a share r of the negatives, each of which then weighs 1/r more: the expected loss stays what it was.

    In:  a hashed table (features.spark.rows) of training days, after features.spark.equal_rows.with_unique_hashes.
    Out: the same columns; all positives, or all rows of requests with a positive, and a share r of the other rows, or
         of the rows of the other requests. Which ones is a function of the row or the request and its day.
    """
    if spec.sampling is None:
        return rows
    kept_whole = F.col(LABEL) > 0
    unit = F.col(ROW_HASH)
    if spec.sampling.request:
        # Rows without a request are requests of their own.
        unit = F.when(F.col(REQUEST) == MISSING, F.col(ROW_HASH)).otherwise(F.col(REQUEST))
        kept_whole = F.max(LABEL).over(Window.partitionBy(DAY, unit)) > 0
    one_of = F.lit(spec.sampling.negatives)
    weight = F.when(F.col("whole"), F.col(WEIGHT)).otherwise((F.col(WEIGHT) / one_of).cast("float"))
    marked = rows.select("*", kept_whole.alias("whole"), _uniform(unit).alias("draw"))
    return marked.where(F.col("whole") | (F.col("draw") < one_of)).withColumn(WEIGHT, weight).drop("whole", "draw")


def _uniform(unit: Column) -> Column:
    """A number in [0, 1) that the unit and its day decide."""
    return F.pmod(F.xxhash64(unit, F.col(DAY), F.lit(_SALT)), F.lit(_RESOLUTION)) / _RESOLUTION
