"""Nights with drift, begun three ways: from the night before, from nothing on its new day, from nothing on a window.

    python -m benchmarks.warm_start --work FOLDER [--nights 7] [--rows-per-day 30000] [--train-days 7]

Logs are generated: users and apps arrive every day, and what an app is worth drifts (jobs.imports.simulation); the true
probabilities are known, and regret is log loss above theirs. Every night's models are scored on the night's own day,
which none has seen. The night before the first begins from nothing on its window; each later one from its predecessor.

    python -m benchmarks.warm_start --work FOLDER --values 1000000 10000000 [--workers 1 2]

Memory of a warm start instead: one field of so many values, of which a new state has nine tenths under other ids.
Printed is by how much the memory of the worker that takes the most exceeds what its tables took before.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import HEAD_STATE, VOCABULARY, part_file, table_folder
from nightjar.features.contract.layout import dataset_columns, table_layout
from nightjar.features.contract.manifests import CandidateManifest, Lineage, StateManifest
from nightjar.features.contract.outputs import MODELS, VersionName
from nightjar.features.contract.publishing import (
    begin,
    commit,
    describe_files,
    is_published,
    key_of,
    manifest_digest,
    read_manifest,
)
from nightjar.features.contract.spec import CategoricalField, FeatureSpec
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, BuiltFeatures, plan_build
from nightjar.features.encoder.encoder import FIRST_ID
from nightjar.features.spark.tables import ROWS_PER_FILE
from nightjar.jobs import generate_logs
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports.simulation_config import SimulationConfig
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.evaluation.comparison import compare
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.export.table_files import write_embeddings
from nightjar.training.job import TrainingJob
from nightjar.training.run.collective import Collective, Solo
from nightjar.training.run.launch import run
from nightjar.training.step.step import Learner
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import Transfer, WarmStart
from nightjar.training.warm_start.transfer import Side

WARM, SAME, WINDOW = "warm, new day", "nothing, new day", "nothing, window"
FIELD = "user"
SPEC = FeatureSpec(
    name="memory",
    label="clicked",
    timestamp="time",
    fields=(CategoricalField(name=FIELD, embedding=4, wide=False),),
)
DEEP = TrainingConfig.model_validate({"model": "deep", "deep": {"layers": [4]}})
DIRECTORY = {WARM: "warm", SAME: "same", WINDOW: "window"}


@dataclass(frozen=True)
class Model:
    """A packed model, the state it was trained under, and the steps that it took."""

    artifact: str
    candidate: str
    state: str
    steps: int


def train(training: TrainingConfig, dataset: str, built: BuiltFeatures, name: str, start: WarmStart | None) -> Model:
    """Train and pack, unless it is done."""
    job = TrainingJob.of(training, dataset, f"{name}-candidate", built.holdout_dir, start)
    run_job(job)
    pack(job.output, built.state_dir, str(built.holdout_dir), f"{name}-model", Lineage())
    steps = int(read_manifest(job.output, CandidateManifest).statistics["steps"])
    return Model(f"{name}-model", job.output, built.state_dir, steps)


def make_state(directory: str, hashes: np.ndarray, seed: int) -> None:
    """Publish one field's vocabulary as Spark writes it: in files of a million values, in the order of their hashes."""
    storage.make_folder(storage.join(directory, table_folder(VOCABULARY, FIELD)))
    ids = np.arange(FIRST_ID, FIRST_ID + len(hashes), dtype=np.int32)
    np.random.default_rng(seed).shuffle(ids)
    for part, first in enumerate(range(0, len(hashes), ROWS_PER_FILE)):
        some = slice(first, first + ROWS_PER_FILE)
        values = pc.binary_join_element_wise("user-", pa.array(hashes[some]).cast(pa.string()), "")
        table = pa.table({"hash": hashes[some], "id": ids[some], "value": values})
        pq.write_table(table, storage.join(directory, part_file(table_folder(VOCABULARY, FIELD), part)))
    manifest = StateManifest(
        files=describe_files(directory),
        spec=SPEC,
        spec_fingerprint=SPEC.fingerprint,
        first_date="2026-01-01",
        through_date="2026-01-01",
        vocabulary_sizes={FIELD: FIRST_ID + len(hashes)},
        boundaries={},
    )
    commit(directory, manifest)


def side(state: str) -> Side:
    """A model under this state."""
    manifest = read_manifest(state, StateManifest)
    return Side(state, manifest, DEEP.resolved, table_layout(dataset_columns(SPEC, manifest.vocabulary_sizes)))


