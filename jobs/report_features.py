"""The features of a hold-out day on one page: coverage, cardinality, drift, top values, label rates.

    report_features --config conf/app_store.yaml --logs logs --output features \\
        --train-from 2026-01-05 --train-to 2026-01-11 --holdout 2026-01-12

Takes what build_features takes, and finds what it has published; a night draws the same page by itself. The day is held
against the days before it, and the page says what failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from nightjar.features.checks.summarize import Summary
from nightjar.features.checks.validation import LogValidation
from nightjar.features.contract import storage
from nightjar.features.contract.errors import UsageError, ValidationFailed
from nightjar.features.contract.manifests import ValidationManifest
from nightjar.features.contract.outputs import REPORTS
from nightjar.features.contract.publishing import is_published, read_manifest
from nightjar.jobs.build_features import command_line, plan_of
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import session_on_demand
from nightjar.jobs.nightly.night import NightConfig
from nightjar.serving.reports.feature_report import draw, page_of


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Publish what the page needs and is not published yet, draw the page, and print where it is."""
    args = command_line("report_features", __doc__).parse_args(argv)
    if not args.holdout:
        raise UsageError("--holdout is missing. Give the day to report on: the day after --train-to.")
    config = NightConfig.read(args.config).validation
    with session_on_demand("report_features") as spark:
        plan = plan_of(args, spark)
        summary, validation = Summary(plan, config.reference_days), LogValidation(config, plan)
        with suppress(ValidationFailed):  # the page says so
            validation.run(spark)
        summary.run(spark)
    directory = validation.accepted or validation.directory
    checked = read_manifest(directory, ValidationManifest) if is_published(directory) else None
    page = page_of(storage.join(plan.output, REPORTS), args.holdout)
    storage.write_bytes(page, draw(summary.directory, checked, plan.built.holdout_dir).encode())
    print(f"page {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
