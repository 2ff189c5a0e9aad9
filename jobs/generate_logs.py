"""Write app-store impression logs with a known truth. Spark is imported once the command line is right."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.strict import explain, load_yaml
from nightjar.jobs.common.cli import Job
from nightjar.jobs.imports.simulation_config import SimulationConfig

EXAMPLE = "nightjar generate-logs --output logs --days 7 --rows-per-day 100000 --seed 7"
CONFIG_FLAGS = ("seed", "start_date", "rows_per_day", "users", "users_per_day", "apps", "apps_per_day")
F = TypeVar("F", bound=Callable[..., Any])


def simulation_options(function: F) -> F:
    """One option for each of CONFIG_FLAGS, with the model's description and default."""
    for name in reversed(CONFIG_FLAGS):
        field = SimulationConfig.model_fields[name]
        description = f"{field.description or name.replace('_', ' ')}  [default: {field.default}]"
        function = click.option("--" + name.replace("_", "-"), name, help=description)(function)
    return function


@click.command("generate_logs", cls=Job, example=EXAMPLE)
@click.option("--output", required=True, metavar="DIR", help="Directory of the log, where Spark can write.")
@click.option("--config", metavar="FILE", help="YAML file with a SimulationConfig; the options below override it.")
@simulation_options
@click.option("--days", type=int, default=7, show_default=True, help="Number of days from the start date.")
@click.option("--files-per-day", type=int, default=8, show_default=True, help="Parquet files a day.")
@click.option("--overwrite", is_flag=True, help="Delete a log of another recipe first.")
def main(output: str, config: str | None, days: int, files_per_day: int, overwrite: bool, **flags: str | None) -> int:
    """Write app-store impression logs with a known truth: <output>/date=YYYY-MM-DD/*.parquet.

    A killed run started again goes on at the first missing day. Prints the log's size, and the log loss that no model
    can beat.
    """
    simulation = read_simulation(config, flags)
    check(simulation, days, files_per_day)
    from nightjar.jobs.common.spark_session import spark_session
    from nightjar.jobs.imports.log_generator import LogRequest, generate_logs, summary

    request = LogRequest(simulation, days, files_per_day, output.rstrip("/") or "/", overwrite)
    with spark_session("generate_logs") as spark:
        written, floor = generate_logs(spark, request)
    print(summary(request, written, floor))
    return 0


def read_simulation(config: str | None, flags: dict[str, str | None]) -> SimulationConfig:
    """The simulation's settings. Raises SpecError or UsageError that names every bad value."""
    base = load_yaml(config, SimulationConfig) if config else SimulationConfig()
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return SimulationConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise UsageError(explain(error, "the command line")) from error


def check(simulation: SimulationConfig, days: int, files_per_day: int) -> None:
    """Raises UsageError unless so many days and files can be written."""
    for flag, value in (("--days", days), ("--files-per-day", files_per_day)):
        if value < 1:
            raise UsageError(f"{flag} must be at least 1; got {value}.")
    if files_per_day > simulation.rows_per_day:
        raise UsageError(
            f"--files-per-day must not exceed --rows-per-day; got {files_per_day} and {simulation.rows_per_day}."
        )
    try:
        simulation.date_of(days - 1)
    except OverflowError as error:
        raise UsageError(f"--days {days} from {simulation.start_date} leads beyond the year 9999.") from error


if __name__ == "__main__":
    sys.exit(main())
