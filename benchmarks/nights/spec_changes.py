"""Seven nights, the third and the fifth under another spec: python -m benchmarks.nights.spec_changes --work FOLDER

Under a warm start every night, with one and with two workers; every model is finished on the day that judged it. On
the third night the spec has one field more. On the fifth a field has another name, and a cross is new; the page of that
night has other slices. No setting of the gate is looser than in conf/app_store.yaml.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import warnings
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import yaml

from benchmarks.served import directory_of
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import WARM_START
from nightjar.features.contract.outputs import CANDIDATES, DECISIONS, MODELS, night_of
from nightjar.features.contract.records import WarmStartReport
from nightjar.jobs import generate_logs, run_nightly
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.decisions import read_decision
from nightjar.jobs.common.spark_session import spark_session
from nightjar.serving import registry
from nightjar.serving.gate.decision import Decision

FIRST, NIGHTS, HISTORY_DAYS = date(2026, 1, 4), 7, 3


def spec_of(night: int, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a night, from 1 on."""
    changed = copy.deepcopy(config)
    features = changed["features"]
    if night < 3:
        features["fields"] = [field for field in features["fields"] if field["name"] != "language"]
    if night >= 5:
        phone = {"name": "phone", "column": "device"}
        features["fields"] = [phone if field["name"] == "device" else field for field in features["fields"]]
        features["crosses"].append({"name": "country_x_app", "fields": ["country", "app"], "buckets": 65536})
        changed["gate"]["slices"] = ["country"]
    return changed


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table, a line a night; status 1 if one of them was not published."""
    parser = argparse.ArgumentParser(prog="spec_changes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", required=True, help="folder for the log and the nights")
    parser.add_argument("--config", default="conf/app_store.yaml")
    parser.add_argument("--rows-per-day", type=int, default=50_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    work = os.path.abspath(args.work)
    logs = storage.join(work, "logs")
    days = ["--start-date", str(FIRST - timedelta(HISTORY_DAYS)), "--days", str(HISTORY_DAYS + NIGHTS)]
    with spark_session("spec_changes"):
        generate_logs.main(["--output", logs, *days, "--rows-per-day", str(args.rows_per_day)])
        lines = [nights(args.config, logs, storage.join(work, f"workers={n}"), n) for n in args.workers]
    print(f"\n| night | spec | {' | '.join(f'workers: {n} | log loss | carried' for n in args.workers)} |")
    print("| --- " * (2 + 3 * len(args.workers)) + "|")
    for number, cells in enumerate(zip(*lines, strict=True), 1):
        spec = {1: "first", 3: "a field more", 5: "a field renamed, a cross more"}.get(number, "same")
        print(f"| {FIRST + timedelta(number - 1)} | {spec} | {' | '.join(cells)} |")
    return int(any("published" not in cell for line in lines for cell in line))


def nights(config: str, logs: str, output: str, workers: int) -> list[str]:
    """Run them; of each the verdict, the candidate's log loss and the share of rows that its warm start has carried."""
    with open(config, encoding="utf-8") as stream:
        document = yaml.safe_load(stream)
    document["nightly"] |= {"baselines": [], "publish": {"learn_evaluated_day": True}}
    document["training"]["workers"] = workers
    cells = []
    for number in range(1, NIGHTS + 1):
        path = storage.join(output, f"night-{number}.yaml")
        storage.write_bytes(path, yaml.safe_dump(spec_of(number, document)).encode())
        night = str(FIRST + timedelta(number - 1))
        run_nightly.main(
            ["--config", path, "--logs", logs, "--output", storage.join(output, "nights"), "--date", night]
        )
        cells.append(cell(storage.join(output, "nights"), night))
    return cells


def cell(output: str, night: str) -> str:
    """What a night has come to."""
    decision = decision_of(output, night)
    pointer = registry.champion(storage.join(output, MODELS))
    serves = pointer and pointer.judged and night_of(pointer.judged) == night
    loss = decision.parts[0].figures[0].candidate
    return f"{decision.outcome}{', finished' if serves else ''} | {loss:.4f} | {carried(output, night)}"


def decision_of(output: str, night: str) -> Decision:
    """The gate's."""
    return read_decision(directory_of(output, DECISIONS, night))[0]


def carried(output: str, night: str) -> str:
    """The share of the judged candidate's rows that came from its parent."""
    url = storage.join(directory_of(output, CANDIDATES, night), WARM_START)
    if not storage.exists(url):
        return "cold"
    slots = WarmStartReport.model_validate_json(storage.read_bytes(url)).slots
    return f"{sum(slot.carried for slot in slots) / sum(slot.rows for slot in slots):.0%}"


if __name__ == "__main__":
    sys.exit(main())
