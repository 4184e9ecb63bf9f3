r"""The mixture of a vocabulary and of copied source tokens, and the loss of attention that repeats itself.

A pointer-generator draws a token from the vocabulary with probability :math:`p_{gen} = \sigma(g)`, or copies a source
token that its attention :math:`a` points at:

.. math:: p(w) = \sigma(g)\, \mathrm{softmax}(z)_w + (1 - \sigma(g)) \sum_{j : x_j = w} a_j

Source tokens may have ids from the size of the vocabulary on: words that the vocabulary does not have, numbered within
each row by the position where they stand first. Such ids can be copied, and only copied.

Source: See et al. 2017, https://arxiv.org/abs/1704.04368, equations 8 to 13.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.losses import LossSum
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["CopySource", "coverage_loss", "pointer_label_log_probs", "pointer_log_probs"]

_TIE = 1e-5
"""Relative difference of probabilities that rounding alone can make: sums in another order."""


class CopySource(NamedTuple):
    """Sources that can be copied from.

    Attributes:
      tokens: Ids ``[batch, kv_len]``; what stands behind a row's length is padding.
      lengths: Tokens of each source ``[batch]``; nothing is copied from an empty one.
    """

    tokens: Int[Array, "batch kv_len"]
    lengths: Int[Array, "batch"]

    def valid(self) -> Bool[Array, "batch kv_len"]:
        """Which positions hold source tokens."""
        return jnp.arange(self.tokens.shape[1], dtype=jnp.int32)[None] < self.lengths[:, None]

    def log_shares(
        self, gate: Float[Array, "batch time"]
    ) -> tuple[Float[Array, "batch time"], Float[Array, "batch time"]]:
        """Log-probabilities of generating and of copying; an empty source leaves generating alone."""
        gate, some = gate.astype(jnp.float32), (self.lengths > 0)[:, None]
        return (
            jnp.where(some, jax.nn.log_sigmoid(gate), 0.0),
            jnp.where(some, jax.nn.log_sigmoid(-gate), -jnp.inf),
        )


def pointer_log_probs(
    logits: Float[Array, "batch time vocab"],
    gate: Float[Array, "batch time"],
    attention: Float[Array, "batch time kv_len"],
    source: CopySource,
    *,
    extended: bool = False,
) -> Float[Array, "batch time extended_vocab"]:
    r"""Log-probabilities of all tokens under the mixture, which are logits too: their softmax is the mixture.

    Args:
      logits: Scores of the vocabulary before the softmax.
      gate: :math:`g`, whose sigmoid is the probability of generating.
      attention: Weights over the source, zero behind its length.
      source: What is copied.
      extended: Whether the result has a column for each source position behind those of the vocabulary, for ids
        ``vocab + position`` of words that the vocabulary does not have; other ids from the vocabulary's size on are
        ignored.

    Returns:
      ``[batch, time, vocab]``, or ``[batch, time, vocab + kv_len]``, float32; ``-inf`` where nothing gives a token.

    Raises:
      ShapeError: If attention and source differ in their positions.

    Example:
      >>> source = CopySource(jnp.array([[1, 3]]), jnp.array([2]))
      >>> attention = jnp.array([[[0.25, 0.75]]])
      >>> found = pointer_log_probs(jnp.zeros((1, 1, 3)), jnp.zeros((1, 1)), attention, source, extended=True)
      >>> [f"{float(one):.3f}" for one in jnp.exp(found)[0, 0]]
      ['0.167', '0.292', '0.167', '0.375', '0.000']

    Source: See et al. 2017, https://arxiv.org/abs/1704.04368, equation 9.
    """
    _check(attention, source)
    (batch, time, vocab_size), kv_len = logits.shape, source.tokens.shape[1]
    num_columns = vocab_size + (kv_len if extended else 0)
    generating, copying = source.log_shares(gate)
    probabilities = jnp.exp(jax.nn.log_softmax(logits.astype(jnp.float32)) + generating[..., None])
    if extended:
        probabilities = jnp.pad(probabilities, ((0, 0), (0, 0), (0, kv_len)))
    copied = attention.astype(jnp.float32) * jnp.exp(copying)[..., None]
    # A negative id would count from the end, and padding may hold anything: both go out of bounds and are dropped.
    columns = jnp.where(source.valid() & (source.tokens >= 0), source.tokens, num_columns)
    rows, steps = jnp.arange(batch)[:, None, None], jnp.arange(time)[None, :, None]
    mixture = probabilities.at[rows, steps, columns[:, None, :]].add(copied, mode="drop")
    some = mixture > 0.0
    return jnp.where(some, jnp.log(jnp.where(some, mixture, 1.0)), -jnp.inf)


def pointer_label_log_probs(
    logits: Float[Array, "batch time vocab"],
    gate: Float[Array, "batch time"],
    attention: Float[Array, "batch time kv_len"],
    source: CopySource,
    labels: Int[Array, "batch time"],
) -> tuple[Float[Array, "batch time"], Bool[Array, "batch time"]]:
    """Log-probability of each label under the mixture, and whether none is more probable, without the mixture itself.

    Args:
      logits: As in `pointer_log_probs`, like the arguments that follow.
      gate: The probability of generating, before the sigmoid.
      attention: Weights over the source.
      source: What is copied.
      labels: Ids of the vocabulary, or extended ids of words of the row's source.

    Returns:
      Log-probabilities, float32, ``-inf`` for a label that nothing gives; and whether each label comes first, without
      gradient, equal probabilities both being first.

    Raises:
      ShapeError: If attention and source differ in their positions.

    Example:
      >>> source = CopySource(jnp.array([[1, 3]]), jnp.array([2]))
      >>> attention = jnp.array([[[0.25, 0.75]]])
      >>> found, first = pointer_label_log_probs(
      ...   jnp.zeros((1, 1, 3)), jnp.zeros((1, 1)), attention, source, jnp.array([[3]]))
      >>> f"{float(jnp.exp(found)[0, 0]):.3f}", first.tolist()
      ('0.375', [[True]])

    Source: See et al. 2017, https://arxiv.org/abs/1704.04368, equations 6 and 9.
    """
    _check(attention, source)
    vocab_size, valid = logits.shape[-1], source.valid()
    logits, attention = logits.astype(jnp.float32), attention.astype(jnp.float32)
    generating, copying = source.log_shares(gate)
    generating = generating - jax.nn.logsumexp(logits, axis=-1)
    of_label = jnp.take_along_axis(logits, jnp.clip(labels, 0, vocab_size - 1)[..., None], axis=-1)[..., 0]
    is_known = (labels >= 0) & (labels < vocab_size)
    is_copy = (labels[..., None] == source.tokens[:, None, :]) & valid[:, None, :]  # [batch, time, kv_len]
    mass = jnp.sum(jnp.where(is_copy, attention, 0.0), axis=-1)
    generated = jnp.where(is_known, of_label + generating, -jnp.inf)
    copied = _log(mass) + copying
    found = _log_sum(generated, copied)

    # No token outside of the source beats the best logit, and none inside has more than its own logit and mass.
    tokens = jnp.where(valid, source.tokens, -1)
    known = (tokens >= 0) & (tokens < vocab_size)
    same = (tokens[:, :, None] == tokens[:, None, :]).astype(jnp.float32)
    masses = jnp.einsum("btj,bjk->btk", jax.lax.stop_gradient(attention), same)
    columns = jnp.where(known, tokens, 0)[:, None, :]
    gathered = jnp.take_along_axis(jax.lax.stop_gradient(logits), columns, axis=-1)
    inside = jnp.where(known[:, None, :], jnp.exp(gathered + generating[..., None]), 0.0)
    inside = jnp.where(valid[:, None, :], inside + masses * jnp.exp(copying)[..., None], 0.0)
    best = jnp.exp(logits.max(axis=-1) + generating)
    if tokens.shape[1]:
        best = jnp.maximum(best, inside.max(axis=-1))
    first = jnp.exp(jax.lax.stop_gradient(found)) >= jax.lax.stop_gradient(best) * (1.0 - _TIE)
    return found, first & (found > -jnp.inf)


def coverage_loss(
    attention: Float[Array, "batch time kv_len"], weights: Float[Array, "batch time"]
) -> LossSum:
    r"""Attention to what was attended to before, summed over the source.

    .. math:: \sum_t w_t \sum_j \min(a_{tj}, c_{tj}), \quad c_{tj} = \sum_{s < t} a_{sj}

    Args:
      attention: Weights of each step over the source.
      weights: Of each step; one of weight 0 contributes nothing, and must have none of weight above 0 behind it.

    Returns:
      The weighted sum and the sum of the weights.

    Example:
      >>> attention = jnp.array([[[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]])
      >>> float(coverage_loss(attention, jnp.ones((1, 3))).sum)
      1.0

    Source: See et al. 2017, https://arxiv.org/abs/1704.04368, equation 12.
    """
    attention = jnp.where((weights > 0)[..., None], attention.astype(jnp.float32), 0.0)
    before = jnp.cumsum(attention, axis=1) - attention
    return LossSum.of(jnp.sum(jnp.minimum(attention, before).sum(axis=-1) * weights), weights.sum())


def _log(mass: Array) -> Array:
    """Logarithm whose gradient at zero is zero."""
    some = mass > 0.0
    return jnp.where(some, jnp.log(jnp.where(some, mass, 1.0)), -jnp.inf)


def _log_sum(first: Array, second: Array) -> Array:
    """``logaddexp`` whose gradients are finite where one or both terms are ``-inf``."""
    has_first, has_second = first > -jnp.inf, second > -jnp.inf
    safe_first, safe_second = jnp.where(has_first, first, 0.0), jnp.where(has_second, second, 0.0)
    both = jnp.logaddexp(safe_first, safe_second)
    return jnp.where(has_first & has_second, both, jnp.where(has_first, first, second))


def _check(attention: Array, source: CopySource) -> None:
    if attention.shape[-1] != source.tokens.shape[1]:
        raise ShapeError(
            f"attention has {attention.shape[-1]} positions and the source {source.tokens.shape[1]}: give the weights "
            "over this source"
        )
