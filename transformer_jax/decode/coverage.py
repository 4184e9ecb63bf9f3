"""Coverage: how much of the source a hypothesis has attended to, as a term of its score."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from transformer_jax.decode.protocol import AttendingStepModel, StepModel
from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Float, Int, PyTree

MIN_COVERAGE = 1e-6
"""Smallest coverage of a source token, so that one without attention costs much but not infinitely much."""


def coverage_penalty(weights: npt.ArrayLike, beta: float) -> float:
    r"""Penalty of a hypothesis for source tokens that it did not attend to.

    .. math:: cp(x, y) = \beta \sum_i \log\min\Bigl(\sum_j p_{ij}, 1\Bigr)

    Args:
      weights: Attention of each target token over the source tokens, :math:`p`, ``[target, source]``; rows sum to 1.
      beta: How much it counts; 0 is nothing.

    Returns:
      Zero or less, to be added to the log-probability over the length penalty. A token's sum is taken to be at least
      `MIN_COVERAGE`.

    Example:
      >>> round(coverage_penalty([[1.0, 0.0], [0.5, 0.5]], beta=0.2), 4)
      -0.1386

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.
    """
    covered = np.asarray(weights, np.float64).sum(axis=0)
    return beta * math.fsum(np.log(np.clip(covered, MIN_COVERAGE, 1.0)).tolist())


def coverage_penalties(
    covered: Float[Array, "batch beams kv_len"], source_lengths: Int[Array, "batch"], beta: float
) -> Float[Array, "batch beams"]:
    r"""The same of many hypotheses, from what their source tokens have got so far, :math:`\sum_j p_{ij}`.

    Args:
      covered: Sum of the attention of a hypothesis' steps to each source token.
      source_lengths: Tokens of each source; what stands behind them does not count.
      beta: As in `coverage_penalty`.

    Returns:
      Zero or less for each hypothesis, float32.

    Example:
      >>> round(float(coverage_penalties(jnp.array([[[1.5, 0.5, 0.0]]]), jnp.array([2]), 0.2)[0, 0]), 4)
      -0.1386

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.
    """
    is_token = jnp.arange(covered.shape[2])[None, None] < source_lengths[:, None, None]
    logs = jnp.log(jnp.clip(covered, MIN_COVERAGE, 1.0))
    return beta * jnp.sum(jnp.where(is_token, logs, 0.0), axis=2)


def nothing_covered(
    model: StepModel, state: PyTree, num_beams: int, source_lengths: Int[Array, "batch"] | None
) -> Float[Array, "batch beams kv_len"]:
    """Coverage of the source tokens before the first step of a search: zeros.

    Args:
      model: Tells how many source tokens its steps look at.
      state: Its state, repeated for ``num_beams`` hypotheses of each row.
      num_beams: Hypotheses of each row.
      source_lengths: Tokens of each source.

    Raises:
      ConfigError: If the model does not tell where it looks, or there are no lengths.
    """
    if not isinstance(model, AttendingStepModel):
        raise ConfigError(
            f"coverage_penalty needs a model with step_with_attention; {type(model).__name__} has none"
        )
    if source_lengths is None:
        raise ConfigError(
            "coverage_penalty needs source_lengths in its RowOptions, the tokens of each source"
        )
    batch = source_lengths.shape[0]
    tokens = jnp.zeros(batch * num_beams, dtype=jnp.int32)
    weights = jax.eval_shape(model.step_with_attention, state, tokens)[1]
    return jnp.zeros((batch, num_beams, weights.shape[1]), dtype=jnp.float32)
