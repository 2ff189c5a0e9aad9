"""What is served by day: nights one after the other, and before each the requests of its day by what is live then.

    python -m benchmarks.served --work FOLDER [--rows-per-day 20000] [--nights 10] [--reject 4 8]
    python -m benchmarks.served --work FOLDER --logs FOLDER --config conf/movietweetings.yaml --first DATE --nights 30

Without --logs a log is generated: users and apps arrive every day, and what an app is worth drifts. Every day's rows
are scored by the model that the nights before have promoted: (a) through its artifact alone, with the counters that it
was packed with; (b) with the counters that are renewed every night; (c) finished, i.e. after it has learned the day
that judged it, with the same counters. All three have the same judged models: a finished one is nobody's parent.
Rows are scored as they were logged, so that figures compare with the gate's. The nights --reject are rejected by force;
all others are let through, so that the curves do not depend on the gate's luck.

Figures are the expected regret where the log knows the true probability, which is free of the labels' noise; else the
log loss. Then, of what was live (c): how far its scores differ from those of a server that loads the champion, and how
far its log loss differs from what the gate said of the champion.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

import nightjar
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CHAMPION, DECISION
from nightjar.features.contract.outputs import DECISIONS, FINISHES, MODELS, judged_of, night_of
from nightjar.features.input.folders import LogPartition, check_logs
from nightjar.jobs import generate_logs, run_nightly
from nightjar.jobs.common.cli import EXIT_REJECTED, entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.judging.rows import score_day, scored_rows
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import ModelEvaluation
from nightjar.serving.evaluation.metrics import measure
from nightjar.serving.gate.decision import Decision
from nightjar.serving.raw_scores import ServedModel
from nightjar.serving.sums.rows import ScoredRows

WAYS = FROZEN, RENEWED, FINISHED = "frozen counters", "renewed counters", "finished model"
LENIENT = (
    "nightly.baselines=[]",
    "validation={rows: 1000.0, label_rate: 1000.0, missing: 1.0, unseen: 1.0, drift: 1.0}",
    "nightly.publish.learn_evaluated_day=true",
    "gate.rules=[{metric: log_loss, tolerance: 10.0}]",
    "gate.reference_days=0",
    "gate.slices=[]",
    "gate.calibration=[0.0, 1000.0]",
    "gate.normalized_entropy=0.999999",
    "gate.overall={rows: 100, positives: 20, groups: 10}",
)
HISTORY_DAYS = 3


@dataclass(frozen=True)
class Nights:
    """Where the nights are, and under which config they run."""

    config: str
    logs: str
    output: str

    @property
    def models(self) -> str:
        """The registry."""
        return storage.join(self.output, MODELS)

    def run(self, night: date, *, rejected: bool) -> bool:
        """Run one; whether its model was promoted."""
        forced = ("gate.normalized_entropy=1.0e-6",) if rejected else ()
        arguments = ["--config", self.config, "--logs", self.logs, "--output", self.output, "--date", str(night)]
        changes = [part for override in (*LENIENT, *forced) for part in ("--set", override)]
        status = run_nightly.main([*arguments, *changes])
        if status not in (0, EXIT_REJECTED):
            sys.exit(f"night {night} ended with status {status}")
        return status == 0

    def found(self, folder: str, night: date, file: str) -> bytes | None:
        """A file of the night's decision, or of its finish."""
        url = storage.join(directory_of(self.output, folder, str(night)), file)
        return storage.read_bytes(url) if storage.exists(url) else None


