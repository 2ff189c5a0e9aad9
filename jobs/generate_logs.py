"""Write app-store impression logs with a known truth: <output>/date=YYYY-MM-DD/*.parquet.

    spark-submit jobs/generate_logs.py --output logs --days 7 --rows-per-day 100000 --seed 7

A killed run started again goes on at the first missing day; see jobs.imports.log_generator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import explain, load_yaml
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports.log_generator import LogRequest, generate_logs, summary
from nightjar.jobs.imports.simulation_config import SimulationConfig

CONFIG_FLAGS = ("seed", "start_date", "rows_per_day", "users", "users_per_day", "apps", "apps_per_day")


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; 0 on success, 2 with one message on standard error for everything a person can correct."""
    request = parse_args(argv)
    with spark_session("generate_logs") as spark:
        written, floor = generate_logs(spark, request)
    print(summary(request, written, floor))
    return 0


def parse_args(argv: Sequence[str] | None) -> LogRequest:
    """The checked command line. Raises SpecError or UsageError that names every bad value."""
    defaults = SimulationConfig()
    parser = argparse.ArgumentParser(prog="generate_logs", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", required=True, help="directory of the log, on any file system that Spark writes to")
    parser.add_argument("--config", help="YAML file with a SimulationConfig; the options below override it")
    for name in CONFIG_FLAGS:
        flag = "--" + name.replace("_", "-")
        description = SimulationConfig.model_fields[name].description or name.replace("_", " ")
        parser.add_argument(flag, help=f"{description} (default: {getattr(defaults, name)})")
    parser.add_argument("--days", type=int, default=7, help="number of days from the start date (default: 7)")
    parser.add_argument("--files-per-day", type=int, default=8, help="Parquet files a day (default: 8)")
    parser.add_argument("--overwrite", action="store_true", help="delete a log of another recipe first")
    args = parser.parse_args(argv)

    base = load_yaml(args.config, SimulationConfig) if args.config else defaults
    given = {name: value for name in CONFIG_FLAGS if (value := getattr(args, name)) is not None}
    try:
        config = SimulationConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise UsageError(explain(error, "the command line")) from error
    for name in ("days", "files_per_day"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1; got {getattr(args, name)}.")
    if args.files_per_day > config.rows_per_day:
        raise UsageError(
            f"--files-per-day must not exceed --rows-per-day; got {args.files_per_day} and {config.rows_per_day}."
        )
    try:
        config.date_of(args.days - 1)
    except OverflowError as error:
        raise UsageError(f"--days {args.days} from {config.start_date} leads beyond the year 9999.") from error
    return LogRequest(config, args.days, args.files_per_day, args.output.rstrip("/") or "/", args.overwrite)


if __name__ == "__main__":
    sys.exit(main())
