"""An output with a judged model, and the finish that it may have."""

from __future__ import annotations

from pathlib import Path

from nightjar.features.contract.manifests import Lineage
from nightjar.jobs.common.decisions import publish_decision, read_decision
from nightjar.jobs.finishing.finish import Finish
from nightjar.serving.gate.decision import Decision, GateConfig, PublishConfig
from nightjar.serving.packing.config import ArtifactConfig
from nightjar.serving.packing.pack import pack
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_state

JUDGED = "2024-05-03-judged-0000"


def make_judged(output: Path, training: TrainingConfig) -> None:
    """A model that was trained on one day under a state, and the next day, of 600 rows, under the same.
    The gate has let it through.
    """
    state = make_state(output / "state")
    train, day = (make_holdout(output / name, state, make_rows(600, n), n) for n, name in enumerate(("train", "day")))
    candidate = str(output / "candidates" / JUDGED)
    run_job(TrainingJob.of(training, train, candidate, day))
    pack(candidate, state, day, str(output / "models" / JUDGED))
    said = Decision(verdict="published", rows=1, checks=())
    publish_decision(str(output / "decision"), said, {}, of=(JUDGED, None), inputs={})


def finish_in(output: Path, training: TrainingConfig) -> Finish:
    """Of the model there."""
    return Finish(
        config=PublishConfig(learn_evaluated_day=True, mean_move=2.0),
        gate=GateConfig(calibration=(0.5, 2.0)),
        training=training,
        packing=ArtifactConfig(),
        output=str(output),
        judged=JUDGED,
        judgement=str(output / "decision"),
        state=str(output / "state"),
        holdout=str(output / "day"),
        dataset=str(output / "train"),
    )


def carried_out(finish: Finish) -> Decision:
    """What is on record of it."""
    finish.run(Lineage(date="2024-05-03", seed=0), "local")
    return read_decision(finish.directory, finish.version)[0]
