"""Beam search with a pool of ended hypotheses, vectorised over the batch, in one compiled loop."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from transformer_jax.decode.beam_state import (
    BeamOutput,
    BeamState,
    Candidates,
    Pool,
    empty_pool,
    extended_tokens,
    take,
)
from transformer_jax.decode.coverage import coverage_penalties, nothing_covered
from transformer_jax.decode.logits import (
    check_token_id,
    choice_log_probs,
    clean_logits,
    forbid_tokens,
    length_penalty,
    log_normalizers,
    top_k_rows,
)
from transformer_jax.decode.protocol import (
    AttendingStepModel,
    StepModel,
    check_room,
    reorder_state,
    repeat_state,
    state_batch_size,
)
from transformer_jax.decode.search_config import BeamConfig
from transformer_jax.decode.search_options import NO_ROW_OPTIONS, RowOptions, SearchIds
from transformer_jax.decode.token_loop import row_limits
from transformer_jax.typing import Array, Bool, Float, Int, PyTree

__all__ = ["BeamOutput", "beam_search"]


def _extend(
    model: StepModel,
    logits: Float[Array, "rows vocab"],
    live_log_probs: Float[Array, "batch beams"],
    allow: Callable[[Array], Array],
    rank: Callable[[Array], Array] | None = None,
) -> Candidates:
    """The ``2 * beams`` best continuations: at most ``beams`` of them end, so that enough stay live."""
    num_rows, num_beams = live_log_probs.shape
    vocab_size = logits.shape[-1]
    logits = clean_logits(logits)
    log_normalizer = log_normalizers(model, logits)
    # A beam has one continuation that ends, so its best num_beams + 1 hold every one that can matter. Taking
    # them beam by beam keeps the wide axis out of the merge and the log-probabilities off the vocabulary.
    num_choices = min(num_beams + 1, vocab_size)
    values, tokens = top_k_rows(allow(logits), num_choices)  # [batch * beams, choices]
    log_probs = choice_log_probs(values, log_normalizer).reshape(num_rows, num_beams, num_choices)
    log_probs = live_log_probs[:, :, None] + log_probs
    ranks = log_probs if rank is None else rank(log_probs)  # the same order within a beam
    flat = (num_rows, num_beams * num_choices)
    best_ranks, places = jax.lax.top_k(ranks.reshape(flat), min(2 * num_beams, num_beams * num_choices))
    tokens = jnp.take_along_axis(tokens.reshape(flat), places, axis=1)
    best = best_ranks if rank is None else jnp.take_along_axis(log_probs.reshape(flat), places, axis=1)
    return Candidates(places // num_choices, tokens, best, best_ranks)


def _add_to_pool(
    carry: BeamState,
    candidates: Candidates,
    ends: Bool[Array, "batch candidates"],
    limits: Int[Array, "batch"],
    *,
    pad_id: int,
    alpha: float,
    penalties: Float[Array, "batch beams"] | None,
) -> Pool:
    """The pool with the candidates among the first ``beams`` that end here; rows that stopped are frozen."""
    num_beams, num_best = carry.log_probs.shape[1], carry.pool.scores.shape[1]
    num_generated = carry.step + 1
    first = jax.tree.map(lambda leaf: leaf[:, :num_beams], candidates)
    ends = ends[:, :num_beams]
    accepted = carry.running[:, None] & (ends | (num_generated >= limits)[:, None])
    log_probs = jnp.where(accepted, first.log_probs, -jnp.inf)
    scores = log_probs / length_penalty(num_generated, alpha)
    if penalties is not None:
        scores = scores + take(penalties, first.parents)
    ended = Pool(
        tokens=extended_tokens(carry.tokens, first.parents, first.tokens, carry.step),
        lengths=jnp.where(ends, carry.step, num_generated),
        log_probs=log_probs,
        scores=scores,
        finished=ends,
    )
    merged = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1), carry.pool, ended)
    scores, places = jax.lax.top_k(merged.scores, num_best)
    pool = take(merged, places)
    exists = scores > -jnp.inf
    return Pool(
        tokens=jnp.where(exists[:, :, None], pool.tokens, pad_id),
        lengths=jnp.where(exists, pool.lengths, 0),
        log_probs=pool.log_probs,
        scores=scores,
        finished=pool.finished & exists,
    )


def _best_to_come(
    live_log_probs: Float[Array, "batch beams"], limits: Int[Array, "batch"], *, alpha: float
) -> Float[Array, "batch"]:
    """A score that no continuation of a live hypothesis exceeds: nothing more lost, the longest divisor."""
    return jnp.max(live_log_probs, axis=1) / length_penalty(limits, alpha)


def _ranking(
    penalties: Float[Array, "batch beams"], num_generated: Int[Array, ""], alpha: float
) -> Callable[[Array], Array]:
    """From log-probabilities ``[batch, beams, choices]``, the scores of hypotheses that would end here."""

    def rank(log_probs: Array) -> Array:
        return log_probs / length_penalty(num_generated, alpha) + penalties[:, :, None]

    return rank


def beam_search(
    model: StepModel,
    state: PyTree,
    config: BeamConfig,
    ids: SearchIds,
    rows: RowOptions = NO_ROW_OPTIONS,
) -> BeamOutput:
    r"""Follow the ``num_beams`` most probable prefixes of each row; return the best hypotheses by score.

    .. math:: s(y) = \frac{\log p(y \mid x)}{lp(|y|)} + cp(x, y), \quad
      lp(n) = \left(\frac{5 + n}{6}\right)^\alpha, \quad
      cp(x, y) = \beta \sum_i \log\min\Bigl(\sum_j p_{ij}, 1\Bigr)

    :math:`|y|` counts all generated tokens, the end of the sequence included, and so does
    :math:`\log p(y \mid x) = \sum_t \log p(y_t \mid y_{<t}, x)`. :math:`p_{ij}` is the attention of the step that
    chose token :math:`j` to source token :math:`i`.

    At each step the continuations of a row's live hypotheses are ranked by log-probability. Those among the
    first ``num_beams`` that end (or reach the row's limit, unfinished) go to a pool of the ``num_best`` best
    scores; the first ``num_beams`` that do not end live on. A row stops when no live hypothesis can enter the
    pool any more: its log-probability only falls, so its score stays below ``log p / lp(limit)``. One beam is
    greedy search: it stops at its first ended hypothesis, whatever the length penalty. Ties go to the better
    parent, then to the lower id.

    With a coverage penalty continuations are ranked by the score that they would have if they ended here, not by
    log-probability, so that a prefix which has left a part of the source out can lose its place to one that has not.

    Args:
      model: A model with ``step``.
      state: What ``model.start`` returned, not repeated: every leaf has the batch as axis 0. Leaves that the
        step hands through unchanged are not copied at each step (see ``reorder_state``).
      config: Beams, penalties and limits; the state must have room for ``max_len`` tokens.
      ids: Tokens that begin, end and fill up an output.
      rows: What is given for each row; a coverage penalty needs ``source_lengths``.

    Returns:
      The hypotheses of each row, best first; ``found`` tells of a row for which there is none.

    Raises:
      ConfigError: If an option or a token id is out of range, or a coverage penalty has no attention or lengths.
      ShapeError: If a leaf of ``state`` does not have the batch as axis 0, or there is no room for ``max_len`` tokens.

    Example:
      >>> from transformer_jax.decode import BeamConfig, SearchIds, TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> state = model.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=4)
      >>> config = BeamConfig(max_len=4, num_beams=3, num_best=2)
      >>> output = beam_search(model, state, config, SearchIds(bos_id=2, eos_id=3, pad_id=4))
      >>> output.tokens[0, 0].tolist(), bool(output.scores[0, 0] > output.scores[0, 1])
      ([1, 0, 3, 4], True)

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14; its penalties at each step: Klein et al.
    2017, https://arxiv.org/abs/1701.02810 (OpenNMT).
    """
    max_len, num_beams, num_best = config.max_len, config.num_beams, config.num_best
    alpha, eos_id, pad_id = config.length_penalty, ids.eos_id, ids.pad_id
    source_lengths = None if rows.source_lengths is None else jnp.asarray(rows.source_lengths)
    check_room(state, max_len)
    num_rows = state_batch_size(state)
    limits = row_limits(max_len, rows.max_lens, num_rows)
    beam_prefix = None if rows.prefix is None else jnp.repeat(jnp.asarray(rows.prefix), num_beams, axis=0)
    group_starts = num_beams * jnp.arange(num_rows)[:, None]  # [batch, 1]

    def should_continue(carry: BeamState) -> Array:
        return jnp.any(carry.running)

    def advance(carry: BeamState) -> BeamState:
        last_tokens, covered, penalties = carry.last_tokens.reshape(num_rows * num_beams), None, None
        if carry.covered is None:
            logits, model_state = model.step(carry.model_state, last_tokens)
        else:
            assert isinstance(model, AttendingStepModel)
            assert source_lengths is not None
            logits, weights, model_state = model.step_with_attention(carry.model_state, last_tokens)
            covered = carry.covered + weights.reshape(carry.covered.shape).astype(carry.covered.dtype)
            penalties = coverage_penalties(covered, source_lengths, config.coverage_penalty)
        check_token_id("eos_id", eos_id, logits.shape[-1])

        def allow(logits: Array) -> Array:
            return config.constraints.apply(
                forbid_tokens(logits, config.forbidden_ids),
                carry.tokens.reshape(num_rows * num_beams, max_len),
                carry.step,
                eos_id=eos_id,
                prefix=beam_prefix,
            )

        rank = None if penalties is None else _ranking(penalties, carry.step + 1, alpha)
        candidates = _extend(model, logits, carry.log_probs, allow, rank)
        ends = candidates.tokens == eos_id
        pool = _add_to_pool(carry, candidates, ends, limits, pad_id=pad_id, alpha=alpha, penalties=penalties)

        # Candidates are sorted, and top_k keeps the order of equals: these are the first that do not end.
        live_ranks, places = jax.lax.top_k(jnp.where(ends, -jnp.inf, candidates.ranks), num_beams)
        live = take(candidates, places)
        live_log_probs = jnp.where(live_ranks > -jnp.inf, live.log_probs, -jnp.inf)
        places = (group_starts + live.parents).reshape(-1)

        can_improve = _best_to_come(live_log_probs, limits, alpha=alpha) > pool.scores[:, -1]
        if num_beams == 1:
            can_improve = can_improve & (pool.scores[:, 0] == -jnp.inf)
        return BeamState(
            step=carry.step + 1,
            last_tokens=live.tokens,
            tokens=extended_tokens(carry.tokens, live.parents, live.tokens, carry.step),
            log_probs=live_log_probs,
            pool=pool,
            running=carry.running & can_improve & (carry.step + 1 < limits),
            model_state=reorder_state(model_state, carry.model_state, places),
            covered=None if covered is None else take(covered, live.parents),
        )

    repeated = repeat_state(state, num_beams)
    covered = None
    if config.coverage_penalty:
        covered = nothing_covered(model, repeated, num_beams, source_lengths)

    final = jax.lax.while_loop(
        should_continue,
        advance,
        BeamState(
            step=jnp.int32(0),
            last_tokens=jnp.tile(rows.tokens_to_feed(ids, num_rows)[:, None], (1, num_beams)),
            tokens=jnp.full((num_rows, num_beams, max_len), pad_id, dtype=jnp.int32),
            # All beams of a row are equal at first: one of them stands for all.
            log_probs=jnp.tile(jnp.where(jnp.arange(num_beams) == 0, 0.0, -jnp.inf)[None], (num_rows, 1)),
            pool=empty_pool(limits, num_best, max_len, pad_id),
            running=limits > 0,
            model_state=repeated,
            covered=covered,
        ),
    )
    pool = final.pool
    return BeamOutput(pool.tokens, pool.lengths, pool.log_probs, pool.scores, pool.finished, final.step)
