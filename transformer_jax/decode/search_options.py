"""Options that every search takes: the special ids of its vocabulary, and what is given for each row."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import SampleConfig, SearchConfig
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.pytree import pytree_dataclass, replace
from transformer_jax.typing import Array, Int


@dataclass(frozen=True, kw_only=True)
class SearchIds:
    """Special ids of the vocabulary that a search generates from.

    Attributes:
      bos_id: Token that is fed first, where a row has no first token of its own.
      eos_id: Token that ends a hypothesis.
      pad_id: Fills the outputs after the end.

    Example:
      >>> SearchIds(bos_id=2, eos_id=3)
      SearchIds(bos_id=2, eos_id=3, pad_id=0)
    """

    bos_id: int
    eos_id: int
    pad_id: int = 0


@pytree_dataclass
class RowOptions:
    """Options of a search for each row of its batch; None leaves one out.

    Attributes:
      max_lens: Each row's own limit of its output, at most the config's ``max_len``; 0 skips the row.
      prefix: Tokens that each output must begin with, ``-1`` where it is free.
      first_tokens: Token that is fed first, in place of ``bos_id``: the last of a language model's prompt.
      row_ids: For sampling a number for each row, from which it draws; rows are numbered from 0 without it.
      context: Tokens before the outputs, such as prompts, which a repetition penalty counts as said already.
      source_lengths: Tokens of each source, for a coverage penalty alone.

    Example:
      >>> RowOptions(max_lens=jnp.array([4, 0])).prefix is None
      True
    """

    max_lens: Int[Array | np.ndarray, "batch"] | None = None
    prefix: Int[Array | np.ndarray, "batch prefix_len"] | None = None
    first_tokens: Int[Array | np.ndarray, "batch"] | None = None
    row_ids: Int[Array | np.ndarray, "batch"] | None = None
    context: TokenInputs | None = None
    source_lengths: Int[Array | np.ndarray, "batch"] | None = None

    def tokens_to_feed(self, ids: SearchIds, num_rows: int) -> Int[Array, "batch"]:
        """The token that each row is fed first.

        Example:
          >>> RowOptions().tokens_to_feed(SearchIds(bos_id=2, eos_id=3), 2).tolist()
          [2, 2]
        """
        if self.first_tokens is None:
            return jnp.full((num_rows,), ids.bos_id, dtype=jnp.int32)
        return jnp.asarray(self.first_tokens).astype(jnp.int32)


NO_ROW_OPTIONS = RowOptions()


def filled_rows(rows: RowOptions, config: SearchConfig, num_rows: int) -> RowOptions:
    """The options of the rows on the device, with the limits and numbers that every search has.

    Args:
      rows: What a caller gives.
      config: Which search.
      num_rows: Rows of the batch.

    Raises:
      ConfigError: If there are ``row_ids`` for a search that draws nothing.
      ShapeError: If an option does not have ``num_rows`` rows, or ``prefix`` not ``max_len`` columns.

    Example:
      >>> from transformer_jax.decode import GreedyConfig
      >>> filled_rows(RowOptions(), GreedyConfig(max_len=4), 2).max_lens.tolist()
      [4, 4]
    """
    max_len, is_sampling = config.max_len, isinstance(config, SampleConfig)
    if rows.row_ids is not None and not is_sampling:
        raise ConfigError(f"{config.kind} search takes no row_ids")
    for name in ("max_lens", "first_tokens", "row_ids"):
        value = getattr(rows, name)
        if value is not None and np.shape(value) != (num_rows,):
            raise ShapeError(f"{name} must be [batch], here ({num_rows},); got {np.shape(value)}")
    if rows.prefix is not None and np.shape(rows.prefix) != (num_rows, max_len):
        raise ShapeError(
            f"prefix must be [batch, max_len], here ({num_rows}, {max_len}); got {np.shape(rows.prefix)}"
        )
    numbers = np.arange(num_rows) if rows.row_ids is None and is_sampling else rows.row_ids
    limits = np.full(num_rows, max_len) if rows.max_lens is None else rows.max_lens
    filled = replace(rows, max_lens=limits, row_ids=numbers, source_lengths=None)
    return jax.tree.map(on_device, filled)


def on_device(leaf: Any) -> jax.Array:
    """An array on the device, put there by name: a transfer guard stops what a call would move unasked.

    Whole numbers of any width become int32.

    Example:
      >>> on_device(np.arange(3)).dtype.name
      'int32'
    """
    if isinstance(leaf, jax.Array):
        return leaf.astype(jnp.int32) if jnp.issubdtype(leaf.dtype, np.integer) else leaf
    array = np.asarray(leaf)
    return jax.device_put(array.astype(np.int32) if np.issubdtype(array.dtype, np.integer) else array)
