"""The features of a hold-out day on one page. Spark is imported once the config file is found to be right."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import click

from nightjar.features.contract.errors import UsageError, ValidationFailed
from nightjar.jobs.common.cli import Job
from nightjar.jobs.common.options import days_options

EXAMPLE = """
nightjar features report --config conf/app_store.yaml --logs logs --output features \\
    --train-from 2026-01-05 --train-to 2026-01-11 --holdout 2026-01-12
"""


@click.command("report_features", cls=Job, example=EXAMPLE)
@days_options
def main(**options: Any) -> int:
    """Draw the features of a hold-out day: coverage, cardinality, drift, top values, label rates.

    Takes what `features build` takes, and finds what it has published; a night draws the same page by itself. The day
    is held against the days before it, and the page says what failed. Prints where the page is.
    """
    if not options["holdout"]:
        raise UsageError("--holdout is missing. Give the day to report on: the day after --train-to.")
    from nightjar.jobs.common.feature_days import FeatureDays
    from nightjar.jobs.nightly.config import NightConfig

    days = FeatureDays(**options)
    config = NightConfig.read(days.config, days.overrides)
    from nightjar.features.checks.summarize import Summary
    from nightjar.features.checks.validation import LogValidation
    from nightjar.features.contract import storage
    from nightjar.features.contract.manifests import ValidationManifest
    from nightjar.features.contract.outputs import REPORTS
    from nightjar.features.contract.publishing import is_published, read_manifest
    from nightjar.jobs.common.spark_session import session_on_demand
    from nightjar.serving.reports.feature_report import draw, page_of

    with session_on_demand("report_features") as spark:
        plan = days.plan(config.features, config.input, spark)
        summary = Summary(plan, config.validation.reference_days)
        validation = LogValidation(config.validation, plan)
        with suppress(ValidationFailed):  # the page says so
            validation.run(spark)
        summary.run(spark)
    directory = validation.accepted or validation.directory
    checked = read_manifest(directory, ValidationManifest) if is_published(directory) else None
    page = page_of(storage.join(plan.output, REPORTS), options["holdout"])
    storage.write_bytes(page, draw(summary.directory, checked, plan.built.holdout_dir).encode())
    print(f"page {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
