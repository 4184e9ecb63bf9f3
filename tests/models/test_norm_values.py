"""Norms over the batch and DeepNorm in all families of Transformers: which tokens count, and scales by depth."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import deep_scales, deep_scales_of_pair
from transformer_jax.models import DecoderOnlyConfig, EncoderDecoderConfig, Sizes
from transformer_jax.models.feature_encoders import TransformerFeatureEncoder
from transformer_jax.models.forecast_configs import EncoderDecoderForecast
from transformer_jax.models.image_encoders import PatchImageEncoder
from transformer_jax.models.text_decoders import TransformerTextDecoder
from transformer_jax.models.text_encoders import TransformerTextEncoder
from transformer_jax.nn import NoPositions
from transformer_jax.nn.parameters import named_parameters

SMALL: dict[str, Any] = {
    "model_dim": 4, "num_heads": 1, "num_kv_heads": 1, "feed_forward_dim": 4, "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0, "normalization": "batch",
}  # fmt: skip
SIZES = Sizes(source_vocab_size=9, target_vocab_size=9, vocab_size=9)
LENGTHS = jnp.array([4, 2, 0])
SHORT = jnp.arange(4)[None] < LENGTHS[:, None]
TOKENS = jnp.where(SHORT, jnp.array([[3, 4, 5, 6]]), 0)
FEATURES = jax.random.normal(jax.random.key(0), (3, 4, 4))
PIXELS = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))
KEY = jax.random.key(2)


def _pairs(model: Any, junk: Any, key: Any) -> Any:
    # Targets are padded with the padding token; what it is in sources changes nothing.
    return model(jnp.where(SHORT, TOKENS, junk), LENGTHS, TOKENS, rng_key=key)


def _packed(model: Any, junk: Any, key: Any) -> Any:
    tokens = jnp.where(SHORT, TOKENS, junk)
    segments = jnp.where(SHORT, jnp.array([[1, 1, 2, 2]]), 0)
    return model(tokens, LENGTHS, tokens, source_segments=segments, target_segments=segments, rng_key=key)


def _text(model: Any, junk: Any, key: Any) -> Any:
    return model(jnp.where(SHORT, TOKENS, junk), lengths=LENGTHS, rng_key=key)


def _frames(model: Any, junk: Any, key: Any) -> Any:
    return model((jnp.where(SHORT[..., None], FEATURES, junk), LENGTHS), rng_key=key)[0]


def _image(model: Any, junk: Any, key: Any) -> Any:
    sizes = jnp.array([[4, 4], [2, 4], [0, 0]])
    rows = jnp.arange(4)[None] < sizes[:, :1]
    return model((jnp.where(rows[..., None, None], PIXELS, junk), sizes), rng_key=key)[0]


def _decoder(model: Any, junk: Any, key: Any) -> Any:
    memory = jnp.where(SHORT[..., None], FEATURES, junk)
    return model.hidden(memory, LENGTHS, TOKENS, rng_key=key)


CASES: dict[str, tuple[Any, Any, Any]] = {
    "pairs": (
        lambda: EncoderDecoderConfig(**SMALL, num_encoder_layers=1, num_decoder_layers=1).build(
            SIZES, rngs=nnx.Rngs(0)
        ),
        _pairs,
        (7, 8),
    ),
    "packed pairs": (
        lambda: EncoderDecoderConfig(**SMALL, num_encoder_layers=1, num_decoder_layers=1).build(
            SIZES, rngs=nnx.Rngs(0)
        ),
        _packed,
        (7, 8),
    ),
    "language model": (
        lambda: DecoderOnlyConfig(**SMALL, num_layers=1, positions=NoPositions()).build(
            SIZES, rngs=nnx.Rngs(0)
        ),
        _text,
        (7, 8),
    ),
    "text encoder": (
        lambda: TransformerTextEncoder(**SMALL, num_layers=1, positions=NoPositions()).build(
            9, rngs=nnx.Rngs(0)
        ),
        _text,
        (7, 8),
    ),
    "frames": (
        lambda: TransformerFeatureEncoder(
            **SMALL, num_layers=1, positions=NoPositions(), subsampling=1
        ).build(4, rngs=nnx.Rngs(0)),
        _frames,
        (7.0, np.nan),
    ),
    "image": (
        lambda: PatchImageEncoder(**SMALL, num_layers=1, patch_size=2).build(1, rngs=nnx.Rngs(0)),
        _image,
        (7.0, np.nan),
    ),
    "decoder": (
        lambda: TransformerTextDecoder(**SMALL, num_layers=1).build(4, 9, rngs=nnx.Rngs(0)),
        _decoder,
        (7.0, np.nan),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_padding_does_not_count_and_evaluation_knows_one_row(name: str) -> None:
    make, call, (junk, other) = CASES[name]
    outputs, statistics = [], []
    for one in (junk, other):
        model = make()
        first = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
        outputs.append(np.asarray(call(model, one, KEY))[:2][np.asarray(SHORT[:2])])
        statistics.append(jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat)))
    assert np.isfinite(outputs[0]).all()
    np.testing.assert_array_equal(*outputs)
    jax.tree.map(np.testing.assert_array_equal, *statistics)
    moved = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (first, statistics[0])), strict=True)]
    assert all(moved)
    evaluated = np.asarray(call(model, junk, None))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model, nnx.BatchStat), statistics[1])
    assert np.isfinite(evaluated[:2]).all()


def test_deep_norms_scales_follow_from_the_layers() -> None:
    deep = {**SMALL, "normalization": "layer", "norm_placement": "deep"}
    pair = EncoderDecoderConfig(**deep, num_encoder_layers=3, num_decoder_layers=2)
    found = [pair.encoder_layer_config(), pair.decoder_layer_config()]
    forecast = EncoderDecoderForecast(**deep, num_layers=3, num_decoder_layers=2)
    found += [forecast.layer_config(), forecast.decoder_layer_config()]
    assert [(one.residual_scale, one.initial_scale) for one in found] == [*deep_scales_of_pair(3, 2)] * 2
    alone = DecoderOnlyConfig(**deep, num_layers=3, positions=NoPositions())
    assert (alone.layer_config().residual_scale, alone.layer_config().initial_scale) == deep_scales(3)
    decoder = TransformerTextDecoder(**deep, num_layers=2).layer_config()
    assert (decoder.residual_scale, decoder.initial_scale) == deep_scales_of_pair(5, 2)[1]
    # Matrices that are drawn again from a normal are scaled, too; the draws are the same.
    plain = dataclasses.replace(alone, norm_placement="post").build(SIZES, rngs=nnx.Rngs(0))
    ours, theirs = named_parameters(alone.build(SIZES, rngs=nnx.Rngs(0))), named_parameters(plain)
    name = "stack.layers.0.feed_forward.outer.kernel"
    np.testing.assert_allclose(ours[name], deep_scales(3).initial * theirs[name], rtol=1e-6)
    assert ours.keys() == theirs.keys()


def test_windows_of_series_are_refused_in_one_line() -> None:
    wanted = "EncoderDecoderForecast.normalization must be 'layer', 'rms' or 'none'"
    with pytest.raises(ConfigError, match=wanted):
        EncoderDecoderForecast(**SMALL, num_layers=1)
    with pytest.raises(ConfigError, match="norm_momentum"):
        TransformerTextDecoder(**SMALL, num_layers=1, norm_momentum=1.5)
