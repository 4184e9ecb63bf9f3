"""Recurrent language models: carried state over windows, restarts, parameter counts by formula, refusals."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models import RecurrentLM, RecurrentLMConfig, Sizes, build_model, model_shapes
from transformer_jax.nn.parameters import CarriedState, carries_state, parameter_count
from transformer_jax.objectives import NextToken

VOCAB, ROWS, WINDOW, NUM_WINDOWS = 11, 3, 4, 3
CELLS = {"rnn": 1, "lstm": 4, "gru": 3, "min_gru": 2, "min_lstm": 3, "diagonal": 1}
LINEAR = ("min_gru", "min_lstm", "diagonal")


def config(cell: str = "lstm", **changes: Any) -> RecurrentLMConfig:
    sizes: dict[str, Any] = {"embedding_dim": 6, "hidden_dim": 8, "num_layers": 2}
    return RecurrentLMConfig(cell=cell, **sizes | changes)


def build(config: RecurrentLMConfig, carried_rows: int | None = None) -> Any:
    return build_model(config, Sizes(vocab_size=VOCAB, carried_rows=carried_rows), seed=0)


def texts() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (ROWS, NUM_WINDOWS * WINDOW)), jnp.int32)


def windows(tokens: jax.Array) -> list[jax.Array]:
    return jnp.split(tokens, tokens.shape[1] // WINDOW, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def read(graphdef: Any, state: Any, tokens: jax.Array, restarts: jax.Array) -> Any:
    """Logits of a window, and the model's state after it, as a training step returns it."""
    model = nnx.merge(graphdef, state)
    return model(tokens, restarts=restarts), nnx.state(model)


@pytest.mark.parametrize("cell", tiered(CELLS, {"lstm", "min_gru", "diagonal"}))
def test_windows_with_carried_state_equal_one_long_pass(cell: str) -> None:
    model = build(config(cell), carried_rows=ROWS)
    wanted = jax.jit(lambda tokens: build(config(cell))(tokens))(texts())
    graphdef, state = nnx.split(model)
    found = []
    for number, window in enumerate(windows(texts())):
        logits, state = read(graphdef, state, window, jnp.full(ROWS, int(number == 0)))
        found.append(logits)
    chex.assert_trees_all_close(jnp.concatenate(found, axis=1), wanted, atol=1e-5)


def test_a_restart_forgets_the_row_and_no_other() -> None:
    model = build(config(), carried_rows=ROWS)
    first, second, _ = windows(texts())
    graphdef, state = nnx.split(model)
    _, state = read(graphdef, state, first, jnp.ones(ROWS, int))
    going_on, _ = read(graphdef, state, second, jnp.zeros(ROWS, int))
    mixed, _ = read(graphdef, state, second, jnp.array([0, 1, 0]))
    anew = jax.jit(lambda tokens: model(tokens))(second)
    chex.assert_trees_all_close(mixed[jnp.array([0, 2])], going_on[jnp.array([0, 2])], atol=1e-6)
    chex.assert_trees_all_close(mixed[1], anew[1], atol=1e-6)
    assert jnp.abs(going_on[1] - anew[1]).max() > 1e-3, "the carried state changes nothing"


def test_without_restarts_the_carried_state_is_neither_read_nor_changed() -> None:
    model = build(config("gru"), carried_rows=ROWS)
    first, second, _ = windows(texts())
    model(first, restarts=jnp.ones(ROWS, int))
    before = nnx.state(model, CarriedState)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(before))
    found = model(second[:2])
    chex.assert_trees_all_equal(nnx.state(model, CarriedState), before)
    chex.assert_trees_all_close(found, build(config("gru"))(second[:2]), atol=1e-6)


