"""A night from a config that `init_config` has written, as it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv
import pytest

from nightjar import serving
from nightjar.jobs.initialise import init_config
from nightjar.serving import registry
from tests.kits.small_night import make_day
from tests.kits.submit import submit


def test_a_written_config_runs_a_night_on_logs_of_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, config = tmp_path / "logs", tmp_path / "mine.yaml"
    for day in (1, 2, 3):
        folder = logs / f"date=2026-01-{day:02d}"
        folder.mkdir(parents=True)
        pyarrow.csv.write_csv(make_day(day), folder / "part-0.csv")
    assert init_config.main(["--logs", str(logs), "--output", str(config)]) == 0
    said = capsys.readouterr().out.splitlines()[-1].split()
    assert said[:2] == ["nightjar", "night"]
    arguments = [str(tmp_path / "nightjar") if word == "OUTPUT" else word for word in said[2:]]
    status, out, err = submit("run_nightly", arguments, tmp_path)
    assert status == 0, err[-4000:]
    assert "2026-01-03" in out
    champion = registry.load_champion(str(tmp_path / "nightjar" / "models"))
    row = make_day(3).slice(0, 1).drop_columns(["clicked"])
    odd, even = (
        serving.load(champion).score(row.set_column(row.column_names.index("item"), "item", [[i]])) for i in (1, 2)
    )
    assert odd[0] > 2 * even[0], "odd items are clicked nine times as often"
