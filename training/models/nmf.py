"""Non-negative matrix factorisation: `mf` whose factors are not negative, which their table sees to (Lin 2007)."""

from __future__ import annotations

from dataclasses import replace

from nightjar.training.models.mf import MODEL as MF

MODEL = replace(MF, name="nmf", nonnegative=True)
