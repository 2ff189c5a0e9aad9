"""The end of a night on HDFS, where no put is atomic and no rename overwrites: killed at every step of the file system,
and run again, it is the one that nobody disturbed.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

from nightjar.features.contract import storage
from nightjar.features.contract.manifests import Manifest
from nightjar.features.contract.publishing import begin, commit, describe_files, is_published
from nightjar.jobs.common.decisions import publish_decision
from nightjar.jobs.nightly.lease import lease, lock_of
from nightjar.jobs.nightly.promotion import Promotion
from nightjar.jobs.nightly.retention import KeepConfig, Past, prune
from nightjar.serving import registry
from nightjar.serving.gate.decision import Decision, GateConfig, GateRule
from tests.kits.fake_hdfs import FakeHdfs, deaths
from tests.kits.feature_logs import SPEC
from tests.kits.registry_kit import LINES, publish

FIRST = date(2026, 1, 1)
KEEP = KeepConfig(models=2, datasets=1, nights=2)
GATE = GateConfig(rules=(GateRule(metric="log_loss", tolerance=0.1),))
NOTHING: Any = None


def directory(output: str, name: str) -> None:
    """Publish one, unless it is there."""
    place = storage.join(output, name)
    if not is_published(place):
        begin(place)
        storage.write_bytes(storage.join(place, "data"), name.encode() * LINES)
        commit(place, Manifest(kind="some", files=describe_files(place)))


def night(output: str, number: int) -> str:
    """Everything but what Spark and training do, in its order: lease, data set, model, decision, pointer, retention,
    record; each finds what is there already. The verdict.
    """
    day = FIRST + timedelta(number)
    models, version = storage.join(output, "models"), f"{day}-lr-aa"
    with lease(lock_of(models), f"run of {day}", stale_seconds=0.0, after=registry.last_token(models)) as held:
        directory(output, f"datasets/holdout-{day}-aa")
        if not is_published(storage.join(models, version)):
            publish(models, version)
        champion, judgement = registry.champion(models), storage.join(output, "decisions", f"{version}-bb")
        if not is_published(judgement):
            against = champion.version if champion else None
            decision = Decision(verdict="published", rows=1, checks=())
            publish_decision(judgement, decision, {}, of=(version, against), inputs={})
        promotion = Promotion(
            GATE, models, version, str(day), NOTHING, NOTHING, NOTHING, "", {}, judgement, finish=None
        )
        verdict = promotion.move(held.number)
        storage.write_bytes(storage.join(output, "metrics", "latest.prom"), str(day).encode())
        prune(KEEP, output, day, Past(SPEC, FIRST), held.number)
        directory(output, f"nights/{day}-aa")
    return verdict


def contents(output: str) -> dict[str, bytes]:
    """All but the lease; its number, which is in every move, counts the runs."""
    files = {name: storage.read_bytes(storage.join(output, name)) for name in storage.list_files(output)}
    kept = {name: content for name, content in files.items() if not name.startswith("models/lock/")}
    return {name: re.sub(rb'"token": \d+', b"", content) for name, content in kept.items()}


def test_a_night_killed_at_every_step_of_hdfs_ends_as_the_undisturbed_one(hdfs: str) -> None:
    last = 16
    for number in range(last):
        assert night(hdfs, number) == "published"
    begun = (dict(FakeHdfs.files), set(FakeHdfs.folders), dict(FakeHdfs.written))

    def again() -> None:
        FakeHdfs.files, FakeHdfs.folders, FakeHdfs.written = dict(begun[0]), set(begun[1]), dict(begun[2])

    before = contents(hdfs)
    assert night(hdfs, last) == "published"
    undisturbed = contents(hdfs)
    summary = "models/history/last-moves.json"
    assert undisturbed[summary] != before[summary], "the night puts moves together"
    assert len([name for name in before.keys() - undisturbed if name.startswith("models/history/0")]) > 2
    kills = 0
    for death in deaths():
        again()
        with death:
            night(hdfs, last)
        champion = registry.champion(storage.join(hdfs, "models"))
        assert champion
        assert champion.version[:10] in (str(FIRST + timedelta(last - 1)), str(FIRST + timedelta(last)))
        assert registry.load_champion(storage.join(hdfs, "models"))
        assert night(hdfs, last) == "published"
        assert contents(hdfs) == undisturbed
        kills += 1
    assert kills > 60
