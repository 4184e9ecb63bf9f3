"""Text encoders: padding and neighbours change nothing, bits at one shape, parameter counts, options, refusals."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models.build import layer_counts
from transformer_jax.models.text_encoders import (
    RecurrentTextEncoder,
    TextEncoder,
    TokenVectors,
    TransformerTextEncoder,
)
from transformer_jax.nn import AlibiPositions, Learned, NoPositions, RelativePositions, Rotary, Sinusoidal
from transformer_jax.nn.parameters import named_parameters, parameter_count

VOCAB, LEN = 11, 6


def transformer(**changes: Any) -> TransformerTextEncoder:
    sizes: dict[str, Any] = {
        "model_dim": 8,
        "num_heads": 2,
        "num_kv_heads": 2,
        "feed_forward_dim": 12,
        "num_layers": 2,
        "positions": Learned(max_len=LEN),
    }
    return TransformerTextEncoder(**sizes | changes)


def recurrent(**changes: Any) -> RecurrentTextEncoder:
    sizes: dict[str, Any] = {"cell": "lstm", "embedding_dim": 5, "hidden_dim": 4, "num_layers": 2}
    return RecurrentTextEncoder(**sizes | changes)


CONFIGS: dict[str, TextEncoder] = {
    "bert": transformer(),
    "pre-norm rotary": transformer(
        norm_placement="pre", normalization="rms", positions=Rotary(), embedding_norm=False, use_bias=False
    ),
    "alibi": transformer(positions=AlibiPositions(), activation="swiglu", num_kv_heads=1),
    "relative": transformer(positions=RelativePositions(num_buckets=8), weight_deviation=None),
    "sinusoidal": transformer(positions=Sinusoidal(), scale_embeddings=True),
    "lstm": recurrent(),
    "gru one way": recurrent(cell="gru", bidirectional=False, num_layers=1),
    "residual rnn": recurrent(cell="rnn", residual=True),
    "vectors": TokenVectors(embedding_dim=3),
}

FULL = ("alibi", "relative", "sinusoidal", "gru one way", "residual rnn")
"""Encoders of the second tier alone."""


def cases(*, without: tuple[str, ...] = ()) -> list[Any]:
    """Names of the encoders, for ``parametrize``."""
    names = [name for name in CONFIGS if name not in without]
    return [pytest.param(name, marks=pytest.mark.full if name in FULL else ()) for name in names]


def tokens() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (4, LEN)), jnp.int32)


@pytest.mark.parametrize("name", cases())
def test_padding_and_neighbours_change_nothing(name: str) -> None:
    config = CONFIGS[name]
    encoder = config.build(VOCAB, rngs=nnx.Rngs(0))
    encode = jax.jit(lambda tokens, lengths: encoder(tokens, lengths=lengths))
    lengths = jnp.array([6, 3, 1, 0])
    found = encode(tokens(), lengths=lengths)
    assert found.shape == (4, LEN, config.output_dim)
    assert np.isfinite(found).all()
    for row, length in enumerate(lengths.tolist()):
        assert not np.any(found[row, length:])
    # What is behind the length may be anything, an id outside of the vocabulary too: the same bits.
    behind = jnp.arange(LEN)[None, :] >= lengths[:, None]
    chex.assert_trees_all_equal(encode(jnp.where(behind, 99, tokens()), lengths=lengths), found)
    # Another order: the same bits. A row alone, without padding: the same vectors.
    order = jnp.array([2, 0, 3, 1])
    chex.assert_trees_all_equal(encode(tokens()[order], lengths=lengths[order]), found[order])
    alone = config.build(VOCAB, rngs=nnx.Rngs(0))(tokens()[1:2, :3], lengths=jnp.array([3]))
    chex.assert_trees_all_close(alone[0], found[1, :3], atol=1e-5)


@pytest.mark.parametrize("name", cases(without=("vectors",)))
def test_a_token_knows_its_context(name: str) -> None:
    encoder = CONFIGS[name].build(VOCAB, rngs=nnx.Rngs(0))
    before = encoder(jnp.array([[4, 5, 6]]), lengths=jnp.array([3]))
    after = encoder(jnp.array([[7, 5, 6]]), lengths=jnp.array([3]))
    assert not np.allclose(before[0, 2], after[0, 2], atol=1e-4)


def test_vectors_alone_know_no_context() -> None:
    encoder = CONFIGS["vectors"].build(VOCAB, rngs=nnx.Rngs(0))
    found = encoder(jnp.array([[4, 5], [5, 4]]), lengths=jnp.array([2, 2]))
    chex.assert_trees_all_equal(found[0], found[1, ::-1])
    # The product of a one-hot row and the table, scaled.
    one_hot = jax.nn.one_hot(jnp.array([4, 5]), VOCAB)
    wanted = one_hot @ encoder.embedding.embedding[...] * encoder.embedding.scale
    chex.assert_trees_all_equal(found[0], wanted)


@pytest.mark.parametrize("name", cases())
def test_dropout_needs_a_key_and_gradients_reach_every_parameter(name: str) -> None:
    config = CONFIGS[name]
    encoder = config.build(VOCAB, rngs=nnx.Rngs(0))

    def loss(encoder: Any) -> jax.Array:
        found = encoder(tokens(), lengths=jnp.array([6, 3, 1, 0]))
        return jnp.sum(jnp.sin(found) * jnp.arange(found.shape[-1], dtype=jnp.float32)[None, None, :])

    gradients = named_parameters(nnx.grad(loss)(encoder))
    # Keys' biases shift all scores of a query alike, which the softmax does not see; distances that no text has.
    unseen = {
        path for path in gradients if "positions.table" in path or path.endswith("query_key_value.bias")
    }
    assert all(np.any(value) for path, value in gradients.items() if path not in unseen)


def test_dropout_is_drawn_from_the_key() -> None:
    for config in (
        transformer(dropout_rate=0.5),
        recurrent(dropout_rate=0.5),
        TokenVectors(embedding_dim=3, dropout_rate=0.5),
    ):
        encoder = config.build(VOCAB, rngs=nnx.Rngs(0))
        lengths = jnp.array([6, 3, 1, 0])
        plain = encoder(tokens(), lengths=lengths)
        once, again, other = (
            encoder(tokens(), lengths=lengths, rng_key=jax.random.key(seed)) for seed in (0, 0, 1)
        )
        chex.assert_trees_all_equal(once, again)
        assert not np.allclose(once, other)
        assert not np.allclose(once, plain)


def test_token_dropout_hides_whole_tokens() -> None:
    one = {"num_layers": 1, "bidirectional": False}
    encoder = recurrent(token_dropout_rate=0.5, **one).build(VOCAB, rngs=nnx.Rngs(0))
    plain = recurrent(**one).build(VOCAB, rngs=nnx.Rngs(0))
    lengths = jnp.full(400, 1)
    rows = jnp.full((400, 1), 4, jnp.int32)
    found = encoder(rows, lengths=lengths, rng_key=jax.random.key(0))
    nothing = plain.stack(jnp.zeros((1, 1, 5)), lengths=jnp.array([1]))[0][0]
    doubled = plain.stack(2 * plain.embedding(rows[:1]), lengths=jnp.array([1]))[0][0]
    is_hidden = np.isclose(found, nothing[None], atol=1e-6).all(axis=(1, 2))
    is_kept = np.isclose(found, doubled[None], atol=1e-6).all(axis=(1, 2))
    assert (is_hidden ^ is_kept).all()
    assert 160 < is_hidden.sum() < 240
    chex.assert_trees_all_equal(encoder(rows, lengths=lengths), plain(rows, lengths=lengths))


def test_parameter_counts_follow_from_the_sizes() -> None:
    model, inner, layers = 8, 12, 2
    attention = 4 * (model * model + model)
    network = 2 * model * inner + inner + model
    norms = 2 * 2 * model
    wanted = VOCAB * model + LEN * model + 2 * model + layers * (attention + network + norms)
    assert parameter_count(CONFIGS["bert"].build(VOCAB, rngs=nnx.Rngs(0))) == wanted

    def both_ways(inputs: int) -> int:
        return 2 * 4 * (4 * (inputs + 4) + 4)  # gates by inputs, carry and bias

    assert parameter_count(CONFIGS["lstm"].build(VOCAB, rngs=nnx.Rngs(0))) == VOCAB * 5 + both_ways(
        5
    ) + both_ways(8)
    assert parameter_count(CONFIGS["vectors"].build(VOCAB, rngs=nnx.Rngs(0))) == VOCAB * 3


def test_initial_weights_have_the_deviation() -> None:
    encoder = transformer(model_dim=64, feed_forward_dim=128, weight_deviation=0.05).build(
        400, rngs=nnx.Rngs(0)
    )
    for name, value in named_parameters(encoder).items():
        if name.endswith(("kernel", "embedding.embedding")):
            assert float(jnp.std(value)) == pytest.approx(0.05, rel=0.05), name


def test_embedding_norm_makes_the_first_layer_see_unit_variance() -> None:
    encoder = transformer(num_layers=1, positions=NoPositions(), weight_deviation=3.0)
    stack = encoder.build(VOCAB, rngs=nnx.Rngs(0)).stack
    seen = stack._normalized(100.0 * jax.random.normal(jax.random.key(0), (2, 3, 8)), None)
    chex.assert_trees_all_close(jnp.var(seen, axis=-1), jnp.ones((2, 3)), atol=1e-3)


def test_refusals_name_the_field() -> None:
    with pytest.raises(ShapeError, match="learned positions"):
        CONFIGS["bert"].build(VOCAB, rngs=nnx.Rngs(0))(
            jnp.ones((1, LEN + 1), int), lengths=jnp.array([LEN + 1])
        )
    with pytest.raises(ConfigError, match="num_layers must be at least 1"):
        transformer(num_layers=0)
    with pytest.raises(ConfigError, match="weight_deviation must be above 0"):
        transformer(weight_deviation=-1.0)
    with pytest.raises(ShapeError, match="num_heads"):
        transformer(num_heads=3)
    with pytest.raises(ConfigError, match="norm_epsilon must be above 0"):
        transformer(norm_epsilon=0.0)
    with pytest.raises(ConfigError, match="hidden_dim must be at least 1"):
        recurrent(hidden_dim=0)
    with pytest.raises(ConfigError, match="token_dropout_rate"):
        recurrent(token_dropout_rate=1.0)
    with pytest.raises(ConfigError, match="cell"):
        recurrent(cell="lstn")
    with pytest.raises(ConfigError, match="dropout_rate"):
        TokenVectors(embedding_dim=2, dropout_rate=1.5)


def test_layers_are_counted_for_the_bounds_of_memory() -> None:
    assert layer_counts(transformer(num_layers=7)) == {"num_layers": 7}
