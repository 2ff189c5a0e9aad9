"""Logs to features: daily counts, the encoder's state, encoded data sets.

PYTHONPATH must hold the repository, on executors too (spark.executorEnv.PYTHONPATH, or --py-files). Spark is imported
once the command line and the config file are found to be right.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from nightjar.jobs.common.cli import Job
from nightjar.jobs.common.options import days_options, require_sections

EXAMPLE = """
nightjar features build --config conf/app_store.yaml --logs logs --output features \\
    --train-from 2026-01-05 --train-to 2026-01-11 --holdout 2026-01-12
"""


@click.command("build_features", cls=Job, example=EXAMPLE)
@days_options
def main(**options: Any) -> int:
    """Build the features of some days, without a night: counts, the encoder's state, encoded data sets.

    What is published already is found again and left alone. Prints where everything is.
    """
    require_sections(options["overrides"], "features", "input")
    from nightjar.jobs.common.feature_days import FeatureDays

    days = FeatureDays(**options)
    config = days.read_config()
    from nightjar.features.dataset.build import build, report
    from nightjar.jobs.common.spark_session import session_on_demand

    with session_on_demand("build_features") as spark:
        plan = days.plan(*config, spark)
        if not plan.is_built():
            build(spark(), plan)
    print(report(plan.built))
    return 0


if __name__ == "__main__":
    sys.exit(main())
