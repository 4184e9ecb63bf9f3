"""Encoders of frames: reduced lengths, padding that changes nothing, masking in training alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.feature_masking import mask_features
from transformer_jax.models.feature_encoders import (
    FeatureMasking,
    RecurrentFeatureEncoder,
    TransformerFeatureEncoder,
)
from transformer_jax.nn.position_encodings import Sinusoidal

RECURRENT = RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=2, time_reduction=(2, 3))
TRANSFORMER = TransformerFeatureEncoder(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=8,
    num_layers=1,
    positions=Sinusoidal(),
    subsampling=3,
    context=3,
)


@pytest.mark.parametrize("config", [RECURRENT, TRANSFORMER], ids=["recurrent", "transformer"])
def test_padding_changes_nothing(config: Any) -> None:
    encoder = config.build(3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    lengths = jnp.array([17, 9, 1, 0])
    features = jnp.asarray(rng.normal(size=(4, 17, 3)), jnp.float32)
    behind = jnp.arange(17)[None, :, None] >= lengths[:, None, None]
    dirty = jnp.where(behind, jnp.nan, features)
    longer = jnp.pad(dirty, ((0, 0), (0, 5), (0, 0)), constant_values=jnp.inf)
    run = nnx.jit(lambda module, inputs: module(inputs))
    vectors, found = run(encoder, (features, lengths))
    assert found.tolist() == config.output_lengths(lengths).tolist() == [-(-n // config.reduction) for n in
                                                                        (17, 9, 1, 0)]  # fmt: skip
    assert vectors.shape == (4, int(config.output_lengths(17)), config.output_dim)
    valid = np.arange(vectors.shape[1])[None, :, None] < np.asarray(found)[:, None, None]
    assert not np.asarray(vectors)[np.broadcast_to(~valid, vectors.shape)].any()
    for other in (dirty, longer):
        again, counts = run(encoder, (other, lengths))
        assert counts.tolist() == found.tolist()
        np.testing.assert_allclose(again[:, : vectors.shape[1]], vectors, atol=1e-6)
        assert not np.asarray(again[:, vectors.shape[1] :]).any()

    def total(features: Any) -> Any:
        return encoder((features, lengths))[0].sum()

    gradient = jax.jit(jax.grad(total))(dirty)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[np.asarray(jnp.broadcast_to(behind, gradient.shape))].any()


def test_masking_hides_stretches_of_each_row() -> None:
    ones = jnp.ones((6, 50, 8))
    lengths = jnp.array([50, 40, 30, 20, 10, 3])
    options = {"num_time_masks": 1, "max_time_len": 7, "num_channel_masks": 1, "max_channels": 3}
    draw = jax.jit(lambda key: mask_features(ones, lengths, **options, rng_key=key))
    widest = np.zeros(6, int)
    for seed in range(40):
        hidden = np.asarray(draw(jax.random.key(seed))) == 0
        in_time, in_channels = hidden.all(axis=2), hidden.all(axis=1)
        assert (hidden == (in_time[:, :, None] | in_channels[:, None, :])).all()
        for row in range(6):
            places = np.flatnonzero(in_time[row])
            if len(places):
                assert places[-1] - places[0] + 1 == len(places), "one stretch"
                assert places[-1] < lengths[row]
        widest = np.maximum(widest, in_time.sum(axis=1))
        assert in_channels.sum(axis=1).max() <= 3
    assert widest.tolist() == [7, 7, 6, 4, 2, 0]


def test_masking_is_of_training_alone() -> None:
    config = RecurrentFeatureEncoder(
        cell="gru", hidden_dim=2, num_layers=1, time_reduction=(), masking=FeatureMasking(max_time_len=9)
    )
    encoder = config.build(4, rngs=nnx.Rngs(0))
    inputs = (jnp.ones((2, 30, 4)), jnp.array([30, 30]))
    run = nnx.jit(lambda module, inputs, rng_key: module(inputs, rng_key=rng_key))
    plain = run(encoder, inputs, None)[0]
    assert (plain[0] == plain[1]).all()
    hidden = run(encoder, inputs, jax.random.key(0))[0]
    assert (hidden[0] != hidden[1]).any()


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="at most 1 factors"):
        RecurrentFeatureEncoder(hidden_dim=2, num_layers=1, time_reduction=(2, 2))
    with pytest.raises(ConfigError, match="context must be odd"):
        TransformerFeatureEncoder(
            model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1,
            positions=Sinusoidal(), context=2,
        )  # fmt: skip
    with pytest.raises(ShapeError, match=r"\[batch, frames, 3\]; got \(1, 5, 4\)"):
        RECURRENT.build(3, rngs=nnx.Rngs(0))((jnp.ones((1, 5, 4)), jnp.array([5])))
