"""Constraints on hypotheses: no end before a least length, no repeated n-gram, a given beginning."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp

from transformer_jax.bounds import AtMost, Length, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Float, Int


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Rules that every search keeps; a forbidden token has the log-probability ``-inf``, others keep theirs.

    Attributes:
      min_len: Fewest tokens before the end of the sequence.
      no_repeat_ngram: No sequence of so many tokens (at most 100) comes twice; 0 for no such rule.
    """

    min_len: Length = 0
    no_repeat_ngram: Annotated[int, AtMost(100)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("min_len", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0; got {getattr(self, name)}")

    def apply(
        self,
        logits: Float[Array, "rows vocab"],
        tokens: Int[Array, "rows max_len"],
        step: Int[Array, ""],
        *,
        eos_id: int,
        prefix: Int[Array, "rows prefix_len"] | None = None,
    ) -> Float[Array, "rows vocab"]:
        """Logits with ``-inf`` at what may not come next.

        Args:
          logits: Cleaned logits of the next token.
          tokens: Tokens so far, and anything from ``step`` on.
          step: Number of tokens so far.
          eos_id: Token that ends a sequence.
          prefix: Tokens that each row must begin with, ``-1`` where it is free; the rules above do not hold there.

        Returns:
          The masked logits.

        Example:
          >>> rules = Constraints(no_repeat_ngram=2)
          >>> so_far = jnp.array([[1, 2, 1, 0]])
          >>> rules.apply(jnp.zeros((1, 4)), so_far, jnp.int32(3), eos_id=3).tolist()  # after 1 came 2
          [[0.0, 0.0, -inf, 0.0]]
        """
        allowed = logits
        if self.min_len:
            is_end = (jnp.arange(logits.shape[1]) == eos_id)[None]
            allowed = jnp.where(is_end & (step < self.min_len), -jnp.inf, allowed)
        if 0 < self.no_repeat_ngram <= tokens.shape[1]:
            allowed = _without_repeats(allowed, tokens, step, self.no_repeat_ngram)
        if prefix is None or not prefix.shape[1]:
            return allowed
        place = jnp.minimum(step, prefix.shape[1] - 1)
        wanted = jnp.take_along_axis(prefix, jnp.full((len(prefix), 1), place), axis=1)
        wanted = jnp.where(step < prefix.shape[1], wanted, -1)
        is_other = jnp.arange(logits.shape[1])[None] != wanted
        return jnp.where(wanted < 0, allowed, jnp.where(is_other, -jnp.inf, logits))


NONE = Constraints()


def _without_repeats(logits: Array, tokens: Array, step: Array, size: int) -> Array:
    """``-inf`` at tokens that would complete an n-gram which ``tokens[:, :step]`` holds already.

    Source: Paulus et al. 2018, https://arxiv.org/abs/1705.04304, section 2.5 (trigrams).
    """
    num_rows, max_len = tokens.shape
    num_grams = max_len - size + 1
    # Of the last size - 1 tokens; where there are fewer, no n-gram is complete yet and none counts as the same.
    begin = jnp.maximum(step - size + 1, 0)
    same = jnp.arange(num_grams)[None] + size <= step
    for offset in range(size - 1):
        last = jnp.take_along_axis(tokens, jnp.full((num_rows, 1), begin + offset), axis=1)
        same = same & (tokens[:, offset : offset + num_grams] == last)
    completing = tokens[:, size - 1 :]
    return logits.at[jnp.arange(num_rows)[:, None], completing].min(jnp.where(same, -jnp.inf, jnp.inf))
