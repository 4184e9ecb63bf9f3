"""Multi-head attention against a numpy loop; grouped heads; caches and memories against the whole call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import AttentionMask
from transformer_jax.nn.cache import KeyValueCache
from transformer_jax.nn.multi_head import MultiHeadAttention, check_heads
from transformer_jax.nn.parameters import parameter_count

BATCH, LENGTH, MODEL, HEADS, HEAD_DIM = 2, 5, 12, 6, 2
X = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, LENGTH, MODEL)), jnp.float32)
MEMORY = jnp.asarray(np.random.default_rng(1).normal(size=(BATCH, 4, 7)), jnp.float32)


def make(num_kv_heads=HEADS, key_value_dim=None, use_bias=True, dropout_rate=0.0, rotary_base=None):
    layer = MultiHeadAttention(
        MODEL,
        HEADS,
        num_kv_heads,
        key_value_dim=key_value_dim,
        use_bias=use_bias,
        dropout_rate=dropout_rate,
        rotary_base=rotary_base,
        rngs=nnx.Rngs(0),
    )
    for _, variable in nnx.iter_graph(layer):
        if isinstance(variable, nnx.Param) and variable[...].ndim == 1:
            variable[...] = jnp.linspace(-1.0, 1.0, variable[...].size)
    return layer


def numpy_attention(query, key, value, allowed, output):
    """Head by head, query by query, from the paper's equation 1; arrays ``[length, heads, head_dim]``."""
    context = np.zeros((query.shape[0], HEADS, HEAD_DIM))
    for head in range(HEADS):
        kv_head = head * key.shape[1] // HEADS
        for i in range(query.shape[0]):
            scores = np.array([query[i, head] @ k / np.sqrt(HEAD_DIM) for k in key[:, kv_head]])
            weights = np.exp(scores - scores.max()) * allowed[i]
            context[i, head] = (weights / weights.sum()) @ value[:, kv_head]
    return context.reshape(query.shape[0], MODEL) @ output[0] + output[1]


def arrays(linear):
    return np.asarray(linear.kernel[...], np.float64), np.asarray(linear.bias[...], np.float64)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_self_attention_equals_numpy(num_kv_heads):
    layer = make(num_kv_heads)
    kernel, bias = arrays(layer.query_key_value)
    causal = np.tril(np.ones((LENGTH, LENGTH)))
    wanted = []
    for row in np.asarray(X, np.float64):
        fused = (row @ kernel + bias).reshape(LENGTH, HEADS + 2 * num_kv_heads, HEAD_DIM)
        query, key, value = np.split(fused, [HEADS, HEADS + num_kv_heads], axis=1)
        wanted.append(numpy_attention(query, key, value, causal, arrays(layer.output)))
    wanted = np.stack(wanted)
    got = layer(X, mask=AttentionMask.causal())
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_cross_attention_equals_numpy(num_kv_heads):
    layer = make(num_kv_heads, key_value_dim=7)
    allowed = np.array([1, 1, 1, 0.0])
    wanted = []
    for row, memory in zip(np.asarray(X, np.float64), np.asarray(MEMORY, np.float64)):
        kernel, bias = arrays(layer.query)
        query = (row @ kernel + bias).reshape(LENGTH, HEADS, HEAD_DIM)
        kernel, bias = arrays(layer.key_value)
        key, value = np.split((memory @ kernel + bias).reshape(4, 2 * num_kv_heads, HEAD_DIM), 2, axis=1)
        wanted.append(numpy_attention(query, key, value, np.tile(allowed, (LENGTH, 1)), arrays(layer.output)))
    wanted = np.stack(wanted)
    mask = AttentionMask.from_lengths(jnp.array([3, 3]), 4)
    np.testing.assert_allclose(layer(X, MEMORY, mask=mask), wanted, atol=1e-5 * np.abs(wanted).max())


def test_grouped_heads_equal_full_heads_with_repeated_projections():
    grouped, full = make(2), make(6)
    query, key, value = jnp.split(grouped.query_key_value.kernel[...], [12, 16], axis=1)

    def repeat(columns):
        heads = columns.reshape(*columns.shape[:-1], 2, HEAD_DIM)
        return jnp.repeat(heads, 3, axis=-2).reshape(*columns.shape[:-1], MODEL)

    full.query_key_value.kernel[...] = jnp.concatenate([query, repeat(key), repeat(value)], axis=1)
    query, key, value = jnp.split(grouped.query_key_value.bias[...], [12, 16])
    full.query_key_value.bias[...] = jnp.concatenate([query, repeat(key), repeat(value)])
    np.testing.assert_allclose(full(X), grouped(X), atol=1e-5)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
