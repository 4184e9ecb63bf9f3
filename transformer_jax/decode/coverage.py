"""How much of the source a hypothesis has looked at, as a term of its score."""

import math

import numpy as np
import numpy.typing as npt

LEAST_COVERAGE = 1e-6
"""What a source token is taken to have got at least, so that one never looked at costs much but not everything."""


def coverage_penalty(weights: npt.ArrayLike, beta: float) -> float:
    r"""What the score of a hypothesis loses for source tokens that it did not attend to.

    .. math:: cp(x, y) = \beta \sum_i \log\min\Bigl(\sum_j p_{ij}, 1\Bigr)

    Args:
      weights: Attention of each target token over the source tokens, :math:`p`, ``[target, source]``; rows sum to 1.
      beta: How much it counts; 0 is nothing.

    Returns:
      Zero or less, to be added to the log-probability over the length penalty. A token's sum is taken to be at least
      `LEAST_COVERAGE`.

    Example:
      >>> round(coverage_penalty([[1.0, 0.0], [0.5, 0.5]], beta=0.2), 4)
      -0.1386

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.
    """
    covered = np.asarray(weights, np.float64).sum(axis=0)
    return beta * math.fsum(np.log(np.clip(covered, LEAST_COVERAGE, 1.0)).tolist())
