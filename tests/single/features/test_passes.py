"""What a pass over a log has seen is held against what was counted: rows, positives, and hashes that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.dataset.write import _require_written
from nightjar.features.input.folders import LogPartition, check_logs
from nightjar.features.input.passes import Pass, RowCount, require_unchanged
from tests.kits.feature_logs import SPEC
from tests.kits.small_night import CONFIG, write_day

DAYS = ("2026-01-01", "2026-01-02")
COUNTED = {DAYS[0]: RowCount(100, 10), DAYS[1]: RowCount(50, 5)}


class Seen:
    """What Spark has counted of a part of the rows."""

    def __init__(self, rows: int | None, positives: int | None, hashes: str | None = None) -> None:
        self.get = {"rows": rows, "positives": positives, "hashes": hashes}


class PassOf(Pass):
    """A pass whose log, looked at again, has changed on these days."""

    changed: Sequence[str] = ()

    def _changed_days(self) -> list[str]:
        return list(self.changed)


def passed(*seen: Seen, changed: Sequence[str] = (), hashes: tuple[int | None, ...] = (None, None)) -> PassOf:
    days = [LogPartition(d, "", None, (), "print", hashes=h) for d, h in zip(DAYS, hashes, strict=True)]
    of_log: Any = PassOf(None, SPEC, days, COUNTED, list(seen))  # type: ignore[arg-type]
    of_log.changed = changed
    found: PassOf = of_log
    return found


@pytest.mark.parametrize(
    "seen",
    [
        (Seen(150, 15),),
        (Seen(100, 10), Seen(50, 5)),
        (Seen(150, 15), Seen(None, None)),
        (),
    ],
    ids=["one part", "two parts", "a part without rows", "no table of this kind"],
)
def test_all_rows_once_are_right(seen: tuple[Seen, ...]) -> None:
    for known_otherwise in (False, True):
        passed(*seen).require_all("a test has read", known_otherwise=known_otherwise)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((Seen(149, 15),), "149 rows with 15 positives"),
        ((Seen(151, 15),), "151 rows with 15 positives"),
        ((Seen(150, 14),), "150 rows with 14 positives"),
        ((Seen(100, 10), Seen(50, 6)), "150 rows with 16 positives"),
        ((Seen(None, None),), "0 rows with 0 positives"),
    ],
)
def test_other_rows_are_told_in_numbers(seen: tuple[Seen, ...], said: str) -> None:
    with pytest.raises(DataError) as error:
        passed(*seen, changed=["  date 2026-01-01: there were 100; there are 99"]).require_all("a test has read")
    assert f"a test has read {said}, not 150 rows with 15 positives" in str(error.value)
    assert "\n  date 2026-01-01: there were 100; there are 99\n" in str(error.value)


@pytest.mark.parametrize(
    ("of_days", "seen", "fine"),
    [
        ((7, 8), ("15",), True),
        ((7, 8), ("16",), False),
        ((7, 8), ("7", "8"), True),
        ((7, 8), ("7", "9"), False),
        ((7, None), ("16",), True),
        ((0, 0), ("1",), False),
        ((7, 8), (None,), True),
    ],
)
def test_as_many_rows_with_other_values_are_noticed_where_all_days_know_theirs(
    of_days: tuple[int | None, ...], seen: tuple[str | None, ...], *, fine: bool
) -> None:
    parts = [Seen(100 if n == 0 else 50, 10 if n == 0 else 5, text) for n, text in enumerate(seen)]
    if len(parts) == 1:
        parts[0].get |= {"rows": 150, "positives": 15}
    looked = passed(*parts, hashes=of_days)
    if fine:
        looked.require_all("a test has read")
    else:
        with pytest.raises(DataError, match="the log has changed"):
            looked.require_all("a test has read")


def test_tasks_that_ran_twice_are_no_change_where_the_rows_are_known_otherwise() -> None:
    passed(Seen(151, 16)).require_all("a test has read", known_otherwise=True)
    for seen, changed, known_otherwise in (
        (Seen(151, 16), (), False),
        (Seen(151, 16), ("  date",), True),
        (Seen(149, 15), (), True),
        (Seen(150, 16), (), True),
    ):
        with pytest.raises(DataError):
            passed(seen, changed=changed).require_all("a test has read", known_otherwise=known_otherwise)


@pytest.mark.parametrize(
    ("rows", "positives", "sampled", "fine"),
    [
        (150, 15, False, True),
        (149, 15, False, False),
        (151, 15, False, False),
        (150, 14, False, False),
        (15, 15, True, True),
        (150, 15, True, True),
        (151, 15, True, False),
        (100, 14, True, False),
        (100, 16, True, False),
    ],
)
def test_what_is_written_is_what_was_counted_and_under_sampling_every_positive(
    rows: int, positives: int, *, sampled: bool, fine: bool
) -> None:
    if fine:
        _require_written(RowCount(rows, positives), COUNTED.values(), sampled)
    else:
        with pytest.raises(DataError, match="of 150 rows with 15 positives that were counted"):
            _require_written(RowCount(rows, positives), COUNTED.values(), sampled)


def test_files_that_were_written_again_are_named_whichever_way_their_fingerprint_moved(tmp_path: Path) -> None:
    """As many rows, in files of the same names; a day without a folder of its own has none to look at."""
    spec = FeatureSpec.model_validate(CONFIG["features"])
    for day in (1, 2, 3, 4):
        write_day(tmp_path, day, rows=50)
    dates = [f"2026-01-0{day}" for day in (1, 2, 3, 4)]
    days = check_logs(str(tmp_path), dates, spec)
    require_unchanged(days)
    for day in (1, 2, 3):
        write_day(tmp_path, day, rows=50, label=0)
    with pytest.raises(DataError) as error:
        require_unchanged(days)
    named = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert named == [f"date {day}: {tmp_path}/date={day}" for day in dates[:3]]
    require_unchanged([replace(day, is_empty=True) for day in days])
    require_unchanged([replace(day, timestamp="at") for day in days])
