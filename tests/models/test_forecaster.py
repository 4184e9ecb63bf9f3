"""Forecasters: networks against their formulas, normalisation, channels, and rows that do not mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.models import (
    EncoderDecoderForecast,
    ForecasterConfig,
    LinearForecast,
    PatchForecast,
    RecurrentForecast,
    Sizes,
    build_model,
)
from transformer_jax.models.forecast_networks import moving_average, patches
from transformer_jax.nn import Learned
from transformer_jax.nn.parameters import parameter_count

TRANSFORMER = {
    "patch_len": 4,
    "stride": 3,
    "model_dim": 8,
    "num_heads": 2,
    "num_kv_heads": 1,
    "feed_forward_dim": 8,
    "num_layers": 1,
}
NETWORKS = {
    "linear": LinearForecast(trend_len=3),
    "lstm": RecurrentForecast(hidden_dim=5, segment_len=3),
    "attention": RecurrentForecast(cell="gru", hidden_dim=4, attention_dim=3, segment_len=2),
    "patches": PatchForecast(**TRANSFORMER),
    "encoder-decoder": EncoderDecoderForecast(**TRANSFORMER),
}
CONTEXT, HORIZON = 12, 5
VALUES = np.random.default_rng(2).normal(size=(3, CONTEXT, 2)).astype(np.float32)
ARRAY = jnp.asarray(VALUES)


def build(network, *, num_outputs=1, **options):
    sizes = Sizes(num_channels=2, context_len=CONTEXT, horizon_len=HORIZON, num_outputs=num_outputs)
    return build_model(ForecasterConfig(network=network, **options), sizes, seed=3)


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_rows_and_channels(name):
    """Under one program: the shape of the forecast; no row and, with channels apart, no channel sees another."""
    model = build(NETWORKS[name], num_outputs=3)
    damaged = VALUES.copy()
    damaged[1, 3, 1] = np.nan
    graph, state = nnx.split(model)

    @jax.jit
    def run(values):
        return nnx.merge(graph, state)(values)

    whole, other = np.asarray(run(VALUES)), np.array(run(damaged))
    assert whole.shape == (3, HORIZON, 2, 3)
    assert np.isfinite(whole).all()
    assert np.isnan(other[1, :, 1]).all()
    other[1, :, 1] = whole[1, :, 1]
    np.testing.assert_array_equal(other, whole)


@pytest.mark.parametrize("normalization", ["last", "standard"])
def test_a_shifted_window_has_a_shifted_forecast(normalization):
    model = build(NETWORKS["lstm"], normalization=normalization)
    graph, state = nnx.split(model)
    run = jax.jit(lambda values: nnx.merge(graph, state)(values))
    found = np.asarray(run(VALUES))
    np.testing.assert_allclose(run(VALUES + 7.0), found + 7.0, rtol=0, atol=2e-5)
    if normalization == "standard":
        np.testing.assert_allclose(run(50.0 * VALUES), 50.0 * found, rtol=0, atol=2e-3)
    constant = np.asarray(run(np.full_like(VALUES, 3.0)))
    assert np.isfinite(constant).all()
    if normalization == "standard":  # all that a constant window says is its level
        np.testing.assert_allclose(constant, 3.0, atol=0.01)


def test_learned_scale_and_shift_are_undone():
    model = build(LinearForecast(), has_affine=True)
    before = np.asarray(model(ARRAY))
    kernel = np.zeros((CONTEXT, HORIZON), np.float32)
    kernel[-1] = 1.0
    model.network.output.kernel[...] = jnp.asarray(kernel)
    model.scale[...], model.shift[...] = jnp.array([2.0, 0.5]), jnp.array([-1.0, 3.0])
    # The network repeats the last value it sees, and so does the forecast, whatever scale and shift are.
    np.testing.assert_allclose(
        model(ARRAY)[..., 0], np.repeat(VALUES[:, -1:], HORIZON, axis=1), rtol=0, atol=1e-4
    )
    assert not np.allclose(before, model(ARRAY))
    assert build(LinearForecast(), has_affine=True, normalization="last").scale is None


def test_linear_network_by_its_formula():
    model = build(LinearForecast(trend_len=3), normalization="none")
    generator = np.random.default_rng(0)
    rest, trend = (generator.normal(size=(CONTEXT, HORIZON)).astype(np.float32) for _ in range(2))
    bias = generator.normal(size=HORIZON).astype(np.float32)
    model.network.output.kernel[...], model.network.trend.kernel[...] = jnp.asarray(rest), jnp.asarray(trend)
    model.network.output.bias[...] = jnp.asarray(bias)
    padded = np.concatenate([VALUES[:, :1], VALUES, VALUES[:, -1:]], axis=1)
    smooth = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    wanted = np.einsum("btc,th->bhc", VALUES - smooth, rest) + np.einsum("btc,th->bhc", smooth, trend)
    np.testing.assert_allclose(model(ARRAY)[..., 0], wanted + bias[None, :, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        moving_average(jnp.asarray(VALUES[0].T), 4)[:, 2], VALUES[0, :4].mean(axis=0), rtol=1e-5
    )


def test_recurrent_attention_is_a_distribution_over_the_context():
    network = build(NETWORKS["attention"]).network
    found, weights = network.with_weights(jnp.asarray(VALUES[..., :1]))
    assert weights.shape == (3, 3, CONTEXT // 2)  # three steps of two cover the horizon of five
    assert found.shape == (3, HORIZON, 1)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert build(NETWORKS["lstm"]).network.with_weights(jnp.asarray(VALUES[..., :1]))[1] is None


def test_patches_end_with_the_context():
    values = jnp.arange(20.0).reshape(1, 10, 2)
    assert patches(values, 4, 3)[0].tolist() == [list(range(8)), list(range(6, 14)), list(range(12, 20))]
    assert patches(values, 4, 4)[0, 0].tolist() == list(range(4, 12))  # two steps before them are left out
    assert PatchForecast(**TRANSFORMER).num_patches(10) == 3


def test_dropout_draws_from_the_key_alone():
    model = build(PatchForecast(**TRANSFORMER, dropout_rate=0.5))
    first, again, other = (model(ARRAY, rng_key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(model(ARRAY), model(ARRAY))


def test_channels_together_share_no_weights():
    apart, together = (build(LinearForecast(), channels=channels) for channels in ("apart", "together"))
    assert parameter_count(apart) == parameter_count(together)  # a linear map is of each channel either way
    joint = build(NETWORKS["lstm"], channels="together")
    assert joint(ARRAY).shape == (3, HORIZON, 2, 1)
    changed = VALUES.copy()
    changed[..., 1] *= -1.0
    assert not np.allclose(joint(jnp.asarray(changed))[..., 0, :], joint(ARRAY)[..., 0, :])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (RecurrentForecast(hidden_dim=4, segment_len=5), "segment_len 5 must divide context_len 12"),
        (PatchForecast(**TRANSFORMER | {"patch_len": 16}), "patch_len 16 must be at most context_len 12"),
        (PatchForecast(**TRANSFORMER, positions=Learned(max_len=2)), "must be at least 3, the patches"),
        (
            EncoderDecoderForecast(**TRANSFORMER | {"patch_len": 3}, positions=Learned(max_len=3)),
            "must be at least 4, the patches of a context",
        ),
    ],
)
def test_networks_that_do_not_fit_a_context(network, message):
    with pytest.raises(ConfigError, match=message):
        build(network)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LinearForecast(trend_len=1),
        lambda: RecurrentForecast(hidden_dim=0),
        lambda: RecurrentForecast(hidden_dim=4, cell="lstn"),
        lambda: PatchForecast(**TRANSFORMER | {"stride": 5}),
        lambda: build_model(
            ForecasterConfig(network=LinearForecast()),
            Sizes(num_channels=60_000, context_len=60_000, horizon_len=60_000, num_outputs=900),
            seed=0,
        ),
        lambda: build_model(ForecasterConfig(network=LinearForecast()), Sizes(vocab_size=5), seed=0),
    ],
)
def test_impossible_configs(wrong):
    with pytest.raises(ConfigError):
        wrong()
