"""Sinusoidal and rotary positions, ALiBi slopes, relative buckets."""

import math
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import (
    alibi_slopes,
    relative_bucket,
    rotary,
    sinusoidal_at,
    sinusoidal_table,
)
from transformer_jax.testing.attention_suite import oracle_bucket


def _loop_table(positions, width, base):
    table = np.zeros((len(positions), width))
    for row, position in enumerate(positions):
        for i in range(width // 2):
            table[row, 2 * i] = math.sin(position / base ** (2 * i / width))
            table[row, 2 * i + 1] = math.cos(position / base ** (2 * i / width))
    return table


@pytest.mark.parametrize(("length", "width", "base"), [(50, 16, 10_000.0), (7, 2, 10_000.0), (33, 12, 100.0)])
def test_the_table_is_the_formula(length, width, base):
    table = sinusoidal_table(length, width, base=base)
    assert table.dtype == jnp.float32
    np.testing.assert_allclose(table, _loop_table(range(length), width, base), atol=1e-6)


def test_far_positions_lose_no_precision():
    positions = [2_047, 16_383, 100_000]
    np.testing.assert_allclose(
        sinusoidal_at(jnp.array(positions), 64), _loop_table(positions, 64, 10_000.0), atol=1e-4
    )
    near = sinusoidal_at(jnp.arange(2_000, 2_048), 64)
    np.testing.assert_allclose(near, _loop_table(range(2_000, 2_048), 64, 10_000.0), atol=3e-6)


def test_rows_at_positions_equal_the_table():
    positions = jnp.array([[3, 0], [9, 5]])
    at = jax.jit(lambda p: sinusoidal_at(p, 8))(positions)
    np.testing.assert_allclose(at, sinusoidal_table(10, 8)[positions], atol=1e-7)
    assert sinusoidal_at(jnp.array(4), 8).shape == (8,)


@pytest.mark.parametrize("dtype", ["float64", jnp.float64, np.dtype("float64"), "bfloat16"])
def test_a_dtype_may_be_given_by_name(dtype):
    with jax.enable_x64(True):
        found = jax.eval_shape(lambda: sinusoidal_at(jnp.arange(3), 4, dtype=dtype))
    assert found.dtype == (jnp.float32 if dtype == "bfloat16" else jnp.float64)


def test_an_odd_width_is_refused():
    with pytest.raises(ShapeError, match=r"model_dim must be even .* got 5"):
        sinusoidal_table(4, 5)
    with pytest.raises(ShapeError, match=r"head_dim must be even .* got 3"):
        rotary(jnp.ones((1, 2, 1, 3)), jnp.zeros((1, 2), int))


def test_rotary_turns_pairs_by_the_formula(random_generator):
    x = random_generator.normal(size=(2, 3, 2, 6))
    positions = np.array([[0, 1, 2], [5, 9, 700]])
    wanted = np.zeros_like(x)
    for row, step, head, i in np.ndindex(2, 3, 2, 3):
        angle = positions[row, step] / 10_000 ** (2 * i / 6)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        wanted[row, step, head, 2 * i : 2 * i + 2] = turn @ x[row, step, head, 2 * i : 2 * i + 2]
    np.testing.assert_allclose(rotary(jnp.asarray(x, jnp.float32), jnp.asarray(positions)), wanted, atol=1e-5)


def test_rotary_products_depend_on_the_difference_alone(random_generator):
    query, key = (jnp.asarray(random_generator.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def product(query_position, key_position):
        turned = rotary(query, jnp.full((1, 1), query_position)), rotary(key, jnp.full((1, 1), key_position))
        return float(jnp.sum(turned[0] * turned[1]))

    assert product(7, 3) == pytest.approx(product(1007, 1003), abs=1e-5)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)


def test_rotary_keeps_dtype_and_length_under_jit_and_vmap(random_generator):
    x = jnp.asarray(random_generator.normal(size=(2, 3, 4, 8)), jnp.bfloat16)
    positions = jnp.arange(3)[None]
    assert rotary(x, positions).dtype == jnp.bfloat16
    x = x.astype(jnp.float32)
    norms = jnp.linalg.norm(rotary(x, positions), axis=-1)
    np.testing.assert_allclose(norms, jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    stacked = jax.jit(jax.vmap(rotary))(jnp.stack([x, x]), jnp.stack([positions, positions]))
    np.testing.assert_allclose(stacked[1], rotary(x, positions), atol=1e-6)


def test_fractional_positions_are_computed():
    # Position interpolation: 2048 positions squeezed into 512, and places before the first and far away.
    positions = np.concatenate([np.arange(9) / 4, [-0.25, -3.5, 2047.75]])
    angles = positions[:, None] / 10_000.0 ** (np.arange(4) / 4)
    wanted = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(-1, 8)
    rows = sinusoidal_at(jnp.asarray(positions, jnp.float32), 8)
    np.testing.assert_allclose(rows, wanted, atol=2e-6)
    x = np.ones((1, len(positions), 1, 8), np.float32)
    turned = rotary(jnp.asarray(x), jnp.asarray(positions, jnp.float32)[None])[0, :, 0]
    np.testing.assert_allclose(turned[:, ::2], np.cos(angles) - np.sin(angles), atol=3e-6)
    whole = jnp.arange(5)
    np.testing.assert_array_equal(sinusoidal_at(whole.astype(jnp.float32), 8), sinusoidal_at(whole, 8))
    # The derivative by the position is that of the waves, not that of a staircase.
    slope = jax.jacfwd(lambda position: sinusoidal_at(position, 8))(jnp.float32(1.5))
    frequencies = 10_000.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(slope[::2], frequencies * np.cos(1.5 * frequencies), atol=1e-6)


def test_buckets_of_fractions_are_refused():
    with pytest.raises(ConfigError, match="relative_position must hold integers, got float32"):
        unwrap(relative_bucket)(jnp.array([1.5]), bidirectional=True, num_buckets=8, max_distance=16)


def test_alibi_slopes_of_the_paper():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    # Twelve heads: those of eight, then every second of sixteen (the authors' code).
    wanted = [2.0**-i for i in range(1, 9)] + [2.0 ** (-0.5 * i) for i in (1, 3, 5, 7)]
    np.testing.assert_allclose(alibi_slopes(12), wanted, rtol=1e-6)
    np.testing.assert_allclose(alibi_slopes(1), [2.0**-8])
    with pytest.raises(ConfigError, match="heads must be at least 1, got 0"):
        alibi_slopes(0)


@pytest.mark.parametrize(
    ("bidirectional", "num_buckets", "max_distance"), [(True, 32, 128), (False, 32, 128), (False, 6, 20)]
)
def test_buckets_equal_the_loop(bidirectional, num_buckets, max_distance):
    distances = np.arange(-200, 201)
    options = {"bidirectional": bidirectional, "num_buckets": num_buckets, "max_distance": max_distance}
    buckets = relative_bucket(jnp.asarray(distances), **options)
    exact = (num_buckets // 2 if bidirectional else num_buckets) // 2
    wanted = [oracle_bucket(int(d), bidirectional, num_buckets, max_distance) for d in distances]
    # Where the logarithm lands on a whole number, float32 may fall on either side, as T5's own does.
    steps = np.log(np.maximum(np.abs(distances), exact) / exact) / math.log(max_distance / exact)
    steps *= (num_buckets // 2 if bidirectional else num_buckets) - exact
    clear = (np.abs(steps - np.round(steps)) > 1e-5) | (np.abs(distances) <= exact)
    np.testing.assert_array_equal(np.asarray(buckets)[clear], np.array(wanted)[clear])
    assert clear.mean() > 0.9
    assert buckets.min() == 0
    assert buckets.max() == num_buckets - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bidirectional": True, "num_buckets": 7, "max_distance": 9}, "num_buckets must be an even number"),
        ({"bidirectional": False, "num_buckets": 1, "max_distance": 9}, "num_buckets must be at least 2"),
        (
            {"bidirectional": False, "num_buckets": 8, "max_distance": 4},
            "max_distance must exceed the 4 exact",
        ),
    ],
)
def test_bad_buckets_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        relative_bucket(jnp.arange(3), **options)
