"""What the steps of a night do; features.contract.outputs.STEPS has their names and their order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import LEDGER
from nightjar.features.contract.errors import ValidationFailed
from nightjar.features.contract.manifests import START_REASON, Lineage, NightManifest
from nightjar.features.contract.outputs import (
    AGGREGATE,
    ENCODE,
    EVALUATE,
    FINISH,
    GATE,
    LATEST,
    METRICS,
    MODELS,
    NIGHTS,
    PACK,
    PUBLISH,
    RENEW,
    SUMMARIZE,
    TRAIN,
    VALIDATE,
    metrics_file,
    night_of,
)
from nightjar.features.contract.publishing import begin, commit, describe_files, is_published
from nightjar.features.contract.records import HookEvent, Ledger, NightVerdict
from nightjar.features.contract.strict import digest
from nightjar.features.dataset.build import aggregate, build
from nightjar.features.input.timestamped import GetSpark
from nightjar.jobs.common.decisions import read_decision
from nightjar.jobs.common.held_back import rows_held_back
from nightjar.jobs.common.ledger import ledger_of
from nightjar.jobs.common.mlflow_mirror import try_to_follow
from nightjar.jobs.nightly import hook, ingredients, lineage, retention
from nightjar.jobs.nightly.ahead import looking_ahead
from nightjar.jobs.nightly.chain import Step
from nightjar.jobs.nightly.night import Night
from nightjar.jobs.nightly.telemetry import JobRun, open_metrics, seconds_of
from nightjar.serving.evaluation.evaluation import read_evaluation
from nightjar.serving.gate.gate import Decision
from nightjar.serving.packing.pack import pack
from nightjar.serving.reports.evaluations import evaluate
from nightjar.training.trainer import run_job

_FEATURES = (ingredients.LOGS, ingredients.FEATURES)
_HISTORY = f"{ingredients.NIGHTLY}history_from"
_DATASETS = (*_FEATURES, f"{ingredients.NIGHTLY}train_days", _HISTORY, START_REASON)
_MODELS = (
    *_DATASETS,
    ingredients.START,
    ingredients.TRAINING,
    ingredients.ARTIFACT,
    f"{ingredients.NIGHTLY}baselines",
)
_ALL = (*_MODELS, ingredients.GATE)
_SERVED = (*_ALL, f"{ingredients.NIGHTLY}publish")


def steps_of(night: Night, run: JobRun, following: Night | None = None, *, own_first: bool = False) -> list[Step]:
    """The steps of a night, in their order.

    Args:
        night: what is made.
        run: that carries them out.
        following: the range's next night, if any; its log is looked at while this one trains.
        own_first: see LogValidation.run.
    """
    plan = night.features
    made = {**night.directories(), AGGREGATE: tuple(plan.aggregate_dirs[day.date] for day in plan.needed)}
    artifact = (night.artifact(night.config.training.model),)
    finished = made.get(FINISH, ())

    def step(name: str, made_from: tuple[str, ...], do: Callable[[GetSpark], object], *needs: str) -> Step:
        return Step(name, made.get(name, ()), needs, made_from, do)

    return [
        step(VALIDATE, _FEATURES, lambda spark: _validate(night, spark, own_first)),
        step(AGGREGATE, _FEATURES, lambda spark: aggregate(spark(), night.features)),
        step(ENCODE, _DATASETS, lambda spark: build(spark(), night.features), *made[AGGREGATE]),
        step(
            SUMMARIZE,
            (*_FEATURES, _HISTORY),
            lambda spark: night.summary.run(spark),
            *made[AGGREGATE],
        ),
        step(TRAIN, _MODELS, lambda spark: _train(night, spark, following), *made[ENCODE]),
        step(PACK, _MODELS, lambda spark: _pack(night), *made[TRAIN]),
        step(EVALUATE, _MODELS, lambda spark: _evaluate(night), *made[PACK]),
        step(GATE, _ALL, night.promotion.judge, *artifact),
        step(RENEW, _ALL, lambda spark: _renew(night, spark), *made[GATE]),
        *([step(FINISH, _SERVED, lambda spark: _finish(night, spark), *made[GATE])] if finished else []),
        Step(
            PUBLISH,
            (night.record,),
            made[EVALUATE] + made[GATE] + finished,
            _SERVED,
            lambda spark: _publish(night, run),
        ),
    ]


def _validate(night: Night, spark: GetSpark, own_first: bool) -> None:
    """A day that fails is summarised all the same: that is the day whose features somebody will want to see."""
    night.check()
    try:
        night.validation.run(spark, own_first=own_first)
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
    held_back = rows_held_back(night.config.artifact, night.config.training, built.train_dir)
    for model in night.config.models:
        directories = night.candidate(model), built.state_dir, str(built.holdout_dir), night.artifact(model)
        pack(*directories, _lineage(night), night.config.artifact, held_back)


def _lineage(night: Night) -> Lineage:
    """Where the night's models come from; their manifests' `inputs` hold the digests of what they were packed from."""
    features = night.features
    return Lineage(
        date=night.date.isoformat(),
        start=str(night.start.record),
        beside=night.promotion.version,
        logs={day.date: day.fingerprint for day in features.days},
        spec=features.spec.fingerprint,
        config=digest(night.config.training.settings),
        seed=night.config.training.seed,
        code=lineage.code(),
    )


def _evaluate(night: Night) -> None:
    artifacts = {model: night.artifact(model) for model in night.config.models}
    evaluate(artifacts, [str(night.features.built.holdout_dir)], night.evaluation)


def _renew(night: Night, spark: GetSpark) -> None:
    """Of a night that is on record nothing is left to do, whoever has become champion since."""
    if not is_published(night.record):
        night.promotion.renew_counters(spark)


def _finish(night: Night, spark: GetSpark) -> None:
    if night.launcher == "spark":
        spark()
    assert night.finish
    night.finish.run(_lineage(night), night.launcher)


def _publish(night: Night, run: JobRun) -> None:
    """Move the pointer, tell everybody, tidy up; the night's record comes last, so that a kill repeats the rest."""
    config = night.config.nightly
    decision, against = read_decision(night.promotion.output, night.promotion.version)
    candidates = {model: night.candidate(model) for model in night.config.models}
    finish = night.finish
    tried = finish and read_decision(finish.directory, finish.version)[0].movement
    finished = finish.candidate if finish and tried else None
    ledger = ledger_of(night.features, candidates, night.evaluation, decision.rows or None, finished)
    verdict = night.promotion.move(run.token)
    if config.mlflow:
        try_to_follow(config.mlflow, storage.join(night.output, MODELS))
    evaluation = read_evaluation(night.evaluation)
    seconds = seconds_of(night.output, night.date.isoformat())
    metrics = open_metrics(night.date, verdict, evaluation, seconds, time.time()).encode()
    for name in (night.date.isoformat(), LATEST):
        storage.write_bytes(storage.join(night.output, METRICS, metrics_file(name)), metrics)
    retention.prune(config.keep, night.output, night.date, night.past, run.token)
    notify(night, run, verdict, _why(decision, verdict, against))
    _record(night, verdict, ledger)


