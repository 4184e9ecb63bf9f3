"""A step model that is a table, so that the whole space of its outputs can be enumerated by hand."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int


@pytree_dataclass
class TableState:
    """State of ``TableModel``: the source's table, and a number that encodes all tokens fed so far."""

    source: Int[Array, "batch"]
    prefix: Int[Array, "batch"]


class TableModel(nnx.Module):
    """Logits from a table indexed by the source's first token and by the whole prefix of fed tokens.

    Since the logits depend on every earlier token, a search that mixes up rows of the state scores wrongly.

    Args:
      table: Logits ``[sources, prefixes, vocab]``; sources and prefixes are taken modulo their number.
    """

    def __init__(self, table: np.ndarray | Array):
        self.table = nnx.Param(jnp.asarray(table, dtype=jnp.float32))

    @classmethod
    def random(
        cls,
        seed: int = 0,
        *,
        num_sources: int = 3,
        num_prefixes: int = 2048,
        vocab_size: int = 5,
        scale: float = 1.0,
    ) -> "TableModel":
        """A table of normal numbers."""
        generator = np.random.default_rng(seed)
        return cls(scale * generator.normal(size=(num_sources, num_prefixes, vocab_size)))

    @classmethod
    def countdown(cls, *, vocab_size: int = 5, eos_id: int = 3) -> "TableModel":
        """After token ``n`` comes ``n - 1``, after 0 the end; the margin is 9 logits."""
        # The prefix number modulo vocab_size is the last token plus one.
        last_tokens = (np.arange(vocab_size) - 1) % vocab_size
        following = np.where(last_tokens == 0, eos_id, last_tokens - 1)
        return cls(9.0 * np.eye(vocab_size)[following][None])

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.table[...].shape[-1]

    def start(self, inputs: TokenInputs, *, max_len: int) -> TableState:
        """State before the first token."""
        del max_len
        source = jnp.asarray(inputs.tokens)[:, 0]
        return TableState(source, jnp.zeros_like(source))

    def step(
        self, state: TableState, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], TableState]:
        """Logits after one more token."""
        num_sources, num_prefixes, vocab_size = self.table[...].shape
        prefix = (state.prefix * vocab_size + tokens + 1) % num_prefixes
        return self.table[...][state.source % num_sources, prefix], TableState(state.source, prefix)

    def prefix_log_probs(self, source: int, prefix: Sequence[int]) -> np.ndarray:
        """Log-probabilities after feeding ``prefix``, by NumPy in float64: the tests' oracle."""
        table = np.asarray(self.table[...], dtype=np.float64)
        code = 0
        for token in prefix:
            code = (code * table.shape[2] + int(token) + 1) % table.shape[1]
        logits = table[source % table.shape[0], code]
        return logits - logits.max() - np.log(np.sum(np.exp(logits - logits.max())))
