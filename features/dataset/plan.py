"""What to build from which days, and where it goes: known before anything runs.

Every directory's name ends in a digest of the spec, of the logs that went in and of the settings. A day of the history
whose log is gone is known by what it was counted from (features.dataset.history), so that nothing gets another name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.outputs import (
    AGGREGATES,
    DATASETS,
    ROLLUPS,
    STATES,
    DailyName,
    DatasetName,
    ThroughName,
)
from nightjar.features.contract.publishing import is_published, key_of, key_of_counts
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.rollup import days_read, newest_rollup
from nightjar.features.dataset.history import KnownHistory, known_history
from nightjar.features.input.days import dates_between, day_after, day_number, listed
from nightjar.features.input.folders import LogPartition, Logs, check_logs

log = logging.getLogger(__name__)

_some = partial(listed, more="more days")


@dataclass(frozen=True)
class BuildSettings:
    """How rows are spread over files: max(min_files, rows / rows_per_file); and so many days in a row may be without a
    log, and are skipped: they count as days without rows.
    """

    min_files: int = 8
    rows_per_file: int = 50_000
    most_missing_days: int = 0


@dataclass(frozen=True)
class BuildDates:
    """The days to build from, as YYYY-MM-DD.

    train_from, train_to: the first and the last training day. history_from, fit_from: the first day of vocabularies and
    counts, and of quantiles; train_from if None. holdout: the day after train_to, or None.
    """

    train_from: str
    train_to: str
    history_from: str | None = None
    fit_from: str | None = None
    holdout: str | None = None

    @property
    def train(self) -> list[str]:
        """The training days. Raises UsageError if they are no range of dates, as all of these do."""
        return dates_between(self.train_from, self.train_to)

    @property
    def fit(self) -> list[str]:
        """The days of quantiles."""
        return dates_between(self.fit_from or self.train_from, self.train_to)

    @property
    def history(self) -> list[str]:
        """The days of vocabularies and counts."""
        return dates_between(self.history_from or self.train_from, self.train_to)

    def check(self) -> None:
        """Raises UsageError if the days do not fit together."""
        if self.history[0] > min(self.train[0], self.fit[0]):
            raise UsageError(
                f"--history-from {self.history_from} is later than --train-from {self.train_from}. Give an earlier day."
            )
        next_day = day_after(self.train_to)
        if self.holdout not in (None, next_day):
            raise UsageError(
                f"--holdout {self.holdout} is not the day after --train-to {self.train_to}, as of which the state's "
                f"counts are. Give --holdout {next_day}."
            )


@dataclass(frozen=True)
class BuiltFeatures:
    """The published directories. holdout_dir is None if no hold-out day was asked for."""

    state_dir: str
    train_dir: str
    holdout_dir: str | None

    def directories(self) -> list[str]:
        """Those that were asked for."""
        return [self.state_dir, self.train_dir, *([self.holdout_dir] if self.holdout_dir else [])]


@dataclass(frozen=True)
class BuildPlan:
    """What to build from which logs, and where.

    history: the training days and the days before them; some may be without a log. train, fit: those of the window that
    have one; fit: the days that quantiles are of. aggregate_dirs: by date, of every day. rollup_dirs: by last day, of
    the history and of each of its beginnings.
    """

    spec: FeatureSpec
    output: str
    settings: BuildSettings
    history: tuple[LogPartition, ...]
    train: tuple[LogPartition, ...]
    fit: tuple[LogPartition, ...]
    holdout: LogPartition | None
    aggregate_dirs: dict[str, str]
    rollup_dirs: dict[str, str]
    built: BuiltFeatures

    @property
    def days(self) -> tuple[LogPartition, ...]:
        """Every day of the plan, the hold-out day included."""
        return self.history + ((self.holdout,) if self.holdout else ())

    @property
    def logged(self) -> tuple[LogPartition, ...]:
        """Every day but those that were skipped."""
        return tuple(day for day in self.days if not day.is_skipped)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The days of the history that there never was a log of."""
        return tuple(day.date for day in self.history if day.is_skipped)

    def counts_for(self, first: str, last: str) -> list[LogPartition]:
        """The days whose own counts are read for the counts of each of some days, these days included. Those before
        them come from the newest roll-up.
        """
        rollup = newest_rollup(self.rollup_dirs, before=first)
        read = days_read(self.spec, day_number(self.history[0].date), rollup, day_number(last))
        read |= set(range(day_number(first), day_number(last) + 1))
        return [day for day in self.days if day_number(day.date) in read]

    @property
    def needed(self) -> tuple[LogPartition, ...]:
        """The days whose own counts are read for what is not published yet; the last day in any case."""
        wanted = {self.days[-1].date}
        next_day, fitted = day_after(self.history[-1].date), is_published(self.built.state_dir)
        if not fitted:
            wanted |= {day.date for day in (*self.counts_for(next_day, next_day), *self.fit)}
        if not is_published(self.built.train_dir):
            wanted |= {day.date for day in self.counts_for(self.train[0].date, self.history[-1].date)}
        if fitted and self.built.holdout_dir and not is_published(self.built.holdout_dir):
            wanted |= {day.date for day in self.counts_for(next_day, next_day)}
        return tuple(day for day in self.days if day.date in wanted)

    @property
    def lost(self) -> list[str]:
        """Dates of what is needed and cannot be had any more: counts and rows of days whose logs are gone."""
        counts = (day for day in self.needed if not is_published(self.aggregate_dirs[day.date]))
        rows = () if is_published(self.built.train_dir) else self.train
        rows += () if not self.holdout or is_published(str(self.built.holdout_dir)) else (self.holdout,)
        return sorted({day.date for day in (*counts, *rows) if day.gone and not day.is_skipped})

    def is_built(self) -> bool:
        """True if nothing is left to do."""
        return all(is_published(directory) for directory in self.built.directories())


