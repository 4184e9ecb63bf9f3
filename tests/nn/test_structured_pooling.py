"""Structured self-attention against a loop from the paper, its penalty, and the weights of every pooling."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.nn import (
    AttentionPooling,
    EndsPooling,
    FirstPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    StructuredPooling,
    redundancy,
)

FEATURES, HOPS = 4, 3
LENGTHS = (5, 2, 1, 0)
POOLINGS: dict[str, Any] = {
    "mean": MeanPooling,
    "max": MaxPooling,
    "last": LastPooling,
    "first": FirstPooling,
    "ends": EndsPooling,
    "attention": lambda: AttentionPooling(FEATURES, 5, rngs=nnx.Rngs(0)),
    "structured": lambda: StructuredPooling(FEATURES, 6, HOPS, rngs=nnx.Rngs(0)),
}


def inputs() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (len(LENGTHS), 5, FEATURES))


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_equals_the_equations_of_the_paper() -> None:
    pool = POOLINGS["structured"]()
    first, second = np.asarray(pool.hidden.kernel[...]).T, np.asarray(pool.queries[...])
    means, weights = pool.with_weights(inputs(), lengths=jnp.array(LENGTHS))
    for row, length in enumerate(LENGTHS):
        states = np.asarray(inputs())[row, :length]
        annotation = softmax(second @ np.tanh(first @ states.T)) if length else np.zeros((HOPS, 0))
        np.testing.assert_allclose(weights[row, :, :length], annotation, atol=1e-6)
        np.testing.assert_allclose(means[row], (annotation @ states).reshape(-1), atol=1e-6)
        assert not np.any(weights[row, :, length:])


def test_redundancy_equals_the_norm_and_vanishes_for_hops_apart() -> None:
    weights = np.asarray(POOLINGS["structured"]().with_weights(inputs())[1])
    wanted = [np.linalg.norm(one @ one.T - np.eye(HOPS)) ** 2 for one in weights]
    np.testing.assert_allclose(redundancy(jnp.asarray(weights)), wanted, rtol=1e-5)
    apart = jnp.eye(HOPS)[None]
    same = jnp.broadcast_to(apart[:, :1], apart.shape)
    assert redundancy(apart).tolist() == [0.0]
    assert redundancy(same).tolist() == [HOPS * (HOPS - 1)]


def test_the_penalty_drives_hops_apart() -> None:
    pool = POOLINGS["structured"]()
    graph, state = nnx.split(pool)

    def penalty(state: Any) -> jax.Array:
        return jnp.sum(redundancy(nnx.merge(graph, state).with_weights(inputs()[:1])[1]))

    start = float(penalty(state))
    step = jax.jit(
        lambda state: jax.tree.map(lambda value, slope: value - slope, state, jax.grad(penalty)(state))
    )
    for _ in range(50):
        state = step(state)
    assert float(penalty(state)) < 0.7 * start


@pytest.mark.parametrize("name", POOLINGS)
def test_weights_add_up_to_one_and_give_the_vector(name: str) -> None:
    pool, lengths = POOLINGS[name](), jnp.array(LENGTHS)
    valid = np.arange(5)[None, :] < np.array(LENGTHS)[:, None]
    poisoned = jnp.where(valid[..., None], inputs(), jnp.nan)
    pooled, weights = pool.with_weights(poisoned, lengths=lengths)
    np.testing.assert_allclose(pooled, pool(inputs(), lengths=lengths), atol=1e-6)
    by_hop = np.asarray(weights if weights.ndim == 3 else weights[:, None])
    np.testing.assert_allclose(
        by_hop.sum(axis=-1), np.broadcast_to((np.array(LENGTHS) > 0)[:, None], by_hop.shape[:2]), atol=1e-6
    )
    assert (by_hop >= 0).all()
    assert not np.any(np.where(valid[:, None], 0.0, by_hop))
    if name not in ("max", "ends"):
        wanted = np.einsum("bht,btf->bhf", by_hop, np.asarray(inputs())).reshape(len(LENGTHS), -1)
        np.testing.assert_allclose(pooled, wanted, atol=1e-5)
    whole, whole_weights = pool.with_weights(inputs())
    full = jnp.full(len(LENGTHS), 5)
    np.testing.assert_allclose(whole, pool(inputs(), lengths=full), atol=1e-6)
    np.testing.assert_allclose(whole_weights, pool.with_weights(inputs(), lengths=full)[1], atol=1e-6)


def test_max_weighs_steps_by_the_features_that_are_theirs() -> None:
    steps = jnp.array([[[5.0, 1.0, 1.0, 2.0], [0.0, 3.0, 3.0, 2.0], [9.0, 9.0, 9.0, 9.0]]])
    weights = MaxPooling().with_weights(steps, lengths=jnp.array([2]))[1]
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0]])


def test_ends_are_the_final_carries_of_both_directions() -> None:
    from transformer_jax.nn import RecurrentLayer

    layer = RecurrentLayer("gru", FEATURES, 3, bidirectional=True, rngs=nnx.Rngs(0))
    outputs, (ahead, back) = layer(inputs(), lengths=jnp.array(LENGTHS))
    wanted = jnp.concatenate([ahead, back], axis=-1)
    found = EndsPooling()(outputs, lengths=jnp.array(LENGTHS))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("shape", [(0, 4, FEATURES), (2, 0, FEATURES)])
def test_nothing_has_no_weights(name: str, shape: tuple[int, ...]) -> None:
    pooled, weights = POOLINGS[name]().with_weights(jnp.ones(shape), lengths=jnp.zeros(shape[0], jnp.int32))
    assert not np.any(pooled)
    assert not np.any(weights)
    assert weights.shape[-1] == shape[1]
