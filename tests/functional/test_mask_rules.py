"""Rules of local attention: each against loops over pairs, by implementations, in gradients, and their bad input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, DilatedWindow, GlobalTokens, SinkWindow, attention

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
