"""Numbers: the transforms of dense features, and the intervals that a field cuts a numeric column into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nightjar.features.contract.spec import DenseFeature
from nightjar.features.encoder.hashing import MISSING, hash_strings

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (of the population) of a feature's finite values; 0 and 0 without any."""

    mean: float
    deviation: float


def encode_dense(
    feature: DenseFeature, x: np.ndarray, boundaries: np.ndarray | None, moments: Moments | None
) -> dict[str, np.ndarray]:
    """The columns of a dense feature, [rows] each; formulas in features.contract.spec.DenseFeature.

    Args:
        feature: says how it is transformed.
        x: float64[rows], NaN where missing.
        boundaries: of a quantile transform; None for the others.
        moments: of a standardised feature; None for the others.
    """
    missing = np.isnan(x)
    # A signalling NaN, and the distance of two large numbers.
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.clip(_transformed(feature, x, boundaries, moments), -_FLOAT32_MAX, _FLOAT32_MAX)
    y = np.where(missing, feature.missing_value, y)
    columns = {feature.name: y}
    if feature.missing_indicator:
        columns[f"{feature.name}_missing"] = missing
    return columns


def _transformed(
    feature: DenseFeature, x: np.ndarray, boundaries: np.ndarray | None, moments: Moments | None
) -> np.ndarray:
    if feature.transform == "quantile":
        assert boundaries is not None
        return np.searchsorted(boundaries, x, side="right") / len(boundaries)
    if feature.transform == "standardise":
        assert moments is not None
        return (x - moments.mean) / moments.deviation if moments.deviation else np.zeros(len(x))
    if feature.transform == "log":
        return np.sign(x) * np.log1p(np.abs(x))
    return x


def fit_boundaries(quantiles: np.ndarray) -> np.ndarray:
    """Boundaries of a quantile transform from the n_q - 1 interior quantiles of the training days: float64, ascending.

    A feature without any value gets boundaries of zero.
    """
    ascending = np.sort(np.asarray(quantiles, dtype=np.float64))
    return np.where(np.isnan(ascending), 0.0, ascending)


def interval_names(boundaries: Sequence[float]) -> list[str]:
    """The categorical value of each interval that `boundaries` cut the numbers into: half open, infinities inside."""
    ends = ["-inf", *(repr(float(boundary)) for boundary in boundaries), "inf"]
    return [f"[{low}, {high})" for low, high in pairwise(ends)]


def hash_intervals(x: np.ndarray, boundaries: Sequence[float]) -> np.ndarray:
    """Hash of the interval's name of each number, int64[n]; NaN is missing."""
    of_interval = np.append(hash_strings(interval_names(boundaries)), MISSING)
    interval = np.searchsorted(np.array(boundaries, dtype=np.float64), x, side="right")
    return of_interval[np.where(np.isnan(x), len(boundaries) + 1, interval)]
