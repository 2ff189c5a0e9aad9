"""The loader alone, beside a scan that does nothing with the rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing

import pyarrow.parquet as pq

from benchmarks.train.contestant import cpu_seconds
from benchmarks.train.nightjar import BATCH
from nightjar.features.contract.manifests import DatasetManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.training.data.dataset import Dataset
from nightjar.training.data.loader import epoch_batches, epoch_columns
from nightjar.training.data.plan import EpochPlan, Plan


def scan_round(directory: str) -> Mapping[str, float]:
    """Every row group of every file, every column as a NumPy array, by pyarrow and nothing else."""
    dataset = Dataset.of(directory, read_manifest(directory, DatasetManifest))
    names = [column.name for column in dataset.columns]
    rows = 0
    before, began = cpu_seconds(), time.perf_counter()
    for file in range(len(dataset.files)):
        with pq.ParquetFile(dataset.url(file)) as parquet:
            table = parquet.read_row_group(0, columns=names)
        arrays = [table.column(name).to_numpy() for name in names]
        rows += len(arrays[0])
    return {"rows": rows, "seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before}


def delivered_round(directory: str) -> Mapping[str, float]:
    """An epoch's batches as the loader delivers them: shuffled columns, in the plan's order."""
    dataset, order = _epoch(directory)
    before, began = cpu_seconds(), time.perf_counter()
    with closing(epoch_columns(dataset, order, 0, 1)) as batches:
        rows = sum(len(columns["label"]) for columns in batches)
    return {"rows": rows, "seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before}


def ready_round(directory: str) -> Mapping[str, float]:
    """The same, and laid out for the step: ids made distinct, their places in the tables."""
    dataset, order = _epoch(directory)
    before, began = cpu_seconds(), time.perf_counter()
    with epoch_batches(dataset, order, 0, 1) as batches:
        rows = sum(batch.rows for batch in batches)
    return {"rows": rows, "seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before}


def _epoch(directory: str) -> tuple[Dataset, EpochPlan]:
    dataset = Dataset.of(directory, read_manifest(directory, DatasetManifest))
    return dataset, Plan(dataset.rows, BATCH, 8, 0).epoch(0)
