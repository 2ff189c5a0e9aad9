"""Crosses that admit some of their conjunctions, and fields that forget: from the logs to the encoded rows."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from nightjar.features.contract.categorical import AdmitByBloom, AdmitByPoisson, Cross
from nightjar.features.contract.manifests import DatasetManifest, StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.counts.aggregate import key_counts
from nightjar.features.counts.conjunctions import counted_conjunctions, sketched_conjunctions
from nightjar.features.dataset.build import BuildDates, BuildPlan, BuildSettings, BuiltFeatures, build, plan_build
from nightjar.features.encoder.admission import (
    SKETCH_REGISTERS,
    CountingBloomFilter,
    Listed,
    expected_collision_rate,
)
from nightjar.features.encoder.encoder import OOV_ID, Encoder, EncoderState, Vocabulary
from nightjar.features.encoder.hashing import combine, hash_strings
from nightjar.features.encoder.ragged import Ragged
from nightjar.features.encoder.rows import hash_rows
from nightjar.features.encoder.state import FittedState, load_state
from tests.kits.feature_logs import SPEC, days, make_day, read_encoded, read_logs

DATES = days("2026-03-01", 5)
BLOOM = {"by": "bloom", "min_count": 6, "counters": 256, "hashes": 3}
MIXED = FeatureSpec.model_validate(
    SPEC.model_dump(mode="json")
    | {
        "fields": [
            {"name": "user", "oov_buckets": 3, "max_size": 4},
            {"name": "app", "column": "app.id", "min_count": 2},
            {"name": "tags", "multi_valued": True},
            {"name": "mobile", "kind": "hashed", "buckets": 3},
            {"name": "session", "retire_after_days": 2},
        ],
        "dense": [],
        "frequencies": [],
        "crosses": [
            {"name": "all", "fields": ["user", "app"], "buckets": 64},
            {"name": "exact", "fields": ["user", "tags"], "vocabulary": "exact", "retire_after_days": 1},
            {"name": "few", "fields": ["app", "user"], "vocabulary": "exact", "max_size": 9},
            {"name": "counted", "fields": ["user", "app"], "buckets": 64, "admission": {"by": "count", "min_count": 5}},
            {
                "name": "drawn",
                "fields": ["tags", "app", "mobile"],
                "buckets": 1024,
                "admission": {"by": "poisson", "probability": 0.3, "seed": 7},
            },
            {"name": "filtered", "fields": ["session", "mobile"], "buckets": 1024, "admission": BLOOM},
        ],
    }
)


def plan(logs: Path, output: Path, night: int) -> BuildPlan:
    return plan_build(
        MIXED,
        str(logs),
        str(output),
        BuildDates(train_from=DATES[night], train_to=DATES[night], history_from=DATES[0], holdout=DATES[night + 1]),
        settings=BuildSettings(min_files=2),
    )


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row's session lasts for two days, or comes on the first and the fourth day only, or is there every day."""
    root = tmp_path_factory.mktemp("logs")
    for number, day in enumerate(DATES):
        kinds = [f"s{number}", f"s{number - 1}", "always", "back" if number % 3 == 0 else "always"]
        table = make_day(day, 60)
        sessions = pa.array([kinds[i % 4] for i in range(table.num_rows)])
        (root / f"date={day}").mkdir()
        pq.write_table(table.append_column("session", sessions), root / f"date={day}" / "part-0.parquet")
    return root


