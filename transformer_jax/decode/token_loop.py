"""The compiled loop of every search that follows one hypothesis a row: greedy search and sampling.

It can be left after any step and entered again: :func:`begin_tokens` makes its carry, :func:`advance_tokens` takes it
some steps further, :func:`decode_output` tells what has been generated so far.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decode.logits import (
    check_token_id,
    choice_log_probs,
    clean_logits,
    forbid_tokens,
    log_normalizers,
    penalize_repetition,
)
from transformer_jax.decode.protocol import StepModel, check_room, state_batch_size
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
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
    """Carry of the loop.

    ``seen`` (tokens said so far) is ``None`` without a repetition penalty; ``token_log_probs`` are those of each token
    and sum up to ``log_probs``.
    """

    step: Int[Array, ""]
    last_tokens: Int[Array, "batch"]
    tokens: Int[Array, "batch max_len"]
    lengths: Int[Array, "batch"]
    log_probs: Float[Array, "batch"]
    token_log_probs: Float[Array, "batch max_len"]
    finished: Bool[Array, "batch"]
    running: Bool[Array, "batch"]
    model_state: PyTree
    seen: Bool[Array, "batch vocab"] | None


def row_limits(
    max_len: int, max_lens: Int[Array | np.ndarray, "batch"] | None, num_rows: int
) -> Int[Array, "batch"]:
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


def begin_tokens(
    model: StepModel, state: PyTree, config: GreedyConfig | SampleConfig, ids: SearchIds, rows: RowOptions
) -> TokenLoopState:
    """The carry before the first step.

    Args:
      model: The model, whose vocabulary size is needed for a repetition penalty.
      state: Its state before the first token, batch first.
      config: Which search; what it says of choosing is for ``choose``.
      ids: Special ids.
      rows: Options of each row.
    """
    num_rows, max_len = state_batch_size(state), config.max_len
    limits = row_limits(max_len, rows.max_lens, num_rows)
    first_tokens = rows.tokens_to_feed(ids, num_rows)
    seen = None
    if isinstance(config, SampleConfig) and config.repetition_penalty != 1.0:
        vocab_size = jax.eval_shape(model.step, state, first_tokens)[0].shape[-1]
        seen = _said_in_context(rows, num_rows, vocab_size)
    return TokenLoopState(
        step=jnp.int32(0),
        last_tokens=first_tokens,
        tokens=jnp.full((num_rows, max_len), ids.pad_id, dtype=jnp.int32),
        lengths=jnp.zeros((num_rows,), dtype=jnp.int32),
        log_probs=jnp.zeros((num_rows,), dtype=jnp.float32),
        token_log_probs=jnp.zeros((num_rows, max_len), dtype=jnp.float32),
        finished=jnp.zeros((num_rows,), dtype=bool),
        running=limits > 0,
        model_state=state,
        seen=seen,
    )


def _said_in_context(rows: RowOptions, num_rows: int, vocab_size: int) -> Bool[Array, "batch vocab"]:
    seen = jnp.zeros((num_rows, vocab_size), dtype=bool)
    if rows.context is None:
        return seen
    tokens, lengths = jnp.asarray(rows.context.tokens), jnp.asarray(rows.context.lengths)
    is_token = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
    return seen.at[jnp.arange(num_rows)[:, None], tokens].max(is_token, mode="drop")


def advance_tokens(
    model: StepModel,
    carry: TokenLoopState,
    choose: Callable[[Array, Array], Array],
    config: GreedyConfig | SampleConfig,
    ids: SearchIds,
    rows: RowOptions,
    *,
    until: Int[Array, ""] | None = None,
) -> TokenLoopState:
    """Generate until every row has ended, or a number of steps has been taken; an ended row is frozen.

    Args:
      model: The model.
      carry: Of `begin_tokens`, or of this function.
      choose: From allowed logits ``[batch, vocab]`` (cleaned, float32) and the step, the tokens ``[batch]``.
      config: Which search; what it says of choosing is for ``choose``.
      ids: Special ids.
      rows: Options of each row, the same as in `begin_tokens`.
      until: Steps from the very first one on after which to stop; None goes to the end.
    """
    limits = row_limits(config.max_len, rows.max_lens, len(carry.lengths))
    prefix: Any = None if rows.prefix is None else jnp.asarray(rows.prefix)

    def should_continue(carry: TokenLoopState) -> Array:
        running = jnp.any(carry.running)
        return running if until is None else running & (carry.step < until)

    def advance(carry: TokenLoopState) -> TokenLoopState:
        logits, model_state = model.step(carry.model_state, carry.last_tokens)
        check_token_id("eos_id", ids.eos_id, logits.shape[-1])
        logits = clean_logits(logits)
        log_normalizer = log_normalizers(model, logits)
        penalized = logits
        if carry.seen is not None and isinstance(config, SampleConfig):
            penalized = penalize_repetition(logits, carry.seen, config.repetition_penalty)
        allowed = forbid_tokens(penalized, config.forbidden_ids)
        allowed = config.constraints.apply(
            allowed, carry.tokens, carry.step, eos_id=ids.eos_id, prefix=prefix
        )
        chosen = choose(allowed, carry.step).astype(jnp.int32)
        chosen_logits = jnp.take_along_axis(allowed, chosen[:, None], axis=1)
        if carry.seen is not None:  # the log-probabilities are the model's own
            own = jnp.take_along_axis(logits, chosen[:, None], axis=1)
            chosen_logits = jnp.where(chosen_logits == -jnp.inf, -jnp.inf, own)
        log_probs = choice_log_probs(chosen_logits, log_normalizer)[:, 0]

        possible = log_probs > -jnp.inf
        emits = carry.running & possible
        ends = emits & (chosen == ids.eos_id)
        written = jnp.where(emits, chosen, ids.pad_id)
        added = jnp.where(carry.running, log_probs, 0.0)
        place = (jnp.int32(0), carry.step)
        seen = carry.seen
        if seen is not None:
            seen = seen.at[jnp.arange(len(chosen)), chosen].max(emits)
        return TokenLoopState(
            step=carry.step + 1,
            last_tokens=written,
            tokens=jax.lax.dynamic_update_slice(carry.tokens, written[:, None], place),
            lengths=carry.lengths + (emits & ~ends).astype(jnp.int32),
            log_probs=carry.log_probs + added,
            token_log_probs=jax.lax.dynamic_update_slice(carry.token_log_probs, added[:, None], place),
            finished=carry.finished | ends,
            running=emits & ~ends & (carry.step + 1 < limits),
            model_state=model_state,
            seen=seen,
        )

    return jax.lax.while_loop(should_continue, advance, carry)


def decode_output(carry: TokenLoopState) -> DecodeOutput:
    """The hypotheses as far as they are generated."""
    return DecodeOutput(carry.tokens, carry.lengths, carry.log_probs, carry.finished, carry.step)


def token_loop(
    model: StepModel,
    state: PyTree,
    choose: Callable[[Array, Array], Array],
    config: GreedyConfig | SampleConfig,
    ids: SearchIds,
    rows: RowOptions,
) -> DecodeOutput:
    """Generate until every row has ended; arguments as in `begin_tokens` and `advance_tokens`."""
    check_room(state, config.max_len)
    carry = begin_tokens(model, state, config, ids, rows)
    return decode_output(advance_tokens(model, carry, choose, config, ids, rows))
