"""`nightjar doctor`: what it finds, what it advises, and that it never fails by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nightjar.cli import doctor
from nightjar.cli.doctor import Finding, main
from nightjar.serving import registry
from tests.kits.registry_kit import publish
from tests.kits.small_night import CONFIG

ROOT = Path(__file__).resolve().parents[3]
# Nothing but the base dependencies can be found: what an installation for scoring looks like.
SCORING_ONLY = """
import importlib.metadata as metadata, sys
from nightjar.cli import doctor
real = metadata.version
def version(name):
    if name not in doctor.SCORING:
        raise metadata.PackageNotFoundError(name)
    return real(name)
doctor.version, doctor.find_spec = version, lambda name: None
sys.exit(doctor.main([]))
"""


def test_a_machine_with_everything_is_told_so(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["--output", str(tmp_path / "not" / "there")]) == 0
    out = capsys.readouterr().out
    for subject in ("torch", "Horovod starts", "petastorm reads Parquet", "Java", "GPU", "free", str(tmp_path)):
        assert subject in out
    assert "gloo" in out
    assert out.endswith("Nothing is missing.\n")


def test_an_installation_for_scoring_lacks_nothing():
    done = subprocess.run([sys.executable, "-c", SCORING_ONLY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "training\n  not installed; to train: make setup" in done.stdout
    assert "pip install 'nightjar[s3]'" in done.stdout
    assert "Nothing is missing." in done.stdout


def test_what_is_missing_is_named_with_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setattr(doctor, "SCORING", ("numpy", "no-such-library"))
    assert main([]) == 2
    out = capsys.readouterr().out
    assert "! no-such-library" in out
    assert "pip install no-such-library" in out
    assert "'/nowhere/bin/java' does not run" in out
    assert "2 missing." in out


def test_an_output_that_cannot_be_written_or_reached_is_found(tmp_path: Path):
    (tmp_path / "file").write_text("")
    written, free = doctor.room(str(tmp_path / "file" / "below"))
    assert written.command == f"sudo chown $USER {tmp_path / 'file'}"
    assert free.subject == "free"
    [reached] = doctor.room("memory://models")
    assert reached.command is None
    [unknown] = doctor.room("nosuch://models")
    assert unknown.command is not None
    assert "Protocol not known" in unknown.found


def test_what_an_output_takes_is_told_by_kind_with_what_may_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "out"
    for night, mebibytes in (("2026-01-03", 3), ("2026-01-04", 2), ("2026-01-05", 1)):
        publish(str(output / "models"), f"{night}-lr-key")
        for kind in ("nights", "evaluations"):
            (output / kind / f"{night}-key").mkdir(parents=True)
        (output / "evaluations" / f"{night}-key" / "scores").write_bytes(bytes(mebibytes << 20))
    registry.promote(str(output / "models"), "2026-01-05-lr-key", "the gate")
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config.setdefault("nightly", {})["keep"] = {"models": 1}
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(config))
    by_kind = {found.subject: found.found for found in doctor.taken(str(output), str(tmp_path / "night.yaml"))}
    assert by_kind["evaluations"] == "6.0 MiB in 3; nightly.keep.models"
    assert by_kind["models/*"].endswith(" in 4; nightly.keep.models"), "three versions and the pointer"
    assert by_kind["models/history"].endswith(" in 1; nightly.keep.nights")
    doomed = ("models/2026-01-04-lr-key", "models/2026-01-03-lr-key", "evaluations/2026-01-03-key", "...")
    assert by_kind["may go"] == f"5.0 MiB in 4: {', '.join(doomed)}"
    assert (output / "evaluations" / "2026-01-03-key").exists(), "it only tells"
    assert list(doctor.taken(str(tmp_path / "nothing"), None)) == []
    assert main(["--config", "night.yaml"]) == 2
    assert "Give --output, too." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "found"), [("import sys; sys.exit('broken\\nfor ever')", "no: for ever"), ("1", "yes")]
)
def test_a_library_is_tried_in_a_process_of_its_own(code: str, found: str):
    assert doctor._tried("it", code, "mend it") == Finding("it", found, None if found == "yes" else "mend it")
