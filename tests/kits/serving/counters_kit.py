"""Counters of the days after the kit's state, published by hand, each with the delta from those of the day before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightjar.features.contract.manifests import CountersManifest
from nightjar.features.contract.publishing import commit, describe_files
from tests.kits.serving import serving_oracle
from tests.kits.serving.serving_kit import SPEC

Counted = Mapping[str, Mapping[int, Mapping[str, tuple[int, int]]]]
SERVED = date(2024, 5, 3)  # the day after the state's last


def counts_of(day: int) -> Counted:
    """What is known of the keys so many days later: more of one, less of another in its window, a new one, one gone."""
    one, two, missing = serving_oracle.COUNTS["item_rate"]
    new = serving_oracle.tuple_hash(serving_oracle.raw_hash(3))
    rates = {
        one: {"1d": (3 + day, 1), "all": (50 + 3 * day, 20 + day)},
        two: {"1d": (0, 0), "all": (7, 0)},
        new: {"1d": (day, day), "all": (day, day)},
    }
    if day % 2 == 0:
        rates[missing] = {"1d": (1, 1), "all": (4, 2)}
    return {"item_rate": rates, "pair": serving_oracle.COUNTS["pair"]}


def rows_of(counted: Counted, name: str) -> dict[int, dict[str, int]]:
    windows = next(f for f in SPEC.frequencies if f.name == name).windows
    return {
        key: {f"{what}_{w}": of[w][n] for n, what in enumerate(("impressions", "positives")) for w in windows}
        for key, of in counted[name].items()
    }


def table_of(rows: Mapping[int, Mapping[str, int]], names: list[str]) -> pa.Table:
    columns = {name: pa.array([of[name] for of in rows.values()], pa.int64()) for name in names}
    return pa.table({"key": pa.array(list(rows), pa.int64()), **columns})


def publish(models: str, day: int, fingerprint: str = SPEC.counters_fingerprint) -> str:
    """The counters for so many days after the state's, with the delta from those of the day before; their name."""
    name = f"{SERVED + timedelta(day)}-{fingerprint[:6]}"
    directory = Path(models) / "counters" / name
    for frequency in SPEC.frequencies:
        now, before = (rows_of(counts_of(n), frequency.name) for n in (day, day - 1))
        names = list(next(iter(now.values())))
        changed = {key: of for key, of in now.items() if before.get(key) != of}
        gone = {key: of for key, of in before.items() if key not in now}
        delta = table_of(changed | gone, names).append_column("gone", [[key in gone for key in (*changed, *gone)]])
        for folder, table in (("frequency", table_of(now, names)), ("delta", delta)):
            place = directory / folder / frequency.name
            place.mkdir(parents=True)
            pq.write_table(table, place / "part-00000.parquet")
    commit(
        str(directory),
        CountersManifest(
            files=describe_files(str(directory)),
            fingerprint=fingerprint,
            first_date="2024-05-01",
            through_date=str(SERVED + timedelta(day - 1)),
            previous=f"{SERVED + timedelta(day - 1)}-{fingerprint[:6]}",
            keys={f.name: len(counts_of(day)[f.name]) for f in SPEC.frequencies},
        ),
    )
    return name
