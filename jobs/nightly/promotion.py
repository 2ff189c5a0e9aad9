"""The end of a night: the gate judges its model against the champion, and the pointer moves if it may.

The decision is published before the pointer moves, whatever it is. A night that was killed in between, or is run again,
finds the decision and moves the pointer unless it stood there already, so that a rollback by hand is not undone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CHAMPION, DRY_RUN, ENCODER
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import (
    ArtifactManifest,
    CountersManifest,
    DatasetManifest,
    StateManifest,
)
from nightjar.features.contract.outputs import CountersName, finished_of, night_of
from nightjar.features.contract.publishing import (
    is_published,
    key_of,
    manifest_digest,
    read_manifest,
)
from nightjar.features.contract.records import NightVerdict
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.counters import publish_counters
from nightjar.features.dataset.build import rolled_up
from nightjar.features.dataset.plan import BuildPlan
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.days import day_after
from nightjar.features.input.folders import LogPartition
from nightjar.features.input.sides.joined import together
from nightjar.features.input.timestamped import GetSpark
from nightjar.jobs.common.decisions import publish_decision, read_decision
from nightjar.jobs.judging.passes import scored_day
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import ModelEvaluation, evaluation_of
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig, Reference
from nightjar.serving.gate.gate import decide
from nightjar.serving.gate.reference import choose_reference
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.dry_run import DryRun
from nightjar.serving.pointer import Pointer
from nightjar.serving.raw_scores import ServedModel
from nightjar.serving.sums.measure import see
from nightjar.serving.sums.parts import Sight
from nightjar.serving.sums.rows import CANDIDATE
from nightjar.serving.sums.rows import CHAMPION as OF_CHAMPION
from nightjar.serving.sums.rows import REFERENCE as OF_REFERENCE
from nightjar.serving.sums.slices import find_slices

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A candidate for the champion's place.

    models: the registry; version: in it; date, day, holdout_dir: the day that both are judged on, as it was logged and
    as it was encoded for the candidate; day_under: the same day, with the columns that any model's spec reads;
    features_after: the feature plan of all days through the judged one, under any model's spec; baselines: artifacts
    that were trained beside, by name; output: of the decision; finish: of the one on what the candidate has become by
    learning the judged day (jobs.finishing), None if it does not learn it.
    """

    config: GateConfig
    models: str
    version: str
    date: str
    day: LogPartition
    day_under: Callable[[FeatureSpec], LogPartition]
    features_after: Callable[[FeatureSpec], BuildPlan]
    holdout_dir: str
    baselines: Mapping[str, str]
    output: str
    finish: str | None = None

    def judge(self, spark: GetSpark) -> None:
        """Judge and publish the decision, unless it is."""
        if is_published(self.output):
            return
        champion = registry.champion(self.models)
        dry = dry_run.run(storage.join(self.models, self.version))
        decision, of_champion = self._decide(spark, champion, dry)
        inputs = {"candidate": manifest_digest(storage.join(self.models, self.version))}
        publish_decision(
            self.output,
            decision,
            {DRY_RUN: dry, **({CHAMPION: of_champion} if of_champion else {})},
            of=(self.version, champion.version if champion else None),
            inputs=inputs | ({"champion": champion.digest} if champion else {}),
        )

    def renew_counters(self, spark: GetSpark) -> None:
        """Publish the counters that the next day is served with, for the model that serves it: the candidate if the
        gate let it through, the champion if not.
        """
        target = self._next_champion()
        if target is None:
            return
        try:
            self._publish_counters(spark, target)
        except DataError as error:
            if target == self.version:
                raise
            log.warning("the counters of the champion %s stay as they are: %s", target, error)

    def move(self, token: int | None = None) -> NightVerdict:
        """Move the pointer to what serves the next day: to the candidate, or what it was finished to, with its
        counters, if the published decision allows it and the pointer never stood there; else to the champion's new
        counters. What became of the candidate.

        token: number of the lease that is held, if any. Raises LockedError if another run has taken it over and moved.
        """
        decision, _ = read_decision(self.output, self.version)
        target = self._next_champion()
        if target is not None:
            name = self._counters_after(target)
            if target == self.version:
                version = self._finished or target
                registry.promote(self.models, version, f"gate of the night {self.date}", name, token=token)
            elif name:
                registry.renew(self.models, name, f"counters of the night {self.date}", token)
        for check in decision.failures:
            log.warning("gate: %s", check.reason)
        verdict: NightVerdict = decision.verdict
        if verdict == "published" and not registry.was_promoted(self.models, self.version):
            verdict = "superseded"
        log.info("gate: %s is %s; champion: %s", self.version, verdict, self.champion)
        return verdict

    @property
    def _finished(self) -> str | None:
        """What serves in the candidate's place, if it may."""
        if self.finish is None:
            return None
        version = finished_of(self.version)
        decision, _ = read_decision(self.finish, version)
        return version if decision.verdict == "published" else None

    @property
    def next_counters(self) -> str | None:
        """Directory of the counters that the next day is served with; None before there is a champion."""
        target = self._next_champion()
        name = target and self._counters_after(target)
        return registry.counters_directory(self.models, name) if name else None

    def _next_champion(self) -> str | None:
        """The version that serves once the night is over, or that was judged before it was finished; None if there is
        none.
        """
        decision, against = read_decision(self.output, self.version)
        pointer = registry.champion(self.models)
        current = pointer.version if pointer else None
        if decision.verdict == "published" and not registry.was_promoted(self.models, self.version):
            if current == against:
                return self.version
            log.warning("%s was compared with %s, which is not the champion any more", self.version, against)
        return current

    def _publish_counters(self, spark: GetSpark, version: str) -> None:
        spec = read_manifest(storage.join(self.models, version, ENCODER), StateManifest).spec
        plan = self.features_after(spec)
        served = day_after(self.date)
        key = key_of(rollup=storage.name_of(plan.rollup_dirs[self.date]), fingerprint=spec.counters_fingerprint)
        directory = registry.counters_directory(self.models, str(CountersName(served, key)))
        if is_published(directory):
            return
        before = self._counters_on_the_day(version)
        previous = (before, read_manifest(before, CountersManifest)) if before else None
        with damage_reported():
            made = publish_counters(spark(), spec, rolled_up(spark(), plan), directory, previous)
        log.info("counters as of %s: %s keys, %s changed", served, dict(made.keys), dict(made.changed) or "all")

    @property
    def champion(self) -> str:
        """The champion's version, for people."""
        pointer = registry.champion(self.models)
        return pointer.version if pointer else "none yet"

    def _decide(
        self, spark: GetSpark, champion: Pointer | None, dry: DryRun
    ) -> tuple[Decision, ModelEvaluation | None]:
        """The verdict, and the champion's own figures on the same day, if there is one that can be judged."""
        artifact = storage.join(self.models, self.version)
        served = {CANDIDATE: ServedModel(artifact)}
        if champion:
            version = champion.version
            if champion.judged and self._learned(version) == self.date:  # the night again: as it was judged before
                version = champion.judged
            if (learned := self._learned(version)) >= self.date:
                reason = (
                    f"the champion {version} has learned from {self.date}: its days go through {learned}; not judged"
                )
                check = GateCheck(metric="date", passed=False, reason=reason)
                return Decision(verdict="rejected", rows=0, checks=(check,)), None
            served[OF_CHAMPION] = self._served(version)
        reference = self._reference()
        if reference:
            served[OF_REFERENCE] = self._served(reference.version)
        served |= {name: ServedModel(directory) for name, directory in self.baselines.items()}
        sliced_by, expected = self.config.sliced_by, read_manifest(self.holdout_dir, DatasetManifest)
        day = self._day_for(served.values())
        with scored_day(spark(), day, served, CANDIDATE, sliced_by, rows=expected.rows) as host:
            slices = find_slices(artifact, sliced_by, host)
            sight = see(host, slices)
            self._require_whole(sight, expected)
            earlier = self._earlier()
            judgement = decide(self.config, host, sight, slices, dry, reference=reference, earlier=earlier)
        compared = {name: served[name] for name in (CANDIDATE, OF_CHAMPION, OF_REFERENCE) if name in served}
        figures = {"counters_as_of": {name: model.counters_as_of for name, model in compared.items()}}
        decision = judgement.decision.model_copy(update=figures)
        if OF_CHAMPION not in served or judgement.measured is None:
            return decision, None
        directory = served[OF_CHAMPION].artifact
        model, rows = read_manifest(directory, ArtifactManifest).model, self.day.fingerprint
        return decision, evaluation_of(directory, model, rows, judgement.measured, OF_CHAMPION)

    def _learned(self, version: str) -> str:
        """The last day that a version has learned from."""
        return read_manifest(storage.join(self.models, version), ArtifactManifest).lineage.learned_through_date

    def _day_for(self, models: Iterable[ServedModel]) -> LogPartition:
        """The judged day with every column that a model reads, as far as the log has it."""
        columns, sides = dict(self.day.columns), self.day.sides
        for model in models:
            spec = read_manifest(storage.join(model.artifact, ENCODER), StateManifest).spec
            try:
                under = self.day_under(spec)
                columns |= under.columns
                sides = together(sides, under.sides)
            except DataError as error:
                log.warning("%s is judged without columns that its features read: %s", model.artifact, error)
        return replace(self.day, columns=tuple(columns.items()), sides=sides)

    def _served(self, version: str) -> ServedModel:
        """A version as it served on the judged day, or would have."""
        return ServedModel(storage.join(self.models, version), self._counters_on_the_day(version))

    def _reference(self) -> Reference | None:
        """The older model that the candidate is held against, too; None if there is none, or if it is not there."""
        judged = date.fromisoformat(self.date)
        moves: list[tuple[str, date]] = []
        try:
            for version in (pointer.version for pointer in registry.line(self.models)):
                if (night := night_of(version)) and night < self.date:
                    moves.insert(0, (version, date.fromisoformat(night)))
                    if judged - moves[0][1] >= timedelta(self.config.reference_days):
                        break  # it is the reference, whatever was before it
        except DataError as error:  # of a move of long ago; the champion itself is known
            log.warning("the gate goes without a reference, since the pointer's history is damaged: %s", error)
            return None
        chosen = choose_reference(self.config, moves, judged)
        if chosen and not is_published(storage.join(self.models, chosen.version)):
            log.warning("the reference %s is not published any more; the gate goes without it", chosen.version)
            return None
        return chosen

    def _earlier(self) -> list[Decision]:
        """Decisions of the nights before, in order, from the last that let a model through on."""
        folder, _ = self.output.rsplit("/", 1)
        names = {
            night: name for name in storage.list_folders(folder) if (night := night_of(name)) and night < self.date
        }
        found: list[Decision] = []
        for night in sorted(names, reverse=True):
            directory = storage.join(folder, names[night])
            if is_published(directory):
                found.insert(0, read_decision(directory)[0])
                if found[0].verdict == "published":
                    break
        return found

    def _counters_after(self, version: str) -> str | None:
        """Name of those that a version serves the next day with."""
        return registry.newest_counters(self.models, version, date.fromisoformat(day_after(self.date)))

    def _counters_on_the_day(self, version: str) -> str | None:
        """Those that a version served with on the judged day, or would have; None for its own."""
        name = registry.newest_counters(self.models, version, date.fromisoformat(self.date))
        return registry.counters_directory(self.models, name) if name else None

    def _require_whole(self, sight: Sight, holdout: DatasetManifest) -> None:
        """Raises DataError if the judged rows are not those that were counted and encoded."""
        if (sight.rows, sight.positives) != (holdout.rows, holdout.positives):
            raise DataError(
                f"the log of {self.date} has {sight.rows} rows and {sight.positives} positives, but {self.holdout_dir} "
                f"holds {holdout.rows} and {holdout.positives}: the log has changed since it was encoded. "
                f"Run the night again."
            )
