"""A day's log, the requests of the same impressions with an injected skew, and the request log of their answers."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.errors import DataError
from nightjar.features.encoder.frequency import Counts
from nightjar.serving.model import ServingModel, load
from nightjar.serving.packing.pack import pack
from nightjar.serving.replay.differences import Replayed
from nightjar.serving.replay.models import Models
from nightjar.serving.request_log import RequestLog
from tests.kits.serving.serving_kit import make_rows, make_world
from tests.kits.serving.serving_oracle import Row

DAY = "2024-05-03"
NOON = datetime(2024, 5, 3, 12, tzinfo=UTC)
KEY = ("request", "slot")
USERS = ("ann", "bob", "çelik", "Dora ", "007", "", "Ümit", None)
REQUESTS, CANDIDATES = 30, 10


def make_day(seed: int = 3) -> list[Row]:
    """Rows in whose values every skew can be seen: capitals, white space, accents, hours, decimals, repeats."""
    rng = np.random.default_rng(seed)
    rows = make_rows(REQUESTS * CANDIDATES, seed)
    for n, row in enumerate(rows):
        row |= {"request": f"r{n // CANDIDATES}", "slot": n % CANDIDATES}
        row["user"] = USERS[rng.integers(len(USERS))]
        row["depth"] = int(rng.integers(24))
        row["price"] = round(float(rng.gamma(2.0, 30.0)), 4)
        row["age"] = None if rng.uniform() < 0.2 else round(float(rng.uniform(18, 80)), 2)
        row["tags"] = [["News", "x"], ["été", "x", "News"], [], ["x", "neu"]][rng.integers(4)]
    return rows


@dataclass(frozen=True)
class Place:
    """models: a registry with the version `v1`; logs: the day, as Parquet; rows: the same."""

    root: Path
    models: str
    logs: str
    rows: list[Row]


def make_place(root: Path) -> Place:
    world = make_world(root / "world")
    pack(world.candidate, world.state, world.holdout, str(root / "models" / "v1"))
    other = make_world(root / "other", seed=2)
    pack(other.candidate, other.state, other.holdout, str(root / "models" / "v2"))
    rows = make_day()
    folder = root / "logs" / f"date={DAY}"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    return Place(root, str(root / "models"), str(root / "logs"), rows)


def name_in_history(models: str, moves: list[tuple[str, str | None]]) -> None:
    """Moves of the pointer, one on each day before the requests' noon, the last one on the day itself."""
    folder = Path(models) / "history"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for n, (version, counters) in enumerate(moves, 1):
        path = folder / f"{n:06d}.json"
        path.write_text(json.dumps({"version": version, "counters": counters, "sequence": n, "digest": ""}))
        moment = NOON.timestamp() - 3600 - 86400 * (len(moves) - n)
        os.utime(path, (moment, moment))


def open_with_counters(root: str, version: str, counters: str | None) -> ServingModel:
    """A model with its own counters, or with as many impressions more of every key as the counters' day says."""
    model = load(f"{root}/{version}")
    more = int(counters.split("-")[2]) if counters else 0
    tables = {
        name: replace(table, counts={w: Counts(of.impressions + more, of.positives) for w, of in table.counts.items()})
        for name, table in model.state.frequencies.items()
    }
    return replace(model, state=replace(model.state, frequencies=tables))


def answer(
    rows: list[Row],
    folder: Path,
    model: ServingModel,
    version: str = "v1",
    counters: str | None = None,
    change: Callable[[np.ndarray], np.ndarray] = lambda scores: scores,
    candidates: int = CANDIDATES,
) -> str:
    """Score the rows request by request and log it; where the log goes."""
    with RequestLog(str(folder), sample_by="request") as log:
        for start in range(0, len(rows), candidates):
            request = rows[start : start + candidates]
            try:
                scores, error = change(model.score(request)), None
            except DataError as problem:
                scores, error = None, str(problem)
            as_of = datetime.fromisoformat(counters[:10]).date() if counters else None
            log.write(request, scores, version, counters, as_of, NOON, error=error)
    return str(folder)


def kinds(outcome: Replayed) -> set[tuple[str, str | None]]:
    return {(one.kind, one.column) for one in outcome.differences}


def models_of(place: Place) -> Models:
    return Models(place.models, open_with_counters)


Skew = Callable[[Row], Any]


def _column(name: str, change: Callable[[Any], Any]) -> Callable[[list[Row]], list[Row]]:
    """A change of every value that is not missing."""
    return lambda rows: [row | {name: row[name] if row[name] is None else change(row[name])} for row in rows]


