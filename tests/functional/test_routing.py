"""Routing against loops; the three ways of running experts against each other in values and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional.expert_networks import block_size, run_experts
from transformer_jax.functional.routing import (
    balance_loss,
    expert_capacity,
    expert_load,
    places_in_experts,
    route_by_experts,
    route_to_top,
    router_z_loss,
)

TOKENS, EXPERTS, WIDTH = 40, 5, 3
X = jax.random.normal(jax.random.key(0), (TOKENS, WIDTH))
LOGITS = jax.random.normal(jax.random.key(1), (TOKENS, EXPERTS))
MATRICES = jax.random.normal(jax.random.key(2), (EXPERTS, WIDTH, 4))
VALID = jnp.arange(TOKENS) % 4 != 2


def apply(rows: Any, matrices: Any) -> Any:
    return jnp.tanh(jnp.einsum("gtd,gdh->gth", rows, matrices))


def by_loops(capacity: int | None = None, *, top_k: int = 2) -> np.ndarray:
    probabilities = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    chosen = np.argsort(-probabilities, axis=1)[:, :top_k]
    taken, found = np.zeros(EXPERTS, int), np.zeros((TOKENS, 4))
    for token in range(TOKENS):
        for choice in range(top_k):
            if not VALID[token]:
                continue
            expert = chosen[token, choice]
            taken[expert] += 1
            if capacity is not None and taken[expert] > capacity:
                continue
            weight = probabilities[token, expert]
            if top_k > 1:
                weight /= probabilities[token, chosen[token]].sum()
            product = np.asarray(X[token], np.float64) @ np.asarray(MATRICES[expert], np.float64)
            found[token] += weight * np.tanh(product)
    return found


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize(("dispatch", "capacity"), [("dense", None), ("blocks", None), ("capacity", 9)])
def test_outputs_are_those_of_loops_over_tokens(dispatch: Any, capacity: int | None, top_k: int) -> None:
    routes = route_to_top(LOGITS, top_k, valid=VALID)
    found = run_experts(X, routes, apply, MATRICES, dispatch=dispatch, capacity=capacity)
    np.testing.assert_allclose(found, by_loops(capacity, top_k=top_k), atol=1e-5)


def test_gradients_of_all_ways_are_the_same() -> None:
    @jax.jit
    def gradients(x: Any, logits: Any, matrices: Any) -> Any:
        def loss(dispatch: Any, capacity: Any, x: Any, logits: Any, matrices: Any) -> Any:
            routes = route_to_top(logits, 2, valid=VALID)
            y = run_experts(x, routes, apply, matrices, dispatch=dispatch, capacity=capacity)
            return (y**2 * jnp.arange(4.0)[None]).sum()

        return [
            jax.grad(lambda *arrays, way=way: loss(*way, *arrays), argnums=(0, 1, 2))(x, logits, matrices)
            for way in (("dense", None), ("blocks", None), ("capacity", TOKENS))
        ]

    dense, *others = gradients(X, LOGITS, MATRICES)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), other, dense)


def test_an_expert_that_is_no_number_reaches_its_own_tokens_only() -> None:
    routes = route_to_top(LOGITS, 2, valid=VALID)
    broken = MATRICES.at[3].set(jnp.nan)
    own = np.asarray((routes.experts == 3).any(1))
    assert 0 < own.sum() < TOKENS
    for dispatch, capacity in (("dense", None), ("blocks", None), ("capacity", TOKENS)):
        y = run_experts(X, routes, apply, broken, dispatch=dispatch, capacity=capacity)  # type: ignore[arg-type]
        np.testing.assert_array_equal(np.isnan(y).any(1), own)


@pytest.mark.parametrize(("tokens", "experts"), [(1, 4), (3, 8), (200, 3)])
def test_any_number_of_tokens_and_one_expert_that_has_all(tokens: int, experts: int) -> None:
    x = jnp.ones((tokens, WIDTH))
    logits = jnp.zeros((tokens, experts)).at[:, 1].set(5.0)
    matrices = jnp.ones((experts, WIDTH, 4))
    routes = route_to_top(logits, 1)
    wanted = run_experts(x, routes, apply, matrices, dispatch="dense")
    np.testing.assert_allclose(run_experts(x, routes, apply, matrices, dispatch="blocks"), wanted, atol=1e-6)
    assert run_experts(x[:0], route_to_top(logits[:0], 1), apply, matrices).shape == (0, 4)
    assert expert_load(routes.experts, experts).tolist() == [0, tokens] + [0] * (experts - 2)
    assert block_size(tokens, experts) in (8, 16, 32, 64, 128)


def test_queues_are_in_the_order_of_tokens() -> None:
    experts = route_to_top(LOGITS, 2, valid=VALID).experts
    taken, wanted = np.zeros(EXPERTS + 1, int), np.zeros((TOKENS, 2), int)
    for token in range(TOKENS):
        for choice in range(2):
            wanted[token, choice] = taken[experts[token, choice]]
            taken[experts[token, choice]] += 1
    found = places_in_experts(experts, EXPERTS)
    np.testing.assert_array_equal(found[VALID], wanted[np.asarray(VALID)])
    np.testing.assert_array_equal(places_in_experts(experts[:25], EXPERTS), found[:25])  # none after counts


def test_experts_choose_their_most_probable_tokens_of_each_sequence() -> None:
    rows, length = 3, 12
    logits = jax.random.normal(jax.random.key(3), (rows, length, EXPERTS))
    lengths = np.array([12, 7, 0])
    valid = jnp.arange(length)[None] < lengths[:, None]
    routes = route_by_experts(logits, 2.0, valid=valid)
    wanted = np.full((rows, length, EXPERTS), EXPERTS)
    probabilities = np.asarray(jax.nn.softmax(logits))
    for row, number in enumerate(lengths):
        for expert in range(EXPERTS):
            best = np.argsort(-probabilities[row, :number, expert])[: int(np.ceil(2.0 * number / EXPERTS))]
            wanted[row, best, expert] = expert
    np.testing.assert_array_equal(routes.experts, wanted.reshape(-1, EXPERTS))
    weights = np.where(wanted < EXPERTS, probabilities, 0.0).reshape(-1, EXPERTS)
    np.testing.assert_array_equal(routes.weights, weights)
    # Neither padding nor other rows change a row's routes.
    alone = route_by_experts(logits[1:2, :7], 2.0)
    np.testing.assert_array_equal(alone.experts, wanted[1, :7])
    broken = jnp.where(valid[..., None], logits, jnp.nan)
    np.testing.assert_array_equal(route_by_experts(broken, 2.0, valid=valid).experts, routes.experts)
    x = jax.random.normal(jax.random.key(4), (rows * length, WIDTH))
    capacity = rows * int(np.ceil(2.0 * length / EXPERTS))
    limited = run_experts(x, routes, apply, MATRICES, dispatch="capacity", capacity=capacity)
    all_tokens = run_experts(x, routes, apply, MATRICES, dispatch="dense")
    np.testing.assert_allclose(limited, all_tokens, atol=1e-6)
    with pytest.raises(ConfigError, match="capacity_factor must be a number above 0, got nan"):
        route_by_experts(logits, float("nan"))


def test_losses_are_their_formulas_over_the_tokens_that_count() -> None:
    routes = route_to_top(LOGITS, 2, valid=VALID)
    real = np.asarray(VALID)
    probabilities = np.asarray(jax.nn.softmax(LOGITS), np.float64)[real]
    counts = np.bincount(np.asarray(routes.experts)[real].ravel(), minlength=EXPERTS)
    wanted = EXPERTS * (counts / counts.sum() * probabilities.mean(0)).sum()
    np.testing.assert_allclose(balance_loss(routes, valid=VALID), wanted, rtol=1e-6)
    z = np.log(np.exp(np.asarray(LOGITS, np.float64)[real]).sum(1)) ** 2
    np.testing.assert_allclose(router_z_loss(LOGITS, valid=VALID), z.mean(), rtol=1e-6)
    nothing = jnp.zeros(TOKENS, bool)
    assert float(balance_loss(route_to_top(LOGITS, 2, valid=nothing), valid=nothing)) == 0.0
    gradient = jax.grad(lambda logits: balance_loss(route_to_top(logits, 2), valid=None))(LOGITS)
    assert np.abs(gradient).max() > 0


def test_impossible_routes_are_refused() -> None:
    with pytest.raises(ConfigError, match="top_k must be 1 to the number of experts, 5; got 6"):
        route_to_top(LOGITS, 6)
    with pytest.raises(ConfigError, match="capacity_factor must be a number above 0, got 0"):
        expert_capacity(8, 2, 1, 0.0)
    assert expert_capacity(3, 8, 1, 1.0) == 1
    routes = route_to_top(LOGITS, 1)
    with pytest.raises(ConfigError, match="'capacity' needs one"):
        run_experts(X, routes, apply, MATRICES, dispatch="capacity")
