"""A feature spec is checked as a whole: every mistake at once, with its path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightjar.features.contract.errors import SpecError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.jobs.nightly.config import NightConfig

GOOD: dict[str, Any] = {
    "name": "shop",
    "label": "clicked",
    "timestamp": "at",
    "fields": [{"name": "user"}, {"name": "app", "column": "app_id"}, {"name": "tags", "multi_valued": True}],
    "dense": [{"name": "price"}, {"name": "age", "missing_indicator": False}],
    "crosses": [{"name": "user_app", "fields": ["user", "app"]}, {"name": "user_tags", "fields": ["user", "tags"]}],
    "frequencies": [{"name": "seen", "keys": ["app"], "windows": ["7d", "all"], "statistics": ["rate"], "prior": 0.1}],
}


def load(tmp_path: Path, document: Any, section: str | None = "features") -> FeatureSpec:
    path = tmp_path / "conf.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return load_yaml(path, FeatureSpec, section)


def error(tmp_path: Path, document: Any, section: str | None = "features") -> str:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, document, section)
    return str(caught.value)


def problems(tmp_path: Path, **changes: Any) -> str:
    return error(tmp_path, {"features": GOOD | changes})


def cross(**settings: Any) -> dict[str, Any]:
    return {"crosses": [{"name": "c", "fields": ["user", "app"], **settings}]}


def test_a_good_spec_knows_its_columns(tmp_path: Path) -> None:
    spec = load(tmp_path, {"features": GOOD})
    assert spec.source_columns() == ["clicked", "at", "user", "app_id", "tags", "price", "age"]
    assert spec.dense_names() == ["price", "price_missing", "age", "seen_7d_rate", "seen_all_rate"]
    assert [spec.is_multi_valued(cross) for cross in spec.crosses] == [False, True]


def test_a_statistic_without_a_window_has_one_column(tmp_path: Path) -> None:
    statistics = ["days_since_first_seen", "count_rank", "rate"]
    frequency = {"name": "tag", "keys": ["tags", "user"], "windows": ["1d", "all"], "statistics": statistics}
    spec = load(tmp_path, {"features": GOOD | {"dense": [], "frequencies": [frequency | {"prior": 0.1}]}})
    assert spec.dense_names() == [
        "tag_1d_count_rank",
        "tag_1d_rate",
        "tag_all_count_rank",
        "tag_all_rate",
        "tag_days_since_first_seen",
    ]
    assert spec.has_key_lists(spec.frequencies[0])


def test_all_mistakes_are_reported_at_once_with_their_paths(tmp_path: Path) -> None:
    message = problems(
        tmp_path,
        colour="red",
        label="",
        fields=[{"name": "user", "min_count": 0}, {"name": "1st"}],
        crosses=[{"name": "user_app", "fields": ["user", "app"], "buckets": 1000}],
        frequencies=[{"name": "seen", "keys": ["user"], "windows": ["7"]}],
    )
    assert message == (
        f"{tmp_path}/conf.yaml [features] has 8 problem(s):\n"
        "  label: String should have at least 1 character (got '')\n"
        "  fields.0.min_count: Input should be greater than or equal to 1 (got 0)\n"
        "  fields.1.name: String should match pattern '^[A-Za-z][A-Za-z0-9_]*$' (got '1st')\n"
        "  crosses.0: buckets must be a power of two; got 1000\n"
        "  frequencies.0.windows.0: String should match pattern '^([1-9][0-9]{0,3}d|all)$' (got '7')\n"
        "  frequencies.0.prior: required, but missing\n"
        "  colour: unknown key; remove it or correct its spelling\n"
        "  (whole file): crosses.user_app.fields: ['app'] are not among the fields ['1st', 'user']"
    )


def test_features_that_do_not_fit_together_are_reported_at_once(tmp_path: Path) -> None:
    message = problems(
        tmp_path,
        truth="p",
        fields=[{"name": "user"}, {"name": "user"}, {"name": "tags", "multi_valued": True}],
        dense=[{"name": "x", "column": "clicked"}, {"name": "y", "column": "p"}],
        crosses=[{"name": "c", "fields": ["user", "shop"]}],
        frequencies=[{"name": "g", "keys": ["nobody"], "prior": 0.5}],
    )
    assert message.splitlines()[1:] == [
        "  (whole file): fields: the name 'user' is used 2 times",
        "  (whole file): crosses.c.fields: ['shop'] are not among the fields ['tags', 'user']",
        "  (whole file): frequencies.g.keys: ['nobody'] are not among the fields ['tags', 'user']",
        "  (whole file): dense.x reads the column 'clicked', which is the label; no feature may read it",
        "  (whole file): dense.y reads the column 'p', which is the truth; no feature may read it",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"crosses": [{"name": "c", "fields": ["user", "user"]}]}, "the fields of a cross must differ"),
        ({"crosses": [{"name": "c", "fields": ["user"]}]}, "crosses.0.fields: Tuple should have at least 2 items"),
        ({"frequencies": [{"name": "f", "keys": ["user"], "prior": 1.0}]}, "frequencies.0.prior: Input should be less"),
        (
            {"frequencies": [{"name": "f", "keys": ["user"], "prior": 0.5, "as_of": "impression", "delay_days": 1}]},
            "as_of: impression needs delay_days: 0; got 1",
        ),
        (
            {"frequencies": [{"name": "f", "keys": ["user"], "prior": 0.5, "windows": ["7d", "7d"]}]},
            "windows repeats a value: ['7d', '7d']",
        ),
        (
            {
                "frequencies": [
                    {"name": "f", "keys": ["user"], "prior": 0.5, "as_of": "impression", "statistics": ["count_rank"]}
                ]
            },
            "as_of: impression has no count_rank: keys are ranked by the counts of whole days",
        ),
        ({"dense": [{"name": "x"}, {"name": "x_missing"}]}, "two dense features are both called 'x_missing'"),
        ({"fields": []}, "fields: Tuple should have at least 1 item"),
        (
            {"fields": [{"name": "user", "kind": "hashed", "buckets": 8, "min_count": 2, "max_size": 9}]},
            "fields.0: a hashed field has no vocabulary; remove ['min_count', 'max_size']",
        ),
        (
            {"fields": [{"name": "user", "kind": "hashed"}]},
            "fields.0: a hashed field needs buckets, the number of its ids",
        ),
        (
            {"fields": [{"name": "user", "buckets": 8}]},
            "fields.0: buckets belongs to a hashed field; for unknown values of a vocabulary set oov_buckets",
        ),
        ({"fields": [{"name": "user", "oov_buckets": 0}]}, "fields.0.oov_buckets: Input should be greater than or"),
        ({"fields": [{"name": "user", "retire_after_days": 0}]}, "fields.0.retire_after_days: Input should be greater"),
        ({"fields": [{"name": "user", "max_size": 0}]}, "fields.0.max_size: Input should be greater than or equal"),
        (cross(vocabulary="exact", buckets=64), "crosses.0: an exact vocabulary has no buckets; bound it by max_size"),
        (cross(max_size=5), "crosses.0: ['max_size'] needs vocabulary: exact"),
        (
            cross(vocabulary="exact", admission={"by": "bloom", "min_count": 2}),
            "crosses.0: a Bloom filter cannot list what it admits; use vocabulary: hashed, or admission by count",
        ),
        (
            cross(vocabulary="exact", retire_after_days=3, admission={"by": "poisson", "probability": 0.5}),
            "crosses.0: retire_after_days needs every occurrence; use admission by all or by count",
        ),
        (
            cross(admission={"by": "luck"}),
            "crosses.0.admission: Input tag 'luck' found using 'by' does not match any of the expected tags: 'all', "
            "'count', 'poisson', 'bloom'",
        ),
        (cross(admission={"by": "count"}), "crosses.0.admission.count.min_count: required, but missing"),
        (
            cross(admission={"by": "count", "min_count": 2, "probability": 0.1}),
            "crosses.0.admission.count.probability: unknown key; remove it or correct its spelling",
        ),
        (
            cross(admission={"by": "poisson", "probability": 1.5}),
            "crosses.0.admission.poisson.probability: Input should be less than 1",
        ),
        (
            cross(admission={"by": "bloom", "min_count": 2, "counters": 100}),
            "crosses.0.admission.bloom: counters must be a power of two; got 100",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in problems(tmp_path, **changes)


def test_a_config_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    assert error(tmp_path, {"training": {}}) == f"{tmp_path}/conf.yaml has no section 'features'; it has ['training']."
    assert error(tmp_path, "- 1\n- 2\n") == f"{tmp_path}/conf.yaml must hold a mapping at its top level; it holds list."
    assert error(tmp_path, "a: [1").startswith(f"{tmp_path}/conf.yaml is not valid YAML: ")
    twice = error(tmp_path, "features: {}\ntraining: {epochs: 1}\ntraining: {epochs: 2}\n")
    assert re.search(r"conf\.yaml is not valid YAML: 'training' is there twice\n.*line 3, column 1", twice)
    shared = "base: &base {name: a, label: b}\nother: {<<: *base, name: c}\n"
    assert "has no section 'features'; it has ['base', 'other']" in error(tmp_path, shared)
    with pytest.raises(SpecError, match=r"cannot read .*nowhere\.yaml: No such file or directory"):
        load_yaml(tmp_path / "nowhere.yaml", FeatureSpec)


def test_the_fingerprint_follows_every_change_and_nothing_else(tmp_path: Path) -> None:
    spec = FeatureSpec.model_validate(GOOD)
    assert FeatureSpec.model_validate(spec.model_dump(mode="json")).fingerprint == spec.fingerprint
    assert FeatureSpec.model_validate(dict(reversed(GOOD.items()))).fingerprint == spec.fingerprint
    changed = [GOOD | {"label": "bought"}, GOOD | {"dense": GOOD["dense"][::-1]}, GOOD | {"crosses": []}]
    assert len({spec.fingerprint, *(FeatureSpec.model_validate(c).fingerprint for c in changed)}) == 4


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"column": "rating"}, "a column with at_least or above, or sql with columns"),
        ({"column": "rating", "at_least": 1, "above": 2}, "a column with at_least or above, or sql with columns"),
        ({"at_least": 1}, "a column with at_least or above, or sql with columns"),
        ({"sql": "a > 1"}, "sql needs columns"),
        ({"sql": "a > 1", "columns": ["a"], "column": "a"}, "sql says all of the rule; remove ['column']"),
        ({"column": "price", "above": 1}, "dense.price reads the column 'price', which is the label"),
        ({"sql": "price > 1", "columns": ["price"]}, "dense.price reads the column 'price', which is the label"),
    ],
)
def test_a_label_s_rule_says_all_of_it_and_no_feature_reads_its_columns(
    tmp_path: Path, rule: dict[str, Any], problem: str
) -> None:
    assert problem in problems(tmp_path, label=rule)


def test_a_label_s_rule_is_part_of_the_spec_and_its_columns_are_read(tmp_path: Path) -> None:
    def spec(label: Any) -> FeatureSpec:
        return load(tmp_path, {"features": GOOD | {"label": label}})

    share = spec({"column": "tips", "share_of": "price", "above": 0.2})
    assert share.source_columns()[:3] == ["tips", "price", "at"]
    assert str(share.label) == "tips / price > 0.2"
    other = spec({"column": "tips", "share_of": "price", "above": 0.25})
    assert len({one.fingerprint for one in (share, other, spec("tips"))}) == 3
    assert len({one.counters_fingerprint for one in (share, other, spec("tips"))}) == 3


def test_split_is_of_a_list(tmp_path: Path) -> None:
    field = {"name": "tags", "split": "|"}
    assert "split makes a list of a string; set multi_valued: true" in problems(
        tmp_path, fields=[{"name": "user"}, {"name": "app"}, field]
    )


def test_names_that_nothing_has_are_told_beside_other_mistakes_with_what_is_spelt_like_them(tmp_path: Path) -> None:
    document = {
        "features": GOOD | {"crosses": [{"name": "c", "fields": ["User", "apps"], "buckets": 1000}]},
        "gate": {"slices": ["tag", "prices"], "resamples": 1},
    }
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(SpecError) as caught:
        NightConfig.read(str(path))
    assert str(caught.value).splitlines()[1:] == [
        "  features.crosses.0: buckets must be a power of two; got 1000",
        "  features: crosses.c.fields: ['User', 'apps'] are not among the fields ['app', 'tags', 'user']. "
        "Did you mean 'user' for 'User', 'app' for 'apps'?",
        "  gate.resamples: Input should be greater than or equal to 20 (got 1)",
        "  (whole file): gate.slices: ['tag'] are not among the features ['age', 'app', 'price', 'seen', 'tags', "
        "'user']. Did you mean 'tags' for 'tag'?",
    ]
