"""Metrics written from their definitions, group by group."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from nightjar.features.encoder.hashing import MISSING


def gauc_by_loops(label: np.ndarray, score: np.ndarray, group: np.ndarray, weight: np.ndarray) -> float:
    """Mean of scikit-learn's AUC over the groups with both classes, by their weight."""
    values, weights = [], []
    for g in np.unique(group):
        rows = group == g
        if g != MISSING and 0 < label[rows].sum() < rows.sum():
            values.append(roc_auc_score(label[rows], score[rows], sample_weight=weight[rows]))
            weights.append(weight[rows].sum())
    return float(np.average(values, weights=weights))
