"""Poisson bootstrap: how often a unit is drawn is a function of the unit and the resample alone.

In a bootstrap of n units each is drawn Binomial(n, 1/n) times, all together n times. Drawn Poisson(1) times, each by
itself, they are drawn n times on average, and every ratio of sums has the same distribution in the limit (Hanley and
MacGibbon 2006; Chamandy, Muralidharan, Najmi and Naidu 2012, "Estimating uncertainty for massive data streams"). Then
no task needs to know of another's units: resamples of parts add up to the resample of the whole.

The count is the inverse of Poisson(1)'s distribution function at 16 bits of a hash of unit, resample and seed. To 16
bits the mean is 1 to 1e-5 and the variance to 1e-4, and no unit is drawn more than eight times.

Shapes: U or S units; R resamples; C columns.
"""

from __future__ import annotations

import math

import numpy as np

from nightjar.features.encoder.hashing import hash_long

_UNIFORM = 1 << 16
_A_HASH = 4  # uniform numbers of 16 bits in a hash of 64
_BELOW = np.rint(_UNIFORM * np.cumsum([math.exp(-1.0) / math.factorial(n) for n in range(12)]))
_COUNTS = np.searchsorted(_BELOW, np.arange(_UNIFORM), side="right").astype(np.float64)

CHUNK = 1 << 14
"""Units whose resamples are held at once. Sums of so many counts of at most 8, times 32 bits, are exact in float64."""
_HALF = 32


def draws(key_U: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often units are drawn in each resample: float64[U, R].

    Args:
        key_U: int64[U], what each unit is known by.
        resamples: R.
        seed: of all of them.
    """
    seed_n = hash_long(np.arange(-(-resamples // _A_HASH)), hash_long(np.array([seed])))
    hash_Un = hash_long(np.repeat(key_U, len(seed_n)), np.tile(seed_n, len(key_U)))
    uniform_UR = hash_Un.astype("<i8").view("<u2").reshape(len(key_U), len(seed_n) * _A_HASH)
    return _COUNTS[uniform_UR[:, :resamples]]


def drawn_sums(drawn_SR: np.ndarray, value_SC: np.ndarray) -> np.ndarray:
    """The sums of integers over the units, each as often as it is drawn: int64[R, C], exact.

    Args:
        drawn_SR: float64[S, R], of at most `CHUNK` units.
        value_SC: int64[S, C].
    """
    upper_SC = value_SC >> _HALF  # toward minus infinity, so that the lower half is not negative
    lower_SC = value_SC & ((1 << _HALF) - 1)
    lower_RC = (drawn_SR.T @ lower_SC.astype(np.float64)).astype(np.int64)
    if not upper_SC.any():
        return lower_RC
    return lower_RC + ((drawn_SR.T @ upper_SC.astype(np.float64)).astype(np.int64) << _HALF)
