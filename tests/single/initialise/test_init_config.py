"""The file that is written: valid, commented, the same for the same logs, and the command's messages."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nightjar.features.contract.errors import DataError
from nightjar.jobs.initialise import init_config
from nightjar.jobs.initialise.config import checked_config
from nightjar.jobs.initialise.look import Look
from nightjar.jobs.initialise.screen import Screening
from nightjar.jobs.initialise.settings import gate_section, sampling, train_days, training_section
from nightjar.jobs.nightly.night import NightConfig
from tests.kits.submit import REPOSITORY
from tests.single.initialise.sample_logs import ROWS, folder_of, look_at, write_logs


def init(logs: Path, output: Path, *more: str) -> int:
    return init_config.main(["--logs", str(logs), "--output", str(output), *more])


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(
        tmp_path_factory.mktemp("logs"),
        impression_id=lambda c, r: r.integers(2**40) + np.arange(ROWS),
        tags=lambda c, r: [list(set(tags)) for tags in r.choice(["new", "sale", "eco"], (ROWS, 2)).tolist()],
        position=lambda c, r: r.integers(5, size=ROWS),
    )


def test_a_config_is_written_that_a_night_takes(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "my ads.yaml"
    assert init(logs, output) == 0
    config = NightConfig.read(str(output))
    spec = config.features
    assert (spec.name, spec.label, spec.timestamp, spec.group) == ("my_ads", "clicked", "shown_at", "user_id")
    assert [field.name for field in spec.fields] == ["user_id", "item", "device", "tags", "position"]
    assert spec.field("tags").multi_valued
    assert [feature.name for feature in spec.dense] == ["price"]
    assert config.models == ("wide_deep", "lr", "deep")
    assert "--date 2026-01-03" in capsys.readouterr().out


def test_every_choice_has_the_figure_that_led_to_it(logs: Path, tmp_path: Path) -> None:
    init(logs, tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    assert text.startswith(
        "# Written by nightjar init from 6,000 of 6,000 rows.\n# 3 days, the newest 2026-01-03; 2,000 "
    )
    assert "#   impression_id: an identifier of the row: 6,000 values in 6,000 rows." in text
    assert re.search(r"- \{name: device, embedding: 8\}  # 2 values, AUC alone 0\.\d{3}\n", text)
    assert "known only after ranking" in text
    assert all(len(line) <= 120 or "{" in line for line in text.splitlines())
    uncommented = [line for line in text.splitlines() if "- {" in line and "#" not in line]
    above = text.splitlines()
    assert all(above[above.index(line) - 1].strip().startswith("#") for line in uncommented)


def test_the_same_logs_give_the_same_bytes(logs: Path, tmp_path: Path) -> None:
    program = "import sys; from nightjar.jobs.initialise.init_config import main; sys.exit(main(sys.argv[1:]))"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, "--logs", str(logs), "--output", str(tmp_path / seed / "a.yaml")]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (tmp_path / "1" / "a.yaml").read_bytes() == (tmp_path / "2" / "a.yaml").read_bytes()


def test_a_file_that_is_there_is_not_written_over(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.yaml"
    output.write_text("mine")
    assert init(logs, output) == 2
    assert output.read_text() == "mine"
    assert f"{output} is there already. Give --force to write over it, or another --output." in capsys.readouterr().err
    assert init(logs, output, "--force") == 0
    assert yaml.safe_load(output.read_text())["features"]["label"] == "clicked"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rows", "5"], "--rows must be at least 100; got 5."),
        (["--label", "price"], "--label: 'price' (double, "),
    ],
)
def test_mistakes_are_one_message(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert init(logs, tmp_path / "a.yaml", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.yaml").exists()


def test_a_log_without_features_is_told(tmp_path: Path) -> None:
    look = look_at(write_logs(tmp_path, days=1, rows=200))
    empty = replace(look, screening=Screening({"price": "the same value in every row"}, {}, None, None))
    with pytest.raises(DataError, match=r"no column is left to make a feature of: \{'price': 'the same value"):
        checked_config(empty, "x")


def test_names_that_yaml_or_a_comment_would_trip_over_are_written_safely(tmp_path: Path) -> None:
    odd = {"a: b # c": lambda c, r: r.integers(5, size=ROWS), "two\nlines": lambda c, r: ["x"] * ROWS}
    look = look_at(write_logs(tmp_path, **odd))
    config = NightConfig.model_validate(yaml.safe_load(checked_config(look, "odd")))
    assert config.features.field("a_b_c").column == "a: b # c"


def test_a_csv_gets_the_types_of_what_is_read(tmp_path: Path) -> None:
    for day in range(2):
        folder = folder_of(tmp_path, day)
        folder.mkdir()
        rows = "".join(
            f"{n % 3 % 2},2026-01-0{day + 1} 10:00:{n % 60:02d},u{n % 20},{n % 7},same\n" for n in range(300)
        )
        (folder / "a.csv").write_text(f"clicked,at,user,stars,constant\n{rows}")
    config = NightConfig.model_validate(yaml.safe_load(checked_config(look_at(tmp_path), "c")))
    assert config.input.format == "csv"
    assert dict(config.input.columns) == {"clicked": "bigint", "at": "timestamp", "user": "string", "stars": "bigint"}
    config.input.require_types(config.features)


def resized(look: Look, monkeypatch: pytest.MonkeyPatch, rows_a_day: int, days: int = 3) -> Look:
    monkeypatch.setattr(Look, "usual_day", property(lambda self: rows_a_day))
    monkeypatch.setattr(Look, "days", property(lambda self: days))
    return look


@pytest.mark.parametrize(
    ("rows_a_day", "days", "window", "epochs", "batch", "layers"),
    [
        (500, 186, 185, 3, 256, [64, 32]),
        (6_500, 6, 7, 8, 256, [64, 32]),
        (100_000, 6, 7, 2, 512, [256, 128, 64]),
        (300_000, 60, 7, 1, 4096, [256, 128, 64]),
        (10_000_000, 60, 7, 1, 4096, [400, 400, 400]),
    ],
)
def test_training_follows_the_rows_of_the_first_night(
    logs: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_a_day: int,
    days: int,
    window: int,
    epochs: int,
    batch: int,
    layers: list[int],
) -> None:
    look = resized(look_at(logs), monkeypatch, rows_a_day, days)
    section = {name: value for setting, _ in training_section(look) for name, value in setting.items()}
    assert train_days(look) == window
    assert (section["epochs"], section["batch_size"], section["deep"]["layers"]) == (epochs, batch, layers)
    assert ("batch_ramp" in section) == (batch == 4096)


def test_the_gate_asks_for_no_more_than_a_day_has(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = look_at(logs)
    assert gate_section(look, []) == [({"overall": {"groups": 20}}, "a day has about 2,000 rows, 31 % positive")]
    small = dict(gate_section(resized(look, monkeypatch, 150), [])[0][0]["overall"])
    assert small == {"rows": 80, "positives": 20, "groups": 20}


def test_negatives_are_sampled_where_positives_are_rare_and_rows_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rarely(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        return (np.arange(ROWS) % 100 == 0).astype(int)

    def request_id(columns: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        return rng.integers(2**40) + np.arange(ROWS) // 10

    look = look_at(write_logs(tmp_path, bought=rarely, request_id=request_id), label="bought")
    assert sampling(look) is None
    entry = sampling(resized(look, monkeypatch, 10_000_000))
    assert entry is not None
    assert entry.settings == {"negatives": 0.2, "request": "request_id"}
