"""Whole nights through spark-submit: on generated logs, run again, judged, and on real ratings."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from nightjar import serving
from nightjar.features.contract.manifests import ArtifactManifest, DecisionManifest
from nightjar.features.contract.publishing import MANIFEST, read_manifest, verify
from nightjar.features.input.folders import DateFolders
from nightjar.jobs import generate_logs, import_movietweetings, run_nightly
from nightjar.jobs.common.cli import EXIT_NOTHING_TO_DO, EXIT_REJECTED
from nightjar.jobs.nightly.night import Night, NightConfig
from nightjar.serving import registry
from nightjar.serving.evaluation.evaluation import read_evaluation
from tests.kits.submit import CLUSTER, REPOSITORY, submit

RATINGS = REPOSITORY.parent / "shared" / "data" / "movietweetings"
FIRST = "2026-01-01"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Path:
    """Four days of logs, 4,000 rows each, and a config with small layers."""
    place = tmp_path_factory.mktemp("nightly")
    arguments = ["--days", "4", "--rows-per-day", "4000", "--start-date", FIRST, "--seed", "3", "--files-per-day", "2"]
    assert generate_logs.main(["--output", str(place / "logs"), *arguments]) == 0
    config = yaml.safe_load((REPOSITORY / "conf" / "app_store.yaml").read_text())
    config["training"] |= {"epochs": 1, "batch_size": 128, "deep": {"layers": [16]}}
    config["nightly"] |= {"baselines": ["lr"], "train_days": 2}
    # Some thousand rows cannot show that a difference is small; the gate's own tests have more.
    config["gate"] = {"rules": [{"metric": "log_loss", "tolerance": 0.05}]}
    (place / "conf.yaml").write_text(yaml.safe_dump(config))
    return place


def night(place: Path, output: str, *more: str, config: str = "conf.yaml") -> list[str]:
    return ["--config", str(place / config), "--logs", str(place / "logs"), "--output", str(place / output), *more]


def published(output: Path) -> dict[str, bytes]:
    """Every manifest below `output`, by place: with their checksums they stand for every byte that is published."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob(MANIFEST))}


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> str:
    """What two nights print that nobody disturbs."""
    status, out, err = submit(
        "run_nightly", night(place, "undisturbed", "--from", "2026-01-03", "--to", "2026-01-04"), place
    )
    assert status == 0, err[-4000:]
    return out


def test_two_nights_publish_models_that_score_raw_rows(place: Path, undisturbed: str) -> None:
    models = place / "undisturbed" / "models"
    pointer = registry.champion(str(models))
    assert pointer is not None
    assert pointer.version.startswith("2026-01-04-wide_deep-")
    assert f"champion: {pointer.version}" in undisturbed
    for version in registry.versions(str(models)):
        verify(str(models / version), read_manifest(str(models / version), ArtifactManifest))
    champion = models / pointer.version
    raw = pq.read_table(champion / "golden" / "raw.parquet")
    expected = np.load(champion / "golden" / "scores.npy")
    np.testing.assert_allclose(
        serving.load(str(champion)).score(raw.to_pylist(), as_logged=True), expected, rtol=0, atol=1e-5
    )


def test_the_table_and_the_report_show_every_model_with_its_regret(place: Path, undisturbed: str) -> None:
    pages = re.findall(r"page\s+(\S+/reports/\S+\.html)", undisturbed)
    assert [Path(page).name for page in pages] == ["2026-01-03.html", "2026-01-04.html"]
    assert all(Path(page).exists() for page in pages)
    for directory in (place / "undisturbed" / "evaluations").iterdir():
        evaluation = read_evaluation(str(directory))
        assert list(evaluation.models) == ["wide_deep", "lr"]
        for model in evaluation.models.values():
            assert model.metrics.regret is not None
            assert f"{model.metrics.regret:.4f}" in undisturbed


