"""State of a recurrent decoder: the source's, shared by all hypotheses, and the target's, one for each."""

from typing import Any

import jax.numpy as jnp

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.pointer import CopySource
from transformer_jax.nn.score_attention import ScoreMemory
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["RecurrentState", "SourceMemory"]


@pytree_dataclass
class SourceMemory:
    """Prepared sources of a decoder.

    A beam search neither repeats nor reorders it: row ``i`` is the memory of the hypotheses from ``i * n`` on, ``n``
    hypotheses side by side. With as many rows of hypotheses as of sources it is a row for each.

    Attributes:
      lengths: Tokens of each source.
      prepared: The encoder's outputs as attention asks them; ``None`` without attention.
      context: Constant input of each step, the context of Cho et al.; ``None`` if there is none.
      tokens: The source's ids, for a model that copies them; ``None`` for others.

    Example:
      >>> memory = SourceMemory(jnp.array([3, 2]), None, jnp.ones((2, 4)))
      >>> memory.repeated(5) is memory, memory.context_of(10).shape, memory.by_source(jnp.ones((10, 1, 6))).shape
      (True, (10, 4), (2, 5, 6))
    """

    lengths: Int[Array, "sources"]
    prepared: ScoreMemory | None
    context: Float[Array, "sources features"] | None = None
    tokens: Int[Array, "sources kv_len"] | None = None

    def repeated(self, num_copies: int) -> "SourceMemory":
        """The memory itself, for any number of hypotheses."""
        del num_copies
        return self

    def mask(self) -> AttentionMask:
        """Which source positions exist."""
        return AttentionMask.from_lengths(self.lengths, self.asked().value.shape[1])

    def copied(self, num_rows: int) -> CopySource:
        """Sources of ``num_rows`` hypotheses, to copy from."""
        assert self.tokens is not None
        num_sources = self.lengths.shape[0]
        copies = num_rows // num_sources if num_sources else 1
        return CopySource(*(jnp.repeat(array, copies, axis=0) for array in (self.tokens, self.lengths)))

    def asked(self) -> ScoreMemory:
        """Keys and values of the attention; only where there is attention."""
        assert self.prepared is not None
        return self.prepared

    def by_source(self, array: Array) -> Array:
        """``[rows, q_len, ...]`` to ``[sources, rows / sources * q_len, ...]``: what asks one memory, side by side."""
        num_sources, (num_rows, q_len, *rest) = self.lengths.shape[0], array.shape
        num_hypotheses = num_rows // num_sources if num_sources else 1  # of each source
        return array.reshape(num_sources, num_hypotheses * q_len, *rest)

    @staticmethod
    def by_row(array: Array, num_rows: int) -> Array:
        """Results for one query a row, ``[sources, ..., rows / sources, ..., width]``, as ``[rows, width]``."""
        return array.reshape(num_rows, array.shape[-1])

    def context_of(self, num_rows: int) -> Array | None:
        """The context of each hypothesis, ``[num_rows, features]``, or ``None``."""
        if self.context is None:
            return None
        num_sources, width = self.context.shape
        copies = (num_sources, num_rows // num_sources if num_sources else 1, width)
        return jnp.broadcast_to(self.context[:, None], copies).reshape(num_rows, width)


@pytree_dataclass
class RecurrentState:
    """Everything a recurrent decoder remembers; the batch is axis 0 of every leaf.

    Attributes:
      carries: One carry a layer.
      memory: What is known of the source; the hypotheses of a beam search share it.
      fed: What is fed to the next step beside the token: the last attentional vector of Luong et al., or ``None``.
      steps: Target tokens read so far, for local attention; ``None`` where nobody asks.
      coverage: Sum of the attention weights of all former steps; ``None`` without coverage.
    """

    carries: Any
    memory: SourceMemory
    fed: Float[Array, "batch features"] | None = None
    steps: Int[Array, "batch"] | None = None
    coverage: Float[Array, "batch kv_len"] | None = None

    def steps_ahead(self, ahead: Int[Array, "q_len"]) -> Int[Array, "batch q_len"]:
        """Which steps come ``ahead`` of those done."""
        assert self.steps is not None
        return self.steps[:, None] + ahead[None, :].astype(self.steps.dtype)
