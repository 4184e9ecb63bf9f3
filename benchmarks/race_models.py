"""The contestants of the race: next-token models that differ in nothing but what carries time.

Embedding, a stack, and logits tied to the embedding. A recurrent stack scans over time; the Transformer's sees
all positions at once under a causal mask. The recurrent widths are chosen so that each model has the parameters
of the Transformer.
"""

import jax
from flax import nnx

from transformer_jax.functional.losses import projected_cross_entropy
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.nn.positions import Sinusoidal
from transformer_jax.nn.recurrent import NUM_GATES, CellKind, RecurrentStack
from transformer_jax.nn.stacks import EncoderStack
from transformer_jax.nn.transformer_layers import TransformerLayerConfig

VOCAB_SIZE = 256
NUM_LAYERS = 2
TOLERANCE = 0.02  # by how much a recurrent contestant's parameters may differ from the Transformer's
CELLS: tuple[CellKind, ...] = ("rnn", "lstm", "gru")
CONTESTANTS = (*CELLS, "transformer")


class RecurrentContestant(nnx.Module):
    """Embedding and a recurrent stack of its width."""

    def __init__(self, cell: CellKind, hidden_dim: int, *, rngs: nnx.Rngs) -> None:
        self.embedding = Embedding(VOCAB_SIZE, hidden_dim, padding_id=None, scale="none", rngs=rngs)
        self.stack = RecurrentStack(
            cell, hidden_dim, hidden_dim, NUM_LAYERS,
            bidirectional=False, dropout_rate=0.0, residual=False, rngs=rngs,
        )  # fmt: skip

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Hidden states [batch, time, hidden] of tokens [batch, time]."""
        return self.stack(self.embedding(tokens))[0]


class TransformerContestant(nnx.Module):
    """Embedding, sinusoids and a pre-norm encoder stack under a causal mask: a decoder-only Transformer."""

    def __init__(self, model_dim: int, *, rngs: nnx.Rngs) -> None:
        layer = TransformerLayerConfig(
            model_dim=model_dim, num_heads=max(1, model_dim // 32), num_kv_heads=max(1, model_dim // 32),
            feed_forward_dim=4 * model_dim, dropout_rate=0.0, attention_dropout_rate=0.0,
            activation_dropout_rate=0.0, norm_placement="pre", normalization="layer", norm_epsilon=1e-6,
            activation="relu", attention_bias=False, rotary_base=None, self_attention="softmax",
        )  # fmt: skip
        self.embedding = Embedding(VOCAB_SIZE, model_dim, padding_id=None, scale="sqrt_dim", rngs=rngs)
        self.stack = EncoderStack(layer, NUM_LAYERS, positions=Sinusoidal(), final_norm=True, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Hidden states [batch, time, model] of tokens [batch, time]."""
        return self.stack(self.embedding(tokens), mask=AttentionMask.causal())


def build_contestants(names: list[str], transformer_dim: int) -> dict[str, nnx.Module]:
    """The named contestants, each with the parameters of the Transformer of this width, within 2 %."""
    budget = parameter_count(TransformerContestant(transformer_dim, rngs=nnx.Rngs(0)))
    models: dict[str, nnx.Module] = {}
    for name in names:
        if name == "transformer":
            models[name] = TransformerContestant(transformer_dim, rngs=nnx.Rngs(0))
        else:
            hidden_dim = _hidden_dim_for(name, budget)
            models[name] = RecurrentContestant(name, hidden_dim, rngs=nnx.Rngs(0))
    return models


def _hidden_dim_for(cell: CellKind, budget: int) -> int:
    """The width whose model comes nearest to ``budget`` parameters, as round as `TOLERANCE` allows.

    Raises:
      SystemExit: If none is within `TOLERANCE`.
    """

    def excess(hidden_dim: int) -> float:
        return recurrent_parameters(cell, hidden_dim) / budget - 1.0

    nearest = 1
    for step in (8, 4, 2, 1):  # rows of a round width fill the vector registers, so the race is fairer
        nearest = min(range(step, 4096, step), key=lambda hidden_dim: abs(excess(hidden_dim)))
        if abs(excess(nearest)) <= TOLERANCE:
            return nearest
    raise SystemExit(
        f"error: no width of '{cell}' has the Transformer's {budget:,} parameters within {TOLERANCE:.0%}; the "
        f"nearest, {nearest}, has {recurrent_parameters(cell, nearest):,}: choose another --model-dim"
    )


def recurrent_parameters(cell: CellKind, hidden_dim: int) -> int:
    """Parameters of the contestant with this cell and width, exactly."""
    layer = NUM_GATES[cell] * (2 * hidden_dim * hidden_dim + hidden_dim)
    if cell == "gru":
        layer += hidden_dim  # the candidate's bias inside the reset gate
    return VOCAB_SIZE * hidden_dim + NUM_LAYERS * layer


def loss(model: nnx.Module, tokens: jax.Array) -> jax.Array:
    """Mean cross entropy of each token given those before it, in nats."""
    hidden = model(tokens[:, :-1])
    return projected_cross_entropy(hidden, model.embedding.table(), tokens[:, 1:]).mean()


def forward_flops(name: str, model: nnx.Module, length: int) -> float:
    """Floating-point operations of the matmuls of one forward pass, for each token."""
    width = model.embedding.embedding[...].shape[1]
    logits = 2.0 * VOCAB_SIZE * width
    if name == "transformer":
        return logits + NUM_LAYERS * (2.0 * 12 * width**2 + 4.0 * length * width)
    return logits + NUM_LAYERS * 2.0 * NUM_GATES[name] * 2 * width**2
