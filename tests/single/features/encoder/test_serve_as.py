"""Fields that serving does not know: what stands in for them, and what a request need not bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import digest
from nightjar.features.encoder.encoder import EncoderState, HashedBatch
from nightjar.features.encoder.frequency import Counts, FrequencyTable
from nightjar.features.encoder.hashing import combine, hash_strings
from nightjar.features.encoder.inputs import InputColumn, input_columns
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState

DOCUMENT: dict[str, Any] = {
    "name": "s",
    "label": "y",
    "timestamp": "t",
    "fields": [
        {"name": "user"},
        {"name": "slot", "column": "position", "serve_as": 1},
        {"name": "shelf", "serve_as": "top"},
        {"name": "paid", "serve_as": True},
        {"name": "near", "column": "distance", "boundaries": [0, 2], "serve_as": 1.5},
        {"name": "tags", "multi_valued": True, "serve_as": ["a", "b"]},
    ],
    "dense": [{"name": "price"}, {"name": "dwell", "serve_as": 3}],
    "frequencies": [{"name": "placed", "keys": ["user", "slot"], "prior": 0.5}],
}
SPEC = FeatureSpec.model_validate(DOCUMENT)
LOGGED: list[dict[str, Any]] = [
    {"user": "ann", "position": 1, "shelf": "top", "paid": True, "distance": 1.0, "tags": ["b", "a"], "dwell": 3.0},
    {"user": "bob", "position": 7, "shelf": None, "paid": False, "distance": 9.0, "tags": [], "dwell": 0.5},
]
REQUEST = [{"user": row["user"], "price": 2.0} for row in LOGGED]


def hashed(rows: Any, *, as_logged: bool = False, spec: FeatureSpec = SPEC) -> HashedBatch:
    key = combine([hash_strings(["bob"]), hash_strings(["1"])])
    counts = {"placed": FrequencyTable(key, {"all": Counts(np.array([9]), np.array([4]))})}
    return hash_rows(FittedState(spec, EncoderState({}, {}), counts), rows, as_logged=as_logged)


def test_what_a_request_does_not_bring_is_the_served_value_in_every_row() -> None:
    batch = hashed(REQUEST)
    for name, value in (("slot", "1"), ("shelf", "top"), ("paid", "true")):
        assert batch.hashes[name].tolist() == hash_strings([value] * 2).tolist()  # type: ignore[union-attr]
    tags = batch.hashes["tags"]
    assert isinstance(tags, Ragged)
    assert tags.values.tolist() == hash_strings(["a", "b", "a", "b"]).tolist()
    assert tags.offsets.tolist() == [0, 2, 4]
    assert batch.numbers["dwell"].tolist() == [3.0, 3.0]
    # Keys are made of the served value, too: bob was counted at position 1.
    assert batch.histories["placed"].counts["all"].impressions.tolist() == [0, 9]


def test_the_served_value_stands_in_for_what_a_request_brings_whatever_it_is() -> None:
    brought = [row | {"price": 2.0} for row in LOGGED]
    wrong = [row | {"position": 3.25, "dwell": "long", "tags": "a"} for row in brought]
    for rows in (brought, wrong):
        expected, found = hashed(REQUEST), hashed(rows)
        for name, column in expected.hashes.items():
            values = [c.values if isinstance(c, Ragged) else c for c in (column, found.hashes[name])]
            np.testing.assert_array_equal(*values)
        np.testing.assert_array_equal(found.numbers["dwell"], expected.numbers["dwell"])


def test_rows_as_logged_are_read() -> None:
    batch = hashed([row | {"price": 2.0} for row in LOGGED], as_logged=True)
    assert batch.hashes["slot"].tolist() == hash_strings(["1", "7"]).tolist()  # type: ignore[union-attr]
    assert batch.hashes["shelf"].tolist() == hash_strings(["top", None]).tolist()  # type: ignore[union-attr]
    assert batch.numbers["dwell"].tolist() == [3.0, 0.5]
    assert batch.histories["placed"].counts["all"].impressions.tolist() == [0, 0]
    with pytest.raises(DataError, match="lack the columns"):
        hashed({"user": ["ann"], "price": [1.0]}, as_logged=True)


def test_a_column_that_another_feature_reads_is_still_required() -> None:
    spec = FeatureSpec.model_validate(
        DOCUMENT | {"fields": [*DOCUMENT["fields"], {"name": "asked", "column": "position"}]}
    )
    with pytest.raises(DataError, match=r"lack the columns \['position'\]"):
        hashed({"user": ["ann"], "price": [1.0]}, spec=spec)
    batch = hashed({"user": ["ann"], "price": [1.0], "position": [7]}, spec=spec)
    assert [int(batch.hashes[name][0]) for name in ("slot", "asked")] == hash_strings(["1", "7"]).tolist()  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("fields", {"serve_as": [1]}, r"serve_as must be one value, not a list; got \[1\]"),
        ("fields", {"serve_as": 1.5}, "serve_as must be a string, an integer or a boolean; got 1.5"),
        ("fields", {"serve_as": "a", "multi_valued": True}, "serve_as must be a list, as the field is multi-valued"),
        ("fields", {"serve_as": ["a", 1], "multi_valued": True}, "serve_as must hold values of one type"),
        ("fields", {"serve_as": "a", "boundaries": [1.0]}, "boundaries must be a finite number; got a"),
        ("fields", {"serve_as": True, "boundaries": [1.0]}, "boundaries must be a finite number; got True"),
        ("dense", {"serve_as": "a"}, "serve_as"),
        ("dense", {"serve_as": True}, "serve_as"),
        ("dense", {"serve_as": float("inf")}, "serve_as must be a finite number; got inf"),
    ],
)
def test_a_served_value_of_another_type_is_refused(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeatureSpec.model_validate(DOCUMENT | {kind: [*DOCUMENT[kind], {"name": "new", **settings}]})


def test_a_spec_of_which_a_request_brings_nothing_is_refused() -> None:
    bare = {key: value for key, value in DOCUMENT.items() if key not in ("dense", "frequencies")}
    with pytest.raises(ValidationError, match="every field and dense feature has serve_as"):
        FeatureSpec.model_validate(bare | {"fields": [{"name": "slot", "serve_as": 1}]})


def test_zero_for_missing_counts_needs_counts_of_the_impression() -> None:
    frequency = {"name": "f", "keys": ["user"], "prior": 0.5, "missing_so_far": "zero"}
    with pytest.raises(ValidationError, match="missing_so_far needs as_of: impression"):
        FeatureSpec.model_validate(DOCUMENT | {"frequencies": [frequency]})


def test_a_served_value_is_told_by_the_fingerprint_and_its_absence_leaves_it_as_it_was() -> None:
    plain = DOCUMENT | {
        "fields": [{key: v for key, v in field.items() if key != "serve_as"} for field in DOCUMENT["fields"]],
        "dense": [{"name": "price"}, {"name": "dwell"}],
    }
    spec = FeatureSpec.model_validate(plain)
    before = spec.model_dump(mode="json", exclude_defaults=True)
    assert not any(key in str(before) for key in ("serve_as", "missing_so_far", "split"))
    assert spec.fingerprint == digest(before)[:16] != SPEC.fingerprint
    assert FeatureSpec.model_validate_json(SPEC.model_dump_json()) == SPEC


def test_the_inputs_of_a_request_have_types_and_say_what_stands_in() -> None:
    today = {"name": "now", "keys": ["user", "slot"], "prior": 0.5, "as_of": "impression", "missing_so_far": "zero"}
    spec = FeatureSpec.model_validate(
        DOCUMENT | {"frequencies": [today], "dense": [*DOCUMENT["dense"], {"name": "d", "column": "distance"}]}
    )
    since = "of this row's keys together (user x slot) since the day began (UTC), before now; zero where it is missing"
    assert input_columns(spec) == (
        InputColumn("user", "category", True, "field user"),
        InputColumn("position", "category", False, "field slot, served as 1 whatever a request brings"),
        InputColumn("shelf", "category", False, "field shelf, served as 'top' whatever a request brings"),
        InputColumn("paid", "category", False, "field paid, served as True whatever a request brings"),
        InputColumn("distance", "number", True, "field near, served as 1.5 whatever a request brings, dense feature d"),
        InputColumn("tags", "list of categories", False, "field tags, served as ['a', 'b'] whatever a request brings"),
        InputColumn("price", "number", True, "dense feature price"),
        InputColumn("dwell", "number", False, "dense feature dwell, served as 3 whatever a request brings"),
        InputColumn("now_impressions_so_far", "count", False, f"impressions {since}"),
        InputColumn("now_positives_so_far", "count", False, f"positives {since}"),
    )


def test_the_position_of_the_generated_logs_is_served_as_the_first() -> None:
    with open("conf/app_store.yaml") as stream:
        spec = FeatureSpec.model_validate(yaml.safe_load(stream)["features"])
    assert {column.name for column in input_columns(spec) if not column.required} == {"position"}
