"""Outputs of the formats at hand, to be kept and read by every later release: `python -m tests.golden.make`.

Run once for each format, by the code that has it: before FORMAT or EXTENDED_FORMAT is raised again. What is there is
never made anew: a later release would only prove that it reads itself.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nightjar.features.contract.manifests import FORMAT, DatasetManifest, Lineage
from nightjar.features.contract.publishing import EXTENDED_FORMAT, read_manifest
from nightjar.serving import registry
from nightjar.serving.packing.calibrate import CalibrationRows
from nightjar.serving.packing.config import ArtifactConfig, CalibrationConfig
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_world
from tests.kits.training.warm_start_kit import SPEC, make_place, train

GOLDEN = Path(__file__).parent
VERSION = "2024-05-03-wide_deep-golden"
VALUES = {"user": range(100, 110), "item": range(8), "tags": range(4), "place": range(3)}


def main() -> None:
    """Write what is not there yet."""
    for output, make in ((GOLDEN / f"format-{FORMAT}", plain), (GOLDEN / f"extended-{EXTENDED_FORMAT}", extended)):
        if not output.exists():
            make(output)
            print(output)


def extended(output: Path) -> None:
    """A registry with a champion of EXTENDED_FORMAT: all that only such an artifact has."""
    config = ArtifactConfig(
        embeddings="int8", wide="bfloat16", calibration=CalibrationConfig(method="isotonic", by="premium")
    )
    with tempfile.TemporaryDirectory() as name:
        world = make_world(Path(name) / "world", rows=24)
        directory = make_holdout(Path(name) / "train", world.state, make_rows(1500, seed=8), seed=8)
        held_back = CalibrationRows(directory, read_manifest(directory, DatasetManifest).data_files)
        directories = world.candidate, world.state, world.holdout, str(output / "models" / VERSION)
        pack(*directories, Lineage(state_through_date="2024-05-02"), config, held_back)
        registry.promote(str(output / "models"), VERSION, "golden")


def plain(output: Path) -> None:
    """A registry with a champion, and a candidate with its state, for a warm start."""
    with tempfile.TemporaryDirectory() as name:
        world = make_world(Path(name) / "world", rows=24)
        artifact = output / "models" / VERSION
        pack(world.candidate, world.state, world.holdout, str(artifact), Lineage(state_through_date="2024-05-02"))
        registry.promote(str(output / "models"), VERSION, "golden")
        place = make_place(Path(name) / "place", SPEC, VALUES, seed=1)
        shutil.copytree(place.state, output / "parent" / "state")
        train(place, output / "parent" / "candidate", model="wide_deep", epochs=1)


if __name__ == "__main__":
    main()
