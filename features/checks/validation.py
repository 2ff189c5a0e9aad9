"""Is a day's log like those of the days before? Asked before a night encodes or trains anything.

validations/date=D-<key>/ holds nothing but the manifest with every check (features.checks.checks), whatever came of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from nightjar.features.checks.checks import (
    CHECKS,
    Day,
    LogValidationConfig,
    drift_checks,
    features_of,
    figure,
    simple_checks,
)
from nightjar.features.checks.drift import DailyCounts, Drift, drifts
from nightjar.features.checks.others import shares_of_others
from nightjar.features.checks.profile import HISTOGRAM_SCHEMA, profiles
from nightjar.features.contract import storage
from nightjar.features.contract.artifact_files import HISTOGRAM, VOCABULARY, table_folder
from nightjar.features.contract.errors import DataError, UsageError, ValidationFailed
from nightjar.features.contract.manifests import (
    AggregateManifest,
    NightManifest,
    ProfileManifest,
    ValidationCheck,
    ValidationManifest,
)
from nightjar.features.contract.outputs import NIGHTS, VALIDATE, VALIDATIONS, DailyName, log_input, names_of_day
from nightjar.features.contract.publishing import MANIFEST, begin, commit, is_published, key_of, read_manifest
from nightjar.features.contract.spec import CategoricalField, DenseFeature, FeatureSpec
from nightjar.features.counts.aggregate import VOCABULARY_SCHEMA
from nightjar.features.dataset.build import aggregate, counted
from nightjar.features.dataset.plan import BuildPlan
from nightjar.features.input.damage import damage_reported
from nightjar.features.input.folders import LogPartition
from nightjar.features.spark.tables import read_daily

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogValidation:
    """The newest day of a plan, to be held against the days before it. allow: `CHECK` or `CHECK:FEATURE`."""

    config: LogValidationConfig
    plan: BuildPlan
    allow: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises UsageError for an override that names no check or no feature."""
        names = {None, *(feature.name for feature in features_of(self.plan.spec)), *self.plan.spec.source_columns()}
        for allowed in self.allow:
            check, _, feature = allowed.partition(":")
            if check not in CHECKS or (feature or None) not in names:
                known = sorted(name for name in names if name)
                raise UsageError(
                    f"--allow {allowed} names no check. Give CHECK or CHECK:FEATURE: one of {list(CHECKS)}, and a "
                    f"feature of {known}."
                )

    @property
    def directory(self) -> str:
        """Where the result goes. With overrides it goes beside the one without."""
        return self._plain if not self.allow else f"{self._plain}-{key_of(allow=sorted(set(self.allow)))}"

    @property
    def _plain(self) -> str:
        days = [day.fingerprint for day in (*self.reference, self._newest)]
        key = key_of(spec=self.plan.spec.fingerprint, logs=days, config=self.config.model_dump(mode="json"))
        return storage.join(self.plan.output, VALIDATIONS, str(DailyName(self._newest.date, key)))

    @property
    def _newest(self) -> LogPartition:
        return self.plan.days[-1]

    @property
    def reference(self) -> tuple[LogPartition, ...]:
        """The days that the newest is held against."""
        return reference_days(self.plan.days[:-1], self.config.reference_days)

    @property
    def accepted(self) -> str | None:
        """Where the newest day's log was found good or let through, with these overrides or with others."""
        folder, _, name = self._plain.rpartition("/")
        published = [storage.join(folder, n) for n in storage.list_folders(folder) if n.startswith(name)]
        return next((d for d in published if (found := self._known(d)) and found.passed), None)

    def run(self, spark: Callable[[], SparkSession], *, own_first: bool = False) -> None:
        """Publish what is found. Raises ValidationFailed, with a table, unless every check passed or is allowed, and
        those of the training days were. A day that was let through once stays so.

        own_first: tell of the day itself before its training days, which otherwise spare the look at it.
        """
        if not own_first:
            self._refuse_failed_days()
        if not self.accepted:
            if not is_published(self.directory):
                with damage_reported():
                    self._publish(spark())
            found = read_manifest(self.directory, ValidationManifest)
            if not found.passed:
                raise ValidationFailed(self._explain(found))
        if own_first:
            self._refuse_failed_days()

    def _publish(self, spark: SparkSession) -> None:
        spec, aggregates = self.plan.spec, aggregate(spark, self.plan, (*self.reference, self._newest))
        days = counted([*self.reference, self._newest], aggregates)
        of_days = {d: aggregates[d] for d in (self.plan.aggregate_dirs[day.date] for day in days)}
        profiled = profiles(spark, spec, self.plan.output, days)
        *reference, newest = (
            Day(day, a, p) for day, a, p in zip(days, of_days.values(), profiled.values(), strict=True)
        )
        drifted = _drifts(spark, spec, of_days, profiled, newest.log.date)
        found = [
            *simple_checks(self.config, spec, newest, reference, shares_of_others(spark, spec, newest, reference)),
            *drift_checks(self.config, drifted, newest, reference),
        ]
        checks = tuple(self._overridden(check) for check in found)
        directory = self.directory
        begin(directory)
        manifest = ValidationManifest(
            inputs={log_input(day.date): day.fingerprint for day in days},
            files=(),
            date=newest.log.date,
            attempt=1 + self._attempts(newest.log.date),
            rows=newest.log.rows,
            reference=tuple(day.log.date for day in reference),
            allowed=tuple(sorted(set(self.allow))),
            passed=all(check.passed or check.overridden for check in checks),
            checks=checks,
        )
        commit(directory, manifest)

    def _attempts(self, day: str) -> int:
        folder = storage.join(self.plan.output, VALIDATIONS)
        names = names_of_day(storage.list_folders(folder), day)
        return sum(is_published(storage.join(folder, name)) for name in names)

    def _overridden(self, check: ValidationCheck) -> ValidationCheck:
        names = {check.check, f"{check.check}:{check.feature}"}
        return check.model_copy(update={"overridden": not check.passed and not names.isdisjoint(self.allow)})

    def _refuse_failed_days(self) -> None:
        """A day that failed on its own night must not come into the next one's training by the back door."""
        folder = storage.join(self.plan.output, VALIDATIONS)
        names = storage.list_folders(folder)
        for day in self.plan.train:
            of_day = [storage.join(folder, name) for name in names_of_day(names, day.date)]
            found = [v for directory in of_day if (v := self._known(directory))]
            of_log = [v for v in found if v.inputs.get(log_input(day.date)) == day.fingerprint]
            if of_log and not any(validation.passed for validation in of_log):
                raise ValidationFailed(
                    f"the training day {day.date} failed its validation and was not allowed. Correct its log, or run "
                    f"the night {day.date} with --allow.\n{_table(of_log[-1])}"
                )

    def _known(self, directory: str) -> ValidationManifest | None:
        """A validation, if there is one. A damaged one of a night that is on record as accepted is a warning.

        Raises DataError if it is damaged and its day may be one that failed.
        """
        if not is_published(directory):
            return None
        try:
            return read_manifest(directory, ValidationManifest)
        except DataError as error:
            if not self._was_accepted(f"{VALIDATIONS}/{storage.name_of(directory)}"):
                raise
            log.warning("a validation is left out, since its night went on after it: %s", error)
            return None

    def _was_accepted(self, validation: str) -> bool:
        folder = storage.join(self.plan.output, NIGHTS)
        for name in storage.list_files(folder, f"/{MANIFEST}"):
            try:
                record = read_manifest(storage.join(folder, name.removesuffix(f"/{MANIFEST}")), NightManifest)
            except DataError:
                continue
            if validation in record.directories.get(VALIDATE, ()):
                return True
        return False

    def _explain(self, found: ValidationManifest) -> str:
        failed = [check for check in found.checks if not check.passed and not check.overridden]
        overrides = " ".join(
            f"--allow {check.check}" + (f":{check.feature}" if check.feature else "") for check in failed[:3]
        )
        return (
            f"the log of {found.date} failed {len(failed)} check(s) against {_dates(found.reference)}; nothing was "
            f"encoded or trained:\n{_table(found)}\nCorrect the log, or, if it is as it should be: {overrides}"
        )


