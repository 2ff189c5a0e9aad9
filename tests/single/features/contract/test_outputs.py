"""Names on disk: what is composed is parsed again, and foreign names are let be."""

from __future__ import annotations

from datetime import date

import pytest

from nightjar.features.contract.outputs import (
    DailyName,
    DatasetName,
    DecisionName,
    NightName,
    SeedName,
    ThroughName,
    VersionName,
    date_folder,
    date_of_folder,
    names_of_day,
    night_of,
    night_that_needs,
    number_of,
    numbered_file,
)

DAY, LATER, KEY = "2026-01-05", "2026-01-07", "0123456789ab"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (DailyName(DAY, KEY), "date=2026-01-05-0123456789ab"),
        (ThroughName(DAY, KEY), "through=2026-01-05-0123456789ab"),
        (DatasetName("train", DAY, LATER, KEY), "train-2026-01-05..2026-01-07-0123456789ab"),
        (DatasetName("holdout", LATER, LATER, KEY), "holdout-2026-01-07-0123456789ab"),
        (DatasetName("scored", DAY, DAY, KEY), "scored-2026-01-05..2026-01-05-0123456789ab"),
        (VersionName(DAY, "wide_deep", KEY), "2026-01-05-wide_deep-0123456789ab"),
        (NightName(DAY, KEY), "2026-01-05-0123456789ab"),
        (DecisionName(f"{DAY}-lr-{KEY}", KEY), "2026-01-05-lr-0123456789ab-0123456789ab"),
        (SeedName("deepfm", 2, KEY), "deepfm-2-0123456789ab"),
    ],
)
def test_a_name_reads_as_it_always_did(name: object, text: str) -> None:
    assert str(name) == text


@pytest.mark.parametrize(
    "name",
    [
        ThroughName(DAY, KEY),
        DatasetName("train", DAY, LATER, KEY),
        DatasetName("holdout", LATER, LATER, KEY),
        DatasetName("scored", DAY, LATER, KEY),
        VersionName(DAY, "wide_deep", KEY),
    ],
)
def test_a_name_that_was_composed_is_parsed_again(name: ThroughName | DatasetName | VersionName) -> None:
    assert type(name).parse(str(name)) == name


@pytest.mark.parametrize("foreign", ["", "lost+found", "train-2026-01-05", "history", "2026-01-05", "through=now-aa"])
def test_a_foreign_name_is_none_of_them(foreign: str) -> None:
    assert ThroughName.parse(foreign) is DatasetName.parse(foreign) is VersionName.parse(foreign) is None
    assert night_that_needs(foreign) is night_of(foreign) is None


@pytest.mark.parametrize(
    ("name", "night"),
    [
        ("train-2026-01-01..2026-01-04-aa", date(2026, 1, 5)),
        ("through=2026-01-04-aa", date(2026, 1, 5)),
        ("holdout-2026-01-05-aa", date(2026, 1, 5)),
        ("scored-2026-01-05..2026-01-05-aa", date(2026, 1, 5)),
    ],
)
def test_what_is_learned_from_ends_a_day_before_its_night(name: str, night: date) -> None:
    assert night_that_needs(name) == night


def test_days_are_found_by_the_beginning_of_a_name() -> None:
    assert night_of(f"{DAY}-wide_deep-{KEY}") == night_of(f"{DAY}-{KEY}") == DAY
    assert date_of_folder(date_folder(DAY)) == DAY
    assert date_of_folder(f"{date_folder(DAY)}-{KEY}") is None
    assert names_of_day([f"date={DAY}-a", f"date={LATER}-a", f"date={DAY}"], DAY) == [f"date={DAY}-a"]


def test_numbered_files_sort_as_their_numbers() -> None:
    assert numbered_file(7) == "000007.json"
    assert number_of(numbered_file(1234)) == 1234