def _why(decision: Decision, verdict: NightVerdict, against: str | None) -> str:
    """Why the model is not the champion, for people; empty if it is."""
    if verdict == "superseded":
        return f"it was compared with {against or 'no champion'}, which is not the champion any more"
    doubt = "inconclusive: " if decision.outcome == "inconclusive" else ""
    return doubt + "; ".join(check.reason for check in decision.failures)


def notify(night: Night, run: JobRun, event: NightVerdict | Literal["failed"], message: str) -> None:
    """Tell the hook, if there is one.

    Args:
        night: what ended.
        run: names itself to the hook.
        event: how the night ended.
        message: why a model was not published, or what failed; empty if it was published.
    """
    if night.config.nightly.hook is None:
        return
    told = HookEvent(event=event, date=night.date.isoformat(), run=run.id, output=night.output, message=message)
    if event != "failed":
        model = {"version": night.promotion.version, "champion": night.promotion.champion, "report": night.report}
        told = told.model_copy(update=model)
    hook.call(night.config.nightly.hook, told)


def _found(directory: str | None) -> tuple[str, ...]:
    return (directory,) if directory else ()


def _attempts(night: Night) -> int:
    """How many records there are of its date."""
    folder = storage.join(night.output, NIGHTS)
    of_date = [name for name in storage.list_folders(folder) if night_of(name) == night.date.isoformat()]
    return sum(is_published(storage.join(folder, name)) for name in of_date)


def _record(night: Night, verdict: NightVerdict, ledger: Ledger) -> None:
    root = night.output.rstrip("/") + "/"
    begin(night.record)
    storage.write_bytes(storage.join(night.record, LEDGER), (ledger.model_dump_json(indent=1) + "\n").encode())
    commit(
        night.record,
        NightManifest(
            files=describe_files(night.record),
            date=night.date.isoformat(),
            attempt=1 + _attempts(night),
            version=night.promotion.version,
            verdict=verdict,
            skipped=night.features.skipped,
            ingredients=night.made_from,
            directories={
                step: tuple(directory.removeprefix(root) for directory in made)
                for step, made in {
                    VALIDATE: _found(night.validation.accepted),
                    **night.directories(),
                    AGGREGATE: night.directories()[AGGREGATE][-ingredients.DAYS_BY_NAME :],
                    RENEW: _found(night.promotion.next_counters),
                }.items()
            },
        ),
    )
