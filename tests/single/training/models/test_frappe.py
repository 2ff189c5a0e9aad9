"""The Frappe protocol on files of its shape, with a structure that only interactions of fields can express."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
import yaml

from benchmarks.frappe import encode, main, read_csv
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.strict import load_yaml
from nightjar.training.config import TrainingConfig

FIELDS = {"user": 40, "item": 60, "weekday": 7, "weather": 5}


def make_csv(path: Path, rows: int, seed: int) -> None:
    """A click is what user group and item group agree on, four times out of five; ids lie in one space."""
    rng = np.random.default_rng(seed)
    values = {name: rng.integers(0, size, rows) for name, size in FIELDS.items()}
    agree = values["user"] % 2 == values["item"] % 2
    label = np.where(rng.random(rows) < 0.8, agree, ~agree).astype(np.int64)
    starts = np.cumsum([0, *FIELDS.values()])
    columns = {name: values[name] + start for name, start in zip(FIELDS, starts, strict=False)}
    csv.write_csv(pa.table({"label": label, **columns}), path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("frappe")
    for n, (name, rows) in enumerate({"train": 6000, "valid": 600, "test": 1500}.items()):
        make_csv(place / f"{name}.csv", rows, seed=n)
    (place / "config").mkdir()
    adam = {"rule": "adam", "learning_rate": 0.01, "l2": 1e-4}
    validation = {"metric": "auc", "early_stopping": {"patience": 2}, "plateau": {"patience": 1}, "publish": "best"}
    common = {"epochs": 6, "batch_size": 200, "validation": validation, "wide": adam}
    common["embeddings"] = {**adam, "init_scale": 0.1}
    deep = {"layers": [32, 16], "batch_norm": True, "dropout": 0.1, "optimizer": "adam", "learning_rate": 0.005}
    for model in ("lr", "deep", "deepfm"):
        settings = {"model": model, **common, "deep": deep}
        (place / f"config/{model}.yaml").write_text(yaml.safe_dump({"training": settings}))
    return place


def run(place: Path, *more: str) -> int:
    files = [argument for name in ("train", "valid", "test") for argument in (f"--{name}", str(place / f"{name}.csv"))]
    return main([*files, "--work", str(place / "work"), "--config", str(place / "config"), *more])


def test_models_with_interactions_find_what_is_planted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "--seeds", "2") == 0
    lines = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if "±" in line]
    auc, loss = ({line[0].strip(): float(line[n].split("±")[0]) for line in lines} for n in (1, 2))
    assert set(auc) == {"lr", "deep", "deepfm"}
    assert auc["lr"] < 0.55
    for model in ("deep", "deepfm"):
        assert 0.74 < auc[model] < 0.82  # it is .8 for whoever knows which groups agree
        assert loss[model] < loss["lr"] - 0.1
    before = sorted(path.stat().st_mtime_ns for path in (place / "work").rglob("manifest.json"))
    assert run(place, "--seeds", "2", "--models", "deepfm") == 0
    assert sorted(path.stat().st_mtime_ns for path in (place / "work").rglob("manifest.json")) == before


def test_ids_are_those_of_the_training_file_and_others_share_one(place: Path) -> None:
    train = pa.table({"label": [0, 1, 1], "user": [7, 9, 7], "item": [20, 21, 22]})
    test = pa.table({"label": [1, 0], "user": [9, 8], "item": [7, 22]})
    _, sizes, encoded = encode({"train": train, "test": test})
    assert sizes == {"user": 3, "item": 4}
    assert encoded["train"].to_pydict() == {"label": [0, 1, 1], "f_user": [1, 2, 1], "f_item": [1, 2, 3]}
    assert encoded["test"].to_pydict() == {"label": [1, 0], "f_user": [2, 0], "f_item": [0, 3]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,user\n0,a\n", "must hold integers only"),
        ("user,label\n0,1\n", "must begin with a column 'label' of 0 and 1; its columns are"),
        ("label,user\n2,1\n", "must begin with a column 'label' of 0 and 1"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_csv(str(tmp_path / "file.csv"))


@pytest.mark.parametrize("model", ["lr", "fm", "deep", "wide_deep", "deepfm"])
def test_there_is_a_config_for_every_published_model(model: str) -> None:
    config = load_yaml(Path(__file__).parents[4] / f"conf/frappe/{model}.yaml", TrainingConfig, "training")
    assert config.model == model
    assert config.batch_size == 4096
    assert config.validation is not None
    assert config.validation.publish == "best"
