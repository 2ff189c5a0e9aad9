"""The share of positives among the rows to train on, for a model that begins with nothing. Shapes: F files."""

from __future__ import annotations

import math

import numpy as np
import torch

from nightjar.training.data.dataset import Dataset, read_table
from nightjar.training.run.collective import Collective


def base_log_odds(dataset: Dataset, collective: Collective) -> float:
    """log(p / (1 - p)), p = (P + 1/2) / (W + 1): W is the sum of the rows' weights, P that of the positives.

    The halves keep p inside (0, 1) where all labels are equal. Every worker calls this and reads a share of the files,
    two columns of them; the result is the same, bit for bit, for any number of workers. Raises DataError if a file is
    damaged.
    """
    columns = sorted((c for c in dataset.columns if c.role in ("label", "weight")), key=lambda c: c.role)
    sums_F2 = torch.zeros(len(dataset.files), 2, dtype=torch.float64)
    for file in range(collective.rank, len(dataset.files), collective.size):
        found = read_table(dataset.directory, dataset.files[file], columns)
        label, *weights = (np.asarray(found[column.name], dtype=np.float64) for column in columns)
        weight = weights[0] if weights else np.ones(len(label))
        sums_F2[file] = torch.tensor([math.fsum(weight), math.fsum(weight * label)])
    total, positives = (math.fsum(column) for column in collective.all_reduce_sum_(sums_F2).T.tolist())
    return math.log((positives + 0.5) / (total - positives + 0.5))