def test_parameter_counts(num_kv_heads):
    kv_width = num_kv_heads * HEAD_DIM
    assert parameter_count(make(num_kv_heads, use_bias=False)) == 2 * MODEL**2 + 2 * MODEL * kv_width
    cross = make(num_kv_heads, key_value_dim=7, use_bias=False)
    assert parameter_count(cross) == 2 * MODEL**2 + 2 * 7 * kv_width


@pytest.mark.parametrize(
    ("pieces", "rotary_base"),
    [
        ([1, 1, 1, 1, 1], 100.0),
        ([5], None),
        ([3, 1, 1], None),
        ([2, 3], 100.0),
        *(
            pytest.param(pieces, rotary_base, marks=pytest.mark.full)
            for pieces, rotary_base in (
                ([1, 1, 1, 1, 1], None),
                ([5], 100.0),
                ([3, 1, 1], 100.0),
                ([2, 3], None),
            )
        ),
    ],
)
def test_cache_equals_the_whole_call(pieces, rotary_base):
    layer = make(2, rotary_base=rotary_base)
    wanted = layer(X, mask=AttentionMask.causal())
    cache = KeyValueCache.empty(BATCH, 7, 2, HEAD_DIM)
    outputs, start = [], 0
    for size in pieces:
        output, cache = layer.attend_cached(X[:, start : start + size], cache)
        outputs.append(output)
        start += size
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), wanted, atol=1e-5)
    assert cache.length.tolist() == [5, 5]


def test_rows_of_a_cache_go_their_own_pace():
    layer = make(2, rotary_base=100.0)
    wanted = layer(X, mask=AttentionMask.causal())
    cache = KeyValueCache.empty(BATCH, 5, 2, HEAD_DIM)
    # Row 0 is fed two tokens and row 1 three of a padded prefill, then each its next one.
    _, cache = layer.attend_cached(X[:, :3], cache, num_valid=jnp.array([2, 3], jnp.int32))
    assert cache.length.tolist() == [2, 3]
    output, cache = layer.attend_cached(jnp.stack([X[0, 2:3], X[1, 3:4]]), cache)
    np.testing.assert_allclose(output[0, 0], wanted[0, 2], atol=1e-5)
    np.testing.assert_allclose(output[1, 0], wanted[1, 3], atol=1e-5)


def test_rotary_positions_default_to_arange_and_only_differences_count():
    layer = make(rotary_base=100.0)
    positions = jnp.arange(LENGTH)[None, :]
    np.testing.assert_allclose(layer(X), layer(X, positions=positions), atol=1e-6)
    np.testing.assert_allclose(layer(X), layer(X, positions=positions + 50), atol=1e-5)
    assert float(jnp.abs(layer(X) - layer(X, positions=2 * positions)).max()) > 1e-3


def test_memory_is_projected_once_and_gives_the_call():
    layer = make(2, key_value_dim=7)
    mask = AttentionMask.from_lengths(jnp.array([3, 4]), 4)
    memory = layer.project_memory(MEMORY)
    assert memory.stored_keys.shape == (BATCH, 2, HEAD_DIM, 4)
    np.testing.assert_allclose(
        layer.attend_memory(X, memory, mask=mask), layer(X, MEMORY, mask=mask), atol=1e-6
    )
    # Asking a projected memory does no product with the key and value kernels any more.
    asking = jax.make_jaxpr(lambda x: layer.attend_memory(x, memory, mask=mask))(X)
    num_products = str(asking).count("dot_general")
    assert num_products == 4  # query, scores, values, output


def test_weights_sum_to_one_and_give_the_output():
    layer = make(key_value_dim=7)
    mask = AttentionMask.from_lengths(jnp.array([3, 0]), 4)
    output, weights = layer.attention_weights(X, MEMORY, mask=mask)
    assert weights.shape == (BATCH, HEADS, LENGTH, 4)
    np.testing.assert_allclose(weights.sum(-1)[0], 1.0, atol=1e-6)
    np.testing.assert_array_equal(weights[1], 0.0)
    np.testing.assert_array_equal(weights[0, :, :, 3], 0.0)
    np.testing.assert_allclose(output, layer(X, MEMORY, mask=mask), atol=1e-6)
    memory = layer.project_memory(MEMORY)
    again, same = layer.attend_memory_with_weights(X, memory, mask=mask)
    np.testing.assert_allclose(again, output, atol=1e-6)
    np.testing.assert_allclose(same, weights, atol=1e-6)


