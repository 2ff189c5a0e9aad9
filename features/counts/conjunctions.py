"""Daily counts of conjunctions, in Spark. The same tables as a field's values have, without names: hash, impressions.

cross/<name>, of crosses that are fitted. By what admits a conjunction, the hash is its own, and the count that of its
rows (all, count) or of the rows that let it in (poisson); or it is a counter of a Bloom filter
(features.encoder.admission).
sketch/<name>, of the others and where conjunctions are not all listed: what a HyperLogLog sketch of them needs.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F

from nightjar.features.contract.categorical import AdmitByBloom, AdmitByPoisson, Cross
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.encoder.admission import RANK_BITS, SKETCH_REGISTERS, free_bits
from nightjar.features.spark.rows import ROW_HASH, keys_of

_DRAW_BITS = 53


def is_sketched(cross: Cross) -> bool:
    """True if the daily counts do not hold every conjunction, so that only a sketch knows how many there are."""
    return not cross.is_fitted or isinstance(cross.admission, AdmitByPoisson | AdmitByBloom)


def counted_conjunctions(cross: Cross, spec: FeatureSpec) -> Column:
    """What a row of a hashed table adds to the counts of a cross: bigint, null if nothing, or array<bigint>."""
    conjunctions, admission = keys_of(cross.fields, spec), cross.admission
    is_list = _is_list(cross, spec)
    if isinstance(admission, AdmitByPoisson):
        if is_list:
            return F.filter(conjunctions, lambda conjunction: _is_drawn(conjunction, admission))
        return F.when(_is_drawn(conjunctions, admission), conjunctions)
    if isinstance(admission, AdmitByBloom):
        counters = _each(conjunctions, is_list, lambda conjunction: _bloom_keys(conjunction, admission))
        return F.flatten(counters) if is_list else counters
    return conjunctions


def sketched_conjunctions(cross: Cross, spec: FeatureSpec) -> Column:
    """What a row of a hashed table adds to the sketch of a cross, bigint or array<bigint>: register * 2^6 + rank.

    A hash's register is its last bits; its rank, of which a register keeps the largest, the place of the first 1 from
    the right among the others.
    """
    bits = SKETCH_REGISTERS.bit_length() - 1

    def pair(conjunction: Column) -> Column:
        rest = F.shiftrightunsigned(conjunction, bits)
        rank = F.when(rest == 0, 65 - bits).otherwise(1 + F.bit_count(rest.bitwiseAND(-rest) - 1))
        register = conjunction.bitwiseAND(F.lit(SKETCH_REGISTERS - 1).cast("bigint"))
        return F.shiftleft(register, RANK_BITS) + rank.cast("bigint")

    return _each(keys_of(cross.fields, spec), _is_list(cross, spec), pair)


def _is_list(cross: Cross, spec: FeatureSpec) -> bool:
    return any(spec.field(name).multi_valued for name in cross.fields)


def _each(conjunctions: Column, is_list: bool, function: Callable[[Column], Column]) -> Column:
    return F.transform(conjunctions, function) if is_list else function(conjunctions)


def _is_drawn(conjunction: Column, admission: AdmitByPoisson) -> Column:
    """xxhash64(hash, row, seed), as a number in [0, 1), is below the probability."""
    bits = F.xxhash64(conjunction, F.col(ROW_HASH), F.lit(admission.seed).cast("bigint"))
    draw = F.shiftrightunsigned(bits, 64 - _DRAW_BITS)
    return draw < F.lit(int(admission.probability * 2**_DRAW_BITS)).cast("bigint")


def _bloom_keys(conjunction: Column, admission: AdmitByBloom) -> Column:
    """Twin of features.encoder.admission.bloom_positions, each in the leading bits, so that they spread as
    hashes do.
    """
    low = conjunction.bitwiseAND(F.lit(2**32 - 1).cast("bigint"))
    high = F.shiftrightunsigned(conjunction, 32).bitwiseOR(F.lit(1).cast("bigint"))
    last = F.lit(admission.counters - 1).cast("bigint")
    positions = ((low + F.lit(i).cast("bigint") * high).bitwiseAND(last) for i in range(admission.hashes))
    return F.array(*(F.shiftleft(position, free_bits(admission.counters)) for position in positions))
