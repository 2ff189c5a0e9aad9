"""The rows that calibrate are those that training holds back, and a config without such rows is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nightjar.features.contract.errors import SpecError, UsageError
from nightjar.features.contract.manifests import ArtifactManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.jobs.common.held_back import rows_held_back
from nightjar.jobs.nightly.config import NightConfig
from nightjar.jobs.pack_model import main
from nightjar.serving.packing.config import ArtifactConfig, CalibrationConfig
from nightjar.training.config import TrainingConfig
from nightjar.training.evaluation.config import HeldOutValidationConfig
from nightjar.training.job import TrainingJob
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_world

PLATT = ArtifactConfig(calibration=CalibrationConfig(method="platt"))
FEATURES = {
    "name": "log",
    "label": "clicked",
    "timestamp": "time",
    "fields": [{"name": "device"}, {"name": "seen", "multi_valued": True}],
}


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_they_are_the_files_that_the_trainer_leaves_out(tmp_path: Path, share: float) -> None:
    world = make_world(tmp_path)
    train = make_holdout(tmp_path / "train", world.state, make_rows(60, seed=3), seed=3, files=7)
    training = TrainingConfig(validation=HeldOutValidationConfig(share=share), lanes=2)
    job = TrainingJob.of(training, train, str(tmp_path / "candidate"), world.holdout)
    learned, validated = job.open(), job.open_validation()
    found = rows_held_back(PLATT, training, train)
    assert found is not None
    assert validated is not None
    assert (found.directory, found.files) == (train, validated.files)
    assert not {entry.path for entry in found.files} & {entry.path for entry in learned.files}
    other = rows_held_back(PLATT, TrainingConfig(validation=HeldOutValidationConfig(dataset=train)), None)
    assert other is not None
    assert len(other.files) == 7
    assert rows_held_back(ArtifactConfig(embeddings="int8"), training, train) is None


@pytest.mark.parametrize("validation", [None, HeldOutValidationConfig()])
def test_nothing_held_back_is_an_error(validation: HeldOutValidationConfig | None) -> None:
    with pytest.raises(UsageError, match=r"Set training\.validation\.share"):
        rows_held_back(PLATT, TrainingConfig(validation=validation), "train")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"artifact": {"calibration": {"method": "platt"}}}, r"set training\.validation\.share"),
        (
            {
                "artifact": {"calibration": {"method": "platt", "by": "seen"}},
                "training": {"validation": {"share": 0.1}},
            },
            r"'seen' is not among the single-valued fields \['device'\]",
        ),
        ({"artifact": {"calibration": {"by": "device"}}}, "by needs a method"),
        ({"artifact": {"embeddings": "int4"}}, r"artifact\.embeddings"),
    ],
)
def test_a_config_is_refused_before_anything_starts(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"features": FEATURES, **sections}))
    with pytest.raises(SpecError, match=message):
        NightConfig.read(str(tmp_path / "config.yaml"))


def test_a_candidate_is_packed_by_hand_as_the_config_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world(tmp_path)
    train = make_holdout(tmp_path / "train", world.state, make_rows(900, seed=3), seed=3)
    config, output = tmp_path / "config.yaml", str(tmp_path / "artifact")
    sections = {"artifact": {"embeddings": "int8", "calibration": {"method": "platt"}}}
    config.write_text(yaml.safe_dump(sections | {"training": {"validation": {"share": 0.4}}}))
    options = ["--candidate", world.candidate, "--state", world.state, "--holdout", world.holdout]
    options += ["--output", output, "--config", str(config)]
    assert main(options) == 2
    assert "name the data set that it was trained on" in capsys.readouterr().err
    assert main([*options, "--dataset", train]) == 0
    assert read_manifest(output, ArtifactManifest).lineage.artifact == sections["artifact"]
