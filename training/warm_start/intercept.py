"""The intercept of a model that begins with nothing: the log-odds of its training rows, where all else is zero.

Logs with few positives would otherwise spend their first rows on coming down from a probability of one half.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nightjar.features.contract.layout import BIAS
from nightjar.training.config import WideConfig
from nightjar.training.tables.table import Table
from nightjar.training.warm_start.ftrl import ARRAYS, encoded, ftrl_state


def begin_at(log_odds: float, wide: Table | None, config: WideConfig, head: nn.Module) -> None:
    """Give fresh tables and a fresh head this intercept; every worker calls this, and the owner of the row writes it.

    Args:
        log_odds: of the base rate.
        wide: the wide table; its bias (row 0) is the model's intercept. None for a model without one, whose head has
            the intercept as the bias of its output.
        config: the wide table's, resolved. Under FTRL, z is solved for with n = 0: w = -z / (beta / alpha + lambda2).
            In q2.13 an intercept is cut at -4 and 4, as every weight is.
        head: the model's.
    """
    if wide is None:
        outputs = [part for part in head.modules() if isinstance(part, nn.Linear) and part.out_features == 1]
        assert outputs[-1].bias is not None
        with torch.no_grad():
            outputs[-1].bias.fill_(log_odds)
        return
    place = wide.shard.place(BIAS)
    if place < 0:
        return
    state = wide.state()
    if config.rule != "ftrl":
        state["values"][place] = log_odds
        return
    row_12 = encoded(ftrl_state(np.array([log_odds]), np.zeros((1, 2)), np.array([BIAS]), config, 0.0), config)
    columns = iter(row_12[0])
    for name in ARRAYS[config.precision]:
        state[name][place] = [next(columns) for _ in range(state[name].shape[1])]
