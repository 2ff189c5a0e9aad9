"""Integrated gradients over groups of inputs, of a function that can only be evaluated (Sundararajan et al. 2017).

The straight line from a baseline to the inputs is cut into steps. Within each, the groups move one after the other, in
one order and in the other, and a group's share is what the function gains as it moves. As steps get short, that is the
integral of the gradient over the group's inputs (Aumann and Shapley's value): up to the square of a step, and at a kink
of the function, a rectifier's, up to the step that holds it. Whatever their number, the shares add up to the function's
difference: every step's begin is the end of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

STEPS = 64


def shares(
    function: Callable[[np.ndarray], np.ndarray],
    baseline: np.ndarray,
    inputs: np.ndarray,
    group_of: np.ndarray,
    steps: int = STEPS,
) -> np.ndarray:
    """What each group adds to function(inputs) - function(baseline): float64[groups].

    Args:
        function: float64[n] of float32[n, inputs].
        baseline: float32[inputs], where the line begins.
        inputs: float32[inputs], where it ends.
        group_of: int[inputs], the group of each, numbered from 0 without gaps.
        steps: that the line is cut into.
    """
    groups = int(group_of.max(initial=-1)) + 1
    # Which groups have moved, state by state: from none to all, in either order.
    forward = np.tril(np.ones((groups, groups), dtype=bool))
    moved = np.vstack([np.zeros((1, groups), bool), forward, forward[:, ::-1]])[:, group_of]
    points = baseline + np.linspace(0.0, 1.0, steps + 1)[:, None] * (inputs.astype(np.float64) - baseline)
    points = points.astype(np.float32)
    points[-1] = inputs
    added = np.zeros(groups)
    for begin, end in pairwise(points):
        values = function(np.where(moved, end, begin))
        added += np.diff(values[: groups + 1]) / 2.0
        added += np.diff(values[groups + 1 :], prepend=values[0])[::-1] / 2.0
    return added
