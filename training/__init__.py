"""Data set to candidate model: plan, loader, sharded tables, models, the training loop."""

from __future__ import annotations

import os

# An idle OpenMP thread spins before it sleeps, for milliseconds if nobody says otherwise. On a busy machine it spins
# away the time slice in which the thread that it waits for would run (benchmarks/train/busy.py). OpenMP reads this
# once, when torch is loaded, which only this package does. What the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
