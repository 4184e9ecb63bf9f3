"""Options that every search takes: the special ids of its vocabulary, and what is given for each row."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.pytree import pytree_dataclass
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
    """What a search takes for each row of its batch, all of it optional; None leaves it out.

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
