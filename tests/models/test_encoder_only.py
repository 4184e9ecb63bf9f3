"""Encoder-only models: parameter counts in closed form, tied table, padding, heads over any encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models import (
    EncoderOnlyConfig,
    RecurrentTextEncoder,
    Sizes,
    TokenVectors,
    TransformerTextEncoder,
    bert_encoder,
    build_model,
    model_shapes,
)
from transformer_jax.nn import Learned, Rotary
from transformer_jax.nn.parameters import parameter_count

TINY = TransformerTextEncoder(
    model_dim=16,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=24,
    num_layers=2,
    positions=Learned(max_len=9),
    weight_deviation=0.3,
)
ENCODERS = {
    "bert": TINY,
    "pre-norm": TransformerTextEncoder(
        model_dim=16,
        num_heads=4,
        num_kv_heads=2,
        feed_forward_dim=16,
        num_layers=1,
        positions=Rotary(),
        norm_placement="pre",
        normalization="rms",
        activation="swiglu",
        embedding_norm=False,
        scale_embeddings=True,
        weight_deviation=None,
    ),
    "lstm": RecurrentTextEncoder(cell="lstm", embedding_dim=6, hidden_dim=8, num_layers=1),
    "vectors": TokenVectors(embedding_dim=8),
}


def build(encoder: object, **options: object) -> nnx.Module:
    config = EncoderOnlyConfig(encoder=encoder, **options)  # type: ignore[arg-type]
    return build_model(config, Sizes(vocab_size=13), seed=0)


@pytest.mark.parametrize(
    ("size", "layers", "width", "published"),
    [
        ("tiny", 2, 128, 4.4e6),
        ("mini", 4, 256, 11.3e6),
        ("small", 4, 512, 29.1e6),
        ("medium", 8, 512, 41.7e6),
    ],
)
def test_parameter_counts(size: str, layers: int, width: int, published: float) -> None:
    """Turc et al. 2019, table 1; the encoder's share and the heads' in closed form."""
    encoder = bert_encoder(size)
    vocab = 30522
    shapes = model_shapes(EncoderOnlyConfig(encoder=encoder, order_head=True), Sizes(vocab_size=vocab))
    of_encoder = (vocab + 512 + 2) * width + layers * (12 * width**2 + 13 * width)
    assert parameter_count(shapes.encoder) == of_encoder  # type: ignore[attr-defined]
    head = width**2 + 3 * width + vocab
    pooler = width**2 + width
    assert parameter_count(shapes) == of_encoder + head + pooler + 2 * width + 2
    # Published models have a pooler and two vectors of segments, and no head.
    assert of_encoder + pooler + 2 * width == pytest.approx(published, rel=0.015)


def test_a_base_model_has_bert_bases_parameters() -> None:
    shapes = model_shapes(EncoderOnlyConfig(encoder=bert_encoder("base")), Sizes(vocab_size=30522))
    # BertModel has 109,482,240 with its pooler (590,592) and two segments (1,536).
    assert parameter_count(shapes.encoder) == 109_482_240 - 590_592 - 1_536  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_and_neighbours_change_nothing(name: str) -> None:
    model = build(ENCODERS[name])
    tokens = jax.random.randint(jax.random.key(0), (3, 7), 5, 13)
    lengths = jnp.array([7, 4, 0])
    logits = model(tokens, lengths=lengths)  # type: ignore[operator]
    assert logits.shape == (3, 7, 13)
    assert logits.dtype == jnp.float32
    other = model(tokens.at[1, 4:].set(9).at[2].set(11), lengths=lengths)  # type: ignore[operator]
    np.testing.assert_array_equal(logits[0], other[0])
    np.testing.assert_array_equal(logits[1, :4], other[1, :4])
    assert np.isfinite(logits).all()


def test_each_token_sees_all_others() -> None:
    model = build(TINY)
    graph, state = nnx.split(model)
    tokens = jnp.array([[2, 6, 7, 8, 3]])

    @jax.jit
    def run(tokens: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(tokens, lengths=jnp.array([5]))

    base = run(tokens)
    for place in range(5):
        changed = run(tokens.at[0, place].set(10))
        assert (jnp.abs(changed - base).max(axis=-1) > 1e-6).all(), place


def test_the_output_table_is_the_embeddings() -> None:
    model = build(ENCODERS["lstm"])
    table, bias = model.output_projection()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(table, model.encoder.embedding.embedding[...])  # type: ignore[attr-defined]
    vectors = jax.random.normal(jax.random.key(1), (2, 3, 16))
    hidden = model.hidden(vectors)  # type: ignore[attr-defined]
    assert hidden.shape == (2, 3, 6)
    np.testing.assert_allclose(
        model.logits(vectors),  # type: ignore[attr-defined]
        np.asarray(hidden) @ np.asarray(table).T + np.asarray(bias),
        atol=1e-5,
    )
    np.testing.assert_allclose(hidden.mean(axis=-1), 0.0, atol=1e-5)


def test_order_head() -> None:
    model = build(TINY, order_head=True)
    vectors = jax.random.normal(jax.random.key(1), (2, 3, 16))
    logits = model.order_logits(vectors)  # type: ignore[attr-defined]
    assert logits.shape == (2, 2)
    np.testing.assert_array_equal(logits, model.order_logits(vectors.at[:, 1:].set(0.0)))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="order_head=True"):
        build(TINY).order_logits(vectors)  # type: ignore[attr-defined]


def test_dropout_is_drawn_by_the_key() -> None:
    model = build(TINY)
    tokens, lengths = jnp.full((1, 5), 7), jnp.array([5])
    plain = model(tokens, lengths=lengths)  # type: ignore[operator]
    drawn = [model(tokens, lengths=lengths, rng_key=jax.random.key(seed)) for seed in (0, 0, 1)]  # type: ignore[operator]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert jnp.abs(drawn[0] - drawn[2]).max() > 1e-4
    assert jnp.abs(drawn[0] - plain).max() > 1e-4


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="gated"):
        EncoderOnlyConfig(encoder=TINY, activation="swiglu")
    with pytest.raises(ConfigError, match="norm_epsilon"):
        EncoderOnlyConfig(encoder=TINY, norm_epsilon=0.0)
    with pytest.raises(ConfigError, match="vocab_size"):
        build_model(EncoderOnlyConfig(encoder=TINY), Sizes(num_classes=2), seed=0)
    with pytest.raises(ConfigError, match="size must be one of"):
        bert_encoder("huge")
    with pytest.raises(ShapeError):
        build(TINY)(jnp.ones((1, 10), int), lengths=jnp.array([10]))  # type: ignore[operator]