def reference_days(days: Sequence[LogPartition], count: int) -> tuple[LogPartition, ...]:
    """The last `count` days with rows."""
    return tuple(day for day in days if not (day.is_empty or day.is_skipped))[-count:]


def _drifts(
    spark: SparkSession,
    spec: FeatureSpec,
    aggregates: Mapping[str, AggregateManifest],
    profiled: Mapping[str, ProfileManifest],
    newest: str,
) -> list[tuple[CategoricalField | DenseFeature, dict[str, Drift]]]:
    """Every feature's by date."""

    def counts(feature: CategoricalField | DenseFeature) -> DailyCounts:
        sizes = {profile.date: profile.columns[feature.source].values for profile in profiled.values()}
        if isinstance(feature, CategoricalField):
            table = read_daily(spark, aggregates, table_folder(VOCABULARY, feature.name), VOCABULARY_SCHEMA)
            return DailyCounts(table.select("day", table.hash.alias("value"), "impressions"), sizes, feature.min_count)
        table = read_daily(spark, profiled, table_folder(HISTOGRAM, feature.name), HISTOGRAM_SCHEMA)
        return DailyCounts(table.withColumnRenamed("bin", "value"), sizes, ordered=True)

    features = features_of(spec)
    return list(zip(features, drifts([counts(feature) for feature in features], newest), strict=True))


def _table(found: ValidationManifest) -> str:
    """The checks that failed, one a line: check, feature, value, what was expected."""
    rows = [("check", "feature", "value", "expected", "")]
    for check in found.checks:
        if not check.passed:
            value = check.value if isinstance(check.value, str) else figure(check.value)
            rows.append((check.check, check.feature or "-", value, _expected(check), "allowed" * check.overridden))
    widths = [max(len(row[n]) for row in rows) for n in range(5)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _expected(check: ValidationCheck) -> str:
    if check.low is not None:
        return f"{figure(check.low)} to {figure(check.high)}"
    return f"at most {figure(check.high)}" if check.high is not None else check.reason.rstrip(".")


def _dates(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
