"""What the best possible model reaches on a log whose true probabilities are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class BayesFloor:
    """What the best possible model reaches on a log: no model can be expected to do better on the same rows.

    rows:               number of impressions
    label_rate:         mean label
    log_loss:           mean of -p ln p - (1 - p) ln(1 - p) over the true probabilities p, in nats
    normalized_entropy: log_loss over the entropy of the mean true probability
    auc:                AUC of p against the labels, p rounded down to a multiple of 1e-4
    """

    rows: int
    label_rate: float
    log_loss: float
    normalized_entropy: float
    auc: float


def bayes_floor(log: DataFrame) -> BayesFloor:
    """The floor of a log with the columns `installed` and `true_probability`.

    Spark reduces the log to at most 10,000 rows, one for each AUC bin, before anything reaches the driver.
    """
    p = F.col("true_probability")
    bins = (
        log.select(
            F.floor(p * 10_000).alias("bin"),
            p.alias("p"),
            F.col("installed").cast("long").alias("y"),
            _entropy(p),
        )
        .groupBy("bin")
        .agg(
            F.count("*").alias("n"),
            F.sum("y").alias("positives"),
            F.sum("p").alias("p"),
            F.sum("entropy").alias("h"),
        )
        .orderBy("bin")
        .collect()
    )
    rows = sum(b.n for b in bins)
    positives = sum(b.positives for b in bins)
    negatives = rows - positives
    won, below = 0.0, 0
    for b in bins:
        losers = b.n - b.positives
        won += b.positives * (below + losers / 2)
        below += losers
    mean_p = math.fsum(b.p for b in bins) / rows
    log_loss = math.fsum(b.h for b in bins) / rows
    return BayesFloor(
        rows=rows,
        label_rate=positives / rows,
        log_loss=log_loss,
        normalized_entropy=log_loss / -(mean_p * math.log(mean_p) + (1 - mean_p) * math.log1p(-mean_p)),
        auc=won / (positives * negatives) if positives and negatives else math.nan,
    )


def _entropy(p: Column) -> Column:
    return (-(p * F.log(p)) - (1 - p) * F.log1p(-p)).alias("entropy")