def make_places(work: str, values: int) -> tuple[str, str, str]:
    """Folders of a parent, its state and the new one, each made unless it is there."""
    folders = [f"{work}/memory-{values}/{name}" for name in ("candidate", "before", "now")]
    candidate, before, now = folders
    drawn = np.unique(np.random.default_rng(0).integers(-(2**62), 2**62, values + values // 9))
    for seed, folder in enumerate((before, now)):
        if not is_published(folder):
            make_state(folder, np.sort(np.random.default_rng(seed).permutation(drawn)[:values]), seed)
    if not is_published(candidate):
        begin(candidate)
        layout = side(before).layout
        learner = Learner(DEEP, layout, Solo())
        for table in learner.embeddings.values():
            write_embeddings(candidate, table, Solo())
        head = {name: tensor.numpy(force=True) for name, tensor in learner.head_tensors().items()}
        np.savez(storage.join(candidate, HEAD_STATE), **head)
        manifest = CandidateManifest(
            files=describe_files(candidate),
            model=DEEP.model,
            spec_fingerprint=SPEC.fingerprint,
            state=manifest_digest(before),
            columns=dataset_columns(SPEC, {FIELD: FIRST_ID + values}),
            settings=DEEP.settings,
            statistics={},
        )
        commit(candidate, manifest)
    return candidate, before, now


def added_memory(candidate: str, before: str, now: str, collective: Collective) -> tuple[float, float]:
    """(MiB that a warm start takes at its peak beyond tables that are there, MiB of the tables) of this worker."""
    transfer = Transfer(candidate, side(before), side(now), decay=1.0)
    learner = Learner(DEEP, transfer.child.layout, collective)
    arrays = [array for table in learner.embeddings.values() for array in table.state().values()]
    for array in arrays:
        array += 0.0  # its pages are there from now on
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    resident = psutil.Process().memory_info().rss
    transfer.fill(None, learner.embeddings, learner.head_tensors(), collective)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    highest = int(status["VmHWM"].split()[0]) * 1024
    return (highest - resident) / 2**20, sum(array.nbytes for array in arrays) / 2**20


def memory(work: str, all_values: Sequence[int], all_workers: Sequence[int]) -> None:
    """Print a Markdown table of it."""
    from benchmarks import warm_start  # workers find a function by its module, which `python -m` calls another name

    print("| values | workers | MiB of a worker's tables | MiB more while they are filled |")
    print("| ---: | ---: | ---: | ---: |")
    for values in all_values:
        places = make_places(work, values)
        for workers in all_workers:
            # Processes of their own, also where there is one.
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                found = alone.submit(run, partial(warm_start.added_memory, *places), workers).result()
            (more, tables) = max(found)
            print(f"| {values:,} | {workers} | {tables:.0f} | {more:.0f} |", flush=True)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table: log loss, regret and steps by night."""
    parser = argparse.ArgumentParser(prog="warm_start", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for logs, data sets and models")
    parser.add_argument("--config", default="conf/app_store.yaml")
    parser.add_argument("--nights", type=int, default=7)
    parser.add_argument("--rows-per-day", type=int, default=30_000)
    parser.add_argument("--train-days", type=int, default=7, help="days of the window")
    parser.add_argument("--epochs", type=int, help="of a warm-started night, if not as from nothing")
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--values", type=int, nargs="+", help="measure memory with so many values")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="by so many workers")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    work = os.path.abspath(args.work)
    if args.values:
        memory(work, args.values, args.workers)
        return 0
    days = str(args.train_days + args.nights + 1)
    status = generate_logs.main(["--output", f"{work}/logs", "--days", days, "--rows-per-day", str(args.rows_per_day)])
    if status:
        return status
    with spark_session("warm_start") as spark:
        nights(args, work, spark)
    return 0


def nights(args: argparse.Namespace, work: str, spark: SparkSession) -> None:
    """Run them in order; a line for each as soon as it is over."""
    config = NightConfig.read(args.config)
    cold = config.training
    warm = cold.model_copy(update={"epochs": args.epochs or cold.epochs})
    first_day = SimulationConfig().start_date
    parent: Model | None = None
    rows: list[tuple[float, ...]] = []
    print("| night | " + " | ".join(f"{how}: log loss (regret), steps" for how in DIRECTORY) + " |")
    print("| --- |" + " --- |" * len(DIRECTORY))
    for night in range(args.nights + 1):
        date = first_day + timedelta(args.train_days + night)
        window, new = ((date - timedelta(days)).isoformat() for days in (args.train_days, 1))
        built = {
            begin: build(
                spark,
                plan_build(
                    config.features,
                    f"{work}/logs",
                    work,
                    BuildDates(
                        train_from=begin,
                        train_to=(date - timedelta(1)).isoformat(),
                        fit_from=window,
                        history_from=first_day.isoformat(),
                        holdout=date.isoformat(),
                    ),
                ),
            )
            for begin in (window, new)
        }
        of_window, of_new = built[window], built[new]

        def name(how: str, *made_from: object) -> str:
            return storage.join(work, MODELS, str(VersionName(str(date), DIRECTORY[how], key_of(made_from=made_from))))  # noqa: B023

        models = {
            WINDOW: train(cold, of_window.train_dir, of_window, name(WINDOW, cold.settings, of_window.train_dir), None)
        }
        if parent is None:
            parent = models[WINDOW]
            continue
        start = WarmStart(parent.candidate, parent.state, of_new.state_dir, args.decay)
        settings = (of_new.train_dir, parent.artifact, warm.settings, args.decay)
        models[WARM] = train(warm, of_new.train_dir, of_new, name(WARM, *settings), start)
        models[SAME] = train(cold, of_new.train_dir, of_new, name(SAME, cold.settings, of_new.train_dir), None)
        parent = models[WARM]
        artifacts = {DIRECTORY[how]: models[how].artifact for how in DIRECTORY}
        evaluation = compare(artifacts, [str(of_new.holdout_dir)], threads=os.cpu_count() or 1)
        found = evaluation.models
        figures: list[float] = []
        for how, directory in DIRECTORY.items():
            metrics = found[directory].metrics
            assert metrics.regret is not None
            figures += [metrics.log_loss, metrics.regret, models[how].steps]
        rows.append(tuple(figures))
        print(_line(str(date), rows[-1]), flush=True)
    print(_line("mean", tuple(fmean(column) for column in zip(*rows, strict=True))))


def _line(title: str, figures: Sequence[float]) -> str:
    cells = [f"{figures[i]:.4f} ({figures[i + 1]:.4f}), {figures[i + 2]:.0f}" for i in range(0, len(figures), 3)]
    return f"| {title} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
