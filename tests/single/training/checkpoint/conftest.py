"""The data set of all tests in this folder, and what an undisturbed run makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.kits.training.checkpoint_kit import FILES, by, files, make_job
from tests.kits.training.datasets import make_dataset


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoint")
    make_dataset(str(place / "dataset"), FILES)
    make_dataset(str(place / "holdout"), [10], seed=1, golden=20)
    return place


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def undisturbed(place: Path) -> Callable[[int], dict[str, bytes]]:
    """The candidate's files by the number of workers that trained it without an interruption."""
    known: dict[int, dict[str, bytes]] = {}

    def trained(world: int) -> dict[str, bytes]:
        if world not in known:
            torch.set_num_threads(1)
            job = make_job(place, place / f"undisturbed-{world}")
            by(world, job)
            known[world] = files(job.output)
        return known[world]

    return trained
