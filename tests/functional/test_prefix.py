"""Prefixes against a plain loop, for an operation in which the order matters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.functional.recurrent.prefix import prefixes


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("chunk_length", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 16, 23])
def test_prefixes_of_affine_maps_are_those_of_a_loop(
    num_steps: int, chunk_length: int | None, reverse: bool
) -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(num_steps, 3, 2, 2)).astype(np.float32) / 2
    vectors = rng.normal(size=(num_steps, 3, 2)).astype(np.float32)

    def join(first: tuple, second: tuple) -> tuple:
        moved = jnp.einsum("...ij,...j->...i", second[0], first[1])
        return second[0] @ first[0], moved + second[1]

    @jax.jit
    def run(matrices: jax.Array, vectors: jax.Array) -> tuple:
        identity = (jnp.eye(2), 0.0)
        return prefixes(join, (matrices, vectors), identity, reverse=reverse, chunk_length=chunk_length)

    products, states = run(matrices, vectors)
    product, state = np.broadcast_to(np.eye(2, dtype=np.float32), (3, 2, 2)), np.zeros((3, 2), np.float32)
    for step in range(num_steps)[:: -1 if reverse else 1]:
        product = matrices[step] @ product
        state = np.einsum("bij,bj->bi", matrices[step], state) + vectors[step]
        np.testing.assert_allclose(products[step], product, atol=1e-5)
        np.testing.assert_allclose(states[step], state, atol=1e-5)


def test_the_program_does_not_grow_with_time() -> None:
    def size(num_steps: int) -> int:
        scanned = jax.jit(lambda array: prefixes(jnp.add, array, 0.0))
        return len(scanned.lower(jnp.zeros(num_steps)).as_text().splitlines())

    assert size(4096) == size(64)
