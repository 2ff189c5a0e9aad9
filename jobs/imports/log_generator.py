"""App-store impression logs with a known truth, written day by day: <output>/date=YYYY-MM-DD/*.parquet.

Each day is written beside the log and renamed into it, so that it is there completely or not at all; a killed run that
is started again goes on at the first missing day. <output>/_generator.json records what the log was made from; the
underscore hides it from the readers of the Parquet files (Spark, Arrow).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.outputs import DATE_PREFIX, date_folder
from nightjar.features.spark.tables import literal
from nightjar.jobs.imports.bayes_floor import BayesFloor, bayes_floor
from nightjar.jobs.imports.hadoop_files import HadoopFiles, storage_errors
from nightjar.jobs.imports.simulation import impressions
from nightjar.jobs.imports.simulation_config import TRUTH_VERSION, SimulationConfig

log = logging.getLogger(__name__)

RECIPE = "_generator.json"
_STAGING = "_staging"


@dataclass(frozen=True)
class LogRequest:
    """Which log to write, and where to. overwrite: delete a log of another recipe first."""

    config: SimulationConfig
    days: int
    files_per_day: int
    output: str
    overwrite: bool

    @property
    def recipe(self) -> dict[str, Any]:
        """What _generator.json holds. Logs of one recipe differ at most in the number of days."""
        return {
            "generator": "nightjar.simulation",
            "truth_version": TRUTH_VERSION,
            "files_per_day": self.files_per_day,
            "config": self.config.model_dump(mode="json"),
        }


def generate_logs(spark: SparkSession, request: LogRequest) -> tuple[int, BayesFloor]:
    """Write the days that are missing; return their number and the floor of all requested days.

    Raises UsageError when the output holds something else, DataError when it cannot be written or read.
    """
    files = HadoopFiles(spark, request.output)
    with storage_errors(request.output):
        _claim_output(files, request)
        missing = [day for day in range(request.days) if not files.exists(f"{_directory(request, day)}/_SUCCESS")]
        for day in missing:
            _write_day(spark, files, request, day)
        files.delete(_STAGING)
        last = request.config.date_of(request.days - 1)
        requested = F.col("date").between(F.lit(request.config.start_date), F.lit(last))
        return len(missing), bayes_floor(spark.read.parquet(literal(request.output)).where(requested))


def summary(request: LogRequest, written: int, floor: BayesFloor) -> str:
    """What the job reports: the log's size, and the floor that no model can beat."""
    lines = (
        f"log         {request.output}",
        f"days        {request.days} from {request.config.start_date}, {written} of them written now",
        f"rows        {floor.rows}",
        f"label rate  {floor.label_rate:.4f}",
        f"Bayes floor log loss {floor.log_loss:.5f}, NE {floor.normalized_entropy:.4f}, AUC {floor.auc:.4f}",
    )
    return "\n".join(lines)


def _claim_output(files: HadoopFiles, request: LogRequest) -> None:
    """Make sure that the output holds this recipe's log or nothing."""
    text = files.read(RECIPE)
    if text is None:
        foreign = [name for name in files.names() if not name.startswith(("_", "."))]
        if foreign:
            raise UsageError(
                f"{request.output} is not empty and has no {RECIPE}; it holds {foreign[:5]}. "
                f"Nothing was touched. Choose another --output."
            )
    elif request.overwrite:
        for name in files.names():
            if name.startswith(DATE_PREFIX):
                files.delete(name)
    else:
        differences = _differences(_parse_recipe(text, request.output), request.recipe)
        if differences:
            raise UsageError(
                f"{request.output} holds a log of another recipe: {'; '.join(differences)}. "
                f"Nothing was touched. Choose another --output, or give --overwrite to replace the log."
            )
        return
    files.write(RECIPE, json.dumps(request.recipe, indent=2) + "\n")


def _parse_recipe(text: str, output: str) -> dict[str, Any]:
    try:
        recipe = json.loads(text)
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise DataError(
            f"{output}/{RECIPE} is damaged: {text[:80]!r} is not a JSON object. "
            f"Give --overwrite to write the log anew, or choose another --output."
        )
    return recipe


def _differences(there: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Every differing value, named by its path."""
    flat_there, flat_asked = dict(_flatten(there)), dict(_flatten(asked))
    return [
        f"{path} is {flat_there.get(path)} there and {flat_asked.get(path)} here"
        for path in sorted(flat_there.keys() | flat_asked.keys())
        if flat_there.get(path) != flat_asked.get(path)
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _write_day(spark: SparkSession, files: HadoopFiles, request: LogRequest, day: int) -> None:
    directory = _directory(request, day)
    staged = f"{_STAGING}/{directory}"
    rows = spark.range(0, request.config.rows_per_day, 1, request.files_per_day)
    impressions(rows, request.config, day).drop("date").write.mode("overwrite").parquet(files.path(staged))
    files.rename(staged, directory)
    log.info("wrote %s/%s", request.output, directory)


def _directory(request: LogRequest, day: int) -> str:
    return date_folder(request.config.date_of(day).isoformat())
