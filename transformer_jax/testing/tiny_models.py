"""Step models that are tables, so that the whole space of their outputs can be enumerated by hand."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ShapeError
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


@pytree_dataclass
class TextState:
    """State of ``TableLanguageModel``: a number that encodes all tokens read so far, and room for more."""

    read: Int[Array, "batch"]
    cache: Int[Array, "batch room"]

    @property
    def capacity(self) -> int:
        """How many more tokens may be fed."""
        return self.cache.shape[1]


class TableLanguageModel(nnx.Module):
    """A language model that is a table indexed by all tokens that it has read, prompt and outputs alike.

    Args:
      table: Logits ``[prefixes, vocab]``; the number of a prefix is taken modulo their number.
      context_len: Most tokens of a prompt, with its padding, and of what is fed after it; None for no end.
    """

    def __init__(self, table: np.ndarray | Array, *, context_len: int | None = None):
        self.table = nnx.Param(jnp.asarray(table, dtype=jnp.float32))
        self.context_len = context_len

    @classmethod
    def random(
        cls, seed: int = 0, *, vocab_size: int = 8, scale: float = 1.5, context_len: int | None = None
    ) -> "TableLanguageModel":
        """A table of normal numbers."""
        generator = np.random.default_rng(seed)
        return cls(scale * generator.normal(size=(1009, vocab_size)), context_len=context_len)

    def _read(self, read: Array, tokens: Array) -> Array:
        num_prefixes, vocab_size = self.table[...].shape
        return (read * vocab_size + tokens + 1) % num_prefixes

    def start(self, inputs: TokenInputs, *, max_len: int) -> TextState:
        """Read the prompts.

        Raises:
          ShapeError: If the context is too short for ``max_len`` more tokens.
        """
        tokens, lengths = jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths)
        total = tokens.shape[1] + max_len
        if self.context_len is not None and total > self.context_len:
            raise ShapeError(f"context_len must be at least {total}; got {self.context_len}")
        read = jnp.zeros(len(lengths), jnp.int32)
        for place in range(tokens.shape[1]):
            read = jnp.where(place < lengths, self._read(read, tokens[:, place]), read)
        return TextState(read, jnp.zeros((len(lengths), max_len), jnp.int32))

    def step(
        self, state: TextState, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], TextState]:
        """Logits after one more token."""
        read = self._read(state.read, tokens)
        return self.table[...][read], TextState(read, state.cache)

    def __call__(
        self, tokens: Int[Array, "batch q_len"], *, segments: None = None, rng_key: None = None
    ) -> Float[Array, "batch q_len vocab"]:
        """Logits after each token."""
        state, logits = TextState(jnp.zeros(len(tokens), jnp.int32), tokens), []
        for place in range(tokens.shape[1]):
            after, state = self.step(state, tokens[:, place])
            logits.append(after)
        return jnp.stack(logits, axis=1)

    def logits_after(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits after these tokens, by NumPy in float64: the tests' oracle."""
        table = np.asarray(self.table[...], dtype=np.float64)
        code = 0
        for token in tokens:
            code = (code * table.shape[1] + int(token) + 1) % table.shape[0]
        return table[code]
