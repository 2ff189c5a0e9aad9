"""What the gate is told: its settings, its slices, and input that it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightjar.features.contract.errors import DataError, SpecError, UsageError
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.contract.strict import load_yaml
from nightjar.serving.gate.decision import Decision, GateConfig
from nightjar.serving.sums.rows import Observations
from nightjar.serving.sums.slices import by_value
from tests.kits.gate_kit import METRICS, Impressions, Sliced, config, decide, rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: Observations(o.label[:-1], o.weight, o.group), "5999 labels"),
        (lambda o: Observations(o.label + 1, o.weight, o.group), r"labels 0 or 1; got also \[2.0\]"),
        (lambda o: Observations(o.label, -o.weight, o.group), "finite weights of 0 or more"),
    ],
)
def test_observations_that_cannot_be_used_are_an_error(
    change: Callable[[Observations], Observations], message: str
) -> None:
    data = Impressions()
    with pytest.raises(DataError, match=message):
        decide(config(rule("auc")), change(data.observed), data.scores())


def test_a_rule_on_something_that_is_not_there_is_an_error_even_for_the_first_model() -> None:
    data = Impressions()
    by_device = config(rule("auc", slice="device"))
    with pytest.raises(UsageError, match=r"rules on the slices \['device'\]; given are \['country'\]"):
        decide(by_device, data.observed, data.scores(), slices={"country": Sliced.of(data.country)})
    with pytest.raises(UsageError, match="the data set has no group"):
        decide(config(rule("gauc")), Observations(data.observed.label, data.observed.weight), data.scores())


def test_rules_are_read_from_yaml_and_every_mistake_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "gate:\n"
        "  calibration: [0.9, 1.1]\n"
        "  rules:\n"
        "    - {metric: log_loss, tolerance: 0.002}\n"
        "    - {metric: auc, tolerance: 0.01, confidence: 0.9, slice: country}\n"
    )
    loaded = load_yaml(path, GateConfig, "gate")
    assert [(r.metric, r.slice, r.confidence) for r in loaded.rules] == [
        ("log_loss", None, 0.95),
        ("auc", "country", 0.9),
    ]
    path.write_text("gate: {rules: [{metric: f1, tolerance: -1}], resample: 5}")
    with pytest.raises(SpecError) as error:
        load_yaml(path, GateConfig, "gate")
    assert "3 problem(s)" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": (1.2, 0.8)}, "two bounds in ascending order"),
        ({"rules": [rule("auc"), rule("auc", 0.5)]}, r"one rule overall .* got \['auc', 'auc'\]"),
        ({"rules": []}, "one rule or more"),
        ({"rules": [rule("auc", confidence=0.99)]}, "needs 500 resamples or more; got 200"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateConfig.model_validate({"rules": [rule("auc")], **settings})


def test_a_hashed_field_makes_no_slices_since_its_ids_have_no_names() -> None:
    fields = ({"name": "query", "kind": "hashed", "buckets": 8}, {"name": "country", "oov_buckets": 3})
    spec = FeatureSpec.model_validate({"name": "s", "label": "y", "timestamp": "t", "fields": fields})
    rules = [{"metric": "auc", "tolerance": 0.1}]
    GateConfig.model_validate({"rules": rules, "slices": ["country"]}).require_features(spec)
    with pytest.raises(UsageError, match=r"slices \['query'\] are neither .* Choose from \['country'\]"):
        GateConfig.model_validate({"rules": rules, "slices": ["query"]}).require_features(spec)


def test_all_unknown_values_of_a_field_are_one_slice() -> None:
    field = CategoricalField(name="country", oov_buckets=3)
    slices = by_value(field, {4: "de", 5: "fr"})
    codes = slices.coding.codes(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0])).tolist()
    assert [slices.names[code] for code in codes] == ["(missing)", *["(out of vocabulary)"] * 3, "de", "fr", "de"]
    assert len(set(codes)) == 4


def test_a_decision_of_an_earlier_release_is_read() -> None:
    check = {"metric": "auc", "slice": None, "champion": 0.7, "candidate": 0.71, "difference": 0.01, "passed": True}
    rest = {"interval": [0.0, 0.02], "confidence": 0.95, "tolerance": 0.005, "reason": "auc overall is .71."}
    old = {"verdict": "published", "rows": 10, "checks": [check | rest], "parts": []}
    decision = Decision.model_validate(old)
    assert (decision.outcome, decision.rejection, decision.checks[0].outcome) == ("published", None, "passed")


def test_the_miscalibration_is_called_calibration_in_files_and_may_be_in_a_config() -> None:
    old, new = (config(rule(name)) for name in ("calibration", "miscalibration"))
    assert old == new
    assert old.rules[0].metric == "miscalibration"
    assert json.loads(old.model_dump_json())["rules"][0]["metric"] == "calibration"
    data = Impressions(rows=600)
    decision = decide(old, data.observed, data.scores(0.1), data.scores())
    written = json.loads(decision.model_dump_json())
    assert [figure["metric"] for figure in written["parts"][0]["figures"]] == list(METRICS)
    assert [check["metric"] for check in written["checks"]][-1] == "calibration"
    assert written["checks"][-1]["reason"].startswith("calibration overall is ")
    assert Decision.model_validate(written) == decision
