"""The candidate: what serving scores with, and what a later run continues from.

scoring/
  wide_ids.npy, wide_weights.npy      coordinates whose weight is not 0, int64 ascending; the weights, float32
  embedding_<width>.npy               float32 [rows, width]; none where the model has no embeddings
  head.onnx                           inputs: first_order [B], embeddings [B, E], dense [B, N], those it uses;
                                      output: logit [B]; all float32, B dynamic
  golden_scores.npy                   float32 probabilities of the hold-out's golden rows, the trainer's own
optimizer/
  wide_ids.npy, wide_<array>.npy      coordinates ever touched, int64 ascending; what the rule remembers of them
  embedding_<width>_<array>.npy       what the rule remembers of the rows, beside their values
  wide_<scalar>.npy, embedding_<width>_<scalar>.npy
                                      what a rule remembers beside its rows, no dimension
  head.npz                            training.step.optimizers.head_tensors, by name
warm_start.json                       after a warm start: what came from the parent (features.contract.records)

The arrays and scalars of a rule, by default and by choice (training.tables):
  ftrl: ftrl (z, n), float32 [rows, 2]; in q2.13: q2_13 int16 [rows, 1], squares float32 [rows, 1], and the scalar step
  adagrad: accumulators float32 [rows, D]; row_adagrad: row_accumulators float32 [rows, 1]
  adam: means, squares float32 [rows, D], and the scalar step; lazy_adam: means, squares, steps int32 [rows, 1]
A wide table of another rule than ftrl has an array more: values, float32 [rows, 1].

Everything is in the order of the global row ids, whatever the number of workers was, and the same inputs give
the same bytes.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping

import numpy as np
import torch

from nightjar.features.contract import liveness, storage
from nightjar.features.contract.artifact_files import CANDIDATE_SCORES, GOLDEN_ENCODED, HEAD, HEAD_STATE, WARM_START
from nightjar.features.contract.manifests import CandidateManifest, DatasetManifest
from nightjar.features.contract.publishing import begin, commit, describe_files, read_manifest
from nightjar.features.contract.verified import entry_at
from nightjar.training.data.batch import make_batch
from nightjar.training.data.columns import empty_columns
from nightjar.training.data.dataset import Dataset, read_table
from nightjar.training.export.onnx_export import export_head
from nightjar.training.export.table_files import write_array, write_embeddings, write_wide
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner


def publish(job: TrainingJob, learner: Learner, statistics: Mapping[str, float], collective: Collective) -> None:
    """Gather the tables block by block and write the candidate. Every worker calls this; rank 0 writes.

    Args:
        job: what was trained from what.
        learner: what has been learned.
        statistics: figures of the run, for the manifest.
        collective: the workers.
    """
    manifest = job.used(read_manifest(job.dataset, DatasetManifest))
    dataset = Dataset.of(job.dataset, manifest)
    writer = collective.rank == 0
    if writer:
        begin(job.output)
    write_wide(job.output, learner.wide, collective)
    for table in learner.embeddings.values():
        write_embeddings(job.output, table, collective)
    if job.holdout:
        scores = _golden_scores(job.holdout, dataset, learner, collective)
        if writer:
            write_array(job.output, CANDIDATE_SCORES, scores)
    transfer = job.transfer(manifest)
    report = transfer.report(collective) if transfer else None
    if writer:
        with liveness.opaque_work():
            head = export_head(copy.deepcopy(learner.head).cpu(), dataset.layout)
        storage.write_bytes(storage.join(job.output, HEAD), head)
        storage.write_bytes(storage.join(job.output, HEAD_STATE), _head_state(learner))
        if report:
            storage.write_bytes(
                storage.join(job.output, WARM_START), (report.model_dump_json(indent=1) + "\n").encode()
            )
    collective.barrier()
    if writer:
        candidate = CandidateManifest(
            model=job.config.model,
            spec_fingerprint=manifest.spec_fingerprint,
            state=manifest.state,
            columns=manifest.columns,
            settings=job.config.settings,
            parent=job.warm_start and job.warm_start.parent,
            statistics=statistics,
            inputs=job.inputs,
            files=describe_files(job.output),
        )
        commit(job.output, candidate)


def _golden_scores(holdout: str, dataset: Dataset, learner: Learner, collective: Collective) -> np.ndarray:
    """float32[rows] on rank 0; the others take part without rows."""
    columns = empty_columns(dataset.columns)
    if collective.rank == 0:
        golden = entry_at(holdout, read_manifest(holdout, DatasetManifest), GOLDEN_ENCODED)
        columns = read_table(holdout, golden, dataset.columns)
    return torch.sigmoid(learner.logits(make_batch(columns, dataset.layout))).numpy()


def _head_state(learner: Learner) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: tensor.numpy(force=True) for name, tensor in learner.head_tensors().items()})
    return buffer.getvalue()
