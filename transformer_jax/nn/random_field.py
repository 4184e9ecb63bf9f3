"""A module that owns the scores of a linear-chain conditional random field."""

import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional.crf import ChainScores, crf_decode, crf_log_likelihood, crf_marginals
from transformer_jax.typing import Array, Float, Int

__all__ = ["ConditionalRandomField"]


class ConditionalRandomField(nnx.Module):
    """Learned scores of neighbouring labels over the scores that a model gives to each label by itself.

    They start at zero, where every label is on its own, as without the layer.

    Args:
      num_labels: Labels.

    Example:
      >>> layer = ConditionalRandomField(3)
      >>> labels, _ = layer.decode(jnp.eye(3)[None], lengths=jnp.array([2]))
      >>> labels.tolist()
      [[0, 1, -1]]

    Source: Lample et al. 2016, https://arxiv.org/abs/1603.01360, section 2.2.
    """

    def __init__(self, num_labels: int) -> None:
        self.transitions = nnx.Param(jnp.zeros((num_labels, num_labels), jnp.float32))
        self.starts = nnx.Param(jnp.zeros(num_labels, jnp.float32))
        self.ends = nnx.Param(jnp.zeros(num_labels, jnp.float32))

    @property
    def chain(self) -> ChainScores:
        """The scores, for the functions of `transformer_jax.functional.crf`."""
        return ChainScores(self.transitions[...], self.starts[...], self.ends[...])

    def log_likelihood(
        self,
        scores: Float[Array, "batch time labels"],
        labels: Int[Array, "batch time"],
        *,
        lengths: Int[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Log-probability of each row's labels, see :func:`~transformer_jax.functional.crf_log_likelihood`."""
        return crf_log_likelihood(scores, labels, self.chain, lengths)

    def marginals(
        self, scores: Float[Array, "batch time labels"], *, lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch time labels"]:
        """Probability of each label at each step, see :func:`~transformer_jax.functional.crf_marginals`."""
        return crf_marginals(scores, self.chain, lengths)

    def decode(
        self, scores: Float[Array, "batch time labels"], *, lengths: Int[Array, " batch"]
    ) -> tuple[Int[Array, "batch time"], Float[Array, " batch"]]:
        """The best labels of each row and their score, see :func:`~transformer_jax.functional.crf_decode`."""
        return crf_decode(scores, self.chain, lengths)
