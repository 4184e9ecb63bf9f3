"""Greedy search: the most probable token at each step."""

from transformer_jax.decode.logits import top_k_rows
from transformer_jax.decode.protocol import StepModel
from transformer_jax.decode.search_config import GreedyConfig
from transformer_jax.decode.search_options import NO_ROW_OPTIONS, RowOptions, SearchIds
from transformer_jax.decode.token_loop import DecodeOutput, token_loop
from transformer_jax.typing import Array, PyTree


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
    config: GreedyConfig,
    ids: SearchIds,
    rows: RowOptions = NO_ROW_OPTIONS,
) -> DecodeOutput:
    r"""Take the most probable token at each step, until every row has ended.

    .. math:: y_t = \arg\max_y p(y \mid y_{<t}, x)

    Ties go to the lower id. A row without a possible token (all logits ``-inf`` or NaN) stops there,
    unfinished, with log-probability ``-inf``. Runs under ``jit``; the loop is one ``lax.while_loop``.

    Args:
      model: A model with ``step``.
      state: What ``model.start`` returned: every leaf has the batch as axis 0.
      config: Limits of the outputs; the state must have room for ``max_len`` tokens.
      ids: Tokens that begin, end and fill up an output.
      rows: What is given for each row.

    Returns:
      One hypothesis a row; ``found`` tells of rows without a possible token.

    Raises:
      ConfigError: If a token id is not in the vocabulary.
      ShapeError: If a leaf of ``state`` does not have the batch as axis 0, or there is no room for ``max_len`` tokens.

    Example:
      >>> import jax.numpy as jnp
      >>> from transformer_jax.decode import GreedyConfig, SearchIds, TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)  # After 2 comes 1, then 0, then the end.
      >>> state = model.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=6)
      >>> output = greedy_search(model, state, GreedyConfig(max_len=6), SearchIds(bos_id=2, eos_id=3, pad_id=4))
      >>> output.tokens.tolist(), output.lengths.tolist(), output.finished.tolist()
      ([[1, 0, 3, 4, 4, 4]], [2], [True])

    Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, section 3.2 (a beam of one).
    """
    return token_loop(model, state, most_probable_tokens, config, ids, rows)
