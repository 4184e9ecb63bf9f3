"""Local attention: gathered windows give what attention under a window of positions gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.testing.attention_suite import assert_near

BATCH, Q_LEN, KV_LEN, HALF_WIDTH = 2, 5, 9, 2

RULES = {
    "scaled dot": lambda draw: F.ScaledDot(),
    "general": lambda draw: F.General(draw(4, 4)),
    "additive": lambda draw: F.Additive(draw(4, 3), draw(4, 3), draw(2, 3)),
    "location": lambda draw: F.Location(draw(KV_LEN, 4)),
}


@pytest.fixture
def draw(random_generator):
    return lambda *shape: jnp.asarray(random_generator.normal(size=shape), jnp.float32)


def by_mask(arrays, mask, deviation):
    """The same by the whole matrix of scores."""
    center = arrays["center"]
    positions = jnp.round(center).astype(jnp.int32)
    window = F.AttentionMask.window(HALF_WIDTH, HALF_WIDTH)
    mask = mask & window & F.AttentionMask.positions(positions, jnp.arange(KV_LEN)[None])
    reweight = None if deviation is None else F.GaussianReweight(center[:, None], deviation)
    return F.attention(
        arrays["query"], arrays["key"], arrays["value"], score=arrays["score"], bias=arrays["bias"],
        mask=mask, reweight=reweight, implementation="reference",
    )  # fmt: skip


def by_window(arrays, mask, deviation):
    return F.local_attention(
        arrays["query"], arrays["key"], arrays["value"], score=arrays["score"], bias=arrays["bias"],
        mask=mask, center=arrays["center"], half_width=HALF_WIDTH, deviation=deviation,
    )  # fmt: skip


@pytest.mark.parametrize("deviation", [None, 1.0])
@pytest.mark.parametrize("rule", RULES)
def test_equals_attention_under_a_window_of_positions(draw, random_generator, rule, deviation):
    kv_heads = 1 if rule == "scaled dot" else 2
    arrays = {"query": draw(BATCH, Q_LEN, 2, 4), "key": draw(BATCH, KV_LEN, kv_heads, 4)}
    arrays |= {"value": draw(BATCH, KV_LEN, kv_heads, 3), "score": RULES[rule](draw)}
    arrays["bias"] = F.Alibi(jnp.abs(draw(2))) if rule == "general" else None
    # Some centres lie outside of the keys, some windows are cut by the length.
    arrays["center"] = jnp.asarray(random_generator.uniform(-4, KV_LEN + 3, (BATCH, Q_LEN)), jnp.float32)
    mask = F.AttentionMask.from_lengths(jnp.array([KV_LEN, 4]), KV_LEN)
    cotangent = draw(BATCH, Q_LEN, 2, 3)

    def value_and_gradients(function):
        def loss(arrays):
            output = function(arrays, mask, deviation)
            return (output * cotangent).sum(), output

        gradients, output = jax.jit(jax.grad(loss, has_aux=True))(arrays)
        return output, gradients

    got, want = value_and_gradients(by_window), value_and_gradients(by_mask)
    assert_near(got[0], want[0], 1e-5, "output")
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(got[1]), jax.tree.leaves(want[1])):
        assert_near(one, other, 1e-4, f"gradient in {jax.tree_util.keystr(path)}")
    moves = np.any(np.asarray(got[1]["center"]) != 0)
    assert moves == (deviation is not None)


def test_monotonic_is_the_band(draw):
    query, key = draw(1, 7, 2, 4), draw(1, 7, 2, 4)
    band = F.attention(query, key, key, mask=F.AttentionMask.window(HALF_WIDTH, HALF_WIDTH))
    local = F.local_attention(query, key, key, center=jnp.arange(7)[None], half_width=HALF_WIDTH)
    assert_near(local, band, 1e-5, "output")


def test_nothing_quadratic_is_held():
    length = 512
    shape = jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
    center = jax.ShapeDtypeStruct((1, length), jnp.float32)

    def loss(query, key, center):
        return F.local_attention(query, key, key, center=center, half_width=3, deviation=1.5).sum()

    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(shape, shape, center))
    assert f"{length},{length}" not in text
    assert f"{length},{2 * 3 + 1}" in text or f"{length * 7}" in text


def test_no_keys_give_zeros():
    output = F.local_attention(
        jnp.ones((1, 2, 1, 4)),
        jnp.ones((1, 0, 1, 4)),
        jnp.ones((1, 0, 1, 3)),
        center=jnp.zeros((1, 2)),
        half_width=1,
    )
    np.testing.assert_array_equal(output, np.zeros((1, 2, 1, 3)))


def test_bad_arguments_are_named():
    ones = jnp.ones((1, 3, 1, 4))
    with pytest.raises(ShapeError, match=r"center must be \[batch, q_len\] = \[1, 3\], got \[1, 2\]"):
        getattr(F.local_attention, "__wrapped__", F.local_attention)(
            ones, ones, ones, center=jnp.zeros((1, 2)), half_width=1
        )
    with pytest.raises(ConfigError, match="half_width must be an integer >= 0, got -1"):
        F.local_attention(ones, ones, ones, center=jnp.zeros((1, 3)), half_width=-1)
    with pytest.raises(ConfigError, match="valid and from_lengths parts only"):
        F.local_attention(
            ones, ones, ones, center=jnp.zeros((1, 3)), half_width=1, mask=F.AttentionMask.causal()
        )
    with pytest.raises(ConfigError, match="deviation must be above 0"):
        F.local_attention(ones, ones, ones, center=jnp.zeros((1, 3)), half_width=1, deviation=-1.0)
