"""`--set KEY=VALUE`: any key of the YAML file, checked like the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightjar.features.contract.errors import SpecError, UsageError
from nightjar.features.contract.strict import load_yaml
from nightjar.features.contract.yaml_document import with_overrides
from nightjar.jobs.common.options import require_sections
from nightjar.jobs.nightly.config import NightConfig
from nightjar.training.config import TrainingConfig

CONFIG = str(Path(__file__).resolve().parents[3] / "conf" / "app_store.yaml")
DOCUMENT = {"training": {"epochs": 1, "deep": None}, "fields": [{"name": "a"}, {"name": "b", "min_count": 2}]}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("training.epochs=2", ("training", "epochs"), 2),
        ("training.deep.layers=[8, 4]", ("training", "deep"), {"layers": [8, 4]}),
        ("training.wide={rule: adagrad}", ("training", "wide"), {"rule": "adagrad"}),
        ("new.key=text=with=signs", ("new", "key"), "text=with=signs"),
        ("training.deep=", ("training", "deep"), None),
        ("fields.1.min_count=5", ("fields", 1), {"name": "b", "min_count": 5}),
        ("fields=[]", ("fields",), []),
    ],
)
def test_a_key_is_replaced_or_added(override: str, path: tuple[str | int, ...], value: object):
    found: object = with_overrides(DOCUMENT, [override])
    for key in path:
        found = found[key]  # type: ignore[index]
    assert found == value


def test_the_rest_stays_and_the_last_override_wins():
    changed = with_overrides(DOCUMENT, ["training.epochs=2", "training.epochs=3"])
    assert changed == {**DOCUMENT, "training": {"epochs": 3, "deep": None}}
    assert DOCUMENT["training"] == {"epochs": 1, "deep": None}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "--set training.epochs is not KEY=VALUE"),
        ("=2", "--set =2 is not KEY=VALUE"),
        ("training..epochs=2", "is not KEY=VALUE"),
        ("training.epochs.more=2", "'more' would be a key of 1, which has none"),
        ("fields.2.name=c", "'2' is no entry of a list with the entries 0 to 1"),
        ("fields.name=c", "'name' is no entry of a list"),
        ("training=[", "the value of --set training=\\[ is not valid YAML"),
        ("training={epochs: 1, epochs: 2}", "'epochs' is there twice"),
    ],
)
def test_what_cannot_be_set_is_refused(override: str, message: str):
    with pytest.raises(UsageError, match=message):
        with_overrides(DOCUMENT, [override])


def test_a_config_is_read_with_them():
    config = NightConfig.read(
        CONFIG, ["training.epochs=7", "nightly.baselines=[lr]", "nightly.history_from=2026-01-02"]
    )
    assert config.training.epochs == 7
    assert config.nightly.baselines == ("lr",)
    assert str(config.nightly.history_from) == "2026-01-02"


def test_mistakes_are_reported_with_their_paths_all_at_once():
    with pytest.raises(SpecError) as caught:
        NightConfig.read(CONFIG, ["training.epochs=0", "nightly.train_dais=3", "features.fields.0.min_count=-1"])
    message = str(caught.value)
    assert message.startswith(f"{CONFIG} --set training.epochs=0 --set nightly.train_dais=3")
    for line in ("training.epochs: ", "nightly.train_dais: unknown key", "features.fields.0.min_count: "):
        assert f"\n  {line}" in message


def test_a_section_that_the_file_lacks_can_be_set(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("features: {}\n")
    assert load_yaml(tmp_path / "c.yaml", TrainingConfig, "training", overrides=["training.epochs=3"]).epochs == 3


def test_a_section_that_a_job_does_not_read_cannot_be_set_there():
    require_sections(["training.epochs=2"], "training")
    with pytest.raises(UsageError, match="this job reads features and input of the config file, nothing else"):
        require_sections(["features.label=x", "training.epochs=2"], "features", "input")
