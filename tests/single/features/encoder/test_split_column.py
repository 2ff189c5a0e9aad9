"""Delimited lists of a request, against Python's own split; Spark's are compared in tests/integration/features."""

from __future__ import annotations

import pyarrow as pa
import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.raw_columns import split_column

TEXTS = ["a|b", "", None, "|", "a||b|", "ä|🦉", "a", "a|b", "a;b"]


@pytest.mark.parametrize("separator", ["|", ";", "||"])
def test_pieces_are_what_lies_between_separators_and_is_not_empty(separator: str) -> None:
    expected = [None if text is None else [piece for piece in text.split(separator) if piece] for text in TEXTS]
    assert split_column(pa.array(TEXTS), "tags", separator).to_pylist() == expected


def test_a_column_without_a_value_has_no_lists() -> None:
    assert split_column(pa.nulls(3), "tags", "|").to_pylist() == [None] * 3


@pytest.mark.parametrize("values", [[1], [["a|b"]], [b"a|b"], [1.5]], ids=str)
def test_a_column_that_holds_no_text_is_named(values: list[object]) -> None:
    with pytest.raises(DataError, match=r"column 'tags' has the type .*; a field with split is a string with '\|'"):
        split_column(pa.array(values), "tags", "|")


def test_a_text_that_is_no_unicode_holds_nothing() -> None:
    texts = pa.array([b"a|\xff", b"a|b"]).view(pa.string())
    assert split_column(texts, "tags", "|").to_pylist() == [[], ["a", "b"]]
