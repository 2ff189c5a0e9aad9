"""Expressions of derived columns: what may be written, and what a spec makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nightjar.features.contract.expressions.parse import columns_of, parse
from nightjar.features.contract.spec import FeatureSpec
from nightjar.training.warm_start.columns import matching_columns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 + 2", "reads no column"),
        ("a.b", r"'a\.b' cannot be computed in a request; there are \+ -"),
        ("a[0]", r"'a\[0\]' cannot be computed"),
        ("a ** 2", r"'a \*\* 2' cannot be computed"),
        ("lambda: a", "'lambda: a' cannot be computed"),
        ("[x for x in a]", "cannot be computed"),
        ("(a := 3)", "cannot be computed"),
        ("f'{a}'", "cannot be computed"),
        ("a.lower()", "cannot be computed"),
        ("lower(text=a)", "cannot be computed"),
        ("lower(*a)", "cannot be computed"),
        ("__import__('os')", "__import__ is no function of an expression; there are"),
        ("split_prt(a, '|', 1)", r"split_prt is no function of an expression. Did you mean 'split_part'"),
        ("lower(a, a)", r"lower takes 1 argument\(s\); got 2"),
        ("substring(a)", r"substring takes 2 or 3 argument\(s\); got 1"),
        ("coalesce(a)", r"coalesce takes 2 or more argument\(s\); got 1"),
        ("split_part(a, b, 1)", "argument 2 of split_part must be a string that is written out; got b"),
        ("split_part(a, '', 1)", 'argument 2 of split_part must be a string that is written out; got ""'),
        ("split_part(a, '|', 0)", "argument 3 of split_part counts from 1, or from -1 at the end; got 0"),
        ("substring(a, True)", "argument 2 of substring must be a whole number that is written out; got True"),
        ("a in b", "cannot be computed; compare by"),
        ("a in (1, 'x')", "`in` needs a list of numbers or one of strings"),
        ("a in ()", "`in` needs a list"),
        ("a is b", "cannot be computed; compare by"),
        ("column(a)", 'column needs a name in quotes: column\\("any name"\\)'),
        ("b'a' == a", "b'a' is no number, string, True, False or None"),
        ("a + 99999999999999999999", "99999999999999999999 is beyond 64 bits"),
        ("a + 1e999", "a number must be finite"),
        ("a == '\\ud800'", "surrogates not allowed"),
        ("a +", "'a \\+' is no expression: invalid syntax"),
        ("a; b", "is no expression"),
        ("-" * 100 + "a", "may be nested 50 deep"),
        ("(" * 900 + "a" + ")" * 900, "is no expression: too many nested parentheses"),
        ("a" * 3000, "may have 2000 characters; this one has 3000"),
    ],
)
def test_anything_else_is_refused_and_nothing_of_it_is_run(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_an_expression_has_one_canonical_text() -> None:
    node = parse(" a if  b<1 and not(c is None) else concat( column('odd name'),\n'é\"') ")
    assert str(node) == 'if_else(and(less(b, 1), not(is_missing(c))), a, concat(column("odd name"), "é\\""))'
    assert columns_of(node) == ("b", "c", "a", "odd name")


BASE: dict[str, Any] = {"name": "s", "label": "y", "timestamp": "t", "weight": "w", "fields": [{"name": "a"}]}


def spec_of(*derive: tuple[str, str], **more: Any) -> FeatureSpec:
    columns = [{"name": name, "expression": expression} for name, expression in derive]
    return FeatureSpec.model_validate({**BASE, "derive": columns, **more})


def test_the_log_is_asked_for_what_derived_columns_are_made_of_and_only_if_a_feature_reads_them() -> None:
    spec = spec_of(("u", "b + v"), ("v", "hour(t)"), ("idle", "z + 1"), dense=[{"name": "d", "column": "u"}])
    assert spec.source_columns() == ["y", "t", "w", "a", "b"]
    assert spec.request_columns() == ["a", "t", "b"]
    assert spec.derived_sources() == ["u"]


def test_a_feature_with_a_stand_in_asks_requests_for_nothing() -> None:
    spec = spec_of(("u", "b + 1"), dense=[{"name": "u", "serve_as": 2}])
    assert spec.request_columns() == ["a", "b"]
    assert spec.request_columns(as_logged=False) == ["a"]


@pytest.mark.parametrize(
    ("derive", "said"),
    [
        ([("a", "b"), ("a", "c")], "derive: the name 'a' is used 2 times"),
        ([("t", "b + 1")], "derive.t: the timestamp is a column of the log; give the derived one another name"),
        ([("a", "b + 1"), ("b", "c + a"), ("c", "b")], "derive.b: it is computed of itself"),
        ([("a", "a + 1")], "derive.a: it is computed of itself"),
        ([("a", "b + y")], "fields.a reads the column 'y', which is the label; no feature may read it"),
        ([("a", "b"), ("b", "w * 2")], "fields.a reads the column 'w', which is the weight; no feature may read it"),
        ([("a", "b +")], "is no expression: invalid syntax"),
    ],
)
def test_mistakes_of_derived_columns_are_told(derive: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        spec_of(*derive)
    assert said in str(error.value)


def test_many_columns_of_each_other_cost_no_time_to_tell() -> None:
    """Written out, the last would have 2^60 terms."""
    chain = [("c0", "b + b"), *((f"c{n}", f"c{n - 1} + c{n - 1}") for n in range(1, 60))]
    spec = spec_of(*chain, dense=[{"name": "d", "column": "c59"}])
    assert spec.request_columns() == ["a", "b"]
    assert spec.meaning_of(spec.dense[0]).startswith("add(c58, c58); c0 = add(b, b)")


def test_another_expression_is_another_column_to_a_warm_start_and_to_counters() -> None:
    keys: dict[str, Any] = {
        "dense": [{"name": "d", "column": "v"}],
        "frequencies": [{"name": "f", "keys": ["a"], "prior": 0.5}],
    }
    old, same, other = (
        spec_of(("a", f"lower({c})"), ("v", e), **keys) for c, e in (("b", "c+1"), ("b", "c  + 1"), ("e", "c + 2"))
    )
    assert matching_columns(old, same) == {"f_a": "f_a", "d_d": "d_d", "d_d_missing": "d_d_missing"} | {
        f"d_f_all_{statistic}": f"d_f_all_{statistic}" for statistic in ("rate", "log_count")
    }
    assert matching_columns(old, other) == {"f_a": "f_a"}
    assert old.counters_fingerprint == same.counters_fingerprint != other.counters_fingerprint
