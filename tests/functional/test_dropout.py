"""Dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional import dropout, split_key


def test_without_rate_or_key_it_is_the_identity():
    x = jnp.arange(4.0)
    assert dropout(x, 0.0, jax.random.key(0)) is x
    assert dropout(x, 0.9, None) is x


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_and_the_scale(rate):
    x = jnp.full((200, 100), 3.0)
    y = np.asarray(dropout(x, rate, jax.random.key(0)))
    np.testing.assert_allclose(y[y != 0], 3 / (1 - rate), rtol=1e-4)
    assert abs((y == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / y.size)
    np.testing.assert_array_equal(y, dropout(x, rate, jax.random.key(0)))
    assert np.any(y != np.asarray(dropout(x, rate, jax.random.key(1))))


def test_the_mean_is_kept():
    rate = 0.3
    kept = 1 - round(rate * 2**32) / 2**32
    y = dropout(jnp.ones(64, jnp.float32), rate, jax.random.key(0))
    np.testing.assert_allclose(float(y.max()), 1 / kept, rtol=1e-7)


@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (2, 3, 4)])
def test_every_shape_is_dropped(shape):
    dropped = [dropout(jnp.ones(shape), 0.5, key) for key in jax.random.split(jax.random.key(0), 40)]
    assert all(one.shape == shape for one in dropped)
    assert len({tuple(np.ravel(one).tolist()) for one in dropped}) > 1


def test_elements_do_not_know_of_each_other():
    """Neighbours in a row, in a column, one row later, and under another key agree as often as coins do."""
    rate, size = 0.2, 512
    masks = [np.asarray(dropout(jnp.ones((size, size)), rate, jax.random.key(seed))) == 0 for seed in (0, 1)]
    first, second = masks
    chance = 1 - 2 * rate * (1 - rate)
    bound = 5 * np.sqrt(chance * (1 - chance) / size**2)
    pairs = [(first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first[1:, 1:], first[:-1, :-1])]
    pairs += [(first[:, 8:], first[:, :-8]), (first[:, 128:], first[:, :-128]), (first, second)]
    for one, other in pairs:
        assert abs((one == other).mean() - chance) < bound
    spread = np.sqrt(rate * (1 - rate) / size)
    for axis in (0, 1):  # rows and columns differ as much as chance lets them, no more
        assert abs(first.mean(axis=axis).std() / spread - 1) < 0.2


def test_the_gradient_is_the_mask():
    x = jnp.arange(1.0, 101.0)
    key = jax.random.key(3)
    gradient = jax.grad(lambda x: dropout(x, 0.4, key).sum())(x)
    np.testing.assert_allclose(gradient, dropout(x, 0.4, key) / x, rtol=1e-6)


def test_garbage_that_is_dropped_is_gone():
    y = np.asarray(dropout(jnp.full(1000, jnp.nan), 0.5, jax.random.key(0)))
    assert np.all((y == 0) | np.isnan(y))
    assert (y == 0).any()


def test_dtype_jit_and_vmap():
    x = jnp.ones((3, 8), jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.jit(jax.vmap(lambda x, key: dropout(x, 0.5, key)))(x, keys)
    assert mapped.dtype == jnp.bfloat16
    for row in range(3):
        np.testing.assert_array_equal(mapped[row], dropout(x[row], 0.5, keys[row]))


def test_a_rate_near_one_keeps_finite_values():
    assert np.isfinite(np.asarray(dropout(jnp.ones(9), 0.9999999, jax.random.key(0)))).all()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_bad_rate_is_refused(rate):
    with pytest.raises(ConfigError, match=r"rate must be in \[0, 1\)"):
        dropout(jnp.ones(2), rate, jax.random.key(0))


def test_split_key():
    assert split_key(None, 2) == [None, None]
    keys = split_key(jax.random.key(0), 3)
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
