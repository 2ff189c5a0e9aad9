"""The colours of the pages, by name, in light and in dark.

Plots are drawn in the light ones. The pages' style sheet (templates/head.html) exchanges each of them for its variable,
which holds the dark one where the reader prefers dark.
"""

from __future__ import annotations

SERIES = 7
"""How many models have a colour of their own; more begin again."""

LIGHT = {
    "page": "#fcfcfb",
    "panel": "#ffffff",
    "ink": "#1a1c1f",
    "muted": "#6b7075",
    "grid": "#e6e7e9",
    "best": "#0b6b3a",
    "bad": "#a3211b",
    "series-0": "#2a5fb0",
    "series-1": "#c2491d",
    "series-2": "#1d8a6b",
    "series-3": "#8a4fb5",
    "series-4": "#9a7400",
    "series-5": "#b5306f",
    "series-6": "#4d6470",
}
DARK = {
    "page": "#15171a",
    "panel": "#1c1f23",
    "ink": "#e8e9eb",
    "muted": "#9aa0a6",
    "grid": "#33373c",
    "best": "#6fd39a",
    "bad": "#ff9a90",
    "series-0": "#7fb0f5",
    "series-1": "#f3976c",
    "series-2": "#5fcfae",
    "series-3": "#c9a0ee",
    "series-4": "#dcb94a",
    "series-5": "#f08fba",
    "series-6": "#a9c0cc",
}
