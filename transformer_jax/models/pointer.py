"""The copy head of pair models: a gate between the vocabulary and the source, over any attention decoder."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import TokenId, check_at_least, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional.pointer import CopySource, pointer_log_probs
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float, Int

__all__ = ["Pointer", "PointerHead", "check_one_vocabulary"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pointer:
    """A model that may copy source tokens; source and target have one vocabulary.

    Attributes:
      extended: Whether words that the vocabulary does not have can be copied, too; goes with ``data.copies_unknown``,
        which gives them ids from the vocabulary's size on.
      unknown_id: The token as which such words are read.
    """

    kind: Literal["pointer"] = "pointer"
    extended: bool = False
    unknown_id: TokenId = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(0, unknown_id=self.unknown_id)


class PointerHead(nnx.Module):
    r"""A gate from the states before the output projection, and the mixture that it stands for.

    .. math:: p(w) = \sigma(v \cdot o_t + b)\, \mathrm{softmax}(E o_t)_w
      + (1 - \sigma(v \cdot o_t + b)) \sum_{j : x_j = w} a_{tj}

    The paper's gate sees context, state and input of the step side by side; :math:`o_t` is made from these three.

    Args:
      config: The variant.
      hidden_dim: Width of the states :math:`o_t`.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Source: See et al. 2017, https://arxiv.org/abs/1704.04368, section 2.2.
    """

    def __init__(self, config: Pointer, hidden_dim: int, vocab_size: int, *, rngs: nnx.Rngs) -> None:
        self.extended = config.extended
        self.unknown_id = config.unknown_id
        self.vocab_size = vocab_size
        self.gate = Linear(hidden_dim, (1,), use_bias=True, rngs=rngs)

    def gates(self, hidden: Float[Array, "batch time hidden"]) -> Float[Array, "batch time"]:
        """The probability of generating, before the sigmoid."""
        return self.gate(hidden)[..., 0].astype(jnp.float32)

    def log_probs(
        self,
        logits: Float[Array, "batch time vocab"],
        hidden: Float[Array, "batch time hidden"],
        attention: Float[Array, "batch time kv_len"],
        source: CopySource,
    ) -> Float[Array, "batch time extended_vocab"]:
        """Log-probabilities of all tokens, the source's unknown words behind those of the vocabulary."""
        return pointer_log_probs(logits, self.gates(hidden), attention, source, extended=self.extended)

    def known(self, tokens: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """Tokens that have an embedding: words with an extended id are read as unknown ones."""
        if not self.extended:
            return tokens
        return jnp.where(tokens >= self.vocab_size, self.unknown_id, tokens)


def check_one_vocabulary(pointer: Pointer | None, source_vocab_size: int, target_vocab_size: int) -> None:
    """Raise ``ConfigError`` if a pointer meets two vocabularies, whose ids cannot be copied."""
    if pointer is not None and source_vocab_size != target_vocab_size:
        raise ConfigError(
            f"pointer needs one vocabulary, got source_vocab_size {source_vocab_size} and target_vocab_size "
            f"{target_vocab_size}: set data.share_vocabulary"
        )
