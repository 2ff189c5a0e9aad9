"""Write app-store impression logs with a known truth: <output>/date=YYYY-MM-DD/*.parquet.

    spark-submit jobs/generate_logs.py --output logs --days 7 --rows-per-day 100000 --seed 7

Each day is written beside the log and renamed into it, so a day is there completely or not at all; a killed
run started again goes on at the first missing day. <output>/_generator.json records what the log was made
from; the underscore hides it from the readers of the Parquet files (Spark, Arrow).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError
from pydantic import ValidationError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from nightjar.features.contract.errors import DataError, UsageError
from nightjar.features.contract.spec import explain, load_yaml
from nightjar.features.spark.tables import literal
from nightjar.jobs.common.cli import entry_point
from nightjar.jobs.common.spark_session import spark_session
from nightjar.jobs.imports.simulation import (
    TRUTH_VERSION,
    BayesFloor,
    SimulationConfig,
    bayes_floor,
    impressions,
)

log = logging.getLogger(__name__)

RECIPE = "_generator.json"
CONFIG_FLAGS = ("seed", "start_date", "rows_per_day", "users", "users_per_day", "apps", "apps_per_day")


@dataclass(frozen=True)
class GeneratorArguments:
    """A checked command line."""

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


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; 0 on success, 2 with one message on standard error for everything a person can correct."""
    request = parse_args(argv)
    with spark_session("generate_logs") as spark:
        written, floor = generate_logs(spark, request)
    print(summary(request, written, floor))
    return 0


def parse_args(argv: Sequence[str] | None) -> GeneratorArguments:
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
    return GeneratorArguments(config, args.days, args.files_per_day, args.output.rstrip("/") or "/", args.overwrite)


def generate_logs(spark: SparkSession, request: GeneratorArguments) -> tuple[int, BayesFloor]:
    """Write the days that are missing; return their number and the floor of all requested days.

    Raises UsageError when the output holds something else, DataError when it cannot be written or read.
    """
    files = _Files(spark, request.output)
    with _storage_errors(request.output):
        _claim_output(files, request)
        missing = [day for day in range(request.days) if not files.exists(f"{_directory(request, day)}/_SUCCESS")]
        for day in missing:
            _write_day(spark, files, request, day)
        files.delete("_staging")
        last = request.config.date_of(request.days - 1)
        requested = F.col("date").between(F.lit(request.config.start_date), F.lit(last))
        return len(missing), bayes_floor(spark.read.parquet(literal(request.output)).where(requested))


def summary(request: GeneratorArguments, written: int, floor: BayesFloor) -> str:
    """What the job reports: the log's size, and the floor that no model can beat."""
    lines = (
        f"log         {request.output}",
        f"days        {request.days} from {request.config.start_date}, {written} of them written now",
        f"rows        {floor.rows}",
        f"label rate  {floor.label_rate:.4f}",
        f"Bayes floor log loss {floor.log_loss:.5f}, NE {floor.normalized_entropy:.4f}, AUC {floor.auc:.4f}",
    )
    return "\n".join(lines)


def _claim_output(files: _Files, request: GeneratorArguments) -> None:
    """Make sure that the output holds this recipe's log or nothing."""
    text = files.read(RECIPE)
    if text is None:
        foreign = [name for name in files.names() if not name.startswith(("_", "."))]
        if foreign:
            raise UsageError(
                f"{request.output} is not empty and has no _generator.json; it holds {foreign[:5]}. "
                f"Nothing was touched. Choose another --output."
            )
    elif request.overwrite:
        for name in files.names():
            if name.startswith("date="):
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
            f"{output}/_generator.json is damaged: {text[:80]!r} is not a JSON object. "
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


def _write_day(spark: SparkSession, files: _Files, request: GeneratorArguments, day: int) -> None:
    directory = _directory(request, day)
    staged = f"_staging/{directory}"
    rows = spark.range(0, request.config.rows_per_day, 1, request.files_per_day)
    impressions(rows, request.config, day).drop("date").write.mode("overwrite").parquet(files.path(staged))
    files.rename(staged, directory)
    log.info("wrote %s/%s", request.output, directory)


def _directory(request: GeneratorArguments, day: int) -> str:
    return f"date={request.config.date_of(day).isoformat()}"


@contextmanager
def _storage_errors(output: str) -> Iterator[None]:
    """Turn what Spark and Hadoop throw into one DataError."""
    try:
        yield
    except (Py4JError, PySparkException) as error:
        java = getattr(error, "java_exception", None)
        cause = str(java.toString() if java is not None else error).strip().splitlines()[0]
        raise DataError(
            f"cannot write or read the log {output}: {cause}. "
            f"Check that the directory is writable and has room; then start the job again: "
            f"it goes on where it stopped."
        ) from error


class _Files:
    """The few file operations of this job under one root, on whatever Hadoop file system the root is on."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        jvm: Any = spark.sparkContext._jvm
        self._jvm = jvm
        self._root = root
        with _storage_errors(root):
            self._fs = jvm.org.apache.hadoop.fs.Path(root).getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())

    def path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def names(self) -> list[str]:
        """Names in the root, sorted; none when there is no root."""
        root = self._jvm.org.apache.hadoop.fs.Path(self._root)
        if not self._fs.exists(root):
            return []
        return sorted(str(status.getPath().getName()) for status in self._fs.listStatus(root))

    def read(self, name: str) -> str | None:
        """The text of a file; None when there is none."""
        if not self.exists(name):
            return None
        stream = self._fs.open(self._path(name))
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a file that is there completely or not at all."""
        staged = f"_staging/{name}"
        stream = self._fs.create(self._path(staged), True)
        try:
            stream.write(bytearray(text, "utf-8"))
        finally:
            stream.close()
        self.rename(staged, name)

    def rename(self, source: str, target: str) -> None:
        """Move a file or a directory, replacing the target."""
        self.delete(target)
        self._fs.mkdirs(self._jvm.org.apache.hadoop.fs.Path(self._root))
        if not self._fs.rename(self._path(source), self._path(target)):
            raise DataError(
                f"cannot rename {self.path(source)} to {self.path(target)}. "
                f"Check that nothing else writes to {self._root}; then start the job again."
            )

    def delete(self, name: str) -> None:
        """Delete a file or a directory tree, if it is there."""
        self._fs.delete(self._path(name), True)

    def _path(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self.path(name))


if __name__ == "__main__":
    sys.exit(main())
