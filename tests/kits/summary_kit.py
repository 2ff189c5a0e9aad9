"""A day's summary written by hand."""

from __future__ import annotations

from typing import Any

from nightjar.features.contract.spec import FeatureSpec
from nightjar.features.contract.summary import SummaryManifest

SPEC = FeatureSpec.model_validate(
    {
        "name": "tiny",
        "label": "clicked",
        "timestamp": "time",
        "fields": [{"name": "item", "min_count": 2}, {"name": "tags", "multi_valued": True}],
        "dense": [{"name": "price"}],
        "crosses": [{"name": "item_tags", "fields": ["item", "tags"], "buckets": 64}],
        "frequencies": [{"name": "item_rate", "keys": ["item"], "windows": ["7d"], "prior": 0.1}],
    }
)


def make_summary(**changes: Any) -> SummaryManifest:
    """Two days of 100 and 200 rows, 10 and 40 of them positive. In the second, 20 rows have no item and 30 no price."""
    item = {
        "values": (100, 180),
        "missing": (0, 20),
        "distinct": (3, 5),
        "ids": 3,
        "known": 150,
        "top": [
            {"value": "<b>&\x00\u202e", "known": True, "impressions": (60, 120), "positives": 12},
            {"value": "", "known": False, "impressions": (10, 30), "positives": 18},
        ],
        "rest": {"impressions": (30, 30), "positives": 6},
    }
    tags = item | {"values": (150, 300), "missing": (0, 0), "known": 300, "top": item["top"][:1]}
    price = {
        "values": (100, 170),
        "missing": (0, 30),
        "ranges": [
            {"low": -0.0, "high": 1.5, "impressions": (50, 100), "positives": 10},
            {"low": 1.5, "high": 123456.0, "impressions": (50, 70), "positives": 30},
        ],
    }
    rates = {
        "frequency": "item_rate",
        "window": "7d",
        "keys": 5,
        "rates": [
            {"impressions": 50, "positives": 5, "expected": 4.0},
            {"impressions": 150, "positives": 35, "expected": 30},
        ],
        "seen": [{"least": 0, "impressions": 50, "positives": 5}, {"least": 4, "impressions": 150, "positives": 35}],
    }
    document = {
        "files": (),
        "date": "2026-01-02",
        "days": ("2026-01-01", "2026-01-02"),
        "rows": (100, 200),
        "positives": (10, 40),
        "state": "digest",
        "spec": SPEC.model_dump(mode="json"),
        "fields": {"item": item, "tags": tags},
        "dense": {"price": price},
        "frequencies": [rates],
        "field_figures": {"item": {"distinct": 9, "known": 3, "retired": 2}},
        "cross_figures": {},
    }
    return SummaryManifest.model_validate(document | changes)
