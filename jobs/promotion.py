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
from pyspark.sql import SparkSession

from features import storage
from features.build import BuildPlan, encode_days
from features.errors import DataError
from features.manifest import (
    ArtifactManifest,
    DatasetManifest,
    DecisionManifest,
    StateManifest,
    begin,
    commit,
    describe_files,
    is_published,
    manifest_digest,
    read_manifest,
)
from features.spec import FeatureSpec
from serving import registry
from serving.comparison import predict
from serving.gate import Check, Decision, GateConfig, decide
from serving.metrics import Observations
from serving.model import ENCODER, load

DECISION = "decision.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A candidate for the champion's place.

    models: the registry; version: in it; date, holdout_dir: the day that both are judged on; features_under: the
    night's feature plan under another spec, the champion's; output: of the decision.
    """

    config: GateConfig
    models: str
    version: str
    date: str
    features_under: Callable[[FeatureSpec], BuildPlan]
    holdout_dir: str
    output: str

    def judge(self, spark: Callable[[], SparkSession]) -> None:
        """Judge and publish the decision, unless it is."""
        if is_published(self.output):
            return
        champion = registry.champion(self.models)
        decision = self._decide(spark, champion.version if champion else None)
        begin(self.output)
        storage.write_bytes(storage.join(self.output, DECISION), (decision.model_dump_json(indent=1) + "\n").encode())
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
        decision, against = read_decision(self.output)
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

    def _decide(self, spark: Callable[[], SparkSession], champion: str | None) -> Decision:
        observed, candidate_scores = _scores(storage.join(self.models, self.version), self.holdout_dir)
        if champion is None:
            return decide(self.config, observed, candidate_scores)
        directory = storage.join(self.models, champion)
        learned = str(read_manifest(directory, ArtifactManifest).lineage["state_through_date"])
        if learned >= self.date:
            reason = f"the champion {champion} has learned from {self.date}: its days go through {learned}; not judged"
            return Decision(
                verdict="rejected",
                rows=len(candidate_scores),
                checks=(Check(metric="date", passed=False, reason=reason),),
            )
        state = storage.join(directory, ENCODER)
        features = self.features_under(read_manifest(state, StateManifest).spec)
        champion_observed, champion_scores = _scores(directory, encode_days(spark(), features, state, [self.date]))
        _require_same_rows(observed, champion_observed, champion)
        return decide(self.config, observed, candidate_scores, champion_scores)


def read_decision(directory: str) -> tuple[Decision, str | None]:
    """A published decision, and the champion that it was made against. Raises DataError if there is none."""
    manifest = read_manifest(directory, DecisionManifest)
    decision = Decision.model_validate_json(storage.read_bytes(storage.join(directory, DECISION)))
    return decision, manifest.champion


def _scores(artifact: str, dataset: str) -> tuple[Observations, np.ndarray]:
    model = load(artifact, threads=os.cpu_count() or 1)
    observed, scores = predict({"model": model}, dataset, read_manifest(dataset, DatasetManifest))
    return observed, scores["model"]


def _require_same_rows(ours: Observations, theirs: Observations, champion: str) -> None:
    for mine, other in ((ours.label, theirs.label), (ours.group, theirs.group)):
        same = np.array_equal(mine, other) if mine is not None and other is not None else mine is other
        if not same:
            raise DataError(
                f"the hold-out rows are in another order for the champion {champion}: its feature spec reads other "
                f"columns. Judge this model by hand and promote it with promote_model."
            )
