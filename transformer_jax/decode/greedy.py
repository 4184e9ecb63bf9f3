"""Greedy search: the most probable token at each step."""

from transformer_jax.decode.constraints import NONE, Constraints
from transformer_jax.decode.logits import top_k_rows
from transformer_jax.decode.protocol import StepModel
from transformer_jax.decode.token_loop import DecodeOutput, token_loop
from transformer_jax.typing import Array, Int, PyTree


def most_probable_tokens(logits: Array, step: Array | None = None) -> Array:
    """Column of the largest value of each row, ties to the lower id (faster than ``argmax`` on the CPU).

    Example:
      >>> import jax.numpy as jnp
      >>> most_probable_tokens(jnp.array([[0.0, 2.0, 2.0]])).tolist()
      [1]
    """
    return top_k_rows(logits, 1)[1][:, 0]


def greedy_search(
    model: StepModel,
    state: PyTree,
    *,
    bos_id: int,
    eos_id: int,
    max_len: int,
    pad_id: int = 0,
    max_lens: Int[Array, "batch"] | None = None,
    forbidden_ids: tuple[int, ...] = (),
    constraints: Constraints = NONE,
    prefix: Int[Array, "batch prefix_len"] | None = None,
) -> DecodeOutput:
    r"""Take the most probable token at each step, until every row has ended.

    .. math:: y_t = \arg\max_y p(y \mid y_{<t}, x)

    Ties go to the lower id. A row without a possible token (all logits ``-inf`` or NaN) stops there,
    unfinished, with log-probability ``-inf``. Runs under ``jit``; the loop is one ``lax.while_loop``.

    Args:
      model: A model with ``step``.
      state: What ``model.start`` returned: every leaf has the batch as axis 0.
      bos_id: Token that is fed first.
      eos_id: Token that ends a row.
      max_len: Most tokens to generate, the end of the sequence included; the state must have room for them.
      pad_id: Fills ``tokens`` after the end.
      max_lens: Each row's own limit, at most ``max_len``; None for no own limits.
      forbidden_ids: Tokens never to choose; the log-probabilities stay the model's own.
      constraints: Least length and n-grams that may not come twice.
      prefix: Tokens that each row must begin with, ``[batch, prefix_len]``, ``-1`` where it is free; None for none.

    Returns:
      One hypothesis a row; ``found`` tells of rows without a possible token.

    Raises:
      ConfigError: If ``max_len`` is below 1 or a token id is not in the vocabulary.
      ShapeError: If a leaf of ``state`` does not have the batch as axis 0, or there is no room for ``max_len`` tokens.

    Example:
      >>> import jax.numpy as jnp
      >>> from transformer_jax.decode import TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)  # After 2 comes 1, then 0, then the end.
      >>> state = model.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=6)
      >>> output = greedy_search(model, state, bos_id=2, eos_id=3, pad_id=4, max_len=6)
      >>> output.tokens.tolist(), output.lengths.tolist(), output.finished.tolist()
      ([[1, 0, 3, 4, 4, 4]], [2], [True])

    Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, section 3.2 (a beam of one).
    """
    return token_loop(
        model,
        state,
        most_probable_tokens,
        bos_id=bos_id,
        eos_id=eos_id,
        max_len=max_len,
        pad_id=pad_id,
        max_lens=max_lens,
        forbidden_ids=forbidden_ids,
        constraints=constraints,
        prefix=prefix,
    )
