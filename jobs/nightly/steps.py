"""What the steps of a night do.

validate -> aggregate -> encode -> summarize -> train (the model and its baselines) -> pack -> evaluate -> gate
-> renew (the counters) -> publish
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from nightjar.features.contract import storage
from nightjar.features.contract.errors import ValidationFailed
from nightjar.features.contract.manifests import NightManifest
from nightjar.features.contract.outputs import (
    AGGREGATE,
    ENCODE,
    EVALUATE,
    GATE,
    METRICS,
    MODELS,
    PACK,
    PUBLISH,
    RENEW,
    SUMMARIZE,
    TRAIN,
    VALIDATE,
    metrics_file,
)
from nightjar.features.contract.publishing import begin, commit
from nightjar.features.contract.strict import digest
from nightjar.features.dataset.build import aggregate, build
from nightjar.features.input.timestamped import GetSpark
from nightjar.jobs.nightly import hook, lineage, retention
from nightjar.jobs.nightly.ahead import looking_ahead
from nightjar.jobs.nightly.chain import Step
from nightjar.jobs.nightly.mlflow_mirror import try_to_follow
from nightjar.jobs.nightly.night import Night
from nightjar.jobs.nightly.parents import BESIDE
from nightjar.jobs.nightly.telemetry import JobRun, open_metrics
from nightjar.serving.evaluation.evaluation import evaluate, read_evaluation
from nightjar.serving.gate.gate import Decision
from nightjar.serving.packing.pack import pack
from nightjar.training.trainer import run_job

_FEATURES = ("log of ", "features.")
_DATASETS = (*_FEATURES, "nightly.train_days", "nightly.history_from", "start.reason")
_MODELS = (*_DATASETS, "start.", "training.", "nightly.baselines")
_ALL = (*_MODELS, "gate.")


def steps_of(night: Night, run: JobRun, following: Night | None = None) -> list[Step]:
    """The chain. run: whose figures are published with the night; following: the range's next night, if any."""
    made = night.directories()
    artifact = (night.artifact(night.config.training.model),)

    def step(name: str, made_from: tuple[str, ...], do: Callable[[GetSpark], object], *needs: str) -> Step:
        return Step(name, made.get(name, ()), needs, made_from, do)

    return [
        step(VALIDATE, _FEATURES, lambda spark: _validate(night, spark)),
        step(AGGREGATE, _FEATURES, lambda spark: aggregate(spark(), night.features)),
        step(ENCODE, _DATASETS, lambda spark: build(spark(), night.features), *made[AGGREGATE]),
        step(
            SUMMARIZE,
            (*_FEATURES, "nightly.history_from"),
            lambda spark: night.summary.run(spark),
            *made[AGGREGATE],
        ),
        step(TRAIN, _MODELS, lambda spark: _train(night, spark, following), *made[ENCODE]),
        step(PACK, _MODELS, lambda spark: _pack(night), *made[TRAIN]),
        step(EVALUATE, _MODELS, lambda spark: _evaluate(night), *made[PACK]),
        step(GATE, _ALL, night.promotion.judge, *artifact),
        step(RENEW, _ALL, night.promotion.renew_counters, *made[GATE]),
        Step(PUBLISH, (night.record,), made[EVALUATE] + made[GATE], _ALL, lambda spark: _publish(night, run)),
    ]


def _validate(night: Night, spark: GetSpark) -> None:
    """A day that fails is summarised all the same: that is the day whose features somebody will want to see."""
    night.check()
    try:
        night.validation.run(spark)
    except ValidationFailed:
        night.summary.run(spark)
        raise


def _train(night: Night, spark: GetSpark, following: Night | None) -> None:
    if night.launcher == "spark":
        spark()
    with looking_ahead(following, spark):
        for model in night.config.models:
            run_job(night.job(model), night.launcher)


def _pack(night: Night) -> None:
    built = night.features.built
    for model in night.config.models:
        pack(night.candidate(model), built.state_dir, str(built.holdout_dir), night.artifact(model), _lineage(night))


def _lineage(night: Night) -> dict[str, Any]:
    """Where the night's models come from; their manifests' `inputs` hold the digests of what they were packed from."""
    features = night.features
    return {
        "date": night.date.isoformat(),
        "start": night.start.reason,
        BESIDE: night.promotion.version,
        "logs": {day.date: day.fingerprint for day in features.days},
        "spec": features.spec.fingerprint,
        "config": digest(night.config.training.settings),
        "seed": night.config.training.seed,
        "code": lineage.code(),
    }


def _evaluate(night: Night) -> None:
    artifacts = {model: night.artifact(model) for model in night.config.models}
    evaluate(artifacts, [str(night.features.built.holdout_dir)], night.evaluation)


def _publish(night: Night, run: JobRun) -> None:
    """Move the pointer, tell everybody, tidy up; the night's record comes last, so that a kill repeats the rest."""
    config = night.config.nightly
    decision = night.promotion.move()
    if config.mlflow:
        try_to_follow(config.mlflow, storage.join(night.output, MODELS))
    evaluation = read_evaluation(night.evaluation)
    metrics = open_metrics(night.date, decision.verdict == "published", evaluation, run.seconds, time.time()).encode()
    for name in (night.date.isoformat(), "latest"):
        storage.write_bytes(storage.join(night.output, METRICS, metrics_file(name)), metrics)
    retention.prune(config.keep, night.output, night.date)
    notify(night, run, decision.verdict, "; ".join(check.reason for check in decision.failures))
    _record(night, decision)


def notify(night: Night, run: JobRun, event: str, message: str) -> None:
    """Tell the hook, if there is one: published, rejected or failed."""
    if night.config.nightly.hook is None:
        return
    told = {"event": event, "date": night.date.isoformat(), "run": run.id, "output": night.output, "message": message}
    if event != "failed":
        told |= {"version": night.promotion.version, "champion": night.promotion.champion, "report": night.report}
    hook.call(night.config.nightly.hook, told)


def _found(directory: str | None) -> tuple[str, ...]:
    return (directory,) if directory else ()


def _record(night: Night, decision: Decision) -> None:
    root = night.output.rstrip("/") + "/"
    begin(night.record)
    commit(
        night.record,
        NightManifest(
            files=(),
            date=night.date.isoformat(),
            version=night.promotion.version,
            verdict=decision.verdict,
            ingredients=night.made_from,
            directories={
                step: tuple(directory.removeprefix(root) for directory in made)
                for step, made in {VALIDATE: _found(night.validation.accepted), **night.directories()}.items()
            },
        ),
    )
