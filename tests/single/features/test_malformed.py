"""The row that Spark cannot read is found again: its line, its column, and the value as it is in the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nightjar.features.input.config import InputConfig
from nightjar.features.input.malformed import first_malformed

COLUMNS = {"n": "tinyint", "x": "double", "flag": "boolean", "text": "string"}


def found(path: Path, **section: Any) -> str:
    form = "json" if "json" in path.name else "csv"
    config = InputConfig.model_validate({"format": form, "columns": COLUMNS, **section})
    return first_malformed(f"file://{path}", config)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1,cheap,true,a", "line 3, column 'x': 'cheap' is no double: 1,cheap,true,a"),
        ("128,1,true,a", "line 3, column 'n': '128' is no tinyint: 128,1,true,a"),
        ("1.0,1,true,a", "line 3, column 'n': '1.0' is no tinyint: 1.0,1,true,a"),
        ("1,1,yes,a", "line 3, column 'flag': 'yes' is no boolean: 1,1,yes,a"),
        ("1,1,true", "line 3 has 3 values, not 4: 1,1,true"),
        ('1,1,true,"a,b",c', "line 3 has 5 values, not 4: 1,1,true,a,b,c"),
        ("-128,-.5e-3,TRUE,", ""),
        (",,,", ""),
        ("1,NaN,false,Inf", ""),
        ('1,-Infinity,false,"a,""b"', ""),
    ],
)
def test_a_line_of_csv(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "0.csv").write_text(f"n,x,flag,text\n\n{line}\n2,x,x,x\n" if expected else f"n,x,flag,text\n{line}\n")
    assert found(tmp_path / "0.csv") == expected


def test_columns_in_another_order_a_long_separator_and_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "0.csv.gz").write_bytes(gzip.compress(b"text::x::more::n::flag\n1::1::z::1::true\n::::z::a::true\n"))
    assert found(tmp_path / "0.csv.gz", options={"sep": "::"}) == (
        "line 3, column 'n': 'a' is no tinyint: ::::z::a::true"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"n": "1"}, "line 2, key 'n': \"1\" is no tinyint: "),
        ({"x": "cheap"}, "line 2, key 'x': \"cheap\" is no double: "),
        ({"flag": 1}, "line 2, key 'flag': 1 is no boolean: "),
        ({"n": None, "x": "NaN", "flag": True, "text": 3, "other": "x"}, ""),
    ],
)
def test_a_line_of_json(tmp_path: Path, value: dict[str, Any], expected: str) -> None:
    line = json.dumps(value)
    (tmp_path / "0.json").write_text(f'{{"n": 1}}\n{line}\n')
    assert found(tmp_path / "0.json") == (expected and expected + line)


def test_a_line_that_is_no_json_and_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text('{"n": 1}\n{"n": \n')
    assert found(tmp_path / "0.json").startswith("line 2 is no JSON (Expecting value")
    assert found(tmp_path / "gone.json") == ""
