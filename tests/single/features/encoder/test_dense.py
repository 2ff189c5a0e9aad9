"""Numbers, one at a time, from their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightjar.features.contract.spec import CategoricalField, DenseFeature
from nightjar.features.encoder.dense import (
    Moments,
    encode_dense,
    fit_boundaries,
    hash_intervals,
    interval_names,
)
from nightjar.features.encoder.hashing import MISSING, hash_strings

numbers = st.floats() | st.sampled_from([-2.0, -0.0, 0.0, 0.5])


def encode(x: list[float], boundaries: np.ndarray | None = None, moments: Moments | None = None, **feature: Any) -> Any:
    described = DenseFeature.model_validate({"name": "x"} | feature)
    with np.errstate(all="raise", under="ignore"):
        return encode_dense(described, np.array(x, dtype=np.float64), boundaries, moments)


@given(st.lists(numbers, max_size=10))
def test_a_standardised_number_is_its_distance_from_the_mean_in_deviations(x: list[float]) -> None:
    columns = encode(x, moments=Moments(1.5, 0.25), transform="standardise", missing_value=-7.0)
    largest = float(np.finfo(np.float32).max)
    expected = [-7.0 if math.isnan(v) else min(max((v - 1.5) / 0.25, -largest), largest) for v in x]
    assert columns["x"].tolist() == expected
    assert columns["x_missing"].tolist() == [math.isnan(v) for v in x]


def test_a_column_that_was_constant_is_zero_when_standardised_and_one_as_a_quantile() -> None:
    x = [3.0, math.nan, 2.0, math.inf]
    assert encode(x, moments=Moments(3.0, 0.0), transform="standardise")["x"].tolist() == [0.0] * 4
    constant = fit_boundaries(np.full(4, 3.0))
    # Of five quantiles that all begin at 3, a 3 is in the last one, and a 2 before the first.
    assert encode(x, boundaries=constant, quantiles=5, missing_value=0.5)["x"].tolist() == [1.0, 0.5, 0.0, 1.0]


def test_equal_boundaries_are_passed_together() -> None:
    tied = fit_boundaries(np.array([0.0, 0.0, 0.0, 7.0]))
    assert encode([-1.0, -0.0, 0.0, 1.0, 7.0], boundaries=tied, quantiles=5)["x"].tolist() == [0, 0.75, 0.75, 0.75, 1]


@given(st.lists(numbers, max_size=10))
def test_a_number_is_in_the_interval_that_begins_at_or_below_it(x: list[float]) -> None:
    boundaries = [-2.0, 0.0, 0.5]
    names = {0: "[-inf, -2.0)", 1: "[-2.0, 0.0)", 2: "[0.0, 0.5)", 3: "[0.5, inf)"}
    assert interval_names(boundaries) == list(names.values())
    expected = [None if math.isnan(v) else names[sum(v >= b for b in boundaries)] for v in x]
    np.testing.assert_array_equal(hash_intervals(np.array(x), boundaries), hash_strings(expected))
    assert hash_intervals(np.array([math.nan]), boundaries).tolist() == [MISSING]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boundaries": [1.0, 1.0]}, "boundaries must be finite and ascending; got [1.0, 1.0]"),
        ({"boundaries": [0.0, math.inf]}, "boundaries must be finite and ascending; got [0.0, inf]"),
        ({"boundaries": [0.0], "multi_valued": True}, "a multi-valued field cannot have boundaries"),
    ],
)
def test_boundaries_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        CategoricalField.model_validate({"name": "x"} | change)
