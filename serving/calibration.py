"""A model's calibration: the head's logits to those whose probabilities are served, by strictly increasing curves.

Ranks stay: a curve never puts a lower logit above a higher one, and no two that differ together. With a curve for each
value of a field that holds among the rows of one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Self

import numpy as np
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from nightjar.features.contract.errors import DataError
from nightjar.features.contract.strict import Strict, explain
from nightjar.features.encoder.encoder import ColumnValues


class Curve(Strict):
    """Straight between its points, and of one slope before the first and after the last."""

    x: tuple[FiniteFloat, ...]
    y: tuple[FiniteFloat, ...]
    slope: FiniteFloat = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.x or len(self.x) != len(self.y):
            raise ValueError(f"a curve has one x and one y a point; got {len(self.x)} and {len(self.y)}")
        if not (np.all(np.diff(self.x) > 0) and np.all(np.diff(self.y) > 0)):
            raise ValueError("a curve's x and y must ascend")
        return self

    def __call__(self, logit: np.ndarray) -> np.ndarray:
        """float64, one for each logit."""
        x, y, slopes, most = self._pieces
        piece = np.searchsorted(x, logit, side="right")
        begin = np.maximum(piece - 1, 0)
        # Rounding must not lift the end of a piece above the next one's beginning.
        return np.minimum(y[begin] + slopes[piece] * (logit - x[begin]), most[piece])

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Points, and of the pieces before, between and after them the slope and the largest value."""
        x, y = np.array(self.x), np.array(self.y)
        slopes = np.concatenate([[self.slope], np.diff(y) / np.diff(x), [self.slope]])
        return x, y, slopes, np.concatenate([[np.inf], y[1:], [np.inf]])


IDENTITY = Curve(x=(0.0,), y=(0.0,))


class Calibration(Strict):
    """What `scoring/calibration.json` holds.

    curve: of every row; but of rows with one of the ids of `curves` in the encoded column `column`, that one.
    """

    curve: Curve
    column: str | None = None
    curves: Mapping[int, Curve] = {}

    def applied(self, logit: np.ndarray, columns: Mapping[str, ColumnValues]) -> np.ndarray:
        """float64[B] of the head's logits, float64[B].

        columns: the encoded rows; a column of one row stands for all of them.
        """
        calibrated = self.curve(logit)
        if self.column is not None:
            ids = np.broadcast_to(np.asarray(columns[self.column]), logit.shape)
            for id_ in set(np.unique(ids).tolist()) & self.curves.keys():
                rows = ids == id_
                calibrated[rows] = self.curves[id_](logit[rows])
        return calibrated


def read_calibration(content: bytes, url: str) -> Calibration:
    """What a file holds. Raises DataError if it holds no calibration. url: what the error calls it."""
    try:
        return Calibration.model_validate_json(content)
    except ValidationError as error:
        raise DataError(explain(error, url)) from error
