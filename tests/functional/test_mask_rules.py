"""Rules of local attention: each against loops over pairs, by implementations, in gradients, and their bad input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, DilatedWindow, GlobalTokens, SinkWindow, attention
from transformer_jax.testing.attention_suite import RULE_ORACLES

LENGTH = 9


def by_loops(allows: Any) -> np.ndarray:
    return np.array([[allows(query, key) for key in range(LENGTH)] for query in range(LENGTH)])


CASES = {
    "sinks": (
        AttentionMask.causal() & SinkWindow(3, 2),
        lambda q, k: k <= q and (k in (q, q - 1, q - 2) or k in (0, 1)),
    ),
    "no sinks": (AttentionMask.causal() & SinkWindow(2), lambda q, k: k in (q, q - 1)),
    "dilated": (AttentionMask() & DilatedWindow(2, 1, dilation=3), lambda q, k: k - q in (-6, -3, 0, 3)),
    "global": (
        AttentionMask() & GlobalTokens(1, 2, num_global=2),
        lambda q, k: k - q in (-1, 0, 1, 2) or min(q, k) < 2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_are_those_of_the_formula(name: str) -> None:
    mask, allows = CASES[name]
    np.testing.assert_array_equal(mask.materialize(LENGTH, LENGTH)[0, 0], by_loops(allows))


def test_pairs_of_any_size_at_any_positions_are_those_of_the_formula() -> None:
    generator = np.random.default_rng(0)

    def least(start: int) -> int:
        return int(generator.integers(start, 12))

    for _ in range(6):
        queries, keys = (generator.integers(0, 20, generator.integers(1, 9)) for _ in range(2))
        places = AttentionMask.positions(jnp.asarray(queries)[None], jnp.asarray(keys)[None])
        for rule in (
            SinkWindow(least(1), least(0)),
            DilatedWindow(least(0), least(0), least(1)),
            GlobalTokens(least(0), least(0), least(0)),
        ):
            found = (places & rule).materialize(len(queries), len(keys))[0, 0]
            allows = RULE_ORACLES[type(rule)]
            wanted = [[allows(rule, int(query), int(key)) for key in keys] for query in queries]
            np.testing.assert_array_equal(found, wanted, err_msg=f"{rule} {queries} {keys}")


def test_a_window_longer_than_the_text_hides_nothing() -> None:
    everything = np.ones((LENGTH, LENGTH), bool)
    for rule in (SinkWindow(99, 50), DilatedWindow(99, 99, dilation=1), GlobalTokens(99, 99, num_global=0)):
        np.testing.assert_array_equal((AttentionMask() & rule).materialize(LENGTH, LENGTH)[0, 0], everything)


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
def test_a_dilation_that_leaves_queries_without_keys_gives_zeros_and_finite_gradients(
    implementation: str,
) -> None:
    mask = AttentionMask() & DilatedWindow(
        0, 0, dilation=3
    )  # the last four of six queries see none of two keys
    query, key = jnp.ones((1, 6, 1, 4)), jnp.ones((1, 2, 1, 4))

    def loss(query: Any, key: Any) -> Any:
        output = attention(query, key, key, mask=mask, implementation=implementation)
        return output.sum(), output

    gradients, output = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(query, key)
    np.testing.assert_array_equal(output[0, :, 0, 0], [1, 1, 0, 0, 0, 0])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", CASES)
def test_blocks_equal_the_dense_mask_in_values_and_gradients(name: str) -> None:
    mask, allows = CASES[name]
    keys = jax.random.split(jax.random.key(0), 3)
    query, key, value = (jax.random.normal(one, (2, LENGTH, 2, 4)) for one in keys)

    def loss(implementation: str, mask: AttentionMask) -> Any:
        def scalar(query: Any, key: Any, value: Any) -> Any:
            output = attention(query, key, value, mask=mask, implementation=implementation)
            return jnp.sum(output**2), output

        return jax.value_and_grad(scalar, argnums=(0, 1, 2), has_aux=True)(query, key, value)

    dense = AttentionMask.dense(jnp.asarray(by_loops(allows))[None, None])
    for found, wanted in zip(
        jax.tree.leaves(loss("blockwise", mask)), jax.tree.leaves(loss("reference", dense)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SinkWindow(0), r"SinkWindow.window_len must be an integer >= 1, got 0"),
        (lambda: SinkWindow(1, -1), r"SinkWindow.num_sinks must be an integer >= 0, got -1"),
        (lambda: DilatedWindow(1, 1, dilation=0), r"DilatedWindow.dilation must be an integer >= 1, got 0"),
        (lambda: DilatedWindow(-1, 1), r"DilatedWindow.left must be an integer >= 0, got -1"),
        (lambda: GlobalTokens(1, -2), r"GlobalTokens.right must be an integer >= 0, got -2"),
    ],
)
def test_windows_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
