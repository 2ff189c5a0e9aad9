"""The command `nightjar`: its verbs, its exit statuses, and what it loads before it knows that it is asked rightly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import nightjar
from nightjar.cli.verbs import command, main
from nightjar.jobs import evaluate_model, run_nightly
from nightjar.jobs.common.cli import Several, spread

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"torch", "numba", "matplotlib", "pyspark", "py4j", "pandas", "sklearn", "scipy", "horovod", "petastorm"}
CONFIG = "conf/app_store.yaml"
NIGHT = ["night", "--config", CONFIG, "--output", "out", "--date", "2026-01-05"]
DAYS = ["--train-from", "2026-01-01", "--train-to", "2026-01-02"]


def verbs(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    """Every command's path, depth first."""
    found: list[tuple[str, ...]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        found += verbs(below, *path, name) if isinstance(below, click.Group) else [(*path, name)]
    return found


def run_fresh(arguments: list[str]) -> tuple[int, str, set[str]]:
    """Exit status, standard error and the loaded packages of the command in a process of its own."""
    program = (
        "import sys; from nightjar.cli import main; status = main(sys.argv[1:]);"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules}); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("path", verbs(command()), ids=" ".join)
def test_every_help_ends_with_an_example_of_the_verb(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: nightjar {' '.join(path)} ")
    assert text.rpartition("Example:\n")[2].startswith(f"  nightjar {' '.join(path)}")


def test_the_list_of_verbs_is_whole(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    wanted = "night init doctor train pack evaluate compare models score serve replay render generate-logs features"
    assert [line.split()[0] for line in text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()] == (
        [*wanted.split(), "import"]
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["night", "--help"], ["train", "--help"], ["features", "build", "--help"], ["--version"]]
)
def test_help_is_answered_before_anything_heavy_is_loaded(arguments: list[str]):
    status, _, loaded = run_fresh(arguments)
    assert status == 0
    assert "click" in loaded
    assert not loaded & (HEAVY | {"numpy", "pyarrow", "onnxruntime"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*NIGHT, "--set", "training.epoch=2"], "training.epoch: unknown key"),
        ([*NIGHT, "--only", "cook"], "'cook' is not one of"),
        ([*NIGHT, "--to", "2026-01-06"], "give either --date or both --from and --to."),
        (["night", "--config", "nowhere.yaml", "--output", "out", "--date", "2026-01-05"], "cannot read nowhere.yaml"),
        (["train", "--config", CONFIG, "--dataset", "d", "--output", "o", "--model", "gpt"], "model: "),
        (["train", "--config", CONFIG, "--dataset", "d", "--output", "o", "--set", "gate.slices=[]"], "this job reads"),
        (["compare", "--config", CONFIG, "--dataset", "d", "--holdout", "h", "--output", "o", "--seeds", "-1"], "2^32"),
        (
            ["features", "build", "--config", CONFIG, "--output", "o", "--set", "features.label=[]", *DAYS],
            "label: ",
        ),
    ],
)
def test_a_mistake_is_one_message_and_status_2_before_anything_heavy_is_loaded(arguments: list[str], message: str):
    status, error, loaded = run_fresh(arguments)
    assert status == 2
    assert message in error
    assert error.startswith(f"nightjar {arguments[0]}")
    assert not loaded & HEAVY


def test_promoting_by_hand_needs_no_spark(tmp_path: Path):
    status, _, loaded = run_fresh(["models", "list", "--models", str(tmp_path)])
    assert status == 0
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nigth"], "nightjar: error: No such command 'nigth'."),
        (["models", "promote"], "nightjar models promote: error: Missing argument 'VERSION'."),
        (["night", "--bogus"], "nightjar night: error: No such option '--bogus'"),
        (
            ["evaluate", "--artifact", "a", "b", "c"],
            "nightjar evaluate: error: Option '--artifact' takes at most 2 words",
        ),
    ],
)
def test_a_command_line_that_is_not_understood_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_without_a_verb_the_help_is_shown_and_the_status_is_2(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nightjar {nightjar.__version__}\n"


def test_options_before_the_verb_are_the_verb_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in (["models", "--models", str(tmp_path), "list"], ["models", f"--models={tmp_path}", "list"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"no champion; 0 published versions in {tmp_path}\n"


def test_an_option_takes_all_words_up_to_the_next_option():
    arguments = ["--config", "c", "--output", "o", "--only", "gate", "publish", "--date", "2026-01-05"]
    parsed = run_nightly.main.make_context("run_nightly", arguments).params
    assert parsed["only"] == ("gate", "publish")
    artifacts = ["--artifact", "one", "A", "--artifact", "two", "--dataset", "d", "--output", "o"]
    parsed = evaluate_model.main.make_context("evaluate_model", artifacts).params
    assert parsed["artifacts"] == (("one", "A"), ("two", ""))


def test_what_stands_behind_two_dashes_is_no_option():
    only = Several(["--only"])
    assert spread(["--only", "a", "b", "--", "--only", "c"], {"--only": only}) == (
        ["--only", "a", "--only", "b", "--", "--only", "c"]
    )


def test_two_artifacts_of_one_name_are_refused(capsys: pytest.CaptureFixture[str]):
    arguments = ["--artifact", "a/model", "--artifact", "b/model", "--dataset", "d", "--output", "o"]
    assert evaluate_model.main(arguments) == 2
    assert capsys.readouterr().err.startswith("evaluate_model: error: two artifacts are called 'model'")


@pytest.mark.parametrize(("level", "shown"), [("error", False), ("info", True)])
def test_the_log_level_is_that_of_the_console(level: str, shown: bool):
    program = (
        "import logging, click; from nightjar.jobs.common.cli import Job\n"
        "@click.command('quiet', cls=Job, example='quiet')\n"
        "def job():\n    logging.getLogger('nightjar.x').info('hello'); return 4\n"
        f"raise SystemExit(job(['--log-level', '{level}']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert ("hello" in done.stderr) == shown
