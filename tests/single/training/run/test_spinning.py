"""OpenMP's threads spin for a moment only, whoever starts the training; what the user has set stays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest


def spins(environment: Mapping[str, str]) -> str:
    """What the OpenMP library that torch has loaded says of itself."""
    inherited = {name: v for name, v in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    ended = subprocess.run(
        [sys.executable, "-c", "import nightjar.training.run.worker"],
        env={**inherited, **environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    [count] = set(re.findall(r"GOMP_SPINCOUNT = '(\w+)'", ended.stderr))
    return str(count)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_how_long_idle_threads_spin(environment: Mapping[str, str], expected: str) -> None:
    assert spins(environment) == expected
