"""What a job says of its warm start, and which parents it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import manifest_digest, read_manifest, verify
from nightjar.jobs.train_model import main
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Solo
from nightjar.training.warm_start import WarmStart
from tests.kits.training.warm_start_kit import SPEC, TRAINING, VALUES, Old, Place, make_place, train, warm


def test_the_report_counts_what_was_carried(old: Old, new: Place, tmp_path: Path) -> None:
    directory = train(new, tmp_path / "child", warm(old, new))
    manifest = read_manifest(directory, CandidateManifest)
    verify(directory, manifest)
    assert manifest.parent is not None
    assert (manifest.parent.candidate, manifest.parent.through_date) == ("candidate", "2025-01-01")
    assert manifest.parent.digest == manifest.inputs["parent"] == manifest_digest(old.candidate)
    transfer = TrainingJob(
        TrainingConfig.model_validate(TRAINING), new.dataset, "", warm_start=warm(old, new)
    ).transfer(read_manifest(new.dataset, DatasetManifest))
    assert transfer is not None
    report = transfer.report(Solo())
    assert (Path(directory) / "warm_start.json").read_text() == report.model_dump_json(indent=1) + "\n"
    slots = {(s.table, s.slot): (s.parent_rows, s.rows, s.carried, s.new, s.dropped) for s in report.slots}
    assert slots["wide", "f_visitor"] == (32, 52, 22, 30, 10)  # 110 to 129, missing, unknown
    assert slots["embedding_4", "f_item"] == (22, 34, 14, 20, 8)  # 8 to 19
    assert slots["embedding_2", "f_place"] == (0, 7, 0, 7, 0)
    assert slots["wide", "f_place"] == (7, 7, 6, 1, 1)
    assert slots["wide", "x_pair"] == (16, 16, 16, 0, 0)
    assert slots["wide", "x_user_item"] == (0, 16, 0, 16, 0)  # the parent's of this name became x_pair
    assert slots["wide", "x_user_tags"] == (8, 0, 0, 0, 8)
    assert slots["embedding_4", "f_tags"] == (9, 0, 0, 0, 9)
    assert slots["wide", "d_age"] == (1, 1, 0, 1, 1)
    assert slots["wide", "bias"] == (1, 1, 1, 0, 0)
    assert next(s.renamed_from for s in report.slots if s.slot == "f_visitor") == "f_user"
    assert "2 in part" not in report.summary()
    assert "candidate: " in report.summary()


def test_a_damaged_parent_ends_the_job_before_any_worker_starts(old: Old, tmp_path: Path) -> None:
    for damage in ("optimizer/embedding_4_accumulators.npy", "scoring/wide_ids.npy"):
        copy = tmp_path / damage.partition("/")[0]
        for path in [e.path for e in read_manifest(old.candidate, CandidateManifest).files] + ["manifest.json"]:
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            content = (Path(old.candidate) / path).read_bytes()
            (copy / path).write_bytes(content[:-1] + b"?" if path == damage else content)
        start = WarmStart(str(copy), old.place.state, old.place.state)
        with pytest.raises(DataError, match=f"is damaged: .*{damage}"):
            train(old.place, tmp_path / "never", start)
    assert not (tmp_path / "never").exists()


def test_what_does_not_belong_together_is_refused(old: Old, new: Place, tmp_path: Path) -> None:
    for start, message in (
        (WarmStart(str(tmp_path / "gone"), old.place.state, new.state), "is not a published directory"),
        (WarmStart(old.candidate, new.state, new.state), "is not the encoder state of the parent"),
        (WarmStart(old.candidate, old.place.state, old.place.state), "is not the encoder state of the data set"),
    ):
        with pytest.raises(DataError, match=message):
            train(new, tmp_path / "never", start)
    with pytest.raises(UsageError, match="must lie in"):
        train(new, tmp_path / "never", warm(old, new, 0.0))
    other = make_place(tmp_path / "other", {**SPEC, "label": "bought"}, VALUES, seed=5)
    with pytest.raises(UsageError, match="has learned to predict 'clicked', not 'bought'"):
        train(other, tmp_path / "never", warm(old, other))


def test_the_job_takes_a_parent_by_the_command_line(
    old: Old, new: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"training": TRAINING}))
    output = str(tmp_path / "child")
    arguments = ["--dataset", new.dataset, "--config", str(tmp_path / "config.yaml"), "--output", output]
    parent = ["--parent", old.candidate, "--parent-state", old.place.state]
    assert main([*arguments, *parent]) == 2
    assert "--parent, --parent-state and --state belong together" in capsys.readouterr().err
    assert main([*arguments, *parent, "--state", new.state, "--decay", "0.5"]) == 0
    found = read_manifest(output, CandidateManifest).parent
    assert found is not None
    assert found.decay == 0.5
    assert main([*arguments, *parent, "--state", new.state]) == 2
    assert "holds a candidate of other inputs" in capsys.readouterr().err
