"""The finish: once the gate has let a model through, it goes on over the day that judged it, and that model serves.

The day was held out: what is published without this has never seen the newest day. The finished model is a leaf. It
begins with the judged one's weights and with all that its rules remember, takes the day's rows as they were encoded for
the judgement, under the judged model's vocabulary and with the counts that were known then, in one pass. The next night
begins with the judged model and learns the day like any other, under a vocabulary that has its new values.

A finished model that fails its dry run, or moves the day's scores too far, or cannot be trained, is on record, and the
judged model serves.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import DRY_RUN
from nightjar.features.contract.errors import NightjarError
from nightjar.features.contract.manifests import DatasetManifest, Lineage
from nightjar.features.contract.outputs import CANDIDATES, FINISHES, MODELS, DecisionName, finished_of
from nightjar.features.contract.publishing import key_of, manifest_digest, read_manifest
from nightjar.jobs.common.decisions import publish_decision, read_decision
from nightjar.jobs.common.held_back import rows_held_back
from nightjar.serving.evaluation.comparison import predict
from nightjar.serving.gate.decision import FIGURES, Decision, GateConfig, PublishConfig
from nightjar.serving.gate.finish import decide_finish, not_finished
from nightjar.serving.model import load
from nightjar.serving.packing import dry_run
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.serving.packing.dry_run import DryRun
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.run.launch import Launcher
from nightjar.training.trainer import run_job
from nightjar.training.warm_start import WarmStart

JUDGED, FINISHED = "judged", "finished"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finish:
    """The finish of a night's model.

    gate: what it is held to; training, packing: how the judged model was trained and packed; output: folder that nights
    are published in; judged: the version; judgement: directory of the decision on it; state, holdout: directories of
    its encoder state and of the judged day, encoded under it; dataset: of the rows that the judged model was trained
    on, of which some may be held back for a calibration.
    """

    config: PublishConfig
    gate: GateConfig
    training: TrainingConfig
    packing: ArtifactConfig
    output: str
    judged: str
    judgement: str
    state: str
    holdout: str
    dataset: str

    @property
    def version(self) -> str:
        """The finished model's."""
        return finished_of(self.judged)

    @property
    def directory(self) -> str:
        """Where the decision on it goes."""
        bounds = {"publish": self.config.model_dump(mode="json"), "gate": self.gate.model_dump(mode="json")}
        key = key_of(**bounds, figures=FIGURES)
        return storage.join(self.output, FINISHES, str(DecisionName(self.version, key)))

    @property
    def candidate(self) -> str:
        """Where the finished model is trained."""
        return storage.join(self.output, CANDIDATES, self.version)

    @property
    def artifact(self) -> str:
        """Where the finished model is published."""
        return storage.join(self.output, MODELS, self.version)

    @property
    def job(self) -> TrainingJob:
        """One pass over the judged day, from where the judged candidate's training ended."""
        once = self.training.model_copy(update={"epochs": 1, "validation": None})
        start = WarmStart(storage.join(self.output, CANDIDATES, self.judged), self.state, self.state)
        return TrainingJob.of(once, self.holdout, self.candidate, self.holdout, start)

    def run(self, lineage: Lineage, launcher: Launcher) -> None:
        """Train, pack and try the finished model, if the gate has let the judged one through; publish what came of it.

        Args:
            lineage: the judged model's.
            launcher: where the workers run; `spark` needs an active session.
        """
        judged = storage.join(self.output, MODELS, self.judged)
        decision, dry = self._decide(judged, lineage, launcher)
        inputs = {JUDGED: manifest_digest(judged), "judgement": manifest_digest(self.judgement)}
        if dry:
            inputs[FINISHED] = manifest_digest(self.artifact)
        of = (self.version, self.judged)
        publish_decision(self.directory, decision, {DRY_RUN: dry} if dry else {}, of=of, inputs=inputs)
        for check in decision.failures:
            log.warning("finish: %s", check.reason)
        if moved := decision.movement:
            log.info("finish: the judged day moved its scores by %.4f on average, in log-odds", moved.mean)

    def _decide(self, judged: str, lineage: Lineage, launcher: Launcher) -> tuple[Decision, DryRun | None]:
        judgement, _ = read_decision(self.judgement, self.judged)
        if judgement.verdict != "published":
            return not_finished("gate", f"the gate rejected {self.judged}, so that it learns nothing more."), None
        day = read_manifest(self.holdout, DatasetManifest)
        learned = lineage.model_copy(update={"judged": self.judged, "learned_date": day.last_date})
        job = self.job
        try:
            run_job(job, launcher)
        except NightjarError as error:
            reason = f"{self.judged} could not learn {day.last_date} and serves as it is: {error}"
            return not_finished("training", reason), None
        held_back = rows_held_back(self.packing, self.training, self.dataset)
        pack(job.output, self.state, self.holdout, self.artifact, learned, self.packing, held_back)
        models = {JUDGED: load(judged), FINISHED: load(self.artifact)}
        observed, scores = predict(models, self.holdout, day)
        dry = dry_run.run(self.artifact)
        return decide_finish(self.config, self.gate, observed, scores[JUDGED], scores[FINISHED], dry), dry