def directory_of(output: str, folder: str, night: str) -> str:
    """The one directory that a night has in a folder of the output, that of what became of its model left out."""
    root = storage.join(output, folder)
    [name] = [n for n in storage.list_folders(root) if night_of(n) == night and judged_of(n) == n]
    return storage.join(root, name)


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table, a line a day."""
    parser = argparse.ArgumentParser(prog="served", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the log and the nights")
    parser.add_argument("--config", default="conf/app_store.yaml")
    parser.add_argument("--logs", help="a log in date folders; empty: it is generated")
    parser.add_argument("--first", type=date.fromisoformat, default=date(2026, 1, 1) + timedelta(HISTORY_DAYS))
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--reject", type=int, nargs="*", default=[4, 8], help="numbers of nights, from 1")
    parser.add_argument("--rows-per-day", type=int, default=20_000)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    work = os.path.abspath(args.work)
    with spark_session("served") as spark:
        logs = os.path.abspath(args.logs) if args.logs else generated(work, args)
        nights = Nights(args.config, logs, storage.join(work, "nights"))
        lines = [day(spark, nights, number, args) for number in range(1, args.nights + 1)]
    report(lines)
    return 0


def generated(work: str, args: argparse.Namespace) -> str:
    """The folder of a generated log."""
    logs = storage.join(work, "logs")
    start, days = args.first - timedelta(HISTORY_DAYS), HISTORY_DAYS + args.nights
    settings = ["--start-date", str(start), "--days", str(days), "--rows-per-day", str(args.rows_per_day)]
    generate_logs.main(["--output", logs, *settings])
    return logs


@dataclass(frozen=True)
class Line:
    """A day: the figure of each way to serve; how far what was live differs from a server and from the gate; what
    became of its night, and the mean, 99th percentile and largest move of the finish. The first night has no figures.
    """

    day: date
    verdict: str
    moves: str
    figures: Mapping[str, float] | None = None
    differences: tuple[float | None, ...] = (None, None)

    def __str__(self) -> str:
        cells = [f"{self.figures[name]:.5f}" if self.figures else "–" for name in WAYS]
        cells += ["–" if one is None else f"{one:.0e}" for one in self.differences]
        return f"| {self.day} | {' | '.join(cells)} | {self.verdict} | {self.moves} |"


def day(spark: SparkSession, nights: Nights, number: int, args: argparse.Namespace) -> Line:
    """Score a day by what is live, and run its night."""
    night = args.first + timedelta(number - 1)
    pointer = registry.champion(nights.models)
    rows = None
    if pointer and pointer.counters:
        counters = registry.counters_directory(nights.models, pointer.counters)
        judged = storage.join(nights.models, pointer.judged or pointer.version)
        served = {
            FROZEN: ServedModel(judged),
            RENEWED: ServedModel(judged, counters),
            FINISHED: ServedModel(storage.join(nights.models, pointer.version), counters),
        }
        spec = NightConfig.read(nights.config).features
        [of_day] = check_logs(nights.logs, [str(night)], spec)
        rows = scored_rows(score_day(spark, of_day, served, FINISHED, ()).toArrow())
        as_server = from_server(nights.models, of_day, rows)
    promoted = nights.run(night, rejected=number in args.reject)
    moved = Decision.model_validate_json(nights.found(FINISHES, night, DECISION) or b"").movement
    moves = f"{moved.mean:.3f} / {moved.p99:.2f} / {moved.largest:.2f}" if moved else "–"
    verdict = "promoted" if promoted else "rejected"
    if rows is None:
        return Line(night, verdict, moves)
    content = nights.found(DECISIONS, night, CHAMPION)
    assert content
    judged_loss = ModelEvaluation.model_validate_json(content).metrics.log_loss
    measured = {name: measure(rows.observed, score) for name, score in rows.scores.items() if name in WAYS}
    figures = {name: m.log_loss if m.expected_regret is None else m.expected_regret for name, m in measured.items()}
    return Line(night, verdict, moves, figures, (as_server, abs(judged_loss - measured[FINISHED].log_loss)))


def from_server(models: str, of_day: LogPartition, rows: ScoredRows) -> float | None:
    """The largest difference of the live scores to those of a server that has loaded the champion; None where requests
    bring what the log does not hold, i.e. today's counts so far.
    """
    model = nightjar.load_champion(models)
    spec = model.state.spec
    if any(frequency.as_of == "impression" for frequency in spec.frequencies) or rows.observed.truth is None:
        return None
    table = pq.read_table(of_day.url, partitioning=None)
    scores = model.score(table.select(spec.request_columns()), as_logged=True)
    truth = table.column(spec.truth).to_numpy()
    ours, theirs = np.lexsort((rows.scores[FINISHED], rows.observed.truth)), np.lexsort((scores, truth))
    return float(np.abs(rows.scores[FINISHED][ours].astype(np.float64) - scores[theirs]).max())


def report(lines: Sequence[Line]) -> None:
    """The days, and the means over them."""
    print(
        f"\n| day | {' | '.join(WAYS)} | off a server's scores | off the gate's log loss | night | the finish moved |"
    )
    print("| --- " * (len(WAYS) + 5) + "|")
    for line in lines:
        print(line)
    means = [fmean(line.figures[name] for line in lines if line.figures) for name in WAYS]
    print(f"| mean | {' | '.join(f'{mean:.5f}' for mean in means)} | | | | |")


if __name__ == "__main__":
    sys.exit(main())
