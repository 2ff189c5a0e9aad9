"""Any two models are judged on the same rows, whatever their specs: each row's scores are those of a server.

A model reads the raw rows by its own spec, state and counters, so that nothing of one model's encoding is matched with
another's. The log has rows that are equal in all that some spec reads, and counts of the day so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightjar import serving
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.input.folders import LogPartition, check_logs
from nightjar.jobs.judging.passes import scored_day
from nightjar.jobs.judging.rows import score_day, scored_rows
from nightjar.serving.gate.decision import GateConfig
from nightjar.serving.gate.gate import Judgement, decide
from nightjar.serving.packing.pack import pack
from nightjar.serving.raw_scores import ServedModel
from nightjar.serving.sums.measure import see
from nightjar.serving.sums.rows import Host, InMemory
from nightjar.serving.sums.slices import find_slices
from nightjar.training.config import TrainingConfig
from nightjar.training.job import TrainingJob
from nightjar.training.trainer import run_job
from tests.kits.serving.serving_kit import make_holdout, make_rows, make_state
from tests.kits.serving.serving_oracle import SPEC, VALUES, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY, ROWS, COPIES = "2024-05-03", 300, 40
TRAINING = TrainingConfig(model="lr", epochs=2, batch_size=32, lanes=2)
BASE = SPEC.model_dump(mode="json", exclude_unset=True)
RENAMED = {"user": "visitor", "item": "product"}


def changed(**sections: Any) -> dict[str, Any]:
    """The spec with other sections."""
    return {**BASE, **sections}


def renamed(part: dict[str, Any]) -> dict[str, Any]:
    """A cross or a frequency over fields of other names."""
    return {
        name: [RENAMED.get(n, n) for n in value] if name in ("fields", "keys") else value
        for name, value in part.items()
    }


FIELDS: list[dict[str, Any]] = BASE["fields"]
SPECS: dict[str, dict[str, Any]] = {
    "as it was": BASE,
    "a field added": changed(fields=[*FIELDS, {"name": "floor", "column": "depth"}]),
    "a field removed": changed(fields=[field for field in FIELDS if field["name"] != "tags"]),
    "the item removed": changed(
        fields=[field for field in FIELDS if field["name"] not in ("item", "tags")], crosses=[], frequencies=[]
    ),
    "fields renamed": changed(
        fields=[
            {**field, "column": field.get("column", field["name"]), "name": RENAMED.get(field["name"], field["name"])}
            for field in FIELDS
        ],
        crosses=[renamed(cross) for cross in BASE["crosses"]],
        frequencies=[renamed(frequency) for frequency in BASE["frequencies"]],
    ),
    "another group": changed(group="item_id"),
    "another hashing": changed(
        fields=[{**field, "kind": "hashed", "buckets": 16} if field["name"] == "words" else field for field in FIELDS],
        crosses=[{**cross, "buckets": 32} for cross in BASE["crosses"]],
    ),
    "counts as of the day": changed(
        frequencies=[{**frequency, "as_of": "day"} for frequency in BASE["frequencies"]], dense=BASE["dense"][:1]
    ),
}
# The key of counts of the day so far is derived, under one name and in two ways.
DERIVED: dict[str, dict[str, Any]] = {
    f"item_id + {n}": changed(
        derive=[{"name": "item_key", "expression": f"int(item_id + {n})"}],
        fields=[{**field, "column": "item_key"} if field["name"] == "item" else field for field in FIELDS],
    )
    for n in (1, 2)
}
VALUES_OF = {**VALUES, "visitor": VALUES["user"], "product": VALUES["item"], "floor": ["1", "0"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    """A model of every spec, by what is different."""
    return {name: published(tmp_path_factory.mktemp("model"), document) for name, document in (SPECS | DERIVED).items()}


def published(root: Path, document: dict[str, Any]) -> ServedModel:
    """A model that is trained on rows of its own."""
    spec = FeatureSpec.model_validate(document)
    known = {field.name: VALUES_OF[field.name] for field in spec.fields if field.buckets is None}
    state = make_state(root / "state", spec=spec, values_of=known)
    day = make_holdout(root / "day", state, make_rows(200, len(document["fields"])), seed=3)
    run_job(TrainingJob.of(TRAINING, day, str(root / "candidate"), day))
    pack(str(root / "candidate"), state, day, str(root / "artifact"))
    return ServedModel(str(root / "artifact"))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """A day: rows of their own moments, rows of equal moments, and copies."""
    rng, begin = np.random.default_rng(5), datetime.fromisoformat(DAY).replace(tzinfo=UTC)
    made = [
        {**row, "clicked": int(rng.random() < 0.3), "p": 0.3, "time": begin + timedelta(minutes=int(minute))}
        for row, minute in zip(make_rows(ROWS, seed=9), rng.integers(400, size=ROWS), strict=True)
    ]
    return [*made, *made[:COPIES]]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> str:
    """These rows as a log, without what only a request can bring."""
    folder = tmp_path_factory.mktemp("logs")
    (folder / f"date={DAY}").mkdir()
    raw = [{name: value for name, value in row.items() if "so_far" not in name} for row in rows]
    pq.write_table(pa.Table.from_pylist(raw), folder / f"date={DAY}" / "part-0.parquet", row_group_size=50)
    return str(folder)


def by_a_server(model: ServedModel, rows: list[Row]) -> np.ndarray:
    """Scores of requests, each with the counts of its day so far: what came before it, not at its moment."""

    def before(row: Row) -> list[Row]:
        pair = (row["user"], row["item_id"])
        return [one for one in rows if (one["user"], one["item_id"]) == pair and one["time"] < row["time"]]

    counted = [
        {"pair_impressions_so_far": len(seen), "pair_positives_so_far": sum(one["clicked"] for one in seen)}
        for seen in map(before, rows)
    ]
    loaded = serving.load(model.artifact)
    names = loaded.state.spec.request_columns()
    so_far = any(frequency.as_of == "impression" for frequency in loaded.state.spec.frequencies)
    requests = [
        {name: row[name] for name in names} | (counts if so_far else {})
        for row, counts in zip(rows, counted, strict=True)
    ]
    return loaded.score(requests)


def seen(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> Counter[tuple[float, ...]]:
    """How often a row has this label and these scores of two models, to six decimals."""
    table = np.column_stack([label, first.astype(np.float64), second.astype(np.float64)])
    return Counter(map(tuple, np.round(table, 6).tolist()))


def day_of(logs: str, without: Collection[str] = ()) -> LogPartition:
    """The day with every column that a model reads. without: columns that the log has no more."""
    [day] = check_logs(logs, [DAY], FeatureSpec.model_validate(BASE))
    return replace(day, columns=tuple(column for column in day.columns if column[0] not in without))


@pytest.mark.parametrize("way", ["candidate", "champion"])
@pytest.mark.parametrize("other", [name for name in SPECS if name != "as it was"])
def test_both_models_score_every_row_as_a_server_would(
    spark: SparkSession, models: dict[str, ServedModel], logs: str, rows: list[Row], other: str, way: str
) -> None:
    names = (
        {"candidate": other, "champion": "as it was"}
        if way == "candidate"
        else {"candidate": "as it was", "champion": other}
    )
    pair = {role: models[name] for role, name in names.items()}
    judged = scored_rows(score_day(spark, day_of(logs), pair, "candidate", []).toArrow())
    label = np.array([row["clicked"] for row in rows], dtype=np.float64)
    expected = {role: by_a_server(model, rows) for role, model in pair.items()}
    assert np.abs(expected["candidate"] - expected["champion"]).max() > 1e-4 or other in (
        "another group",
        "fields renamed",
    )
    assert seen(judged.observed.label, judged.scores["candidate"], judged.scores["champion"]) == seen(
        label, expected["candidate"], expected["champion"]
    )
    assert judged.observed.group is not None
    by = "item_id" if names["candidate"] == "another group" else "user"
    assert sorted(Counter(judged.observed.group.tolist()).values()) == sorted(Counter(row[by] for row in rows).values())


def test_a_model_whose_columns_are_gone_from_the_log_is_judged_with_missing_values(
    spark: SparkSession, models: dict[str, ServedModel], logs: str, rows: list[Row]
) -> None:
    """The keys of its counts so far among them: the log of a changed spec need not have what the champion read."""
    gone = {"item_id": None, "tags": None}
    pair = {"candidate": models["the item removed"], "champion": models["as it was"]}
    judged = scored_rows(score_day(spark, day_of(logs, without=gone), pair, "candidate", []).toArrow())
    label = np.array([row["clicked"] for row in rows], dtype=np.float64)
    expected = [by_a_server(model, [{**row, **gone} for row in rows]) for model in pair.values()]
    assert seen(judged.observed.label, *judged.scores.values()) == seen(label, *expected)


def test_one_name_may_be_derived_in_two_ways(
    spark: SparkSession, models: dict[str, ServedModel], logs: str, rows: list[Row]
) -> None:
    first, second = (models[name] for name in DERIVED)
    pair = {"candidate": first, "champion": second}
    judged = scored_rows(score_day(spark, day_of(logs), pair, "candidate", []).toArrow())
    expected = by_a_server(first, rows), by_a_server(second, rows)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    label = np.array([row["clicked"] for row in rows], dtype=np.float64)
    assert seen(judged.observed.label, *judged.scores.values()) == seen(label, *expected)


def test_the_verdict_is_the_same_for_one_task_and_for_many(
    spark: SparkSession, models: dict[str, ServedModel], logs: str
) -> None:
    """As in one process: of copies of rows too, with and without a user, in slices by value and by quarter."""
    served = {"candidate": models["as it was"], "champion": models["a field removed"]}
    wanted = ["premium", "price"]
    little = {"rows": 20, "positives": 2, "groups": 2}
    settings = GateConfig.model_validate({"slices": wanted, "overall": little, "slice_support": little})

    def judged(host: Host) -> Judgement:
        slices = find_slices(served["candidate"].artifact, wanted, host)
        sight = see(host, slices)
        assert (sight.rows, sight.whole.rows) == (ROWS + COPIES, ROWS + COPIES)
        return decide(settings, host, sight, slices)

    found = []
    for tasks in (1, 23):
        with scored_day(spark, day_of(logs), served, "candidate", wanted, tasks=tasks) as host:
            found.append(judged(host))
            if tasks == 1:
                found.append(judged(InMemory(scored_rows(host.rows.toArrow()))))
    assert len(found[0].decision.parts) > 4
    assert len({one.decision.model_dump_json() for one in found}) == 1
    assert all(one.measured is not None and one.measured.sums == found[0].measured.sums for one in found)
