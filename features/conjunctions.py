"""Daily counts of conjunctions, in Spark. The same tables as a field's values have, without names: hash, impressions.

cross/<name>, of crosses that are fitted. By what admits a conjunction, the hash is its own, and the count that of its
rows (all, count) or of the rows that let it in (poisson); or it is a counter of a Bloom filter (features.admission).
sketch/<name>, of the others and where conjunctions are not all listed: what a HyperLogLog sketch of them needs.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.admission import RANK_BITS, SKETCH_REGISTERS, free_bits
from features.categorical import AdmitByBloom, AdmitByPoisson, Cross
from features.logs import DAY
from features.spark_rows import ROW_HASH
from features.spec import FeatureSpec

_DRAW_BITS = 53


def is_sketched(cross: Cross) -> bool:
    """True if the daily counts do not hold every conjunction, so that only a sketch knows how many there are."""
    return not cross.is_fitted or isinstance(cross.admission, AdmitByPoisson | AdmitByBloom)


def conjunctions(rows: DataFrame, spec: FeatureSpec, cross: Cross) -> DataFrame:
    """In: a hashed table. Out: day int, row bigint (its hash), hash bigint: features.encoder.conjoin of each row."""
    table = rows
    for name in cross.fields:
        side = F.col(f"h:{name}")
        if spec.field(name).multi_valued:
            side = F.explode(F.array_distinct(side))
        # A select may hold only one explode.
        table = table.withColumn(f"side:{name}", side)
    sides = [F.col(f"side:{name}") for name in cross.fields]
    return table.select(F.col(DAY).alias("day"), F.col(ROW_HASH).alias("row"), F.xxhash64(*sides).alias("hash"))


def cross_counts(rows: DataFrame, spec: FeatureSpec, cross: Cross) -> DataFrame:
    """In: a hashed table. Out: day int, hash bigint, impressions bigint, never null: one row a day and hash."""
    table = conjunctions(rows, spec, cross)
    if isinstance(cross.admission, AdmitByPoisson):
        table = table.where(_is_drawn(cross.admission))
    if isinstance(cross.admission, AdmitByBloom):
        table = table.select("day", F.explode(_bloom_keys(cross.admission)).alias("hash"))
    return _counted(table)


def cross_sketch(rows: DataFrame, spec: FeatureSpec, cross: Cross) -> DataFrame:
    """In: a hashed table. Out: as of `cross_counts`, of the pairs register * 2^6 + rank that occur.

    A hash's register is its last bits; its rank, of which a register keeps the largest, the place of the first 1 from
    the right among the others.
    """
    bits = SKETCH_REGISTERS.bit_length() - 1
    rest = F.shiftrightunsigned("hash", bits)
    rank = F.when(rest == 0, 65 - bits).otherwise(1 + F.bit_count(rest.bitwiseAND(-rest) - 1))
    register = F.col("hash").bitwiseAND(F.lit(SKETCH_REGISTERS - 1).cast("bigint"))
    pair = F.shiftleft(register, RANK_BITS) + rank.cast("bigint")
    return _counted(conjunctions(rows, spec, cross).select("day", pair.alias("hash")))


def _counted(keyed: DataFrame) -> DataFrame:
    return keyed.groupBy("day", "hash").agg(F.count(F.lit(1)).alias("impressions"))


def _is_drawn(admission: AdmitByPoisson) -> Column:
    """xxhash64(hash, row, seed), as a number in [0, 1), is below the probability."""
    draw = F.shiftrightunsigned(F.xxhash64("hash", "row", F.lit(admission.seed).cast("bigint")), 64 - _DRAW_BITS)
    return draw < F.lit(int(admission.probability * 2**_DRAW_BITS)).cast("bigint")


def _bloom_keys(admission: AdmitByBloom) -> Column:
    """Twin of features.admission.bloom_positions, each in the leading bits, so that they are spread as hashes are."""
    low = F.col("hash").bitwiseAND(F.lit(2**32 - 1).cast("bigint"))
    high = F.shiftrightunsigned("hash", 32).bitwiseOR(F.lit(1).cast("bigint"))
    last = F.lit(admission.counters - 1).cast("bigint")
    positions = ((low + F.lit(i).cast("bigint") * high).bitwiseAND(last) for i in range(admission.hashes))
    return F.array(*(F.shiftleft(position, free_bits(admission.counters)) for position in positions))
