"""No bit of a published model is served otherwise than it was published, whichever of its files it is in."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.serving import registry

GOLDEN = Path(__file__).parents[3] / "golden" / "format-2" / "models"
BITS_A_FILE = 3


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "models"))


def flip(path: Path, bit: int) -> bytes:
    """Returns what it was."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    return content


def test_every_file_of_a_champion_is_compared_bit_by_bit(models: Path) -> None:
    rng, root = random.Random(14), str(models)
    directory = Path(registry.load_champion(root))
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert {path.suffix for path in files} >= {".json", ".npy", ".onnx", ".parquet"}
    for path in files:
        for bit in rng.sample(range(8 * path.stat().st_size), BITS_A_FILE):
            was = flip(path, bit)
            with pytest.raises(DataError, match=r"damaged|changed since|manifest"):
                serving.load(registry.load_champion(root))
            path.write_bytes(was)
    serving.load(registry.load_champion(root))


def test_a_flipped_bit_in_the_pointer_names_no_other_model(models: Path) -> None:
    """What it says of who decided may read otherwise; where it points to is compared with the manifest there."""
    rng, root = random.Random(15), str(models)
    pointer, expected = models / "champion.json", registry.load_champion(str(models))
    for bit in rng.sample(range(8 * pointer.stat().st_size), 100):
        was = flip(pointer, bit)
        try:
            found = registry.load_champion(root)
        except DataError:
            pass
        else:
            assert found == expected
        pointer.write_bytes(was)
