"""How much features and pairs of them tell of the label: an additive logistic model of the sample's older rows, judged
on its newest rows.

A pair is measured by what it adds to all single features together (Lou et al. 2013, section 4, do so for GA2M): a pair
of two features that are each good alone adds nothing by that.

Shapes: R rows; V values, of which a list gives a row several.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nightjar.features.contract.metrics.registry import cross_entropy
from nightjar.features.contract.metrics.sums import ordered_pairs
from nightjar.jobs.initialise.columns import LoggedColumn

# Rows that a value's weight is held to zero by, about: the ridge of a Newton step is so many rows' curvature.
_RIDGE_ROWS = 20.0
_ROUNDS = 3
_BINS = 50


@dataclass(frozen=True, eq=False)
class Coded:
    """A feature as codes. row_V: the row of each value, ascending; code_V: in [0, codes).

    is_list: a row may have several values or none; else it has one.
    """

    row_V: np.ndarray
    code_V: np.ndarray
    codes: int
    is_list: bool = False


@dataclass(frozen=True)
class Gain:
    """What a feature takes off the log loss of the newest rows, in nats a row, and its standard error."""

    mean: float
    error: float

    @property
    def is_certain(self) -> bool:
        """True if chance is an unlikely reason: three standard errors."""
        return self.mean > 3.0 * self.error


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The rows that things are measured by. label_R: 0 or 1; newest_R: those that judge, the last quarter by time."""

    label_R: np.ndarray
    newest_R: np.ndarray

    @property
    def base_rate(self) -> float:
        """Mean label of all rows."""
        return float(self.label_R.mean())


def coded(column: LoggedColumn) -> Coded:
    """A column by its values; of a number with many of them, by fifty ranges with as many rows each."""
    if column.number_R is not None and column.distinct > _BINS * 4:
        return binned(column.number_R)
    return by_value(column)


def by_value(column: LoggedColumn) -> Coded:
    """A column by its values, however many there are."""
    return Coded(column.row_V, column.code_V, column.codes, column.kind == "list")


def binned(number_R: np.ndarray) -> Coded:
    """Numbers by fifty ranges with as many rows each, as far as ties allow; NaN is a range of its own."""
    known = number_R[~np.isnan(number_R)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower")) if len(known) else known
    code_R = np.where(np.isnan(number_R), 0, 1 + np.searchsorted(edges, number_R, side="left"))
    return Coded(np.arange(len(number_R)), code_R, len(edges) + 2)


def pair(a: Coded, b: Coded) -> Coded:
    """The conjunctions of two features, of which one at most is a list. Only those that there are have a code."""
    if b.is_list:
        a, b = b, a
    found, code_V = np.unique(a.code_V * b.codes + b.code_V[a.row_V], return_inverse=True)
    return Coded(a.row_V, code_V, len(found), a.is_list)


def auc(label_R: np.ndarray, score_R: np.ndarray) -> float:
    """Area under the ROC curve; 0.5 of a single class."""
    [[won, positives, negatives]] = ordered_pairs(np.zeros(len(label_R)), score_R, label_R, 1.0 - label_R)
    return float(won / (positives * negatives)) if positives and negatives else 0.5


def auc_alone(rows: LabelledRows, feature: Coded) -> float:
    """AUC on the newest rows of a feature's label rates in the older ones."""
    model = AdditiveModel(rows)
    model.add(feature)
    return auc(rows.label_R[rows.newest_R], model.logit_R[rows.newest_R])


class AdditiveModel:
    """The sum of a weight for every value of every feature, fit by Newton steps on the older rows.

    logit_R: what the features that were added so far say, float64[R].
    """

    def __init__(self, rows: LabelledRows) -> None:
        rate = float(np.clip(rows.label_R[~rows.newest_R].mean(), 1e-6, 1 - 1e-6))
        self._rows = rows
        self._older_R = (~rows.newest_R).astype(np.float64)
        self._ridge = _RIDGE_ROWS * rate * (1 - rate)
        self.logit_R = np.full(len(rows.label_R), math.log(rate / (1 - rate)))

    def add(self, *features: Coded) -> None:
        """Take features in, and fit all there are: each in turn, some rounds."""
        known = [(feature, np.zeros(feature.codes)) for feature in features]
        for _ in range(_ROUNDS):
            for feature, weights in known:
                self.logit_R = self.logit_R + self._step(feature, self.logit_R, weights)

    def gain(self, feature: Coded, beyond: Sequence[Coded] = ()) -> Gain:
        """What one more feature would take off the log loss of the newest rows, beyond what others would.

        beyond: of a pair its two sides. Else a pair would be praised for what more freedom for its sides gives.
        """
        before_R = self._with(beyond, self.logit_R)
        after_R = self._with([feature], before_R)
        newest, label = self._rows.newest_R, self._rows.label_R[self._rows.newest_R]
        gained = cross_entropy(label, sigmoid(before_R[newest])) - cross_entropy(label, sigmoid(after_R[newest]))
        return Gain(float(gained.mean()), float(gained.std() / math.sqrt(max(len(gained), 1))))

    def _with(self, features: Sequence[Coded], logit_R: np.ndarray) -> np.ndarray:
        for feature in features:
            weights = np.zeros(feature.codes)
            for _ in range(2):
                logit_R = logit_R + self._step(feature, logit_R, weights)
        return logit_R

    def _step(self, feature: Coded, logit_R: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Move `weights` by a Newton step with a ridge; returns by how much that moves the rows' logits."""
        rows = len(logit_R)
        score_R = sigmoid(logit_R)
        # A row with several values is moved by all of them: each takes its part of the step.
        values_R = np.maximum(np.bincount(feature.row_V, minlength=rows), 1)
        gradient_R = (self._rows.label_R - score_R) * self._older_R
        curvature_R = score_R * (1 - score_R) * self._older_R * values_R
        gradient = np.bincount(feature.code_V, gradient_R[feature.row_V], feature.codes) - self._ridge * weights
        curvature = np.bincount(feature.code_V, curvature_R[feature.row_V], feature.codes)
        step = gradient / (curvature + self._ridge)
        weights += step
        return np.bincount(feature.row_V, step[feature.code_V], rows)


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -30, 30)))


def model_of(rows: LabelledRows, features: Iterable[Coded]) -> AdditiveModel:
    """The model of several features."""
    model = AdditiveModel(rows)
    model.add(*features)
    return model
