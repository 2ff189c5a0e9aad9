"""Outputs of the format at hand, to be kept and read by every later release: `python -m tests.golden.make`.

Run once for each format, by the code that has it: before FORMAT is raised again. What is there is never made anew:
a later release would only prove that it reads itself.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nightjar.features.contract.manifests import FORMAT, Lineage
from nightjar.serving import registry
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import make_world
from tests.kits.training.warm_start_kit import SPEC, make_place, train

GOLDEN = Path(__file__).parent
VERSION = "2024-05-03-wide_deep-golden"
VALUES = {"user": range(100, 110), "item": range(8), "tags": range(4), "place": range(3)}


def main() -> None:
    """Write `format-<FORMAT>/`: a registry with a champion, and a candidate with its state, for a warm start."""
    output = GOLDEN / f"format-{FORMAT}"
    output.mkdir()
    with tempfile.TemporaryDirectory() as name:
        world = make_world(Path(name) / "world", rows=24)
        artifact = output / "models" / VERSION
        pack(world.candidate, world.state, world.holdout, str(artifact), Lineage(state_through_date="2024-05-02"))
        registry.promote(str(output / "models"), VERSION, "golden")
        place = make_place(Path(name) / "place", SPEC, VALUES, seed=1)
        shutil.copytree(place.state, output / "parent" / "state")
        train(place, output / "parent" / "candidate", model="wide_deep", epochs=1)
    print(output)


if __name__ == "__main__":
    main()
