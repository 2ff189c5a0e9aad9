"""Whole runs of one worker: what is published scores as the trainer does, and the job's errors are for people."""

from __future__ import annotations

import filecmp
import logging
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from nightjar.features.contract.artifact_files import GOLDEN_ENCODED
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.layout import BIAS, table_layout
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import read_manifest, verify
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.contract.verified import entry_at
from nightjar.jobs.train_model import main
from nightjar.training.config import TrainingConfig
from nightjar.training.data.batch import Entries, make_batch
from nightjar.training.data.dataset import read_table
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.run.launch import run
from nightjar.training.step.step import Learner, Score
from nightjar.training.trainer import train
from tests.kits.training.datasets import SPEC, make_dataset, matrix_of

SETTINGS = {
    "epochs": 2,
    "batch_size": 64,
    "lanes": 3,
    "wide": {"lambda1": 0.1, "alpha": 0.1},
    "embeddings": {"learning_rate": 0.1, "init_scale": 0.5},
    "deep": {"layers": [8, 4], "batch_norm": True, "dropout": 0.1},
    "mf": {"fields": ["user", "item"]},
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with embeddings of one width, a hold-out of the same state, a config."""
    place = tmp_path_factory.mktemp("candidate")
    fields = tuple(field.model_copy(update={"embedding": 4}) for field in SPEC.fields)
    spec = SPEC.model_copy(update={"fields": fields})
    make_dataset(str(place / "dataset"), [100, 50, 0, 333, 7, 120], spec=spec)
    make_dataset(str(place / "holdout"), [10], spec=spec, seed=1, golden=25)
    (place / "config.yaml").write_text(yaml.safe_dump({"training": SETTINGS}))
    return place


def job(place: Path, output: str, *more: str) -> list[str]:
    paths = [
        "--dataset",
        str(place / "dataset"),
        "--config",
        str(place / "config.yaml"),
        "--output",
        str(place / output),
    ]
    return [*paths, *more]


def pooled(entries: Entries, table: np.ndarray) -> np.ndarray:
    return (matrix_of(entries, len(table)) @ table).reshape(entries.rows, -1).astype(np.float32)


@pytest.mark.parametrize("model", ["lr", "mf", "nmf", "fm", "deep", "wide_deep", "deepfm"])
def test_the_published_files_score_as_the_trainer_does(workplace: Path, model: str) -> None:
    assert main(job(workplace, model, "--model", model, "--holdout", str(workplace / "holdout"))) == 0
    directory = str(workplace / model)
    manifest = read_manifest(directory, CandidateManifest)
    verify(directory, manifest)
    assert manifest.statistics["rows"] == 2 * 610
    assert manifest.statistics["last_epoch_log_loss"] < manifest.statistics["first_epoch_log_loss"]

    columns = [column for column in manifest.columns if column.role not in ("group", "truth")]
    layout = table_layout(columns)
    holdout = str(workplace / "holdout")
    golden_rows = entry_at(holdout, read_manifest(holdout, DatasetManifest), GOLDEN_ENCODED)
    batch = make_batch(read_table(holdout, golden_rows, columns), layout)
    wide = np.zeros((layout.wide_rows, 1), dtype=np.float32)
    ids = np.load(f"{directory}/scoring/wide_ids.npy")
    weights = np.load(f"{directory}/scoring/wide_weights.npy")
    assert ids.dtype == np.int64
    assert weights.dtype == np.float32
    assert np.all(np.diff(ids) > 0)
    assert np.all(weights != 0.0)
    wide[ids, 0] = weights
    feeds = {"first_order": pooled(batch.wide, wide)[:, 0], "dense": batch.dense_BN}
    if model != "lr":
        table = np.load(f"{directory}/scoring/embedding_4.npy")
        assert table.shape == (layout.embedding_rows(4), 4)
        assert (model != "nmf") or (0.0 <= table.min() < table.max())
        feeds["embeddings"] = pooled(batch.embeddings[4], table)
    session = onnxruntime.InferenceSession(f"{directory}/scoring/head.onnx", providers=["CPUExecutionProvider"])
    used = {"lr": "f", "deep": "ed", "wide_deep": "fed", "deepfm": "fed"}.get(model, "fe")
    assert [value.name[0] for value in session.get_inputs()] == list(used)
    feeds = {value.name: feeds[value.name] for value in session.get_inputs()}
    [logits] = session.run(["logit"], feeds)
    golden = np.load(f"{directory}/scoring/golden_scores.npy")
    assert golden.dtype == np.float32
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), golden, rtol=0, atol=2e-7)
    for rows in (0, 1):
        assert session.run(["logit"], {name: array[:rows] for name, array in feeds.items()})[0].shape == (rows,)


def test_the_same_inputs_give_the_same_bytes_and_nothing_is_done_twice(workplace: Path) -> None:
    outputs = [workplace / "once", workplace / "twice"]
    for output in outputs:
        assert main(job(workplace, output.name, "--holdout", str(workplace / "holdout"))) == 0
    names = sorted(str(path.relative_to(outputs[0])) for path in outputs[0].rglob("*") if path.is_file())
    assert len(names) == 10
    same, different, failed = filecmp.cmpfiles(outputs[0], outputs[1], names, shallow=False)
    assert (different, failed) == ([], [])
    assert same == names
    before = os.stat(outputs[0] / "manifest.json").st_mtime_ns
    assert main(job(workplace, "once", "--holdout", str(workplace / "holdout"))) == 0
    assert os.stat(outputs[0] / "manifest.json").st_mtime_ns == before


def test_an_output_of_other_inputs_is_never_written_again(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(job(workplace, "taken", "--model", "lr")) == 0
    assert main(job(workplace, "taken", "--model", "fm")) == 2
    assert "holds a candidate of other inputs and is never written again" in capsys.readouterr().err


def test_an_approximate_rule_says_so_once(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = TrainingConfig.model_validate(
        {**SETTINGS, "wide": {"rule": "lazy_adam"}, "embeddings": {"rule": "lazy_adam", "placement": "replicated"}}
    )
    with caplog.at_level(logging.INFO, logger="training"):
        train(TrainingJob(config, str(workplace / "dataset"), str(workplace / "lazy")), Solo())
    said = [record.getMessage() for record in caplog.records if "approximation" in record.getMessage()]
    assert said == ["[rank 0/1] lazy_adam is an approximation of Adam: rows without a gradient neither move nor forget"]
    verify(str(workplace / "lazy"), read_manifest(str(workplace / "lazy"), CandidateManifest))


def test_tables_that_cannot_be_end_the_job_before_it_starts(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("training: {embeddings: {rule: adam, dense_rows_limit: 10}}")
    assert main([*job(workplace, "never"), "--config", str(config)]) == 2
    assert "training.embeddings.rule adam moves every row of a table" in capsys.readouterr().err
    assert not (workplace / "never").exists()


def test_optimizer_state_is_enough_to_recompute_the_weights(workplace: Path) -> None:
    assert main(job(workplace, "state")) == 0
    load = {p.stem: np.load(p) for p in (workplace / "state").rglob("*.npy")}
    z, n = np.load(workplace / "state/optimizer/wide_ftrl.npy").astype(np.float64).T
    touched = np.load(workplace / "state/optimizer/wide_ids.npy")
    l1 = np.where(touched == BIAS, 0.0, 0.1)
    weights = np.where(np.abs(z) <= l1, 0.0, -(z - np.sign(z) * l1) / ((1.0 + np.sqrt(n)) / 0.1))
    scored = np.load(workplace / "state/scoring/wide_ids.npy")
    np.testing.assert_array_equal(touched[weights != 0.0], scored)
    np.testing.assert_allclose(weights[weights != 0.0], load["wide_weights"], rtol=1e-5)
    assert len(scored) < len(touched)
    assert load["embedding_4_accumulators"].shape == load["embedding_4"].shape
    head = np.load(workplace / "state/optimizer/head.npz")
    assert {name.partition("/")[0] for name in head} == {"values", "step", "accumulators"}
    assert all(head[name].dtype == np.float32 for name in head)


def test_more_workers_than_files_or_lanes_end_the_job(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "lanes.yaml").write_text(yaml.safe_dump({"training": SETTINGS | {"lanes": 8}}))
    assert main([*job(workplace, "never", "--workers", "7"), "--config", str(workplace / "lanes.yaml")]) == 2
    assert (
        f"dataset {workplace / 'dataset'} holds 6 Parquet files but 7 workers were asked for; every worker needs "
        f"at least one. Build it with --min-files 7 or more, or lower training.workers." in capsys.readouterr().err
    )
    assert main(job(workplace, "never", "--workers", "4")) == 2
    assert "workers is 4, but lanes only 3, and every worker serves at least one." in capsys.readouterr().err
    assert not (workplace / "never").exists()


def test_an_unknown_key_ends_the_job(workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("training: {modle: lr, wide: {alpha: -1.0}}")
    assert main([*job(workplace, "never"), "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "has 2 problem(s)" in said
    assert "modle: unknown key; remove it or correct its spelling" in said
    assert "wide.alpha: Input should be greater than 0 (got -1.0)" in said


def test_a_corrupt_file_ends_the_job(tmp_path: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(str(tmp_path / "dataset"), [40, 40])
    (tmp_path / "dataset/data/part-00001.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "config.yaml").write_text((workplace / "config.yaml").read_text())
    assert main(job(tmp_path, "never")) == 2
    said = capsys.readouterr().err
    assert "part-00001.parquet differs from the manifest" in said
    assert "Traceback" not in said


def test_a_model_that_the_data_set_does_not_suit_ends_the_job(
    tmp_path: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(str(tmp_path / "dataset"), [40, 40])
    (tmp_path / "config.yaml").write_text((workplace / "config.yaml").read_text())
    assert main(job(tmp_path, "never", "--model", "deepfm")) == 2
    assert "embeddings of one width; the data set's fields have the widths [3, 4]" in capsys.readouterr().err


def test_a_hold_out_of_another_state_ends_the_job(
    tmp_path: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = FeatureSpec(name="o", label="l", timestamp="t", fields=(CategoricalField(name="user"),))
    make_dataset(str(tmp_path / "other"), [10], spec=spec, golden=5)
    assert main(job(workplace, "never", "--holdout", str(tmp_path / "other"))) == 2
    assert "was encoded with another feature state" in capsys.readouterr().err
    assert main(job(workplace, "never", "--holdout", str(workplace / "dataset"))) == 2
    assert "has no golden rows" in capsys.readouterr().err


def test_divergence_is_one_clear_error(workplace: Path) -> None:
    config = TrainingConfig.model_validate({**SETTINGS, "deep": {"layers": [8], "learning_rate": 1e30}})
    with pytest.raises(UsageError, match=r"training diverged\. Lower the learning rates"):
        train(TrainingJob(config, str(workplace / "dataset"), str(workplace / "never")), Solo())


def test_a_lost_row_is_an_error_even_if_no_file_is_short(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Learner.step
    monkeypatch.setattr(Learner, "step", lambda self, batch: Score((s := real(self, batch)).loss, s.weight, s.rows - 1))
    work = TrainingJob(TrainingConfig.model_validate(SETTINGS), str(workplace / "dataset"), str(workplace / "never"))
    with pytest.raises(DataError, match=r"epoch 0 saw 600 rows of .* but its manifest says 610"):
        run(lambda collective: train(work, collective), 1)


def test_metrics_are_json_lines_of_progressive_validation(workplace: Path) -> None:
    assert main(job(workplace, "measured", "--model", "lr")) == 0
    lines = [yaml.safe_load(line) for line in (workplace / "measured.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["step"], line["rows"]) for line in lines] == [(0, 10, 610), (1, 20, 610)]
    statistics = read_manifest(str(workplace / "measured"), CandidateManifest).statistics
    assert lines[1]["log_loss"] == pytest.approx(statistics["last_epoch_log_loss"])
