"""The contestants of the race: next-token models that differ in nothing but what carries time.

Embedding, two layers, and logits tied to the embedding. A recurrent model runs over time, by the implementation that
its name asks for; a Transformer sees all positions at once under a causal mask; linear attention is the same
Transformer with linear self-attention. All can go on from a state, one token or many at a time.
"""

import dataclasses
import functools
from typing import Any, Protocol

import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.losses import projected_cross_entropy
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.positions import sinusoidal_at
from transformer_jax.functional.recurrent import CELLS, LSTMCell, cell_class, recurrence
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.norms import make_norm
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.nn.recurrent import RecurrentCell
from transformer_jax.nn.transformer_layers import EncoderLayer, TransformerLayerConfig, empty_cache
from transformer_jax.typing import Array

NUM_LAYERS = 2
HEAD_DIM = 32
TOLERANCE = 0.02
"""By how much a contestant's parameters may differ from the Transformer's, as a share."""

CELL_KINDS = tuple(cell.kind for cell in CELLS)
ATTENDERS = ("transformer", "linear_attention")
PEERS = ("torch_lstm", "torch_gru", "torch_transformer")

_CLASSIC = {"scan": "gates folded, own backward pass", "plain": "lax.scan as JAX differentiates it"}
_NEWTON = {"parallel": "all steps at once by Newton's method"}
_CUDNN = {"cudnn": "NVIDIA's own kernel"}
_LINEAR = {"scan": "one step after the other", "associative": "all steps at once in a tree"}
_ATTENTION = {"blockwise": "in linear memory", "reference": "holds every weight"}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A contestant by name, ``kind`` or ``kind:implementation``.

    Attributes:
      name: As it was asked for.
      kind: What carries time.
      implementation: How; ``None`` = what the library takes.
    """

    name: str
    kind: str
    implementation: str | None

    @property
    def is_peer(self) -> bool:
        """Whether it is PyTorch's."""
        return self.kind in PEERS


def implementations_of(kind: str) -> dict[str, str]:
    """The implementations of a kind that can be asked for, each with a few words."""
    if kind in CELL_KINDS:
        cell = cell_class(kind)
        if cell.is_linear:
            return _LINEAR
        return {**_CLASSIC, **_NEWTON, **(_CUDNN if cell is LSTMCell else {})}
    return _ATTENTION if kind == "transformer" else {}


def parse(name: str) -> Spec:
    """A contestant's name.

    Raises:
      ConfigError: If there is no such kind, or the kind has no such implementation.

    Example:
      >>> parse("lstm:parallel").implementation
      'parallel'
    """
    kind, _, implementation = name.partition(":")
    kinds = (*CELL_KINDS, *ATTENDERS, *PEERS)
    if kind not in kinds:
        raise ConfigError(
            f"contestant must be one of {', '.join(kinds)}; got '{name}'{nearest_hint(kind, kinds)}"
        )
    known = implementations_of(kind)
    if implementation and implementation not in known:
        choices = ", ".join(f"{kind}:{one}" for one in known) or "no other implementation than its own"
        raise ConfigError(f"'{kind}' has {choices}; got '{name}'{nearest_hint(implementation, known)}")
    return Spec(name, kind, implementation or None)


