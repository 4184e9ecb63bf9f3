"""Several models as one: the mean of their probabilities at each step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import require
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["Ensemble", "EnsembleState"]


@pytree_dataclass
class EnsembleState:
    """The states of all members."""

    members: tuple[Any, ...]


class Ensemble(nnx.Module):
    r"""Models of one vocabulary that write together.

    .. math:: \log p(y_t \mid y_{<t}, x) = \log \frac{1}{n} \sum_{m=1}^n p_m(y_t \mid y_{<t}, x)

    Each member keeps a state of its own, so that members may be of any kinds.

    Args:
      members: At least one; each with the calls that are made.

    Raises:
      ConfigError: If there is none.

    Example:
      >>> from transformer_jax.decode.protocol import TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> one = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> pair = Ensemble([one, one])
      >>> state = pair.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=4)
      >>> log_probs, state = pair.step(state, jnp.array([2]))
      >>> f"{float(jnp.exp(log_probs).sum()):.4f}"
      '1.0000'

    Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, section 3.6; the mean of probabilities as in Marian
    and fairseq.
    """

    gives_log_probs = True

    def __init__(self, members: Sequence[Any]) -> None:
        require(len(members) > 0, "an ensemble needs at least one model")
        self.members = nnx.List(members)

    def start(self, inputs: Any, *, max_len: int) -> EnsembleState:
        """Read the inputs by each member."""
        return EnsembleState(tuple(one.start(inputs, max_len=max_len) for one in self.members))

    def step(
        self, state: EnsembleState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], EnsembleState]:
        """Feed one token a row; log-probabilities of the next one, and the new state."""
        found = [one.step(own, tokens) for one, own in zip(self.members, state.members, strict=True)]
        return self._mean([logits for logits, _ in found]), EnsembleState(tuple(own for _, own in found))

    def __call__(
        self, source_tokens: Array, source_lengths: Array, target_inputs: Array, *, rng_key: Any = None
    ) -> Float[Array, "batch q_len vocab"]:
        """Log-probabilities of the token after each target input, as members give logits of it."""
        return self._mean(
            [one(source_tokens, source_lengths, target_inputs, rng_key=rng_key) for one in self.members]
        )

    def attention_maps(self, *inputs: Any) -> dict[str, Any]:
        """Nothing: members look at their sources each by itself."""
        return {}

    def _mean(self, logits: Sequence[Float[Array, "*rows vocab"]]) -> Float[Array, "*rows vocab"]:
        log_probs = [jax.nn.log_softmax(one.astype(jnp.float32), axis=-1) for one in logits]
        return jax.nn.logsumexp(jnp.stack(log_probs), axis=0) - jnp.log(float(len(log_probs)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleLimits:
    """What an ensemble takes: the least of what its members take.

    Attributes:
      source_limit: The longest source in tokens; None where no member has a limit.
      target_limit: The same of targets, the end included.
    """

    source_limit: int | None
    target_limit: int | None

    @classmethod
    def of(cls, configs: Sequence[Any]) -> "EnsembleLimits":
        """The limits of members with these configs.

        Example:
          >>> from types import SimpleNamespace
          >>> short = SimpleNamespace(source_limit=9, target_limit=None)
          >>> EnsembleLimits.of([short, SimpleNamespace(source_limit=None, target_limit=None)])
          EnsembleLimits(source_limit=9, target_limit=None)
        """

        def least(name: str) -> int | None:
            return min(
                (found for one in configs if (found := getattr(one, name, None)) is not None), default=None
            )

        return cls(source_limit=least("source_limit"), target_limit=least("target_limit"))