def _rows(change: Callable[[Row], Row]) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [change(dict(row)) for row in rows]


def _renamed(row: Row) -> Row:
    row["user_name"] = row.pop("user")
    return row


def _without(row: Row) -> Row:
    del row["words"]
    return row


def _next_user(rows: list[Row]) -> list[Row]:
    """Each candidate with the user of the next one of its request; the last keeps its own."""
    after = [n if row["slot"] == CANDIDATES - 1 else n + 1 for n, row in enumerate(rows)]
    return [row | {"user": rows[n]["user"]} for row, n in zip(rows, after, strict=True)]


def _shuffled(rows: list[Row]) -> list[Row]:
    values = np.random.default_rng(5).normal(50, 20, len(rows))
    return [row | {"price": float(value)} for row, value in zip(rows, values, strict=True)]


# Injected skew: what a request has instead of the log's rows, and the kind and the column that name it.
SKEWS: dict[str, tuple[Callable[[list[Row]], list[Row]], str, str]] = {
    "a renamed column": (_rows(_renamed), "renamed column", "user"),
    "a missing column": (_rows(_without), "missing column", "words"),
    "an int that became a string": (_column("item_id", str), "other type", "item_id"),
    "a list that became a string": (_column("tags", ",".join), "other type", "tags"),
    "booleans as Python writes them": (_column("premium", str), "letter case", "premium"),
    "booleans as numbers": (_column("premium", int), "number format", "premium"),
    "an int as a float's text": (_column("item_id", lambda v: f"{v}.0"), "number format", "item_id"),
    "trimmed strings": (_column("user", str.strip), "white space", "user"),
    "padded strings": (_column("user", lambda v: f"{v:8}"), "white space", "user"),
    "lower case": (_column("user", str.lower), "letter case", "user"),
    "upper case": (_column("user", str.upper), "letter case", "user"),
    "lower case within lists": (_column("tags", lambda v: [t.lower() for t in v]), "letter case", "tags"),
    "another Unicode form": (_column("user", lambda v: unicodedata.normalize("NFD", v)), "Unicode form", "user"),
    "UTF-8 read as Latin-1": (_column("user", lambda v: v.encode().decode("latin-1")), "text encoding", "user"),
    "text cut short": (_column("user", lambda v: v[:2]), "cut short", "user"),
    "a prefix": (_column("user", lambda v: f"u:{v}"), "prefix", "user"),
    "a suffix": (_column("user", lambda v: f"{v}@shop"), "suffix", "user"),
    "leading zeros lost": (_column("user", lambda v: v.lstrip("0")), "leading zeros", "user"),
    "a time zone": (_column("depth", lambda v: (v + 2) % 24), "time zone", "depth"),
    "counted from one": (_column("depth", lambda v: v + 1), "shifted", "depth"),
    "another unit": (_column("price", lambda v: v * 100), "other unit", "price"),
    "a default instead of missing": (
        _rows(lambda row: row | {"age": 0.0 if row["age"] is None else row["age"]}),
        "default instead of missing",
        "age",
    ),
    "missing instead of a value": (
        _rows(lambda row: row | {"age": None if row["slot"] % 2 else row["age"]}),
        "missing instead of a value",
        "age",
    ),
    "rounded": (_column("price", lambda v: round(v, 1)), "rounded", "price"),
    "single precision": (_column("price", lambda v: float(np.float32(v))), "rounded", "price"),
    "clipped": (_column("price", lambda v: min(v, 50.0)), "clipped", "price"),
    "a constant": (_rows(lambda row: row | {"user": "ann"}), "constant", "user"),
    "inverted": (_column("premium", lambda v: not v), "inverted", "premium"),
    "another order": (_column("tags", lambda v: v[::-1]), "list order", "tags"),
    "repeats left out": (_column("seen", lambda v: list(dict.fromkeys(v))), "list duplicates", "seen"),
    "a list cut short": (_column("tags", lambda v: v[:1]), "list cut short", "tags"),
    "two columns exchanged": (
        _rows(lambda row: row | {"age": row["price"], "price": row["age"]}),
        "swapped columns",
        "age",
    ),
    "another column's values": (
        _rows(lambda row: row | {"depth": row["item_id"]}),
        "values of another column",
        "depth",
    ),
    "the next row's values": (_next_user, "values of another row", "user"),
    "values of no known kind": (_shuffled, "other values", "price"),
}


def skews() -> Iterator[tuple[str, str, str]]:
    """Names, kinds and columns, for a test's parameters."""
    for name, (_, kind, column) in SKEWS.items():
        yield name, kind, column
