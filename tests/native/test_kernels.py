"""The native kernels beyond the contract's small cases: long inputs, bits, transforms, arguments that do not fit."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F

pytestmark = pytest.mark.usefixtures("native_library")

native = functools.partial(F.attention, implementation="native_cpu")
blockwise = functools.partial(F.attention, implementation="blockwise")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def arrays(batch, q_len, kv_len, heads, kv_heads, head_dim, value_dim):
    return (
        draw(batch, q_len, heads, head_dim, seed=1),
        draw(batch, kv_len, kv_heads, head_dim, seed=2),
        draw(batch, kv_len, kv_heads, value_dim, seed=3),
    )


def value_and_gradients(attend, operands, cotangent, **arguments):
    def run(*operands):
        return attend(*operands, **arguments)

    @jax.jit
    def both(operands, cotangent):
        output, pull_back = jax.vjp(run, *operands)
        return output, *pull_back(cotangent)

    return jax.device_get(both(operands, cotangent))


def scattered(length, seed):
    return jnp.asarray(np.random.default_rng(seed).permutation(length)[None], jnp.int32)


def parts_of(length):
    return jnp.asarray(np.arange(length)[None] // 90, jnp.int32)


LONG = {
    "full, several blocks": ((1, 70, 300, 2, 2, 64, 64), lambda q, k: None),
    "causal, several chunks": ((1, 700, 700, 4, 2, 20, 36), lambda q, k: F.AttentionMask.causal()),
    "window": ((1, 600, 600, 2, 1, 16, 16), lambda q, k: F.AttentionMask.window(40, 7)),
    "lengths": (
        (3, 45, 520, 2, 2, 32, 8),
        lambda q, k: F.AttentionMask.from_lengths(jnp.array([520, 300, 0]), k),
    ),
    "positions out of order": (
        (1, 530, 530, 2, 2, 16, 16),
        lambda q, k: (
            F.AttentionMask.causal()
            & F.AttentionMask.window(100, None)
            & F.AttentionMask.positions(scattered(q, 5), scattered(k, 6))
        ),
    ),
    "segments and validity": (
        (1, 400, 400, 2, 1, 16, 16),
        lambda q, k: (
            F.AttentionMask.causal()
            & F.AttentionMask.segments(parts_of(q), parts_of(k))
            & F.AttentionMask.valid(jnp.asarray(np.arange(k)[None] % 7 != 3))
        ),
    ),
    "many queries share a key head": (
        (1, 5, 270, 12, 1, 24, 24),
        lambda q, k: F.AttentionMask.window(3, 260),
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_long_inputs_agree_with_the_reference(name):
    sizes, make_mask = LONG[name]
    mask = make_mask(sizes[1], sizes[2])
    operands = arrays(*sizes)
    cotangent = draw(sizes[0], sizes[1], sizes[3], sizes[6], seed=4)
    got = value_and_gradients(native, operands, cotangent, mask=mask)
    wanted = value_and_gradients(blockwise, operands, cotangent, mask=mask)
    for part, one, other in zip(("output", "d_query", "d_key", "d_value"), got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=f"{name}: {part}")


def test_dropout_drops_what_blockwise_drops():
    operands = arrays(2, 150, 290, 4, 2, 16, 16)
    cotangent = draw(2, 150, 4, 16, seed=4)
    arguments = {"dropout": F.AttentionDropout(0.3, jax.random.key(7)), "mask": F.AttentionMask.causal()}
    got = value_and_gradients(native, operands, cotangent, **arguments)
    wanted = value_and_gradients(blockwise, operands, cotangent, **arguments)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_slopes_have_a_gradient_over_several_chunks():
    operands = arrays(2, 40, 600, 4, 2, 8, 8)
    slopes = F.alibi_slopes(4)

    def loss(attend, slopes):
        return (attend(*operands, bias=F.Alibi(slopes)) ** 2).sum()

    got, wanted = (
        jax.jit(jax.grad(functools.partial(loss, attend)))(slopes) for attend in (native, blockwise)
    )
    np.testing.assert_allclose(got, wanted, rtol=2e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_bits_of_a_row_depend_on_nothing_but_the_row(causal):
    batch, length = 5, 330
    operands = arrays(batch, length, length, 4, 2, 32, 32)
    cotangent = draw(batch, length, 4, 32, seed=4)
    lengths = jnp.array([330, 17, 129, 256, 300])
    order = F.AttentionMask.causal() if causal else F.AttentionMask()
    together = value_and_gradients(
        native, operands, cotangent, mask=order & F.AttentionMask.from_lengths(lengths, length)
    )
    again = value_and_gradients(
        native, operands, cotangent, mask=order & F.AttentionMask.from_lengths(lengths, length)
    )
    for one, other in zip(together, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for row, own in enumerate(np.asarray(lengths)):
        cut = tuple(array[row : row + 1, :own] for array in operands)
        alone = value_and_gradients(native, cut, cotangent[row : row + 1, :own], mask=order)
        np.testing.assert_array_equal(alone[0][0], together[0][row, :own])
        if causal:  # later queries do not see the keys of this one: neither side has anything of the other
            np.testing.assert_array_equal(
                value_and_gradients(native, cut, cotangent[row : row + 1, :own], mask=order)[1][0],
                together[1][row, :own],
            )


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_at_a_later_key_of_a_block_reaches_no_earlier_query(garbage):
    query, key, value = arrays(1, 200, 200, 2, 2, 16, 16)
    cotangent = draw(1, 200, 2, 16, seed=4).at[:, 130:].set(0)
    clean = value_and_gradients(native, (query, key, value), cotangent, mask=F.AttentionMask.causal())
    spoiled = (query, key.at[:, 130].set(garbage), value.at[:, 130].set(garbage))
    got = value_and_gradients(native, spoiled, cotangent, mask=F.AttentionMask.causal())
    np.testing.assert_array_equal(got[0][:, :130], clean[0][:, :130])
    assert not np.isfinite(got[0][:, 130:]).any()
    for one, other in zip(got[1:], clean[1:], strict=True):
        np.testing.assert_allclose(one[:, :130], other[:, :130], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one[:, 130:], 0)


def test_vmap_scan_remat_and_derivatives_of_derivatives():
    query, key, value = arrays(3, 6, 9, 2, 1, 8, 8)
    lengths = jnp.array([9, 4, 1])

    def one(query, key, value, length):
        mask = F.AttentionMask.from_lengths(length[None], 9)
        return native(query[None], key[None], value[None], mask=mask)[0]

    together = native(query, key, value, mask=F.AttentionMask.from_lengths(lengths, 9))
    mapped = jax.vmap(one)(query, key, value, lengths)
    np.testing.assert_array_equal(mapped, together)
    twice = jax.vmap(jax.vmap(one, in_axes=(0, None, None, None)), in_axes=(None, 0, 0, 0))(
        query, key, value, lengths
    )
    np.testing.assert_array_equal(twice[jnp.arange(3), jnp.arange(3)], together)

    def summed(query):
        def body(total, length):
            mask = F.AttentionMask.from_lengths(jnp.full(3, length), 9)
            return total + jax.checkpoint(functools.partial(native, mask=mask))(query, key, value).sum(), None

        return jax.lax.scan(body, 0.0, jnp.arange(1, 4))[0]

    def plainly(query):
        masks = [F.AttentionMask.from_lengths(jnp.full(3, length), 9) for length in (1, 2, 3)]
        return sum(blockwise(query, key, value, mask=mask).sum() for mask in masks)

    np.testing.assert_allclose(jax.grad(summed)(query), jax.grad(plainly)(query), rtol=1e-4, atol=1e-5)
    direction = draw(*query.shape, seed=9)

    def along(attend):
        def loss(query):
            return (attend(query, key, value) ** 2).sum()

        forward = jax.jvp(loss, (query,), (direction,))[1]
        return forward, jax.jvp(jax.grad(loss), (query,), (direction,))[1]

    for got, wanted in zip(along(native), along(blockwise), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_library_chooses_it_and_says_so():
    query, key, value = arrays(2, 40, 40, 2, 2, 16, 16)
    explanation = F.explain_attention(query, key, value)
    assert explanation.chosen == "native_cpu"
    with jax.enable_x64(True):
        double = F.explain_attention(*(array.astype(jnp.float64) for array in (query, key, value)))
    assert double.chosen == "batched"
    assert "float32" in double.refusals["native_cpu"][0]


def test_it_is_not_chosen_when_it_is_switched_off(monkeypatch):
    monkeypatch.setenv("TRANSFORMER_JAX_NATIVE", "0")
    ones = jnp.ones((1, 8, 2, 4))
    explanation = F.explain_attention(ones, ones, ones)
    assert explanation.chosen == "batched"
    assert "switched off by TRANSFORMER_JAX_NATIVE=0" in explanation.refusals["native_cpu"][0]
    with pytest.raises(NotImplementedError, match="switched off"):
        native(ones, ones, ones)


EMPTY = {
    "lengths": jnp.int32, "query positions": jnp.int32, "key positions": jnp.int32, "query segments": jnp.int32,
    "key segments": jnp.int32, "valid keys": bool, "dense mask": bool, "slopes": jnp.float32,
    "dropout keys": jnp.uint32,
}  # fmt: skip
GIVEN = {
    "lengths": 1,
    "query positions": 2,
    "key positions": 4,
    "valid keys": 8,
    "dense mask": 16,
    "slopes": 32,
    "dropout keys": 64,
}
WRONG = {
    "lengths": (3,), "query positions": (2, 4), "key positions": (3, 6), "valid keys": (2, 5),
    "dense mask": (2, 3, 5, 6), "slopes": (2, 4),
    "dropout keys": (2, 2, 5, 3), "query segments": (2, 1, 4), "key segments": (2, 2, 6),
}  # fmt: skip


def raw_forward(native_library, parts, *, key_shape=(2, 6, 2, 4), output_shape=(2, 5, 2, 4)):
    shapes = dict.fromkeys(EMPTY, (0,)) | parts
    operands = [jnp.ones((2, 5, 2, 4)), jnp.ones(key_shape), jnp.ones((2, 6, 2, 4))]
    operands += [jnp.zeros(shapes[name], dtype) for name, dtype in EMPTY.items()]
    results = (jax.ShapeDtypeStruct(output_shape, jnp.float32), jax.ShapeDtypeStruct((2, 2, 5), jnp.float32))
    return jax.ffi.ffi_call(native_library.target("attention_forward"), results)(
        *operands,
        scale=np.float32(1), left=np.int64(-1), right=np.int64(-1),
        given=np.int64(sum(GIVEN.get(name, 0) for name in parts)),
        segment_pairs=np.int64(any("segments" in name for name in parts)),
        rate=np.float32(0), threshold=np.int64(0),
    )  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_part_that_does_not_fit_is_refused_before_it_is_read(native_library, name):
    with pytest.raises(jax.errors.JaxRuntimeError, match="does not fit the call"):
        jax.block_until_ready(raw_forward(native_library, {name: WRONG[name]}))


def test_arrays_that_do_not_fit_are_refused_before_they_are_read(native_library):
    raw_forward(native_library, {})
    for wrong in ({"key_shape": (2, 7, 2, 4)}, {"key_shape": (2, 6, 2, 5)}, {"output_shape": (2, 5, 2, 3)}):
        with pytest.raises(jax.errors.JaxRuntimeError, match="does not fit the call"):
            jax.block_until_ready(raw_forward(native_library, {}, **wrong))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from transformer_jax import functional as F
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 50, 2, 16)), jnp.float32)
mask = F.AttentionMask.from_lengths(jnp.array([50, 20, 3, 41]), 50)
drop = F.AttentionDropout(0.2, jax.random.key(1))

def loss(x):
    return (F.attention(x, x + 1, x * 2, mask=mask, dropout=drop, implementation="native_cpu") ** 2).sum()

alone = jax.jit(jax.value_and_grad(loss))(x)
with jax.sharding.use_mesh(mesh) if hasattr(jax.sharding, "use_mesh") else jax.set_mesh(mesh):
    spread = jax.device_put(x, NamedSharding(mesh, P("data")))
    step = jax.jit(jax.value_and_grad(loss))
    text = step.lower(spread).compile().as_text()
    value, gradient = step(spread)
assert "all-gather" not in text, text
np.testing.assert_array_equal(np.asarray(gradient), np.asarray(alone[1]))
mapped = jax.shard_map(
    lambda x: jax.grad(lambda x: (F.attention(x, x, x, implementation="native_cpu") ** 2).sum())(x),
    mesh=mesh, in_specs=P("data"), out_specs=P("data"),
)
wanted = jax.grad(lambda x: (F.attention(x, x, x, implementation="reference") ** 2).sum())(x)
np.testing.assert_allclose(np.asarray(jax.jit(mapped)(x)), np.asarray(wanted), rtol=2e-4, atol=2e-5)
print("fine", len(jax.devices()))
"""


def test_two_devices_give_the_bits_of_one():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED],
        capture_output=True,
        text=True,
        env={**os.environ, **flags},
        timeout=300,
    )
    assert done.stdout == "fine 2\n", done.stderr[-3000:]
