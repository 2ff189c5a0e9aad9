"""The files inside published directories: the one place that knows what they are called."""

from __future__ import annotations

GOLDEN_RAW = "golden/raw.parquet"
GOLDEN_ENCODED = "golden/encoded.parquet"
