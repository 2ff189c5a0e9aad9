"""Held-out metrics over all workers: exact, and no worker ever holds all predictions.

AUC: worker r takes the r-th part of the range of scores, equal scores always together; a positive beats the
negatives below it in its own part and all those of the parts below. GAUC: a group's impressions meet at the worker
that its hash names. Everything else is a sum over the workers. Definitions: features.contract.metrics.registry.

Shapes: n rows of this worker; H buckets of the range of scores; W workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nightjar.features.contract import liveness
from nightjar.features.contract.errors import UsageError
from nightjar.features.contract.metrics.registry import Quality, quality
from nightjar.features.contract.metrics.sums import Sums, group_sums, loss_sums, ordered_pairs
from nightjar.features.encoder.hashing import MISSING
from nightjar.training.data.dataset import Dataset
from nightjar.training.data.loader import epoch_batches
from nightjar.training.data.plan import Plan
from nightjar.training.run.collective import Collective
from nightjar.training.step.step import Learner

# Positive floats are in the order of their bits: the leading 18 of a score's 32 make 2^16 buckets, one for every
# 1/128 of an octave.
_SHIFT = 14
_BUCKETS = (int(np.float32(1.0).view(np.int32)) >> _SHIFT) + 1


@dataclass(frozen=True)
class Predictions:
    """Scores of this worker's share of the rows: float32[n]; label, weight: float32[n]; group: int64[n] or None."""

    score: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    group: np.ndarray | None


def evaluate(learner: Learner, dataset: Dataset, plan: Plan, collective: Collective) -> Quality:
    """Quality of the model as it is on a data set, each row once; every worker calls this and gets the same figures.

    Raises DataError if the rows have no weight, UsageError if scores are not finite.
    """
    return measure(predict(learner, dataset, plan, collective), collective)


def predict(learner: Learner, dataset: Dataset, plan: Plan, collective: Collective) -> Predictions:
    """Score this worker's lanes of the plan's first epoch, which may be none."""
    parts: list[Predictions] = []
    with epoch_batches(dataset, plan.epoch(0), collective.rank, collective.size) as batches:
        for batch in batches:
            score_B = torch.sigmoid(learner.logits(batch)).numpy()
            parts.append(Predictions(score_B, batch.label_B, batch.weight_B, batch.group_B))
            liveness.advance()
    return Predictions(
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.group for part in parts if part.group is not None]) if dataset.grouped else None,
    )


def measure(own: Predictions, collective: Collective) -> Quality:
    """Quality over the predictions of all workers; every worker calls this and gets the same figures.

    Raises DataError if the rows have no weight, UsageError if scores are not finite.
    """
    totals = _summed(loss_sums(own.label, own.score, own.weight), collective)
    if not np.isfinite(totals).all():
        raise UsageError("scores of held-out rows are not finite: training diverged. Lower the learning rates.")
    weight = own.weight.astype(np.float64)
    positive, negative = weight * own.label, weight * (1.0 - own.label)
    pairs = _pairs(own.score, positive, negative, collective)
    groups = None
    if own.group is not None:
        groups = _summed(_group_sums(own.group, own.score, positive, negative, collective), collective)
    return quality(Sums.of(totals, pairs, groups))


def _pairs(score: np.ndarray, positive: np.ndarray, negative: np.ndarray, collective: Collective) -> np.ndarray:
    """features.contract.metrics.sums.ordered_pairs of all workers' rows as one group: float64[3]."""
    # Equal scores are merged before they travel: a model that gives all rows one score floods nobody.
    score, place = np.unique(score, return_inverse=True)
    # bincount forgets the weights' type where there is no row, and the workers' types must be the same.
    positive, negative = (np.bincount(place, by, len(score)).astype(np.float64) for by in (positive, negative))
    bucket = score.view(np.int32) >> _SHIFT
    counts_H = _summed(np.bincount(bucket, minlength=_BUCKETS), collective)
    middle_H = np.cumsum(counts_H) - counts_H / 2
    owner_H = np.minimum(middle_H * collective.size / max(counts_H.sum(), 1), collective.size - 1).astype(np.int64)
    score, positive, negative = _deal(owner_H[bucket], (score, positive, negative), collective)
    parts_W3 = np.zeros((collective.size, 3))
    parts_W3[collective.rank] = ordered_pairs(np.zeros(len(score)), score, positive, negative).sum(axis=0)
    won_W, positives_W, negatives_W = _summed(parts_W3, collective).T
    below_W = np.cumsum(negatives_W) - negatives_W
    return np.array([np.sum(won_W + positives_W * below_W), positives_W.sum(), negatives_W.sum()])


def _group_sums(
    group: np.ndarray, score: np.ndarray, positive: np.ndarray, negative: np.ndarray, collective: Collective
) -> np.ndarray:
    """features.contract.metrics.sums.group_sums of the groups that meet at this worker."""
    known = group != MISSING
    columns = [column[known] for column in (group, score, positive, negative)]
    return group_sums(*_deal(columns[0] % collective.size, columns, collective))


def _deal(owner: np.ndarray, columns: Sequence[np.ndarray], collective: Collective) -> list[np.ndarray]:
    """Send every row of the columns to its owner; what came, by sender."""
    order = np.argsort(owner, kind="stable")
    sent = np.bincount(owner, minlength=collective.size).tolist()
    tensors = [torch.from_numpy(column[order]) for column in columns]
    return [received.numpy() for received, _ in collective.all_to_all(tensors, [sent] * len(tensors))]


def _summed(array: np.ndarray, collective: Collective) -> np.ndarray:
    """The sum of the workers' arrays, float64."""
    return collective.all_reduce_sum_(torch.from_numpy(array.astype(np.float64))).numpy()
