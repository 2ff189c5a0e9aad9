"""A night on a log as logs come: odd paths, odd types, columns that Spark cannot read, a day without traffic."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import DatasetManifest, NightManifest, ValidationManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.build import build
from nightjar.features.dataset.plan import BuildDates, plan_build
from nightjar.features.input.config import InputConfig
from nightjar.features.input.timestamped import logs_at
from nightjar.jobs import run_nightly
from nightjar.serving import registry
from tests.kits.small_night import CONFIG, make_day

ODD = "run[7] {a,b}? *#1 100%25 ü"
SIBLING = "run7 a? x#1 100%25 ü"  # what ODD is a pattern for, if paths are patterns
FIRST, EMPTY, LAST = (f"2026-01-0{n}" for n in (1, 2, 3))


def write(folder: Path, name: str, rows: pa.Table, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / name, **options)


def odd_day(day: int) -> pa.Table:
    """Ids beyond the signed integers, prices as decimals, and three columns that no feature reads."""
    table = make_day(day)
    rows = len(table)
    ids = pa.array(2**64 - 1 - table.column("user").to_numpy().astype(np.uint64))
    prices = [Decimal(round(price * 1000)) / 1000 for price in table.column("price").to_pylist()]
    table = table.set_column(table.schema.get_field_index("user"), "user", ids)
    table = table.set_column(table.schema.get_field_index("price"), "price", pa.array(prices, pa.decimal128(9, 3)))
    table = table.append_column("received", pa.array([0] * rows, pa.timestamp("ns", tz="UTC")))
    table = table.append_column("hour", pa.array([0] * rows, pa.time64("us")))
    return table.append_column("User", pa.array(["a column's twin"] * rows))


def test_a_night_on_an_odd_log_publishes_a_model_that_scores_it(spark: SparkSession, tmp_path: Path) -> None:
    logs, output = tmp_path / ODD / "logs", tmp_path / ODD / "out [0-9]"
    write(logs / f"date={FIRST}", "0.parquet", odd_day(1), version="2.6")
    write(logs / f"date={LAST}", "0.parquet", odd_day(3), use_deprecated_int96_timestamps=True)
    write(tmp_path / SIBLING / "logs" / f"date={FIRST}", "0.parquet", odd_day(2))
    (logs / "date=0000-00-00").mkdir()
    sections = {
        **CONFIG,
        "nightly": {"train_days": 2},
        "input": {"empty_days": [EMPTY]},
        "validation": {"rows": 100, "unseen": 1.0, "drift": 1.0, "label_rate": 100},
    }
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(sections))
    arguments = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(logs), "--output", str(output)]
    assert run_nightly.main([*arguments, "--date", EMPTY]) == 2
    assert run_nightly.main([*arguments, "--from", EMPTY, "--to", LAST]) == 0

    [night] = (output / "nights").iterdir()
    assert read_manifest(str(night), NightManifest).verdict == "published"
    [validation] = (output / "validations").iterdir()
    assert read_manifest(str(validation), ValidationManifest).reference == (FIRST,)
    [train] = (output / "datasets").glob("train-*")
    assert read_manifest(str(train), DatasetManifest).rows == 600
    [holdout] = (output / "datasets").glob("holdout-*")
    rates = pq.read_table(holdout / "data").column("d_item_rate_1d_log_count").to_numpy()
    assert not rates.any()  # nothing was shown on the day before

    model = serving.load(registry.load_champion(str(output / "models")))
    table = odd_day(3)
    scores = model.score(table)
    np.testing.assert_array_equal(model.score(table.to_pylist()), scores)
    np.testing.assert_array_equal(model.score(table.slice(0, 1).to_pylist()[0]), scores[:1])
    truth = table.column("clicked").to_numpy()
    assert scores[truth == 1].mean() > scores[truth == 0].mean() + 0.1


SPEC = {"name": "t", "label": "clicked", "timestamp": "at", "fields": [{"name": "item"}]}


@pytest.mark.parametrize("form", ["parquet", "orc", "csv", "json"])
@pytest.mark.parametrize("days", ["folders", "timestamp"])
def test_a_path_is_a_name_and_no_pattern(spark: SparkSession, tmp_path: Path, form: str, days: str) -> None:
    spec = FeatureSpec.model_validate(SPEC)
    for number, root in enumerate((ODD, SIBLING)):
        rows = make_day(1, rows=50 + number).select(["clicked", "at", "item"])
        folder = tmp_path / root / (f"date={FIRST}" if days == "folders" else "")
        folder.mkdir(parents=True)
        whole = spark.createDataFrame(rows.to_pandas())
        whole = whole.withColumn("at", whole["at"].cast("string")) if form in ("csv", "json") else whole
        whole.coalesce(1).write.mode("append").options(header=True).format(form).save(f"file://{folder}")
    types = {"clicked": "int", "at": "timestamp", "item": "bigint"}
    config = {"format": form, "days": days} | ({"columns": types} if form in ("csv", "json") else {})
    logs = logs_at(InputConfig.model_validate(config), str(tmp_path / ODD), lambda: spark)
    output = tmp_path / ODD / "out*" if days == "folders" else tmp_path / "out [0-9]"
    made = build(spark, plan_build(spec, logs, str(output), BuildDates(train_from=FIRST, train_to=FIRST)))
    assert read_manifest(made.train_dir, DatasetManifest).rows == 50


def test_days_of_a_table_without_rows_are_declared_too(spark: SparkSession, tmp_path: Path) -> None:
    spec = FeatureSpec.model_validate(
        SPEC | {"frequencies": [{"name": "rate", "keys": ["item"], "windows": ["2d"], "prior": 0.4}]}
    )
    for day in (1, 3):
        write(tmp_path / "logs", f"{day}.parquet", make_day(day))
    plan = {"train_from": FIRST, "train_to": EMPTY, "holdout": LAST}
    for empty_days in ([], [EMPTY]):
        config = InputConfig.model_validate({"days": "timestamp", "empty_days": empty_days})
        logs = logs_at(config, str(tmp_path / "logs"), lambda: spark)
        if not empty_days:
            with pytest.raises(DataError, match=r"2026-01-02: there are no rows\. .*input\.empty_days"):
                plan_build(spec, logs, str(tmp_path / "out"), BuildDates(**plan))
    made = build(spark, plan_build(spec, logs, str(tmp_path / "out"), BuildDates(**plan)))
    item = make_day(3).column("item").to_numpy()
    shown = np.bincount(make_day(1).column("item").to_numpy(), minlength=10)
    encoded = pq.read_table(Path(str(made.holdout_dir), "data"))
    counts = np.sort(encoded.column("d_rate_2d_log_count").to_numpy())
    np.testing.assert_allclose(counts, np.sort(np.log1p(shown[item])), rtol=1e-6)


@pytest.mark.parametrize("weightless", [FIRST, LAST])
def test_a_day_whose_rows_all_weigh_nothing_ends_the_build(
    spark: SparkSession, tmp_path: Path, weightless: str
) -> None:
    spec = FeatureSpec.model_validate(SPEC | {"weight": "w", "sampling": {"negatives": 0.5}})
    for number, day in enumerate((FIRST, EMPTY), 1):
        weight = np.zeros(600) if (day == FIRST) == (weightless == FIRST) else np.ones(600)
        write(tmp_path / "logs" / f"date={day}", "0.parquet", make_day(number).append_column("w", pa.array(weight)))
    plan = plan_build(
        spec, str(tmp_path / "logs"), str(tmp_path / "out"), BuildDates(train_from=FIRST, train_to=FIRST, holdout=EMPTY)
    )
    with pytest.raises(DataError, match=r"all \d+ rows of 2026-01-0\d to 2026-01-0\d have w 0"):
        build(spark, plan)