class NextToken(Protocol):
    """What a contestant's model can do."""

    embedding: Embedding

    def __call__(self, tokens: Array) -> Array:
        """Hidden states ``[batch, time, width]`` of tokens ``[batch, time]``."""

    def start(self, batch: int, capacity: int) -> Any:
        """The state before the first token, with room for ``capacity`` tokens where it needs room."""

    def extend(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Hidden states of the next tokens, and the state after them."""


class RecurrentModel(nnx.Module):
    """Embedding and recurrent layers of its width.

    Args:
      kind: The cell.
      width: Of embedding and carry.
      vocab_size: Number of tokens.
      implementation: Of the recurrence.
      rngs: Source of the initial parameters.
    """

    def __init__(
        self, kind: str, width: int, vocab_size: int, *, implementation: str | None, rngs: nnx.Rngs
    ) -> None:
        self.embedding = Embedding(vocab_size, width, padding_id=None, scale="none", rngs=rngs)
        self.cells = nnx.List([RecurrentCell(kind, width, width, rngs=rngs) for _ in range(NUM_LAYERS)])
        self.implementation = {"plain": "reference"}.get(implementation or "", implementation)
        self.unroll = 1

    def __call__(self, tokens: Array) -> Array:
        """See :class:`NextToken`."""
        return self._run(tokens, [None] * NUM_LAYERS, self.implementation)[0]

    def start(self, batch: int, capacity: int) -> Any:
        """See :class:`NextToken`; it needs no room."""
        del capacity
        return [cell.cell().initial_carry(batch) for cell in self.cells]

    def extend(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """See :class:`NextToken`; a single token is a step of a scan."""
        return self._run(tokens, state, None if tokens.shape[1] == 1 else self.implementation)

    def _run(self, tokens: Array, carries: Any, implementation: str | None) -> tuple[Array, list[Any]]:
        x, after = self.embedding(tokens), []
        for cell, carry in zip(self.cells, carries, strict=True):
            x, carry = recurrence(
                cell.cell(), x, initial_carry=carry, implementation=implementation, unroll=self.unroll
            )
            after.append(carry)
        return x, after


class AttentionModel(nnx.Module):
    """Embedding, sinusoids, pre-norm layers under a causal mask and a last norm: a decoder-only Transformer.

    Args:
      width: Of the residual stream; a multiple of 32, the width of a head.
      vocab_size: Number of tokens.
      is_linear: Whether its self-attention is linear.
      implementation: Of softmax attention.
      rngs: Source of the initial parameters.
    """

    def __init__(
        self, width: int, vocab_size: int, *, is_linear: bool, implementation: str | None, rngs: nnx.Rngs
    ) -> None:
        heads = max(1, width // HEAD_DIM)
        config = TransformerLayerConfig(
            model_dim=width, num_heads=heads, num_kv_heads=heads, feed_forward_dim=4 * width, dropout_rate=0.0,
            attention_dropout_rate=0.0, activation_dropout_rate=0.0, norm_placement="pre", normalization="layer",
            norm_epsilon=1e-6, activation="relu", attention_bias=False, rotary_base=None,
            self_attention="linear" if is_linear else "softmax",
        )  # fmt: skip
        self.width = width
        self.embedding = Embedding(vocab_size, width, padding_id=None, scale="sqrt_dim", rngs=rngs)
        self.layers = nnx.List([EncoderLayer(config, rngs=rngs) for _ in range(NUM_LAYERS)])
        self.final_norm = make_norm("layer", width, epsilon=1e-6)
        for layer in self.layers:
            if isinstance(layer.self_attention, MultiHeadAttention):
                layer.self_attention.implementation = implementation

    def __call__(self, tokens: Array) -> Array:
        """See :class:`NextToken`."""
        x = self._embedded(tokens, jnp.arange(tokens.shape[1])[None])
        for layer in self.layers:
            x = layer(x, mask=AttentionMask.causal())
        return self.final_norm(x)

    def start(self, batch: int, capacity: int) -> Any:
        """See :class:`NextToken`."""
        return [empty_cache(layer.self_attention, batch, capacity, jnp.float32) for layer in self.layers]

    def extend(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """See :class:`NextToken`."""
        x, after = self._embedded(tokens, state[0].next_positions(tokens.shape[1])), []
        for layer, cache in zip(self.layers, state, strict=True):
            x, cache = layer.extend(x, cache)
            after.append(cache)
        return self.final_norm(x), after

    def _embedded(self, tokens: Array, positions: Array) -> Array:
        x = self.embedding(tokens)
        return x + sinusoidal_at(positions, self.width).astype(x.dtype)


def build(spec: Spec, *, width: int, vocab_size: int, equal_parameters: bool, seed: int = 0) -> Any:
    """The model of a contestant.

    Args:
      spec: Which.
      width: Of the Transformer; of every model if ``equal_parameters`` is false.
      vocab_size: Number of tokens.
      equal_parameters: Choose the width that gives the Transformer's number of parameters.
      seed: Of the initial parameters.

    Raises:
      ConfigError: If no width comes near enough.
    """
    if spec.kind in ATTENDERS:
        return AttentionModel(
            width, vocab_size, is_linear=spec.kind == "linear_attention",
            implementation=spec.implementation, rngs=nnx.Rngs(seed),
        )  # fmt: skip
    kind: Any = spec.kind
    own = recurrent_width(kind, width, vocab_size) if equal_parameters else width
    return RecurrentModel(kind, own, vocab_size, implementation=spec.implementation, rngs=nnx.Rngs(seed))


@functools.cache
def transformer_parameters(width: int, vocab_size: int) -> int:
    """Parameters of the Transformer of this width."""
    model = nnx.eval_shape(
        lambda: AttentionModel(width, vocab_size, is_linear=False, implementation=None, rngs=nnx.Rngs(0))
    )
    return parameter_count(model)


def recurrent_parameters(kind: str, width: int, vocab_size: int) -> int:
    """Parameters of the recurrent contestant with this cell and width, exactly."""
    return vocab_size * width + NUM_LAYERS * cell_class(kind).num_parameters(width, width)


@functools.cache
def recurrent_width(kind: str, transformer_width: int, vocab_size: int) -> int:
    """The width with the parameters of the Transformer of that width, as round as `TOLERANCE` allows.

    Raises:
      ConfigError: If none is within `TOLERANCE`.
    """
    budget = transformer_parameters(transformer_width, vocab_size)

    def excess(width: int) -> float:
        return recurrent_parameters(kind, width, vocab_size) / budget - 1.0

    nearest = 1
    for step in (8, 4, 2, 1):  # rows of a round width fill the vector registers, so the race is fairer
        nearest = min(range(step, 4096, step), key=lambda width: abs(excess(width)))
        if abs(excess(nearest)) <= TOLERANCE:
            return nearest
    raise ConfigError(
        f"no width of '{kind}' has the Transformer's {budget:,} parameters within {TOLERANCE:.0%}; the nearest, "
        f"{nearest}, has {recurrent_parameters(kind, nearest, vocab_size):,}: choose another `width`"
    )


def mean_loss(model: NextToken, tokens: Array, weights: Array | None = None) -> Array:
    """Mean cross-entropy of each token given those before it, in nats.

    Args:
      model: The contestant.
      tokens: ``[batch, time + 1]``: inputs and labels overlap.
      weights: Of each label, ``[batch, time]``.
    """
    hidden = model(tokens[:, :-1])
    return projected_cross_entropy(hidden, model.embedding.table(), tokens[:, 1:], weights=weights).mean()


def last_logits(model: NextToken, hidden: Array) -> Array:
    """Logits after the last token, ``[batch, vocab]``."""
    return model.embedding.attend(hidden[:, -1])
