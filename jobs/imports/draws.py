"""Random numbers of a simulated log: pure functions of a seed, a tag that names the draw, and ids."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Draws:
    """Random numbers as pure functions of the seed, a tag and ids (bigint columns)."""

    seed: int

    def uniform(self, tag: str, *ids: Column) -> Column:
        """Uniform on [0, 1), double: the upper 53 bits of the hash."""
        hashed = F.xxhash64(F.lit(self.seed).cast("long"), F.lit(tag), *ids)
        return F.shiftrightunsigned(hashed, 11).cast("double") * F.lit(2.0**-53)

    def normal(self, tag: str, *ids: Column) -> Column:
        """Standard normal, double, by Box and Muller's transform."""
        radius = F.sqrt(F.lit(-2.0) * F.log1p(-self.uniform(tag + "/radius", *ids)))
        return radius * F.cos(F.lit(2 * math.pi) * self.uniform(tag + "/angle", *ids))

    def constants(self, tag: str, weights: Sequence[float]) -> list[float]:
        """One number for each member of a small group, with weighted mean 0 and variance 1 over the group."""
        total = sum(weights)
        raw = [self._constant(f"{tag}/{i}") for i in range(len(weights))]
        mean = sum(w * x for w, x in zip(weights, raw, strict=True)) / total
        variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, raw, strict=True)) / total
        return [(x - mean) / math.sqrt(variance) for x in raw]

    def phase(self, tag: str) -> float:
        """A constant angle in [0, 2 pi)."""
        return 2 * math.pi * self._constant_uniform(tag)

    def _constant(self, tag: str) -> float:
        radius = math.sqrt(-2.0 * math.log1p(-self._constant_uniform(tag + "/radius")))
        return radius * math.cos(2 * math.pi * self._constant_uniform(tag + "/angle"))

    def _constant_uniform(self, tag: str) -> float:
        hashed = hashlib.blake2b(f"{self.seed}/{tag}".encode(), digest_size=8).digest()
        return (int.from_bytes(hashed, "big") >> 11) * 2.0**-53


def choice(u: Column, weights: Sequence[float]) -> Column:
    """0, 1, ... with probability proportional to `weights`, from a uniform: int."""
    total, cumulated, bounds = sum(weights), 0.0, []
    for weight in weights[:-1]:
        cumulated += weight
        bounds.append(cumulated / total)
    return total_of([(u >= bound).cast("int") for bound in bounds])


def pick(index: Column, values: Sequence[float] | Sequence[str]) -> Column:
    """values[index]."""
    return F.element_at(F.array(*[F.lit(value) for value in values]), index + 1)


def total_of(columns: Sequence[Column]) -> Column:
    total = columns[0]
    for column in columns[1:]:
        total = total + column
    return total
