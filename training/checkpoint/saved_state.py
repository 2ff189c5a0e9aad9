"""The state of a learner as files: written by the workers of a run, read by those of any other.

shard-<rank>.zip   the tables' rows that worker <rank> holds, with the state of their rules (training.checkpoint.shards)
head.pt            what the head and its optimizer remember (training.step.optimizers.head_tensors), the tables' scalars
                   and the learning rates' scale, by torch.save: nothing of the device that the head was on
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import FileEntry, Manifest
from nightjar.features.contract.publishing import begin, describe_files
from nightjar.features.contract.verified import entry_at, read_verified
from nightjar.training.checkpoint.shards import read_shards, write_shards
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner
from nightjar.training.tables.table import Table
from nightjar.training.tracking.progress import RankLog

_HEAD = "head.pt"
T = TypeVar("T")


def save_state(directory: str, learner: Learner, collective: Collective) -> tuple[FileEntry, ...] | None:
    """Write the state into a new directory; every worker calls this. Returns its files on the first worker, which is to
    commit them, and nothing on the others.

    A full disk is no reason to end a run: None, with a warning, if a worker could not write.

    Args:
        directory: does not exist yet.
        learner: whose state it is.
        collective: the workers.
    """
    first = collective.rank == 0
    begun = not first or _tried(partial(_begin, directory, learner), directory, collective)
    collective.barrier()
    shard = partial(write_shards, directory, f"shard-{collective.rank:05d}.zip", _own_tables(learner, collective))
    entry = _tried(shard, directory, collective)
    reports = _gathered(entry.model_dump_json() if begun and entry else "", collective)
    if not first:
        return None
    if not all(reports):
        storage.remove(directory)
        return None
    return describe_files(directory, [FileEntry.model_validate_json(text) for text in reports])


def load_state(directory: str, manifest: Manifest, learner: Learner) -> None:
    """Bring a learner to the state in these files, however many workers wrote them. Raises DataError if one is damaged,
    or if a row is in none of them.
    """
    head = read_verified(directory, entry_at(directory, manifest, _HEAD))
    state = torch.load(io.BytesIO(head), map_location="cpu", weights_only=True)
    # Before the tables are filled: another learning rate moves FTRL's sums.
    learner.scale_learning_rates(state["learning_rate_scale"] / learner.learning_rate_scale)
    shards = [entry for entry in manifest.files if entry.path != _HEAD]
    read_shards([storage.join(directory, entry.path) for entry in shards], _tables(learner))
    for name, tensor in learner.head_tensors().items():
        tensor.detach().copy_(state["head"][name])
    for name, table in _tables(learner).items():
        for part, live in table.scalars().items():
            live[...] = state["tables"][name][part].numpy()


def _begin(directory: str, learner: Learner) -> bool:
    begin(directory)
    storage.write_bytes(storage.join(directory, _HEAD), _dense_state(learner))
    return True


def _tried(write: Callable[[], T], directory: str, collective: Collective) -> T | None:
    """None where a file cannot be written. The worker goes on: others wait for it in the operations that follow."""
    try:
        return write()
    except OSError as error:
        RankLog(collective).warning("cannot write %s: %s", directory, error)
        return None


def _dense_state(learner: Learner) -> bytes:
    tables = _tables(learner).items()
    state: dict[str, Any] = {
        "head": {name: tensor.detach() for name, tensor in learner.head_tensors().items()},
        "tables": {name: {k: torch.as_tensor(v) for k, v in table.scalars().items()} for name, table in tables},
        "learning_rate_scale": learner.learning_rate_scale,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _tables(learner: Learner) -> dict[str, Table]:
    wide = {"wide": learner.wide} if learner.wide else {}
    return wide | {f"embedding_{width}": table for width, table in learner.embeddings.items()}


def _own_tables(learner: Learner, collective: Collective) -> Mapping[str, Table]:
    """The tables that this worker writes: a replicated one is the first worker's."""
    tables = _tables(learner).items()
    return {name: t for name, t in tables if collective.rank == 0 or t.shard.world == collective.size}


def _gathered(text: str, collective: Collective) -> list[str]:
    """Every worker's text by rank on the first worker, nothing elsewhere."""
    sent = torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).copy())
    [(received, counts)] = collective.all_to_all([sent], [[len(sent)] + [0] * (collective.size - 1)])
    if collective.rank > 0:
        return []
    return [bytes(part.tolist()).decode() for part in received.split(counts)]
