"""What is under conf/schedule submits the job with arguments that it understands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nightjar.features.contract.outputs import STEPS
from nightjar.jobs import run_nightly

ROOT = Path(__file__).resolve().parents[3]
SCHEDULE = ROOT / "conf" / "schedule"


def submitted(script: str, place: Path, *arguments: str, **settings: str) -> list[str]:
    """What a script hands to spark-submit."""
    (place / "spark-submit").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (place / "spark-submit").chmod(0o755)
    environment = {"PATH": f"{place}:{os.environ['PATH']}"} | settings
    done = subprocess.run(
        [str(SCHEDULE / script), *arguments], env=environment, cwd=place, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", ["standalone.sh", "yarn.sh", "kubernetes.sh"])
def test_the_scripts_submit_the_archives_and_a_night_that_the_job_can_parse(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"NIGHTJAR_ONLY": "gate publish", "NIGHTJAR_GPUS": "2", "NIGHTJAR_OUTPUT": "s3://models"}
    words = submitted(script, tmp_path, "2026-01-05", "2026-01-07", **settings)
    [job] = [n for n, word in enumerate(words) if word.endswith("jobs/run_nightly.py")]
    options, arguments = words[:job], words[job + 1 :]
    assert options[options.index("--py-files") + 1] == "dist/nightjar.zip"
    assert options[options.index("--archives") + 1] == "dist/nightjar-env.tar.gz#env"
    assert {"spark.executor.resource.gpu.amount=2", "spark.task.resource.gpu.amount=1"} <= set(options)
    assert all(word != "" for word in words)
    # The driver finds the config where the script puts it: in the working directory of a cluster's driver, or as it is.
    monkeypatch.chdir(ROOT if script == "standalone.sh" else ROOT / "conf")
    parsed = run_nightly.NightlyArguments(**run_nightly.main.make_context("run_nightly", arguments).params)
    request = parsed.request(parsed.read_config(), parsed.dates(), lambda: pytest.fail("nothing here needs Spark"))
    assert [str(night.date) for night in request.nights] == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert request.nights[0].output == "s3://models"
    assert request.nights[0].launcher == "spark"
    assert request.only == ("gate", "publish")


def test_a_script_without_a_date_says_how_to_call_it(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        submitted("yarn.sh", tmp_path)
    assert "usage: " in caught.value.stderr


def test_the_crontab_calls_scripts_that_are_there_with_dates() -> None:
    lines = [line for line in (SCHEDULE / "crontab").read_text().splitlines() if re.match(r"\d", line)]
    assert len(lines) == 2
    for line in lines:
        minute, hour, *_, command = line.split(maxsplit=5)
        assert 0 <= int(minute) < 60
        assert 0 <= int(hour) < 24
        script = re.match(r"\$NIGHTJAR_HOME/(\S+)", command)
        assert script
        assert os.access(ROOT / script[1], os.X_OK)
        # cron turns a bare % into a line break.
        dates = re.findall(r'"\$\((.*?)\)"', command)
        assert not re.search(r"(?<!\\)%", command)
        for date in dates:
            said = subprocess.run(["sh", "-c", date.replace("\\%", "%")], capture_output=True, text=True, check=True)
            assert re.fullmatch(r"\d{4}-\d\d-\d\d\n", said.stdout)


# As much of Airflow as parsing the DAG takes: tasks that remember their order.
AIRFLOW = {
    "airflow/__init__.py": """
class DAG:
    tasks = []
    def __init__(self, **settings): self.settings = settings
    def __enter__(self): return self
    def __exit__(self, *of_error): pass
""",
    "airflow/providers/standard/operators/bash.py": """
from airflow import DAG
class BashOperator:
    def __init__(self, **settings):
        self.settings, self.upstream = settings, []
        DAG.tasks.append(self)
    def __rshift__(self, later): later.upstream.append(self.settings["task_id"])
""",
}
PRINT_TASKS = """
import json, runpy, sys
tasks = runpy.run_path(sys.argv[1])["dag"].tasks
loaded = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
print(json.dumps([[[task.settings["task_id"], task.settings["env"], task.upstream] for task in tasks], loaded]))
"""


def test_the_dag_has_a_task_a_step_one_after_the_other_and_needs_no_library_to_be_parsed(tmp_path: Path) -> None:
    for name, content in AIRFLOW.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    environment = {"PYTHONPATH": str(tmp_path), "NIGHTJAR_HOME": str(ROOT)}
    dag = str(SCHEDULE / "airflow_dag.py")
    done = subprocess.run(
        [sys.executable, "-S", "-c", PRINT_TASKS, dag], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    tasks, loaded = json.loads(done.stdout)
    assert tasks == [
        [step, {"NIGHTJAR_ONLY": step}, list(STEPS[n - 1 : n])] if n else [step, {"NIGHTJAR_ONLY": step}, []]
        for n, step in enumerate(STEPS)
    ]
    assert set(loaded) <= {"airflow", "nightjar", "__main__"}


def test_the_documentation_lists_the_steps_of_the_chain_in_their_order() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(", ".join(STEPS) in " ".join(page.read_text().split()) for page in pages)
