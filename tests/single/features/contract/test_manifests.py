"""What a manifest says in words is read back as what it means."""

from __future__ import annotations

import pytest

from nightjar.features.contract.manifests import Lineage, NightManifest
from nightjar.features.contract.records import NightStart


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (NightStart(parent="2026-01-04-wide_deep-0123456789ab"), "warm: 2026-01-04-wide_deep-0123456789ab"),
        (NightStart(reason="there is no earlier champion"), "cold: there is no earlier champion"),
        (NightStart(reason="a reason: with a colon"), "cold: a reason: with a colon"),
    ],
)
def test_the_start_of_a_night_is_read_from_its_record(start: NightStart, text: str) -> None:
    assert str(start) == text
    assert start.how == text[:4]
    record = NightManifest(
        files=(),
        date="2026-01-05",
        version="v",
        verdict="published",
        ingredients={"start.reason": text},
        directories={},
    )
    assert record.start == start
    assert record.model_copy(update={"ingredients": {}}).start is None


def test_a_lineage_holds_what_is_known_and_what_a_user_adds() -> None:
    known = {"date": "2026-01-05", "parent": None, "logs": {"2026-01-04": "abc"}, "ticket": [7]}
    lineage = Lineage.model_validate(known)
    assert lineage.model_dump(mode="json") == known
    assert Lineage.model_validate_json(lineage.model_dump_json()) == lineage
    assert lineage.seed is None
