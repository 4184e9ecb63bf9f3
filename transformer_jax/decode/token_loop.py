"""The compiled loop of every search that follows one hypothesis a row: greedy search and sampling."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decode.constraints import NONE, Constraints
from transformer_jax.decode.logits import check_token_id, choice_log_probs, clean_logits, forbid_tokens
from transformer_jax.decode.protocol import StepModel, check_room, state_batch_size
from transformer_jax.errors import ConfigError
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int, PyTree


@pytree_dataclass
class DecodeOutput:
    """One hypothesis a row.

    Attributes:
      tokens: Generated ids, without the start token; ``eos_id`` where the row ended, ``pad_id`` after it.
      lengths: Tokens before the end of the sequence (all tokens of an unfinished row).
      log_probs: Sum of the log-probabilities of all generated tokens, the end of the sequence included; ``-inf``
        where no token was possible before the row ended.
      finished: Whether the row reached the end of the sequence; False where ``max_len`` cut it off.
      num_steps: Steps that the loop took, one number for the batch.
    """

    tokens: Int[Array, "batch max_len"]
    lengths: Int[Array, "batch"]
    log_probs: Float[Array, "batch"]
    finished: Bool[Array, "batch"]
    num_steps: Int[Array, ""]

    @property
    def found(self) -> Bool[Array | np.ndarray, "batch"]:
        """Whether a row's tokens keep the rules of its search.

        False where no token was possible: all were ruled out (forbidden tokens, constraints, a prefix), or the model
        gave nothing but NaN and ``-inf``. The tokens are those up to there.
        """
        return self.log_probs > -jnp.inf


@pytree_dataclass
class TokenLoopState:
    """Carry of the loop."""

    step: Int[Array, ""]
    last_tokens: Int[Array, "batch"]
    tokens: Int[Array, "batch max_len"]
    lengths: Int[Array, "batch"]
    log_probs: Float[Array, "batch"]
    finished: Bool[Array, "batch"]
    running: Bool[Array, "batch"]
    model_state: PyTree


def row_limits(max_len: int, max_lens: Int[Array, "batch"] | None, num_rows: int) -> Int[Array, "batch"]:
    """Tokens that each row may generate: its own limit, at most ``max_len``.

    Example:
      >>> row_limits(4, jnp.array([2, 9]), 2).tolist()
      [2, 4]
    """
    if max_len < 1:
        raise ConfigError(f"max_len must be at least 1; got {max_len}")
    if max_lens is None:
        return jnp.full((num_rows,), max_len, dtype=jnp.int32)
    return jnp.clip(max_lens, 0, max_len).astype(jnp.int32)


def token_loop(
    model: StepModel,
    state: PyTree,
    choose: Callable[[Array, Array], Array],
    *,
    bos_id: int,
    eos_id: int,
    max_len: int,
    pad_id: int,
    max_lens: Int[Array, "batch"] | None,
    forbidden_ids: tuple[int, ...],
    constraints: Constraints = NONE,
    prefix: Int[Array, "batch prefix_len"] | None = None,
) -> DecodeOutput:
    """Generate until every row has ended; an ended row is frozen.

    Args:
      model: The model.
      state: Its state before the first token, batch first.
      choose: From allowed logits ``[batch, vocab]`` (cleaned, float32) and the step, the tokens ``[batch]``.
      bos_id: Token that is fed first.
      eos_id: Token that ends a row.
      max_len: Most tokens to generate, the end of the sequence included.
      pad_id: Fills the places after the end.
      max_lens: Each row's own limit, or None.
      forbidden_ids: Tokens never to choose.
      constraints: Least length and n-grams that may not come twice.
      prefix: Tokens that each row must begin with, ``[batch, prefix_len]``, ``-1`` where it is free; None for none.

    Returns:
      The hypotheses.
    """
    check_room(state, max_len)
    num_rows = state_batch_size(state)
    limits = row_limits(max_len, max_lens, num_rows)

    def should_continue(carry: TokenLoopState) -> Array:
        return jnp.any(carry.running)

    def advance(carry: TokenLoopState) -> TokenLoopState:
        logits, model_state = model.step(carry.model_state, carry.last_tokens)
        check_token_id("eos_id", eos_id, logits.shape[-1])
        logits = clean_logits(logits)
        log_normalizer = jax.nn.logsumexp(logits, axis=-1)
        allowed = forbid_tokens(logits, forbidden_ids)
        allowed = constraints.apply(allowed, carry.tokens, carry.step, eos_id=eos_id, prefix=prefix)
        chosen = choose(allowed, carry.step).astype(jnp.int32)
        chosen_logits = jnp.take_along_axis(allowed, chosen[:, None], axis=1)
        log_probs = choice_log_probs(chosen_logits, log_normalizer)[:, 0]

        possible = log_probs > -jnp.inf
        emits = carry.running & possible
        ends = emits & (chosen == eos_id)
        written = jnp.where(emits, chosen, pad_id)
        return TokenLoopState(
            step=carry.step + 1,
            last_tokens=written,
            tokens=jax.lax.dynamic_update_slice(carry.tokens, written[:, None], (jnp.int32(0), carry.step)),
            lengths=carry.lengths + (emits & ~ends).astype(jnp.int32),
            log_probs=carry.log_probs + jnp.where(carry.running, log_probs, 0.0),
            finished=carry.finished | ends,
            running=emits & ~ends & (carry.step + 1 < limits),
            model_state=model_state,
        )

    final = jax.lax.while_loop(
        should_continue,
        advance,
        TokenLoopState(
            step=jnp.int32(0),
            last_tokens=jnp.full((num_rows,), bos_id, dtype=jnp.int32),
            tokens=jnp.full((num_rows, max_len), pad_id, dtype=jnp.int32),
            lengths=jnp.zeros((num_rows,), dtype=jnp.int32),
            log_probs=jnp.zeros((num_rows,), dtype=jnp.float32),
            finished=jnp.zeros((num_rows,), dtype=bool),
            running=limits > 0,
            model_state=state,
        ),
    )
    return DecodeOutput(final.tokens, final.lengths, final.log_probs, final.finished, final.step)
