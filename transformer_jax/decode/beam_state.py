"""State of a beam search's loop: live hypotheses, their continuations, the pool of ended ones."""

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decode.token_loop import DecodeOutput
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int, PyTree


@pytree_dataclass
class BeamOutput:
    """The best hypotheses of each row, by falling score.

    Attributes:
      tokens: Generated ids, without the start token; ``eos_id`` where it ended, ``pad_id`` after it.
      lengths: Tokens before the end of the sequence (all tokens of an unfinished hypothesis).
      log_probs: Sum of the log-probabilities of all generated tokens, the end of the sequence included.
      scores: ``log_probs`` divided by the length penalty at the number of generated tokens, the end of the
        sequence included, and the coverage penalty added. ``-inf`` marks a place for which no hypothesis was found; it
        holds padding alone.
      finished: Whether the hypothesis reached the end of the sequence; False where ``max_len`` cut it off.
      num_steps: Steps that the loop took, one number for the batch.
    """

    tokens: Int[Array, "batch num_best max_len"]
    lengths: Int[Array, "batch num_best"]
    log_probs: Float[Array, "batch num_best"]
    scores: Float[Array, "batch num_best"]
    finished: Bool[Array, "batch num_best"]
    num_steps: Int[Array, ""]

    @property
    def found(self) -> Bool[Array | np.ndarray, "batch num_best"]:
        """Whether a place holds a hypothesis.

        False throughout a row where none keeps the rules of the search: every continuation was ruled out (forbidden
        tokens, constraints, a prefix), or the model gave nothing but NaN and ``-inf``.
        """
        return self.scores > -jnp.inf

    def best(self) -> DecodeOutput:
        """The best hypothesis of each row, in the form that the other searches return."""
        return DecodeOutput(
            self.tokens[:, 0], self.lengths[:, 0], self.log_probs[:, 0], self.finished[:, 0], self.num_steps
        )


@pytree_dataclass
class Pool:
    """The best ended hypotheses of each row so far, by falling score."""

    tokens: Int[Array, "batch pool max_len"]
    lengths: Int[Array, "batch pool"]
    log_probs: Float[Array, "batch pool"]
    scores: Float[Array, "batch pool"]
    finished: Bool[Array, "batch pool"]


@pytree_dataclass
class BeamState:
    """Carry of the loop: live hypotheses, best first, and the pool; ``covered`` is ``None`` without coverage."""

    step: Int[Array, ""]
    last_tokens: Int[Array, "batch beams"]
    tokens: Int[Array, "batch beams max_len"]
    log_probs: Float[Array, "batch beams"]
    pool: Pool
    running: Bool[Array, "batch"]
    model_state: PyTree
    covered: Float[Array, "batch beams kv_len"] | None


@pytree_dataclass
class Candidates:
    """The best one-token continuations of each row's live hypotheses, by falling rank.

    Attributes:
      parents: Which live hypothesis each continues.
      tokens: By which token.
      log_probs: Of all its tokens.
      ranks: What they are compared by: the log-probability, or with coverage the score so far.
    """

    parents: Int[Array, "batch candidates"]
    tokens: Int[Array, "batch candidates"]
    log_probs: Float[Array, "batch candidates"]
    ranks: Float[Array, "batch candidates"]


def extended_tokens(
    tokens: Int[Array, "batch beams max_len"],
    parents: Int[Array, "batch chosen"],
    new_tokens: Int[Array, "batch chosen"],
    step: Int[Array, ""],
) -> Int[Array, "batch chosen max_len"]:
    """The parents' tokens with one more at ``step``."""
    history = jnp.take_along_axis(tokens, parents[:, :, None], axis=1)
    here = (jnp.arange(tokens.shape[2]) == step)[None, None]
    return jnp.where(here, new_tokens[:, :, None], history)


def take(node: PyTree, places: Int[Array, "batch chosen"]) -> PyTree:
    """Entries of axis 1 of every leaf."""

    def take_leaf(leaf: Array) -> Array:
        return jnp.take_along_axis(leaf, places.reshape(places.shape + (1,) * (leaf.ndim - 2)), axis=1)

    return jax.tree.map(take_leaf, node)


def empty_pool(limits: Int[Array, "batch"], pool_size: int, max_len: int, pad_id: int) -> Pool:
    """A pool of places without a hypothesis; where nothing may be generated, the empty one is there."""
    num_rows = limits.shape[0]
    is_empty_hypothesis = (limits == 0)[:, None] & (jnp.arange(pool_size) == 0)[None]
    log_probs = jnp.where(is_empty_hypothesis, 0.0, -jnp.inf)
    return Pool(
        tokens=jnp.full((num_rows, pool_size, max_len), pad_id, dtype=jnp.int32),
        lengths=jnp.zeros((num_rows, pool_size), dtype=jnp.int32),
        log_probs=log_probs,
        scores=log_probs,
        finished=jnp.zeros((num_rows, pool_size), dtype=bool),
    )
