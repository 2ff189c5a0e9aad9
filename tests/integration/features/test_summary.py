"""A day's summary against loops over the raw rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from pyspark.sql import SparkSession

from nightjar.features.checks import summarize
from nightjar.features.checks.profile import bin_edges
from nightjar.features.checks.summarize import Summary
from nightjar.features.checks.tally import Tally
from nightjar.features.contract.manifests import StateManifest
from nightjar.features.contract.publishing import read_manifest
from nightjar.features.contract.spec import CategoricalField
from nightjar.features.contract.summary import SummaryManifest
from nightjar.features.dataset.plan import BuildDates, plan_build
from nightjar.features.encoder.encoder import FIRST_ID
from nightjar.features.encoder.state import load_state
from nightjar.jobs.report_features import main
from tests.kits.feature_logs import SPEC, days, make_day, write_day

DATES = days("2026-03-01", 4)
REFERENCE = 2
LARGEST = 1.7976931348623157e308
SEEN = DATES[-REFERENCE - 1 :]
SMALL = SPEC.model_copy(
    update={
        "fields": (
            *SPEC.fields[:3],
            CategoricalField(name="mobile", kind="hashed", buckets=8),
            CategoricalField(name="phone", column="mobile"),
        ),
        "dense": SPEC.dense[:1],
        "crosses": (),
        "frequencies": (SPEC.frequencies[0].model_copy(update={"windows": ("1d", "all")}),),
    }
)


def table_of(day: str) -> pa.Table:
    """The log of a day. On those that are looked at, one of the two values that `mobile` once had is not shown."""
    table = make_day(day, 60)
    if day not in SEEN:
        return table
    at = table.column_names.index("mobile")
    return table.set_column(at, "mobile", pc.or_(table["mobile"], pa.scalar(True)))


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[SummaryManifest, Path]:
    """The last of four days, of which two are looked at beside it; a field keeps two values. And the state."""
    place = tmp_path_factory.mktemp("summary")
    logs = place / "logs"
    for day in DATES:
        write_day(logs, day, table_of(day))
    plan = plan_build(
        SMALL, str(logs), str(place / "out"), BuildDates(train_from=DATES[0], train_to=DATES[2], holdout=DATES[3])
    )
    summary = Summary(plan, REFERENCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarize, "TOP", 2)
        summary.run(lambda: spark)
    return read_manifest(summary.directory, SummaryManifest), Path(plan.built.state_dir)


def raw(date: str) -> list[dict[str, Any]]:
    return table_of(date).to_pylist()


def held(row: dict[str, Any], column: str) -> set[str]:
    """The values of a row, without missing ones, as strings."""
    value = row[column]
    values = value if isinstance(value, list) else [value]
    return {str(v).lower() if isinstance(v, bool) else str(v) for v in values if v is not None}


def test_days_rows_and_positives_are_those_of_the_logs(made: tuple[SummaryManifest, Path]) -> None:
    summary, _ = made
    assert summary.days == tuple(SEEN)
    assert summary.rows == (60, 60, 60)
    assert summary.positives == tuple(sum(row["clicked"] for row in raw(day)) for day in SEEN)


def test_fields_are_counted_by_value_and_day(made: tuple[SummaryManifest, Path]) -> None:
    summary, state = made
    vocabularies = load_state(str(state), read_manifest(str(state), StateManifest)).encoder.vocabularies
    everything = [row for day in DATES[:3] for row in raw(day)]
    for field in SMALL.fields:
        found = summary.fields[field.name]
        shown = [Counter(v for row in raw(day) for v in held(row, field.source)) for day in SEEN]
        clicked = Counter(v for row in raw(SEEN[-1]) if row["clicked"] for v in held(row, field.source))
        assert found.values == tuple(counts.total() for counts in shown)
        assert found.missing == tuple(sum(not held(row, field.source) for row in raw(day)) for day in SEEN)
        assert found.distinct == tuple(map(len, shown))
        hashed = field.kind == "hashed"
        assert found.ids == (None if hashed else vocabularies[field.name].size - FIRST_ID)
        history = Counter(v for row in everything for v in held(row, field.source))
        with_id = {*history, *shown[-1]} if hashed else {value for value, n in history.items() if n >= field.min_count}
        assert found.known == sum(n for value, n in shown[-1].items() if value in with_id)
        before = shown[0] + shown[1]
        weight = {v: shown[-1][v] / shown[-1].total() + before[v] / before.total() for v in before | shown[-1]}
        assert len(found.top) == min(2, len(weight))
        assert {v.value for v in found.top} == set(sorted(weight, key=lambda v: -weight[v])[:2])
        for value in found.top:
            assert value.impressions == tuple(counts[value.value] for counts in shown)
            assert value.positives == clicked[value.value]
            assert value.known == (value.value in with_id)
        top = {value.value for value in found.top}
        others = [sum(n for value, n in counts.items() if value not in top) for counts in (*shown, clicked)]
        assert (*found.rest.impressions, found.rest.positives) == tuple(others)


def test_ranges_hold_every_number_once(made: tuple[SummaryManifest, Path]) -> None:
    found = made[0].dense["price"]
    numbers = [[row for row in raw(day) if row["price"] is not None and row["price"] == row["price"]] for day in SEEN]
    assert found.values == tuple(map(len, numbers))
    assert found.missing == tuple(60 - len(rows) for rows in numbers)
    assert 1 < len(found.ranges) <= summarize.RANGES
    assert all(a.high <= b.low for a, b in zip(found.ranges, found.ranges[1:], strict=False))
    for one in found.ranges:
        inside = [
            [row for row in rows if one.low <= max(min(row["price"], LARGEST), -LARGEST) <= one.high]
            for rows in numbers
        ]
        assert one.impressions == tuple(map(len, inside))
        assert one.positives == sum(row["clicked"] for row in inside[-1])


def test_rates_of_keys_are_those_of_the_days_before(made: tuple[SummaryManifest, Path]) -> None:
    (frequency,) = SMALL.frequencies

    def rows_by_key(dates: Iterable[str]) -> dict[str | None, list[int]]:
        keys: dict[str | None, list[int]] = {}
        for row in (row for day in dates for row in raw(day)):
            keys.setdefault(row["app.id"], []).append(row["clicked"])
        return keys

    today = rows_by_key(DATES[3:])
    for found, first in zip(made[0].frequencies, (2, 0), strict=True):
        before = rows_by_key(DATES[first:3])
        assert found.keys == len(today)
        by_step: dict[int, list[float]] = {}
        by_digits: dict[int, list[int]] = {}
        for key, labels in today.items():
            known = before.get(key, [])
            rate = (sum(known) + frequency.prior * frequency.strength) / (len(known) + frequency.strength)
            step = by_step.setdefault(math.floor(math.log(rate / (1 - rate)) / 0.25), [0, 0, 0.0])
            digits = by_digits.setdefault(len(known).bit_length(), [0, 0])
            for total in (step, digits):
                total[0] += len(labels)
                total[1] += sum(labels)
            step[2] += rate * len(labels)
        assert [(r.impressions, r.positives) for r in found.rates] == [tuple(by_step[s][:2]) for s in sorted(by_step)]
        np.testing.assert_allclose(
            [r.expected for r in found.rates], [by_step[s][2] for s in sorted(by_step)], atol=1e-4
        )
        assert [(s.least, s.impressions, s.positives) for s in found.seen] == [
            (2**digits // 2, *by_digits[digits]) for digits in sorted(by_digits)
        ]


def test_the_job_draws_the_page_of_what_is_published(
    made: tuple[SummaryManifest, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    summary, state = made
    place = state.parents[2]
    config = {"features": SMALL.model_dump(mode="json"), "validation": {"reference_days": REFERENCE}}
    (place / "conf.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(place / "conf.yaml"), "--logs", str(place / "logs"), "--output", str(place / "out")]
    arguments += ["--train-from", DATES[0], "--train-to", DATES[2]]
    assert main(arguments) == 2
    assert "--holdout is missing" in capsys.readouterr().err
    assert main([*arguments, "--holdout", DATES[3]]) == 0
    page = Path(capsys.readouterr().out.removeprefix("page ").strip()).read_text()
    assert f"Features of {DATES[3]}" in page
    assert all(f'id="field-{name}"' in page and f"{found.ids or 8:,}" in page for name, found in summary.fields.items())
    assert [path.name for path in (place / "out").iterdir() if path.name in ("datasets", "candidates")] == []
    assert len(list((place / "out" / "summaries").iterdir())) == 1


def test_a_head_cut_twice_is_the_head_of_all() -> None:
    """Tasks cut what they hold, and the driver what the tasks send."""
    random = np.random.default_rng(3)
    counts = random.zipf(1.5, (50, 4)) % 100
    known, sizes = random.random(50) < 0.5, counts[:, :3].sum(axis=0)

    def tally(rows: slice) -> Tally:
        return Tally(np.arange(50)[rows], known[rows], counts[rows], np.zeros((2, 4), np.int64))

    whole = tally(slice(None)).head(sizes, 7)
    parts = (tally(slice(30, 50)).head(sizes, 7) + tally(slice(0, 30)).head(sizes, 7)).head(sizes, 7)
    for name in ("values", "known", "counts", "rest"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    shares = counts[:, 2] / sizes[2] + counts[:, :2].sum(axis=1) / sizes[:2].sum()
    np.testing.assert_array_equal(np.sort(shares[whole.values]), np.sort(shares)[-7:])
    assert (whole.counts.sum(axis=0) + whole.rest.sum(axis=0) == counts.sum(axis=0)).all()


def test_edges_enclose_what_falls_into_a_bin() -> None:
    """The bin of a number is written out here as features.checks.profile states it."""
    for x in (0.0, 1e-9, 2.0**-20, 0.3, 1.0, 1950.0, 1e300, 1.7976931348623157e308):
        number = 0 if x < 2.0**-20 else math.floor((math.log2(x) + 20) * 4096 + 0.5) + 1
        low, high = bin_edges(number)
        assert low <= x <= high
        assert low <= 0.0 if number == 0 else high / low < 1.0002
        assert bin_edges(-number) == (-high, -low)


def test_wide_bins_enclose_the_narrow_ones_that_they_are_made_of() -> None:
    for number in (1, 127, 128, 129, 256, 4096 * 30):
        wide = -(-number // 128)
        (low, high), (narrow_low, narrow_high) = summarize._edges(wide, 128), bin_edges(number)
        assert low <= narrow_low < narrow_high <= high
        assert summarize._edges(-wide, 128) == (-high, -low)
        assert summarize._edges(number, 1) == bin_edges(number)
    assert summarize._edges(128, 128)[1] == summarize._edges(129, 128)[0]
    assert summarize._edges(0, 128) == bin_edges(0)


def test_an_empty_column_has_no_ranges() -> None:
    assert summarize._ranges(Tally.empty(3)) == ()