def test_bias_is_added_to_the_scores():
    layer = make()
    forbid = jnp.where(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), 0.0, -1e9)[None, None]
    np.testing.assert_allclose(layer(X, bias=forbid), layer(X, mask=AttentionMask.causal()), atol=1e-5)


def test_dropout_needs_a_key_and_a_rate():
    layer = make(dropout_rate=0.5)
    np.testing.assert_array_equal(layer(X), make()(X))
    first = layer(X, rng_key=jax.random.key(0))
    np.testing.assert_array_equal(first, layer(X, rng_key=jax.random.key(0)))
    assert float(jnp.abs(first - layer(X)).max()) > 1e-3
    np.testing.assert_array_equal(make()(X, rng_key=jax.random.key(0)), make()(X))


def test_bad_values_are_refused():
    with pytest.raises(ShapeError, match="model_dim 10 must be divisible by num_heads 4"):
        check_heads(10, 4, 4)
    with pytest.raises(ShapeError, match="num_heads 4 must be divisible by num_kv_heads 3"):
        check_heads(8, 4, 3)
    with pytest.raises(ShapeError, match="even head_dim, got model_dim 6 / num_heads 2"):
        MultiHeadAttention(6, 2, 2, use_bias=False, dropout_rate=0.0, rotary_base=10.0, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="rotary_base is for self-attention"):
        make(key_value_dim=7, rotary_base=10.0)
    with pytest.raises(ConfigError, match="key_value_input needs"):
        make()(X, MEMORY)
    with pytest.raises(ConfigError, match="key_value_input is missing"):
        make(key_value_dim=7)(X)
    with pytest.raises(ConfigError, match="this is self-attention"):
        make().project_memory(X)


def test_one_query_keeps_a_mask_of_its_own_for_each_head():
    layer = make(2, key_value_dim=7)
    memory = layer.project_memory(MEMORY)
    heads = layer.num_heads
    dense = jnp.arange(heads)[None, :, None, None] + jnp.arange(4)[None, None, None, :] < 4
    mask = AttentionMask.dense(dense)
    wanted = layer(X[:, :1], MEMORY, mask=mask)
    np.testing.assert_allclose(layer.attend_memory(X[:, :1], memory, mask=mask), wanted, atol=1e-6)
    one = AttentionMask.dense(dense[:, :1])
    np.testing.assert_allclose(
        layer.attend_memory(X[:, :1], memory, mask=one), layer(X[:, :1], MEMORY, mask=one), atol=1e-6
    )


def test_a_token_past_the_end_of_the_cache_gives_nan():
    layer = make()

    def step(carry, x):
        output, cache = layer.attend_cached(x[:, None], carry)
        return cache, output[:, 0]

    cache = KeyValueCache.empty(BATCH, 3, HEADS, HEAD_DIM)
    _, outputs = jax.lax.scan(step, cache, X.swapaxes(0, 1))
    wanted = layer(X, mask=AttentionMask.causal())[:, :3]
    np.testing.assert_allclose(outputs[:3].swapaxes(0, 1), wanted, rtol=1e-5, atol=1e-6)
    assert np.isnan(outputs[3:]).all()


@pytest.mark.parametrize("q_len", [1, 2])
def test_a_bias_may_be_a_numpy_array(q_len):
    layer, x = make(), X[:1, :q_len]
    bias = np.random.default_rng(3).normal(size=(1, HEADS, q_len, 4)).astype(np.float32)
    _, cache = layer.attend_cached(x[:, ::-1] + 1, KeyValueCache.empty(1, 4, HEADS, HEAD_DIM))
    from_numpy, from_jax, without = (
        layer.attend_cached(x, cache, bias=one)[0] for one in (bias, jnp.asarray(bias), None)
    )
    np.testing.assert_array_equal(from_numpy, from_jax)
    assert float(jnp.abs(from_jax - without).max()) > 1e-3
    square = bias[..., :q_len]
    np.testing.assert_array_equal(layer(x, bias=square), layer(x, bias=jnp.asarray(square)))
    by_weights = layer.attention_weights(x, bias=square)[0]
    np.testing.assert_allclose(by_weights, layer(x, bias=square), rtol=1e-5, atol=1e-6)
