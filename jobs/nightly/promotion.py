"""The end of a night: the gate judges its model against the champion, and the pointer moves if it may.

The decision is published before the pointer moves, whatever it is. A night that was killed in between, or is run again,
finds the decision and moves the pointer unless it stood there already, so that a rollback by hand is not undone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError
from pyspark.sql import SparkSession

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import CHAMPION, DECISION, DRY_RUN, ENCODER
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import ArtifactManifest, DatasetManifest, DecisionManifest, StateManifest
from nightjar.features.contract.publishing import (
    begin,
    commit,
    describe_files,
    is_published,
    manifest_digest,
    read_manifest,
    verify,
)
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.strict import Strict, explain
from nightjar.features.dataset.build import BuildPlan, encode_days
from nightjar.serving import registry
from nightjar.serving.evaluation.comparison import ModelEvaluation, evaluate_scores, predict
from nightjar.serving.evaluation.evaluation import read_scores
from nightjar.serving.evaluation.metrics import Observations
from nightjar.serving.gate.decision import Decision, GateCheck, GateConfig
from nightjar.serving.gate.gate import decide
from nightjar.serving.gate.slices import observe_slices
from nightjar.serving.model import load
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.dry_run import DryRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A candidate for the champion's place.

    models: the registry; version: in it; date, holdout_dir: the day that both are judged on; evaluation: of the
    candidate on that day; features_under: the night's feature plan under another spec, the champion's; output: of the
    decision.
    """

    config: GateConfig
    models: str
    version: str
    date: str
    features_under: Callable[[FeatureSpec], BuildPlan]
    holdout_dir: str
    evaluation: str
    output: str

    def judge(self, spark: Callable[[], SparkSession]) -> None:
        """Judge and publish the decision, unless it is."""
        if is_published(self.output):
            return
        champion = registry.champion(self.models)
        dry = dry_run.run(storage.join(self.models, self.version))
        decision, of_champion = self._decide(spark, champion.version if champion else None, dry)
        begin(self.output)
        _write(storage.join(self.output, DECISION), decision)
        _write(storage.join(self.output, DRY_RUN), dry)
        if of_champion:
            _write(storage.join(self.output, CHAMPION), of_champion)
        inputs = {"candidate": manifest_digest(storage.join(self.models, self.version))}
        commit(
            self.output,
            DecisionManifest(
                inputs=inputs | ({"champion": champion.digest} if champion else {}),
                files=describe_files(self.output),
                version=self.version,
                champion=champion.version if champion else None,
                verdict=decision.verdict,
            ),
        )

    def move(self) -> Decision:
        """Move the pointer if the published decision allows it and the pointer never stood there."""
        decision, against = read_decision(self.output, self.version)
        if decision.verdict == "published" and not registry.was_promoted(self.models, self.version):
            pointer = registry.champion(self.models)
            if (pointer.version if pointer else None) == against:
                registry.promote(self.models, self.version, f"gate of the night {self.date}")
            else:
                log.warning("%s was compared with %s, which is not the champion any more", self.version, against)
        for check in decision.failures:
            log.warning("gate: %s", check.reason)
        log.info("gate: %s is %s; champion: %s", self.version, decision.verdict, self.champion)
        return decision

    @property
    def champion(self) -> str:
        """The champion's version, for people."""
        pointer = registry.champion(self.models)
        return pointer.version if pointer else "none yet"

    def _decide(
        self, spark: Callable[[], SparkSession], champion: str | None, dry: DryRun
    ) -> tuple[Decision, ModelEvaluation | None]:
        """The verdict, and the champion's own figures on the same day, if there is one that can be judged."""
        artifact = storage.join(self.models, self.version)
        observed, slices = observe_slices(artifact, self.holdout_dir, self.config.sliced_by)
        candidate_scores = read_scores(self.evaluation, artifact)
        if champion is None:
            return decide(self.config, observed, candidate_scores, slices=slices, dry_run=dry), None
        directory = storage.join(self.models, champion)
        learned = str(read_manifest(directory, ArtifactManifest).lineage.state_through_date)
        if learned >= self.date:
            reason = f"the champion {champion} has learned from {self.date}: its days go through {learned}; not judged"
            check = GateCheck(metric="date", passed=False, reason=reason)
            return Decision(verdict="rejected", rows=len(candidate_scores), checks=(check,)), None
        state = storage.join(directory, ENCODER)
        features = self.features_under(read_manifest(state, StateManifest).spec)
        dataset = encode_days(spark(), features, state, [self.date])
        model = load(directory, threads=os.cpu_count() or 1)
        champion_observed, scores = predict({champion: model}, dataset, read_manifest(dataset, DatasetManifest))
        _require_same_rows(observed, champion_observed, champion)
        of_champion = evaluate_scores(directory, model.manifest.model, dataset, observed, scores[champion])
        return decide(self.config, observed, candidate_scores, scores[champion], slices, dry), of_champion


def read_decision(directory: str, version: str) -> tuple[Decision, str | None]:
    """The published decision on a version, and the champion that it was made against.

    Raises DataError if there is none, if it is damaged, or if it and its manifest say different things.
    """
    manifest = read_manifest(directory, DecisionManifest)
    verify(directory, manifest)
    url = storage.join(directory, DECISION)
    if not any(entry.path == DECISION for entry in manifest.files):
        raise DataError(f"{directory} lists no {DECISION}. Remove it, and run the gate again.")
    try:
        decision = Decision.model_validate_json(storage.read_bytes(url))
    except ValidationError as error:
        raise DataError(explain(error, url)) from error
    passed = all(check.passed for check in decision.checks)
    if (manifest.version, manifest.verdict) != (version, decision.verdict) or passed != (
        decision.verdict == "published"
    ):
        raise DataError(
            f"{directory} contradicts itself: its manifest says {manifest.version} is {manifest.verdict}; the decision "
            f"says {decision.verdict} of {version}, with {len(decision.failures)} failed checks. Remove it, and run "
            f"the gate again."
        )
    return decision, manifest.champion


def _write(url: str, result: Strict) -> None:
    storage.write_bytes(url, (result.model_dump_json(indent=1) + "\n").encode())


def _require_same_rows(ours: Observations, theirs: Observations, champion: str) -> None:
    for mine, other in ((ours.label, theirs.label), (ours.group, theirs.group)):
        same = np.array_equal(mine, other) if mine is not None and other is not None else mine is other
        if not same:
            raise DataError(
                f"the hold-out rows are in another order for the champion {champion}: its feature spec reads other "
                f"columns. Judge this model by hand and promote it with promote_model."
            )