@pytest.fixture(scope="module")
def nights(spark: SparkSession, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[BuiltFeatures]:
    output = tmp_path_factory.mktemp("nights")
    return [build(spark, plan(logs, output, night)) for night in (2, 3)]


def state_of(built: BuiltFeatures) -> FittedState:
    return load_state(built.state_dir, read_manifest(built.state_dir, StateManifest))


def conjunctions_by_hand(cross: Cross, table: pa.Table) -> list[list[int]]:
    """Of every row, from the hashes of its values."""
    hashes = hash_rows(FittedState(MIXED, EncoderState({}, {}), {}), table).hashes
    sides = []
    for name in cross.fields:
        column = hashes[name]
        if isinstance(column, Ragged):
            sides.append([set(part.tolist()) for part in np.split(column.values, column.offsets[1:-1])])
        else:
            sides.append([{value} for value in column.tolist()])
    return [[hash_of(*choice) for choice in product(*choices)] for choices in zip(*sides, strict=True)]


def hash_of(*parts: int) -> int:
    return int(combine([np.array([part], dtype=np.int64) for part in parts])[0])


def counts_by_hand(cross: Cross, row_hashes: list[int], conjunctions: list[list[int]]) -> Counter[int]:
    """What a day adds to the daily counts of a cross, one occurrence at a time."""
    counts: Counter[int] = Counter()
    for row, members in zip(row_hashes, conjunctions, strict=True):
        for member in members:
            if isinstance(cross.admission, AdmitByPoisson):
                draw = hash_of(member, row, cross.admission.seed) % 2**64 / 2**64
                counts[member] += draw < cross.admission.probability
            elif isinstance(cross.admission, AdmitByBloom):
                low, high = member % 2**32, member % 2**64 // 2**32 // 2 * 2 + 1
                positions = [(low + i * high) % cross.admission.counters for i in range(cross.admission.hashes)]
                # 256 counters: the leading byte of a signed int64.
                counts.update((position - 256 * (position >= 128)) << 56 for position in positions)
            else:
                counts[member] += 1
    return +counts


def test_daily_counts_and_sketches_of_conjunctions_are_those_of_a_count_by_hand(spark: SparkSession) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-(2**63), 2**63, 12).tolist()
    users, apps, mobiles = (rng.choice(values, 200).tolist() for _ in range(3))
    tags = [rng.choice(values, rng.integers(0, 4)).tolist() for _ in range(200)]
    row_hashes = rng.integers(-(2**63), 2**63, 200).tolist()
    of_day = rng.integers(100, 102, 200).tolist()
    columns = {"row:hash": row_hashes, "h:user": users, "h:app": apps, "h:mobile": mobiles, "h:session": users}
    lists = pa.array(tags, pa.list_(pa.int64()))
    roles = {"row:day": pa.array(of_day, pa.int32()), "row:label": pa.array([0.0] * 200, pa.float32())}
    rows = spark.createDataFrame(pa.table({**roles, **columns, "h:tags": lists}))
    crosses = MIXED.crosses
    keys = [counted_conjunctions(c, MIXED) for c in crosses] + [sketched_conjunctions(c, MIXED) for c in crosses]
    found: Counter[tuple[int, int, int]] = Counter()
    for row in key_counts(rows, keys).collect():
        found[row["table"], row["day"], row["key"]] += row["impressions"]
    expected: dict[tuple[int, int, int], int] = {}
    for table, cross in enumerate(crosses):
        sides = [tags if name == "tags" else [[h] for h in columns[f"h:{name}"]] for name in cross.fields]
        members = [[hash_of(*c) for c in product(*map(set, choices))] for choices in zip(*sides, strict=True)]
        for day in (100, 101):
            chosen = [n for n in range(200) if of_day[n] == day]
            of_day_members = [members[n] for n in chosen]
            counts = counts_by_hand(cross, [row_hashes[n] for n in chosen], of_day_members)
            expected |= {(table, day, key): count for key, count in counts.items()}
            pairs: Counter[int] = Counter()
            for member in (member for row in of_day_members for member in row):
                register, rest = member % SKETCH_REGISTERS, member % 2**64 // SKETCH_REGISTERS
                pairs[register * 64 + (rest & -rest).bit_length()] += 1
            expected |= {(len(crosses) + table, day, pair): count for pair, count in pairs.items()}
    assert found == expected


def files_under(directories: list[str]) -> dict[str, bytes]:
    roots = [Path(directory) for directory in directories]
    return {
        f"{root.name}/{path.relative_to(root)}": path.read_bytes()
        for root in roots
        for path in root.rglob("*")
        if path.is_file()
    }


def test_nights_one_by_one_publish_what_all_their_days_at_once_do(
    spark: SparkSession, logs: Path, nights: list[BuiltFeatures], tmp_path: Path
) -> None:
    at_once = build(spark, plan(logs, tmp_path, 3))
    assert files_under(at_once.directories()) == files_under(nights[-1].directories())


def test_a_later_night_takes_no_id_and_no_admission_back_but_those_of_the_retired(nights: list[BuiltFeatures]) -> None:
    before, after = (state_of(built).encoder for built in nights)
    pairs = [(before.vocabularies[name], vocabulary) for name, vocabulary in after.vocabularies.items()]
    pairs += [(before.crosses[name], after.crosses[name]) for name in ("exact", "few")]
    for old, new in pairs:
        assert isinstance(old, Vocabulary)
        assert isinstance(new, Vocabulary)
        now = dict(zip(new.hashes.tolist(), new.ids.tolist(), strict=True))
        then = dict(zip(old.hashes.tolist(), old.ids.tolist(), strict=True))
        assert {h: now[h] for h in then.keys() & now.keys()} == {h: then[h] for h in then.keys() & now.keys()}
        assert new.size >= old.size
        assert all(number >= old.size or h in then or old.retired for h, number in now.items())
        assert new.retired or then.keys() <= now.keys()
    names = hash_strings(["always", "back", "s0", "s1", "s2", "s3"])
    then, now = (state.vocabularies["session"].lookup(names) for state in (before, after))
    assert (then > OOV_ID).tolist() == [True, False, True, True, True, False]
    assert (now > OOV_ID).tolist() == [True, True, False, True, True, True]
    assert now[1] < before.vocabularies["session"].size <= now[5], "what comes back has its old id"
    for name in ("counted", "drawn"):
        old, new = (state.crosses[name] for state in (before, after))
        assert isinstance(old, Listed)
        assert isinstance(new, Listed)
        assert set(old.hashes.tolist()) < set(new.hashes.tolist())
    old, new = (state.crosses["filtered"] for state in (before, after))
    assert isinstance(old, CountingBloomFilter)
    assert isinstance(new, CountingBloomFilter)
    assert np.all(new.reached >= old.reached)