def test_gradients_end_at_the_window() -> None:
    model = build(config(num_layers=1), carried_rows=1)
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    tokens = texts()[:1]

    def merged(params: Any, others: Any) -> Any:
        # New variables, of the gradient's trace, which may be written there.
        return nnx.merge(graphdef, params, jax.tree.map(lambda leaf: leaf, others))

    def loss_of_second(params: Any, others: Any) -> jax.Array:
        model = merged(params, others)
        first, second, _ = windows(tokens)
        model(first, restarts=jnp.ones(1, int))
        return jnp.sum(model(second, restarts=jnp.zeros(1, int))[..., 0])

    def loss_by_parts(params: Any, carried: Any) -> jax.Array:
        return jnp.sum(merged(params, carried)(windows(tokens)[1], restarts=jnp.zeros(1, int))[..., 0])

    together = jax.jit(jax.grad(loss_of_second))(params, others)
    model(windows(tokens)[0], restarts=jnp.ones(1, int))
    apart = jax.jit(jax.grad(loss_by_parts))(params, nnx.state(model, CarriedState))
    chex.assert_trees_all_close(together, apart, atol=1e-6)


def test_documents_restart_the_state_inside_of_a_window() -> None:
    model = build(config(), carried_rows=1)
    first, second, _ = windows(texts()[:1])
    model(first, restarts=jnp.ones(1, int))
    segments = jnp.array([[1, 1, 2, 2]])
    found = model(second, segments=segments, restarts=jnp.zeros(1, int))
    chex.assert_trees_all_close(found[:, 2:], build(config())(second[:, 2:]), atol=1e-6)
    whole = build(config())(jnp.concatenate([first, second], axis=1))
    chex.assert_trees_all_close(found[:, :2], whole[:, 4:6], atol=1e-6)


def test_the_objective_carries_the_state_along() -> None:
    model = build(config("gru"), carried_rows=ROWS)
    assert carries_state(model)
    assert not carries_state(build(config("gru")))
    zeros = jnp.zeros(ROWS, jnp.int32)
    first, second, _ = windows(texts())
    batch = TokenBatch(first, second, zeros + WINDOW, None, zeros + 1, zeros)
    _, _, after = NextToken()(model, batch, jax.random.key(0))
    wanted = build(config("gru")).start(_prompt(first), max_len=1)
    carried = nnx.filter_state(after, CarriedState)
    chex.assert_trees_all_close(jax.tree.leaves(carried), jax.tree.leaves(wanted), atol=1e-6)


def _prompt(tokens: jax.Array) -> Any:
    from transformer_jax.decode.protocol import TokenInputs

    return TokenInputs(tokens, jnp.full(tokens.shape[0], tokens.shape[1], jnp.int32))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_parameters_are_counted_by_a_formula(cell: str, tied: bool) -> None:
    width, gates = 8, CELLS[cell]
    sized = config(cell, tied=tied, embedding_dim=width if tied else 6)
    found = parameter_count(model_shapes(sized, Sizes(vocab_size=VOCAB, carried_rows=5)))
    wanted = VOCAB * sized.embedding_dim + VOCAB + (0 if tied else VOCAB * width)
    for input_dim in (sized.embedding_dim, width):
        wanted += gates * width * (input_dim + (0 if cell in LINEAR else width)) + gates * width
        wanted += width if cell in ("gru", "diagonal") else 0
    assert found == wanted


def test_values_that_do_not_go_together_are_refused() -> None:
    for changes, message in (
        ({"tied": True}, "tied needs embedding_dim and hidden_dim to be equal, got 6 and 8"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"cell": "grru"}, "did you mean 'gru'"),
        ({"dropout_rate": 1.5}, "dropout_rate"),
        ({"recurrence_implementation": "scann"}, "did you mean 'scan'"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(**changes)
    model = build(config(), carried_rows=ROWS)
    assert isinstance(model, RecurrentLM)
    with pytest.raises(
        ShapeError, match="the carried state has 3 rows, the batch 2: train on batches of 3 rows"
    ):
        model(texts()[:2], restarts=jnp.zeros(2, int))
    with pytest.raises(ConfigError, match="restarts need a model with carried state"):
        build(config())(texts(), restarts=jnp.zeros(ROWS, int))