def test_the_second_night_begins_with_the_first_and_trains_on_its_new_day_only(place: Path, undisturbed: str) -> None:
    """The baseline with the baseline beside it; without a parent the whole window is trained on."""
    output = place / "undisturbed"
    for kind, model in (("models", "wide_deep"), ("baselines", "lr")):
        first, second = (
            read_manifest(str(next((output / kind).glob(f"{date}-{model}-*"))), ArtifactManifest)
            for date in ("2026-01-03", "2026-01-04")
        )
        assert first.lineage.parent is None
        parent = second.lineage.parent
        assert parent.through_date == "2026-01-02"
        assert parent.digest == first.inputs["candidate"]
        assert (first.metrics["rows"], second.metrics["rows"]) == (8000, 4000)
        assert (output / "candidates" / parent.candidate / "manifest.json").exists()
    champion = read_manifest(str(next((output / "models").glob("2026-01-03-*"))), ArtifactManifest)
    assert champion.lineage.start == "cold: there is no earlier champion"


def test_a_plan_says_what_a_night_begins_with_and_what_that_hangs_on(
    place: Path, undisturbed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    days = ("--from", "2026-01-03", "--to", "2026-01-04", "--plan")
    assert run_nightly.main(night(place, "undisturbed", *days)) == 0
    said = capsys.readouterr().out
    assert re.search(r"2026-01-04 +start +warm: 2026-01-03-wide_deep-", said)
    assert "unless" not in said
    assert run_nightly.main(night(place, "not begun", *days)) == 0
    assert "unless 2026-01-03 or a later night publishes: its model is the parent then" in capsys.readouterr().out
    assert run_nightly.main(night(place, "undisturbed", "--date", "2026-01-04", "--cold", "--plan")) == 0
    said = capsys.readouterr().out
    assert "cold: the warm start is off" in said
    assert "train      to do" in said
    assert not (place / "not begun").exists()


def test_a_second_run_does_nothing_and_says_so(
    place: Path, undisturbed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = published(place / "undisturbed")
    times = {path: path.stat().st_mtime_ns for path in (place / "undisturbed").rglob(MANIFEST)}
    again = night(place, "undisturbed", "--from", "2026-01-03", "--to", "2026-01-04")
    assert run_nightly.main(again) == EXIT_NOTHING_TO_DO
    assert published(place / "undisturbed") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    said = capsys.readouterr().out
    assert "nothing to do" in said
    assert f"champion: {registry.champion(str(place / 'undisturbed' / 'models')).version}" in said
    assert run_nightly.main(night(place, "undisturbed", "--date", "2026-01-04", "--plan")) == 0
    assert "to do" not in capsys.readouterr().out


def test_a_model_that_learned_nothing_is_rejected_and_the_champion_stays(
    place: Path, undisturbed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = str(place / "undisturbed" / "models")
    before = registry.champion(models)
    registry.rollback(models)
    config = yaml.safe_load((place / "conf.yaml").read_text())
    config["training"] |= {"model": "lr", "wide": {"lambda1": 1e9}}
    (place / "nothing.yaml").write_text(yaml.safe_dump(config))
    status = run_nightly.main(night(place, "undisturbed", "--date", "2026-01-04", config="nothing.yaml"))
    assert status == EXIT_REJECTED
    [decision] = [d for d in (place / "undisturbed" / "decisions").iterdir() if d.name.startswith("2026-01-04-lr-")]
    assert read_manifest(str(decision), DecisionManifest).verdict == "rejected"
    failed = [c for c in json.loads((decision / "decision.json").read_text())["checks"] if not c["passed"]]
    assert {check["metric"] for check in failed} >= {"normalized_entropy"}
    assert "rejected" in capsys.readouterr().out
    champion = registry.champion(models)
    assert before is not None
    assert champion is not None
    assert champion.version.startswith("2026-01-03-")
    registry.promote(models, before.version, "as it was")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--date", "2026-01-05"], "date 2026-01-05: there are no Parquet files"),
        (["--date", FIRST], "has no day to train on"),
        (["--from", "2026-01-04", "--to", "2026-01-03"], "is earlier than --from"),
        ([], "give either --date or both --from and --to"),
    ],
)
def test_dates_that_cannot_be_run_end_before_spark_starts(
    place: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_nightly.main(night(place, "never", *change)) == 2
    assert message in capsys.readouterr().err
    assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "training",
            {"model": "wide_dee"},
            "training.model: Input should be 'lr', 'mf', 'nmf', 'fm', 'deep', 'wide_deep'",
        ),
        ("nightly", {"baselines": ["logistic"]}, "nightly.baselines.0: Input should be 'lr'"),
        ("training", {"workers": 9}, "training: workers is 9, but lanes only 8"),
        ("training", {"device": "cuda"}, "training.device is cuda, but torch sees no GPU here"),
        ("training", {"deep": {"layers": [-5]}}, "training.deep.layers.0"),
        (
            "gate",
            {"rules": [{"metric": "auc", "tolerance": 0.1, "slice": "installed"}]},
            "neither single-valued fields with a vocabulary nor dense",
        ),
    ],
)
def test_a_config_that_cannot_be_carried_out_ends_before_spark_starts(
    place: Path, section: str, change: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((place / "conf.yaml").read_text())
    config[section] |= change
    (place / "impossible.yaml").write_text(yaml.safe_dump(config))
    assert run_nightly.main(night(place, "never", "--date", "2026-01-04", config="impossible.yaml")) == 2
    assert message in capsys.readouterr().err
    assert not (place / "never").exists()


def test_an_output_that_cannot_be_written_is_one_message(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "a_file").write_text("")
    assert run_nightly.main(night(place, "a_file", "--date", "2026-01-04")) == 2
    assert "a_file" in capsys.readouterr().err


def test_every_mistake_in_a_config_is_reported_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((place / "conf.yaml").read_text())
    config["training"] |= {"epoch": 3, "batch_size": 0}
    config["features"]["fields"][0]["embeding"] = 8
    (place / "wrong.yaml").write_text(yaml.safe_dump(config))
    assert run_nightly.main(night(place, "never", "--date", "2026-01-04", config="wrong.yaml")) == 2
    said = capsys.readouterr().err
    for path in ("training.epoch: unknown key", "training.batch_size", "features.fields.0.embeding: unknown key"):
        assert path in said


def test_a_night_has_files_for_all_of_its_lanes(place: Path) -> None:
    config = yaml.safe_load((place / "conf.yaml").read_text())
    config["training"] |= {"workers": 9, "lanes": 16}
    (place / "many.yaml").write_text(yaml.safe_dump(config))
    logs, day = DateFolders(str(place / "logs")), date(2026, 1, 4)
    many, few = (Night(NightConfig.read(str(place / name)), logs, "out", day) for name in ("many.yaml", "conf.yaml"))
    assert (many.features.settings.min_files, few.features.settings.min_files) == (16, 8)


@pytest.mark.skipif(not RATINGS.exists(), reason=f"MovieTweetings is not at {RATINGS}")
def test_real_ratings_through_a_cluster_of_processes(tmp_path: Path, spark: object) -> None:
    """Ten days of MovieTweetings, on two executor processes, with the training's workers in Spark tasks."""
    logs = tmp_path / "logs"
    assert import_movietweetings.main(["--source", str(RATINGS), "--output", str(logs)]) == 0
    config = yaml.safe_load((REPOSITORY / "conf" / "movietweetings.yaml").read_text())
    config["nightly"] = {"train_days": 10, "history_from": "2013-08-19", "baselines": []}
    config["training"] |= {"workers": 2}
    config["gate"] = {"rules": [{"metric": "log_loss", "tolerance": 0.1}], "overall": {"rows": 100}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(logs), "--output", str(tmp_path / "out")]
    arguments += ["--date", "2013-08-29", "--launcher", "spark"]
    status, _, err = submit("run_nightly", arguments, tmp_path, CLUSTER)
    assert status == 0, err[-4000:]
    (evaluation,) = (tmp_path / "out" / "evaluations").iterdir()
    auc = read_evaluation(str(evaluation)).models["wide_deep"].metrics.auc
    assert auc is not None
    assert auc > 0.65
    champion = registry.champion(str(tmp_path / "out" / "models"))
    assert champion is not None
    directory = tmp_path / "out" / "models" / champion.version
    raw = pq.read_table(directory / "golden" / "raw.parquet")
    assert pa.types.is_list(raw.schema.field("genres").type)
    np.testing.assert_allclose(
        serving.load(str(directory)).score(raw, as_logged=True),
        np.load(directory / "golden" / "scores.npy"),
        rtol=0,
        atol=1e-5,
    )
