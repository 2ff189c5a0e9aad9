"""Rows that cannot be used are left out by every pass, counted by reason, and kept; the others are as without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest
from nightjar.features.contract.publishing import MANIFEST, read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.build import aggregate, build
from nightjar.features.dataset.plan import BuildDates, BuildPlan, BuildSettings, plan_build
from nightjar.features.input.config import InputConfig
from nightjar.features.input.timestamped import logs_at
from tests.kits.small_night import CONFIG, make_day

SPEC = FeatureSpec.model_validate({**CONFIG["features"], "weight": "weight"})
DATES = ["2026-01-01", "2026-01-02"]
COLUMNS = {
    "clicked": "int",
    "at": "timestamp",
    "user": "bigint",
    "item": "bigint",
    "price": "double",
    "weight": "double",
    "unread": "int",
}
NAMES = [name for name in COLUMNS if name != "unread"]
# By reason, what is written in place of a value of a good row.
BAD: dict[str, dict[str, Any]] = {
    "null_label": {"clicked": None},
    "null_timestamp": {"at": None},
    "out_of_range": {"weight": -1.0},
}
# Only text can be of another type than its column, also in a column that one pass reads and another does not.
MALFORMED = [{"price": "cheap"}, {"item": "x1"}, {"unread": "none"}]


def rows_of(day: int) -> list[dict[str, Any]]:
    rows = make_day(day, 60).to_pylist()
    return [{**row, "at": row["at"].isoformat(), "weight": 1.0 + n % 3, "unread": n} for n, row in enumerate(rows)]


def bad_rows(day: int, form: str) -> list[dict[str, Any]]:
    """Like good ones, but each with what makes it useless; two of them are equal."""
    good = rows_of(day)
    changes = [*BAD.values(), BAD["null_label"], *(MALFORMED if form != "parquet" else [])]
    rows = [{**good[n], **change} for n, change in enumerate(changes)]
    return [*rows, rows[0]]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines, ""]))
    else:
        # The types that the text is read with: a row's hash is of values and types.
        kinds = {"clicked": pa.int32(), "at": pa.timestamp("us", "UTC")}
        table = pa.Table.from_pylist(rows)
        schema = pa.schema([(field.name, kinds.get(field.name, field.type)) for field in table.schema])
        pq.write_table(table.cast(schema), path)


def planned(logs: Path, output: Path, form: str, days: str = "folders", **more: Any) -> BuildPlan:
    text = {} if form == "parquet" else {"columns": COLUMNS}
    section = {"format": form, "days": days, "bad_rows": "drop", "bad_rows_at_most": {"any": 0.2}, **text, **more}
    source = logs_at(InputConfig.model_validate(section), str(logs), lambda: pytest.fail("Spark is not asked"))
    dates = BuildDates(train_from=DATES[0], train_to=DATES[0], holdout=DATES[1])
    return plan_build(SPEC, source, str(output), dates, settings=BuildSettings(min_files=2))


def content(directory: str) -> dict[str, str]:
    """Checksums of a directory's files, without those of the quarantine."""
    files = json.loads((Path(directory) / MANIFEST).read_text())["files"]
    return {entry["path"]: entry["sha256"] for entry in files if not entry["path"].startswith("quarantine/")}


def quarantine(directory: str) -> list[tuple[str, int, str]]:
    tables = [pq.read_table(path) for path in sorted(Path(directory).glob("quarantine/*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    return sorted((row["reason"], row["rows"], row["row"]) for row in rows)


@pytest.fixture(scope="module")
def clean(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> BuildPlan:
    """What is built of the good rows alone."""
    place = tmp_path_factory.mktemp("clean")
    for number, day in enumerate(DATES, 1):
        write(place / "logs" / f"date={day}" / "0.parquet", rows_of(number))
    plan = planned(place / "logs", place / "out", "parquet")
    build(spark, plan)
    return plan


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_is_built_is_what_the_good_rows_alone_give(
    spark: SparkSession, tmp_path: Path, clean: BuildPlan, form: str
) -> None:
    for number, day in enumerate(DATES, 1):
        bad = bad_rows(number, form)
        write(tmp_path / "logs" / f"date={day}" / f"0.{form}", bad[:2] + rows_of(number) + bad[2:])
    with_bad = planned(tmp_path / "logs", tmp_path / "out", form)
    made = build(spark, with_bad)
    for here, there in zip(made.directories(), clean.built.directories(), strict=True):
        assert content(here) == content(there)
    for here, there in zip(with_bad.aggregate_dirs.values(), clean.aggregate_dirs.values(), strict=True):
        assert content(here) == content(there)
        counts = read_manifest(here, AggregateManifest)
        malformed = {} if form == "parquet" else {"malformed": 3}
        assert counts.left_out == {"null_label": 3, "null_timestamp": 1, "out_of_range": 1, **malformed}
        kept = quarantine(here)
        assert sum(rows for _, rows, _ in kept) == sum(counts.left_out.values())
        assert [rows for reason, rows, _ in kept if reason == "null_label"] == [1, 2]
        assert ['"weight":-1.0' in row for reason, _, row in kept if reason == "out_of_range"] == [True]
        texts = [row for reason, _, row in kept if reason == "malformed"]
        assert sorted(text for text in ("cheap", "x1", "none") if any(text in row for row in texts)) == (
            [] if form == "parquet" else ["cheap", "none", "x1"]
        )
        assert read_manifest(there, AggregateManifest).left_out == {}


def test_more_than_the_bound_is_refused_with_the_reason_and_examples(spark: SparkSession, tmp_path: Path) -> None:
    for number, day in enumerate(DATES, 1):
        write(tmp_path / "logs" / f"date={day}" / "0.csv", rows_of(number) + bad_rows(number, "csv"))

    def error_of(**limits: float) -> str:
        with pytest.raises(DataError) as caught:
            aggregate(spark, planned(tmp_path / "logs", tmp_path / "out", "csv", bad_rows_at_most=limits))
        return str(caught.value)

    by_share = error_of(any=0.1)
    assert f"date {DATES[0]}: 8 of 68 rows (0.118) are more than input.bad_rows_at_most.any = 0.1 (" in by_share
    assert "null_label 3" in by_share
    assert "\n    malformed: " in by_share or "\n    null_label: {" in by_share
    assert "malformed 3" in by_share
    by_reason = error_of(any=0.2, malformed=0.04)
    assert "3 of 68 rows (0.0441) are more than input.bad_rows_at_most.malformed = 0.04" in by_reason
    assert not (tmp_path / "out").exists()
    aggregate(spark, planned(tmp_path / "logs", tmp_path / "out", "csv"))
    assert "more rows were left out of the logs than may be:" in error_of(any=0.1)