def test_a_state_and_its_figures_are_those_of_the_rows_by_hand(nights: list[BuiltFeatures], logs: Path) -> None:
    built = nights[-1]
    state, manifest = state_of(built).encoder, read_manifest(built.state_dir, StateManifest)
    rows = pa.concat_tables(read_logs(logs, DATES[:4]).values())
    seen = {cross.name: conjunctions_by_hand(cross, rows) for cross in MIXED.crosses}
    counts = {name: Counter(member for row in members for member in row) for name, members in seen.items()}

    frequent = {member for member, n in counts["counted"].items() if n >= 5}
    assert isinstance(state.crosses["counted"], Listed)
    assert state.crosses["counted"].hashes.tolist() == sorted(frequent)
    figures = manifest.cross_figures["counted"]
    occupied = len({member % 64 for member in frequent})
    assert (figures.distinct, figures.exact, figures.admitted) == (len(counts["counted"]), True, len(frequent))
    assert figures.collision_rate == pytest.approx(1 - occupied / len(frequent), abs=1e-12)
    assert figures.expected_collision_rate == expected_collision_rate(len(frequent), 64)

    admits = state.crosses["filtered"].admits(np.array(list(counts["filtered"])))
    assert all(n < 6 or admitted for n, admitted in zip(counts["filtered"].values(), admits, strict=True))
    assert 0 < np.mean(admits) < 1

    last_day = {m for row in conjunctions_by_hand(MIXED.cross("exact"), rows.slice(180)) for m in row}
    assert set(state.crosses["exact"].hashes.tolist()) == last_day
    assert manifest.cross_sizes == {"exact": 2 + len(counts["exact"]), "few": 2 + 9}
    assert manifest.cross_figures["few"].admitted == 9
    assert manifest.cross_figures["few"].distinct == len(counts["few"])
    for name in ("all", "drawn", "filtered"):
        assert manifest.cross_figures[name].distinct == pytest.approx(len(counts[name]), rel=0.1)
        assert not manifest.cross_figures[name].exact

    users = Counter(user for user in rows["user"].to_pylist() if user is not None)
    assert manifest.vocabulary_sizes["user"] == 1 + 3 + 4 < 1 + 3 + len(users)
    assert manifest.vocabulary_sizes["mobile"] == 1 + 3
    assert (manifest.field_figures["user"].distinct, manifest.field_figures["user"].known) == (len(users), 4)


def test_the_coverage_of_a_data_set_is_that_of_its_rows_and_serving_encodes_them_alike(
    nights: list[BuiltFeatures], logs: Path
) -> None:
    state, directory = state_of(nights[-1]), nights[-1].holdout_dir
    assert directory
    (raw,) = read_logs(logs, [DATES[4]]).values()
    rows = read_encoded(directory)
    for name, column in Encoder(MIXED, state.encoder).encode(hash_rows(state, raw)).items():
        parts = np.split(column.values, column.offsets[1:-1]) if isinstance(column, Ragged) else column
        assert [part.tolist() for part in parts] == [rows[truth][name] for truth in raw["row_id"].to_pylist()]
    coverage = read_manifest(directory, DatasetManifest).coverage
    known = {name: set(v.hashes.tolist()) for name, v in state.encoder.vocabularies.items()}
    hashes = hash_rows(state, raw).hashes
    expected = {
        "f_user": np.mean([h in known["user"] for h in hashes["user"]]),
        "f_session": np.mean([h in known["session"] for h in hashes["session"]]),
        "f_mobile": np.mean([value is not None for value in raw["mobile"].to_pylist()]),
        "x_all": 1.0,
    }
    for name in ("counted", "drawn", "filtered"):
        fitted = state.encoder.crosses[name]
        members = conjunctions_by_hand(MIXED.cross(name), raw)
        expected[f"x_{name}"] = np.mean([bool(row and fitted.admits(np.array(row)).any()) for row in members])
    exact = set(state.encoder.crosses["exact"].hashes.tolist())
    members = conjunctions_by_hand(MIXED.cross("exact"), raw)
    expected["x_exact"] = np.mean([not exact.isdisjoint(row) for row in members])
    assert {name: coverage[name] for name in expected} == pytest.approx(expected)
    assert 0 < coverage["x_counted"] < 1
    assert 0 < coverage["x_exact"] < 1
