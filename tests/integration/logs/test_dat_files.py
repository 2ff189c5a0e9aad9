"""A night on text files as they were published, by YAML alone: a log, and a side table of its items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.manifests import AggregateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.records import Ledger
from nightjar.jobs import run_nightly, score_candidates
from nightjar.jobs.common.cli import EXIT_ERROR, EXIT_NOTHING_TO_DO
from nightjar.serving import registry
from nightjar.serving.champion import load_champion
from nightjar.serving.model import load
from tests.kits.small_night import CONFIG, make_day


def test_a_night_on_two_dat_files_as_they_come_ends_in_a_published_model(spark: SparkSession, tmp_path: Path) -> None:
    """MovieTweetings' form, by YAML alone: no header, `::`, epoch seconds, a rating; beside it the items' titles with
    their years, and delimited genres; and bad rows.
    """
    rows = [row for day in (1, 2) for row in make_day(day).to_pylist()]
    lines = [
        f"{row['user']}::{row['item']}::{7 + 2 * row['clicked']}::{row['at'].timestamp():.0f}::{row['price']}"
        for row in rows
    ]
    unrated = [line.replace("::7::", "::::") for line in lines if "::7::" in line][::100]
    short = ["::".join(line.split("::")[:4]) for line in lines[::300]]
    path = tmp_path / "ratings.dat"
    path.write_text("\n".join([*unrated, *lines, *short, ""]))
    genres = {item: "|".join(["odd"] * (item % 2) + ["all"]) for item in range(9)}
    items = [f'{item}::"Quoted" Ünïted, {item} ({1950 + 7 * item})::{of}' for item, of in genres.items()]
    (tmp_path / "items.dat").write_text("\n".join([*items, ""]))
    columns = {"user": "bigint", "item": "bigint", "rating": "int", "at": "bigint"}
    section = {"format": "csv", "days": "timestamp", "timestamp_format": "epoch_s", "bad_rows": "drop"}
    section |= {"bad_rows_at_most": {"any": 0.02}, "columns": columns | {"price": "double"}}
    section |= {"options": {"sep": "::", "header": False, "quote": ""}}
    side = {"name": "items", "location": str(tmp_path / "items.dat"), "format": "csv", "options": section["options"]}
    side |= {"columns": {"item": "bigint", "title": "string", "genres": "string"}}
    section |= {"side_tables": [{**side, "key": "item", "brings": ["title", "genres"]}]}
    features = {**CONFIG["features"], "label": {"column": "rating", "at_least": 8}}
    features["fields"] = [*features["fields"], {"name": "genres", "multi_valued": True, "split": "|"}]
    features["fields"].append({"name": "decade"})
    features["derive"] = [{"name": "decade", "expression": "int(number(substring(title, -5, 4)) // 10 * 10)"}]
    gate = {**CONFIG["gate"], "calibration": [0.5, 2.0]}  # after 36 steps
    (tmp_path / "conf.yaml").write_text(
        yaml.safe_dump({**CONFIG, "features": features, "input": section, "gate": gate}, sort_keys=False)
    )
    arguments = ["--config", str(tmp_path / "conf.yaml"), "--logs", str(path)]
    arguments += ["--output", str(tmp_path / "out"), "--date", "2026-01-02"]
    assert run_nightly.main(arguments) == 0
    pointer = registry.champion(str(tmp_path / "out" / "models"))
    assert pointer is not None
    assert pointer.version.startswith("2026-01-02-wide_deep-")
    [ledger] = (tmp_path / "out" / "nights").glob("*/ledger.json")
    kept = Ledger.model_validate_json(ledger.read_bytes())
    assert sum(day.left_out["malformed"] for day in kept.days) == len(short)
    assert sum(day.left_out["null_label"] for day in kept.days) == len(unrated)
    assert [day.in_files for day in kept.days] == [600 + sum(day.left_out.values()) for day in kept.days]
    assert [day.counted for day in kept.days] == [600, 600]
    assert [day.positives for day in kept.days] == [sum(make_day(n).column("clicked").to_pylist()) for n in (1, 2)]
    assert (kept.holdout.kept, kept.evaluated, kept.judged) == (600, 600, 600)
    counts = [read_manifest(str(path.parent), AggregateManifest) for path in (tmp_path / "out").glob("aggregates/*/m*")]
    assert sum(each.unmatched["items"] for each in counts) == sum(row["item"] == 9 for row in rows)
    model = load(str(tmp_path / "out" / "models" / pointer.version))
    request = {"user": 3, "item": 5, "price": 0.5, "title": "Film (1985)"}
    one, other = model.score([{**request, "genres": "odd|all"}, {**request, "genres": "|all||odd"}])
    assert abs(float(one) - float(other)) < 1e-6
    with pytest.raises(DataError, match=r"the rows lack the columns \['genres', 'title'\], which features read"):
        model.score(pa.table({"user": [3], "item": [5], "price": [0.5]}))
    assert run_nightly.main(arguments) == EXIT_NOTHING_TO_DO
    candidates_get_what_the_side_table_brings(tmp_path, genres)


def candidates_get_what_the_side_table_brings(place: Path, genres: dict[int, str]) -> None:
    """`nightjar score` of rows without the columns, with the night's config; a column that they bring wins."""
    candidates = [{"user": n % 20, "item": n % 10, "price": n / 40} for n in range(40)]
    model = load_champion(f"{place}/out/models")
    known = {
        item: {"title": f'"Quoted" Ünïted, {item} ({1950 + 7 * item})', "genres": of} for item, of in genres.items()
    }
    wanted = model.score(
        [{**row, **known.get(int(row["item"]), {"title": None, "genres": None})} for row in candidates]
    )
    document = yaml.safe_load((place / "conf.yaml").read_text())
    document["input"] = {"side_tables": document["input"]["side_tables"]}
    (place / "score.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    shared = [
        "--models",
        str(place / "out" / "models"),
        "--config",
        str(place / "score.yaml"),
        "--keep",
        "user",
        "item",
    ]

    def scored(name: str, table: pa.Table) -> list[dict[str, Any]]:
        pq.write_table(table, place / f"{name}.parquet")
        where = ["--candidates", str(place / f"{name}.parquet"), "--output", str(place / name)]
        assert score_candidates.main([*shared, *where]) == 0
        found: list[dict[str, Any]] = pq.read_table(place / name / "scores").to_pylist()
        return found

    found = scored("joined", pa.Table.from_pylist(candidates))
    assert sorted((row["user"], row["item"], row["score"]) for row in found) == sorted(
        (row["user"], row["item"], float(one)) for row, one in zip(candidates, wanted, strict=True)
    )
    own = [{**row, "title": "Film (1999)", "genres": "all"} for row in candidates]
    found = scored("brought", pa.Table.from_pylist(own))
    assert sorted(row["score"] for row in found) == sorted(map(float, model.score(own)))
    pq.write_table(pa.table({"user": [1], "price": [0.5]}), place / "keyless.parquet")
    where = ["--candidates", str(place / "keyless.parquet"), "--output", str(place / "none")]
    assert score_candidates.main([*shared[:-1], *where]) == EXIT_ERROR