def plan_build(
    spec: FeatureSpec, logs: Logs | str, output: str, dates: BuildDates, settings: BuildSettings | None = None
) -> BuildPlan:
    """Check dates and logs, and name the directories. Of files it reads footers, headers or first lines only.

    Args:
        spec: the features.
        logs: all days of an input, or the folder of Parquet files in date folders.
        output: folder that everything is published in.
        dates: what to build from.
        settings: of the files; the default ones if None.

    Raises UsageError and DataError.
    """
    output = storage.absolute(output)
    settings = settings or BuildSettings()
    if settings.min_files < 1 or settings.rows_per_file < 1:
        raise UsageError(f"min_files and rows_per_file must be at least 1; got {settings}.")
    dates.check()
    known = known_history(output, spec) or KnownHistory(dates.history[0], {})
    may_lack = {*known.logs, *(dates.history if settings.most_missing_days else ())}
    wanted = [*dates.history, *([dates.holdout] if dates.holdout else [])]
    found = {day.date: day for day in check_logs(logs, wanted, spec, may_lack)}
    days = [found.get(day) or LogPartition.without_log(day, known.logs.get(day)) for day in wanted]
    _require_few_missing(days, known, settings.most_missing_days)
    plan = _plan(spec, output, dates, settings, days)
    if not plan.lost:
        return plan
    late = [d.date for d in days if not d.gone and known.logs.get(d.date, d.fingerprint) != d.fingerprint]
    counted = [LogPartition.without_log(d.date, known.logs[d.date]) if d.date in late else d for d in days]
    without_late = _plan(spec, output, dates, settings, counted)
    if late and not without_late.lost:
        log.warning(
            "the log has changed since it was counted: %s. Daily counts of later days are gone, so that the change "
            "cannot be counted any more; it is left out.",
            _some(late),
        )
        return without_late
    raise DataError(
        f"the logs of {_some(plan.lost)} are gone, and so are their counts, which are needed. Restore the one or the "
        f"other, or begin the history later: with nightly.history_from or --history-from."
    )


def _require_few_missing(days: Sequence[LogPartition], known: KnownHistory, most: int) -> None:
    """Raise a DataError if more days in a row than allowed have no log and were never counted."""
    grouped = groupby(days, lambda day: day.is_skipped and day.date not in known.logs)
    for run in ([day.date for day in group] for is_missing, group in grouped if is_missing):
        log.warning("skipped, since there is no log: %s", _some(run))
        if len(run) > most:
            raise DataError(
                f"there is no log of {_some(run)}: {len(run)} days in a row, and {most} may be missing. Write the log "
                f"of those days, or allow more by nightly.most_missing_days."
            )


def _plan(
    spec: FeatureSpec, output: str, dates: BuildDates, settings: BuildSettings, partitions: Sequence[LogPartition]
) -> BuildPlan:
    """Name the directories. partitions: the history, then the hold-out day, if there is one."""
    history = tuple(partitions[: len(dates.history)])
    train = tuple(day for day in history[-len(dates.train) :] if not day.is_skipped)
    fit = tuple(day for day in history[-len(dates.fit) :] if not day.is_skipped)
    if not train:
        raise DataError(f"there is no log of any training day: {_some(dates.train)}. Write one, or choose other dates.")
    if all(day.is_empty for day in train):
        raise UsageError(
            f"the training days {dates.train[0]} to {dates.train[-1]} are all listed under input.empty_days. "
            f"Train on more days."
        )
    holdout = partitions[-1] if dates.holdout else None
    if holdout and holdout.is_empty:
        raise UsageError(
            f"--holdout {dates.holdout} is listed under input.empty_days, and without rows nothing can be evaluated. "
            f"Run the next day instead."
        )

    aggregate_keys = {p.date: key_of_counts(spec=spec.fingerprint, log=p.fingerprint) for p in partitions}
    keys = [aggregate_keys[day.date] for day in history]
    state_key = key_of(spec=spec.fingerprint, aggregates=keys, fit_from=dates.fit[0])

    def dataset(kind: Literal["train", "holdout"], days: Sequence[LogPartition], first: str, last: str) -> str:
        logs_of_days = [day.fingerprint for day in days]
        key = key_of(state=state_key, logs=logs_of_days, files=[settings.min_files, settings.rows_per_file])
        return storage.join(output, DATASETS, str(DatasetName(kind, first, last, key)))

    return BuildPlan(
        spec=spec,
        output=output,
        settings=settings,
        history=history,
        train=train,
        fit=fit,
        holdout=holdout,
        aggregate_dirs={
            day: storage.join(output, AGGREGATES, str(DailyName(day, key))) for day, key in aggregate_keys.items()
        },
        rollup_dirs={
            day.date: storage.join(output, ROLLUPS, str(ThroughName(day.date, key_of_counts(days=keys[: n + 1]))))
            for n, day in enumerate(history)
        },
        built=BuiltFeatures(
            state_dir=storage.join(output, STATES, str(ThroughName(dates.train_to, state_key))),
            train_dir=dataset("train", train, dates.train_from, dates.train_to),
            holdout_dir=dataset("holdout", [holdout], holdout.date, holdout.date) if holdout else None,
        ),
    )
