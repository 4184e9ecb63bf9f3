"""The contestants of the race: language models that differ in nothing but what carries time.

Each is a config of :mod:`transformer_jax.models`: two layers, and logits tied to the embedding. A recurrent model runs
over time, by the implementation that its name asks for; a Transformer sees all positions at once under a causal mask;
linear attention is the same Transformer with linear self-attention.
"""

import dataclasses
import functools

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.recurrent import CELLS, LSTMCell, cell_class
from transformer_jax.models.build import model_shapes
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.nn.position_encodings import Sinusoidal

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

    @property
    def own_kind(self) -> str:
        """The kind of ours that a peer's stands for, or the kind itself."""
        return self.kind.removeprefix("torch_") if self.is_peer else self.kind


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


def contestant_config(
    spec: Spec, *, width: int, vocab_size: int, equal_parameters: bool
) -> DecoderOnlyConfig | RecurrentLMConfig:
    """The model of a contestant; of a peer, the one that it has the weights of.

    Args:
      spec: Which.
      width: Of the Transformer; of every model if ``equal_parameters`` is false.
      vocab_size: Number of tokens.
      equal_parameters: Choose the width that gives the Transformer's number of parameters.

    Raises:
      ConfigError: If no width comes near enough.

    Example:
      >>> contestant_config(parse("lstm"), width=128, vocab_size=256, equal_parameters=True).hidden_dim
      156
    """
    kind = spec.own_kind
    if kind in ATTENDERS:
        return _attention_config(
            width, is_linear=kind == "linear_attention", implementation=spec.implementation
        )
    own = recurrent_width(kind, width, vocab_size) if equal_parameters else width
    how = "reference" if spec.implementation == "plain" else spec.implementation
    return RecurrentLMConfig(
        cell=kind, embedding_dim=own, hidden_dim=own, num_layers=NUM_LAYERS, tied=True,
        recurrence_implementation=how,
    )  # fmt: skip


def _attention_config(width: int, *, is_linear: bool, implementation: str | None) -> DecoderOnlyConfig:
    heads = max(1, width // HEAD_DIM)
    return DecoderOnlyConfig(
        model_dim=width, num_heads=heads, num_kv_heads=heads, feed_forward_dim=4 * width, num_layers=NUM_LAYERS,
        positions=Sinusoidal(), dropout_rate=0.0, activation="relu", scale_embeddings=True, weight_deviation=None,
        self_attention="linear" if is_linear else "softmax", attention_implementation=implementation,
    )  # fmt: skip


@functools.cache
def transformer_parameters(width: int, vocab_size: int) -> int:
    """Parameters of the Transformer of this width."""
    config = _attention_config(width, is_linear=False, implementation=None)
    return parameter_count(model_shapes(config, Sizes(vocab_size=vocab_size)))


def recurrent_parameters(kind: str, width: int, vocab_size: int) -> int:
    """Parameters of the recurrent contestant with this cell and width: embedding, readout's bias and cells.

    Example:
      >>> recurrent_parameters("gru", 180, 256)
      436576
    """
    return vocab_size * (width + 1) + NUM_LAYERS * cell_class(kind).num_parameters(width, width)


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
