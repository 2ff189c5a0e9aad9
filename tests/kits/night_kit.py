"""Nights of small models, published with all that their pages show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nightjar.features.contract.artifact_files import CHAMPION, DECISION, DRY_RUN
from nightjar.features.contract.manifests import (
    CountersManifest,
    DatasetManifest,
    DecisionManifest,
    NightManifest,
    ValidationCheck,
    ValidationManifest,
)
from nightjar.features.contract.publishing import begin, commit, describe_files, read_manifest
from nightjar.jobs.common.decisions import publish_decision
from nightjar.serving.encoded import to_columns
from nightjar.serving.evaluation.comparison import predict
from nightjar.serving.evaluation.metrics import quality_of
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, GateRule, Movement, Reference
from nightjar.serving.model import load
from nightjar.serving.packing.dry_run import DryRun, Measured
from nightjar.serving.packing.pack import pack
from nightjar.serving.reports.evaluations import evaluate
from nightjar.serving.sums.rows import CANDIDATE, InMemory
from nightjar.serving.sums.slices import find_slices
from tests.kits.gate_kit import ReferenceScores, Sliced, decide
from tests.kits.serving.serving_kit import make_world
from tests.kits.summary_kit import make_summary

GOOD, REJECTED, STOPPED = "2026-01-03", "2026-01-04", "2026-01-05"
LITTLE = {"rows": 10, "positives": 2, "groups": 2}
GATE = GateConfig.model_validate(
    {
        "rules": [{"metric": "log_loss", "tolerance": 0.5}],
        "slices": ["premium", "age"],
        "overall": LITTLE,
        "slice_support": LITTLE,
        "calibration": [0.0, 100.0],
    }
)

UNTOLERATING = GATE.model_copy(update={"rules": (GateRule(metric="log_loss", tolerance=0.0),)})


def validate(output: Path, date: str, *, passed: bool) -> str:
    checks = (
        ValidationCheck(check="rows", value=500.0, low=100.0, high=900.0, passed=True, reason="500, [100, 900]."),
        ValidationCheck(check="drift", feature="item", value=0.3, high=0.2, passed=passed, reason="0.3, at most 0.2."),
        ValidationCheck(check="drift", feature="<user>", value=0.01, passed=True, reason="0.01: not judged."),
    )
    directory = f"validations/date={date}-key"
    begin(str(output / directory))
    manifest = ValidationManifest(
        files=(), date=date, rows=500, reference=("2026-01-01",), allowed=(), passed=passed, checks=checks
    )
    commit(str(output / directory), manifest)
    return directory


def summarize(output: Path, date: str) -> str:
    directory = f"summaries/date={date}-key"
    begin(str(output / directory))
    commit(str(output / directory), make_summary(date=date))
    return directory


def publish_finish(output: Path, judged: str, *, passed: bool) -> str:
    """What came of learning the day of a night."""
    directory = f"finishes/{judged}-finished-key"
    moved = Movement(
        rows=1234, mean=0.1234, p99=0.567, largest=2.345, shift=-0.0123, log_loss_before=0.61, log_loss_after=0.59
    )
    check = GateCheck(metric="mean_move", passed=passed, reason="scores move by 0.1234, the bound is 0.1.")
    decision = Decision(
        verdict="published" if passed else "rejected",
        rejection=None if passed else "worse",
        rows=1234,
        checks=(check,),
        movement=moved,
    )
    of = (f"{judged}-finished", judged)
    publish_decision(str(output / directory), decision, {}, of=of, inputs={})
    return directory


def publish_counters(output: Path, served: str, through: str) -> str:
    """Counters of two frequencies, and what has changed in them: 3 MiB and 1 MiB."""
    directory = output / "models" / "counters" / f"{served}-key"
    begin(str(directory))
    for folder, mib in (("frequency", 3), ("delta", 1)):
        (directory / folder / "rate").mkdir(parents=True)
        (directory / folder / "rate" / "part-00000.parquet").write_bytes(bytes(mib << 20))
    manifest = CountersManifest(
        files=describe_files(str(directory)),
        fingerprint="0",
        first_date="2026-01-01",
        through_date=through,
        previous="before",
        keys={"rate": 54321, "other": 7},
        changed={"rate": 4321, "other": 0},
    )
    commit(str(directory), manifest)
    return str(directory.relative_to(output))


def make_night(output: Path, date: str, seed: int, *, champion: str = "before") -> None:
    """A night of a hand-made world, judged against the seed's neighbour, which stands for the version `champion`."""
    world = make_world(output.parent / f"world-{date}", rows=400, seed=seed)
    version = f"{date}-wide_deep-key"
    artifact = str(output / "models" / version)
    pack(world.candidate, world.state, world.holdout, artifact)
    candidate = output / "candidates" / version
    shutil.copytree(world.candidate, candidate)
    slots = [{"table": "wide", "slot": "f_user", "parent_rows": 90, "rows": 100, "carried": 80}]
    (candidate / "warm_start.json").write_text(
        json.dumps({"parent": "2026-01-02-wide_deep", "decay": 1.0, "rules": [], "slots": slots, "head": []})
    )
    seen = {"epoch": 0, "rows": 100, "learning_rate_scale": 1.0}
    speed = {"kind": "progress", "log_loss": 0.6, "rows_per_second": 1e4, "memory_bytes": 1 << 20}
    lines: list[dict[str, object]] = [{**seen, **speed, "step": n, "recent_log_loss": 0.6 - n / 50} for n in range(5)]
    unknown = dict.fromkeys(("normalized_entropy", "auc", "gauc", "calibration"))
    lines.append({**seen, **unknown, "kind": "validation", "step": 4, "log_loss": 0.55, "seconds": 1.0, "best": True})
    (output / "candidates" / f"{version}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = output / "evaluations" / f"{date}-key"
    evaluated = evaluate({"wide_deep": artifact}, [world.holdout], str(evaluation))
    models = {"wide_deep": load(artifact)}
    holdout = read_manifest(world.holdout, DatasetManifest)
    observed, scored = predict(models, world.holdout, holdout)
    columns = {column.feature: column.name for column in reversed(holdout.columns)}
    encoded = to_columns(pq.read_table(Path(world.holdout) / "data"))
    scores, raw = scored["wide_deep"], {name: np.asarray(encoded[columns[name]]) for name in GATE.sliced_by}
    found = find_slices(artifact, GATE.sliced_by, InMemory.of(observed, {CANDIDATE: scores}, raw))
    slices = {name: Sliced(raw[name], one) for name, one in found.items()}
    measured = Measured(rows=16, largest_difference=1e-7, median_latency=5.0, p99_latency=9.0, resident_mib=200.0)
    dry = DryRun(problems=(), measured=measured)
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (2, 400))
    informed, as_good = np.clip(0.2 + 0.6 * observed.label + noise, 0.01, 0.99)
    reference = ReferenceScores(Reference(version="2026-01-01-old", days=2), scores)
    baselines = {"lr": informed}
    decision = decide(
        GATE, observed, scores, scores[::-1].copy(), slices, dry, reference=reference, baselines=baselines
    )
    decision = decision.model_copy(update={"as_served": {"candidate": quality_of(observed, informed)}})
    if date == REJECTED:
        decision = decide(UNTOLERATING, observed, informed, as_good, slices)
        decision = decision.model_copy(update={"counters_as_of": {"champion": "2026-01-02"}})
        assert decision.rejection == "inconclusive"
    gate = output / "decisions" / f"{version}-key"
    begin(str(gate))
    for name, result in ((DECISION, decision), (CHAMPION, evaluated.models["wide_deep"]), (DRY_RUN, dry)):
        (gate / name).write_text(result.model_dump_json())
    commit(
        str(gate),
        DecisionManifest(files=describe_files(str(gate)), version=version, champion=champion, verdict=decision.verdict),
    )
    (output / "metrics").mkdir(exist_ok=True)
    (output / "metrics" / f"{date}.json").write_text('{"seconds": {"train": 12.5}}')
    record = output / "nights" / f"{date}-key"
    begin(str(record))
    day = {"in_files": 1234, "counted": 1230, "positives": 56, "left_out": {"no <label>": 4}}
    train = {"directory": "train-x", "read": 1230, "kept": 777, "positives": 56, "files": [400, 377]}
    ledger = {
        "days": [{**day, "date": "2026-01-01"}, {**day, "date": date}],
        "train": train,
        "holdout": {**train, "directory": "holdout-x"},
        "trained": [{"model": "wide_deep", "epochs": 3, "rows": 2331, "held_out": False}],
        "evaluated": 777,
        "judged": 777,
    }
    (record / "ledger.json").write_text(json.dumps(ledger))
    directories = {
        "validate": (validate(output, date, passed=True),),
        "summarize": (summarize(output, date),),
        "train": (f"candidates/{version}",),
        "evaluate": (f"evaluations/{date}-key",),
        "gate": (f"decisions/{version}-key",),
        "renew": (publish_counters(output, served=f"{date}-next", through=date),),
    }
    if date == GOOD:
        directories["finish"] = (publish_finish(output, version, passed=True),)
    commit(
        str(record),
        NightManifest(
            files=(),
            date=date,
            version=version,
            verdict="published" if date == GOOD else "rejected",
            ingredients={},
            directories=directories,
            skipped=("2025-12-24",),
        ),
    )
