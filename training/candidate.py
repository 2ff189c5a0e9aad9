"""The candidate: what serving scores with, and what a later run continues from.

scoring/
  wide_ids.npy, wide_weights.npy      coordinates whose weight is not 0, int64 ascending; the weights, float32
  embedding_<width>.npy               float32 [rows, width]; none where the model has no embeddings
  head.onnx                           inputs: first_order [B], embeddings [B, E], dense [B, N], those it uses;
                                      output: logit [B]; all float32, B dynamic
  golden_scores.npy                   float32 probabilities of the hold-out's golden rows, the trainer's own
optimizer/
  wide_ids.npy, wide_ftrl.npy         coordinates ever touched, and their (z, n), float32 [touched, 2]
  embedding_<width>_accumulators.npy  AdaGrad's sums of squares, float32 [rows, width]
  head.npz                            parameters and AdaGrad's accumulators of the head, by name

Everything is in the order of the global row ids, whatever the number of workers was, and the same inputs give
the same bytes.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping

import fsspec
import numpy as np
import torch

from features import storage
from features.manifest import (
    GOLDEN_ENCODED,
    CandidateManifest,
    DatasetManifest,
    begin,
    commit,
    describe_files,
    read_manifest,
)
from training.batch import empty_columns, make_batch
from training.collective import Collective
from training.dataset import Dataset, read_table
from training.job import TrainingJob
from training.onnx_export import export_head
from training.step import Learner
from training.tables import EmbeddingTable, Shard, WideTable

_BLOCK_ROWS = 1 << 18


def publish(job: TrainingJob, learner: Learner, statistics: Mapping[str, float], collective: Collective) -> None:
    """Gather the tables block by block and write the candidate. Every worker calls this; rank 0 writes."""
    manifest = read_manifest(job.dataset, DatasetManifest)
    dataset = Dataset.of(job.dataset, manifest)
    writer = collective.rank == 0
    if writer:
        begin(job.output)
    _write_wide(job.output, learner.wide, collective)
    for table in learner.embeddings.values():
        _write_embeddings(job.output, table, collective)
    if job.holdout:
        scores = _golden_scores(job.holdout, dataset, learner, collective)
        if writer:
            _save(job.output, "scoring/golden_scores.npy", scores)
    if writer:
        storage.write_bytes(
            storage.join(job.output, "scoring/head.onnx"),
            export_head(copy.deepcopy(learner.head).cpu(), dataset.layout),
        )
        storage.write_bytes(storage.join(job.output, "optimizer/head.npz"), _head_state(learner))
    collective.barrier()
    if writer:
        candidate = CandidateManifest(
            model=job.config.model,
            spec_fingerprint=manifest.spec_fingerprint,
            state=manifest.state,
            columns=manifest.columns,
            settings=job.config.settings,
            statistics=statistics,
            inputs=job.inputs,
            files=describe_files(job.output),
        )
        commit(job.output, candidate)


def global_blocks(shard_RD: np.ndarray, shard: Shard, collective: Collective) -> Iterator[tuple[int, np.ndarray]]:
    """A sharded array in the order of the global ids: (first id, rows) block by block on rank 0, nothing
    elsewhere.

    Every worker must exhaust this iterator.
    """
    for first in range(0, -(-shard.rows // shard.world), _BLOCK_ROWS):
        part = torch.from_numpy(shard_RD[first : first + _BLOCK_ROWS])
        [(rows, counts)] = collective.all_to_all([part], [[len(part)] + [0] * (collective.size - 1)])
        if collective.rank == 0:
            block = np.empty((sum(counts), shard_RD.shape[1]), dtype=shard_RD.dtype)
            for rank, piece in enumerate(np.split(rows.numpy(), np.cumsum(counts)[:-1])):
                block[rank :: shard.world] = piece
            yield first * shard.world, block


def _write_wide(output: str, table: WideTable | None, collective: Collective) -> None:
    kept: dict[str, list[np.ndarray]] = {"touched": [], "state": [], "ids": [], "weights": []}
    if table:
        state_R2 = table.state()["ftrl"]
        weights_R1 = table.weights(np.arange(table.shard.size))
        for first, block in global_blocks(np.hstack([state_R2, weights_R1]), table.shard, collective):
            [touched], [ids] = block[:, 1].nonzero(), block[:, 2].nonzero()
            kept["touched"].append(first + touched)
            kept["state"].append(block[touched, :2])
            kept["ids"].append(first + ids)
            kept["weights"].append(block[ids, 2])
    if collective.rank == 0:
        _save(output, "scoring/wide_ids.npy", _joined(kept["ids"], np.empty(0, dtype=np.int64)))
        _save(output, "scoring/wide_weights.npy", _joined(kept["weights"], np.empty(0, dtype=np.float32)))
        _save(output, "optimizer/wide_ids.npy", _joined(kept["touched"], np.empty(0, dtype=np.int64)))
        _save(output, "optimizer/wide_ftrl.npy", _joined(kept["state"], np.empty((0, 2), dtype=np.float32)))


def _write_embeddings(output: str, table: EmbeddingTable, collective: Collective) -> None:
    names = {
        "values": f"scoring/embedding_{table.width}.npy",
        "accumulators": f"optimizer/embedding_{table.width}_accumulators.npy",
    }
    for part, array_RD in table.state().items():
        blocks = global_blocks(array_RD, table.shard, collective)
        if collective.rank == 0:
            _save_blocks(output, names[part], (table.shard.rows, table.width), blocks)
        else:
            assert not list(blocks)


def _golden_scores(holdout: str, dataset: Dataset, learner: Learner, collective: Collective) -> np.ndarray:
    """float32[rows] on rank 0; the others take part without rows."""
    url = storage.join(holdout, GOLDEN_ENCODED)
    columns = read_table(url, dataset.columns) if collective.rank == 0 else empty_columns(dataset.columns)
    return torch.sigmoid(learner.logits(make_batch(columns, dataset.layout))).numpy()


def _head_state(learner: Learner) -> bytes:
    arrays = {}
    for name, parameter in learner.head.named_parameters():
        arrays[f"values/{name}"] = parameter.detach().cpu().numpy()
        if learner.optimizer:
            arrays[f"accumulators/{name}"] = learner.optimizer.state[parameter]["sum"].cpu().numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _joined(blocks: list[np.ndarray], nothing: np.ndarray) -> np.ndarray:
    return np.concatenate([nothing, *blocks])


def _save(output: str, path: str, array: np.ndarray) -> None:
    _save_blocks(output, path, array.shape, iter([(0, array)]), array.dtype)


def _save_blocks(
    output: str,
    path: str,
    shape: tuple[int, ...],
    blocks: Iterator[tuple[int, np.ndarray]],
    dtype: np.dtype = np.dtype(np.float32),  # noqa: B008 (immutable)
) -> None:
    """A .npy file, written as its rows arrive."""
    url = storage.join(output, path)
    storage.make_folder(url.rpartition("/")[0])
    with fsspec.open(url, "wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for _, block in blocks:
            stream.write(np.ascontiguousarray(block).data)
