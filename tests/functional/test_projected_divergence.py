"""The divergence of two distributions against a float64 loop, and without stored logits against with them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ShapeError
from transformer_jax.functional import projected_logsumexp
from transformer_jax.functional.losses import projected_divergence, symmetric_divergence
from transformer_jax.testing.recurrence_suite import assert_close

ROWS, MODEL, VOCAB = (3, 4), 5, 7


@pytest.fixture
def case(random_generator):
    """Two states, embedding and bias in float32; weights with some zero."""
    weights = random_generator.random(size=ROWS) * (random_generator.random(size=ROWS) > 0.3)
    weights[0, 0] = 0.0
    shapes = {
        "first": (*ROWS, MODEL),
        "second": (*ROWS, MODEL),
        "embedding": (VOCAB, MODEL),
        "bias": (VOCAB,),
    }
    arrays = {name: random_generator.normal(size=shape) for name, shape in shapes.items()}
    return {name: jnp.asarray(array, jnp.float32) for name, array in (arrays | {"weights": weights}).items()}


def logits_of(case, name, with_bias=True):
    logits = jnp.einsum("...d,vd->...v", case[name], case["embedding"])
    return logits + case["bias"][None, None, :] if with_bias else logits


def reference(first_logits, second_logits, weights):
    """The definition, position by position, in float64."""
    total = 0.0
    for index in np.ndindex(weights.shape):
        p, q = (np.exp(np.asarray(each[index], np.float64)) for each in (first_logits, second_logits))
        p, q = p / p.sum(), q / q.sum()
        total += weights[index] * 0.5 * ((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    return total


@pytest.mark.parametrize("weighted", [True, False])
def test_symmetric_divergence_equals_the_loop(case, weighted):
    first, second = logits_of(case, "first"), logits_of(case, "second")
    weights = np.asarray(case["weights"], np.float64) if weighted else np.ones(ROWS)
    result = symmetric_divergence(first, second, weights=case["weights"] if weighted else None)
    assert_close((result.sum, result.count), (reference(first, second, weights), weights.sum()), 1e-5)
    swapped = symmetric_divergence(second, first, weights=case["weights"] if weighted else None)
    assert_close(swapped.sum, result.sum, 1e-6)


def test_equal_distributions_have_none(case):
    first = logits_of(case, "first")
    assert float(jnp.abs(symmetric_divergence(first, first + 3.0).sum)) < 1e-5
    assert float(jnp.abs(projected_divergence(case["first"], case["first"], case["embedding"]).sum)) < 1e-6


@pytest.mark.parametrize("block_elements", [1, 6 * VOCAB, 10**6])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_projected_equals_the_divergence_of_the_logits(
    case, monkeypatch, block_elements, with_bias, weighted
):
    monkeypatch.setattr(projected_logsumexp, "BLOCK_ELEMENTS", block_elements)
    names = ("first", "second", "embedding", "bias", "weights")

    def projected(*arrays):
        given = dict(zip(names, arrays, strict=True))
        return projected_divergence(
            given["first"], given["second"], given["embedding"],
            weights=given["weights"] if weighted else None, bias=given["bias"] if with_bias else None,
        ).mean()  # fmt: skip

    def plain(*arrays):
        given = dict(zip(names, arrays, strict=True))
        first, second = (logits_of(given, name, with_bias) for name in ("first", "second"))
        return symmetric_divergence(first, second, weights=given["weights"] if weighted else None).mean()

    arrays = tuple(case[name] for name in names)
    every = tuple(range(len(arrays)))
    actual = jax.jit(jax.value_and_grad(projected, every))(*arrays)
    expected = jax.jit(jax.value_and_grad(plain, every))(*arrays)
    assert_close(actual[0], expected[0], 1e-5, "value")
    assert_close(actual[1], expected[1], 1e-5, "gradients")
    assert_close(jax.jit(projected)(*arrays), expected[0], 1e-5, "without gradients")


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_masked_positions_reach_nothing(case, garbage):
    masked = (case["weights"] == 0)[..., None]

    def both(first):
        logits = jnp.einsum("...d,vd->...v", first, case["embedding"])
        return (
            projected_divergence(first, case["second"], case["embedding"], weights=case["weights"]).sum
            + symmetric_divergence(logits, logits_of(case, "second"), weights=case["weights"]).sum
        )

    dirty, clean = (
        jax.value_and_grad(both)(jnp.where(masked, fill, case["first"])) for fill in (garbage, 0.0)
    )
    assert np.isfinite(dirty[0])
    np.testing.assert_array_equal(dirty[0], clean[0])
    np.testing.assert_array_equal(jnp.where(masked, 0.0, dirty[1]), jnp.where(masked, 0.0, clean[1]))


def test_low_precision_is_summed_in_float32(case):
    first, second, embedding = (case[name].astype(jnp.bfloat16) for name in ("first", "second", "embedding"))
    exact = [
        np.asarray(states, np.float64) @ np.asarray(embedding, np.float64).T for states in (first, second)
    ]
    result = projected_divergence(first, second, embedding)
    assert result.sum.dtype == jnp.float32
    assert_close(result.sum, reference(*exact, np.ones(ROWS)), 2e-2)


def test_bad_arguments_are_named():
    states, embedding = jnp.ones((2, 3)), jnp.ones((5, 3))
    plain, projected = inspect.unwrap(symmetric_divergence), inspect.unwrap(projected_divergence)
    for call, words in [
        (lambda: plain(states, jnp.ones((2, 4))), r"same shape; got \(2, 3\) and \(2, 4\)"),
        (lambda: plain(states, states, weights=jnp.ones(3)), r"weights .*\(2,\).*logits; got \(3,\)"),
        (lambda: projected(states, jnp.ones((1, 3)), embedding), r"same shape; got \(2, 3\) and \(1, 3\)"),
        (lambda: projected(states, states, jnp.ones((5, 4))), r"embedding .*3.*\(5, 4\)"),
        (lambda: projected(states, states, embedding, bias=jnp.ones(4)), r"bias .*\(5,\).*\(4,\)"),
        (
            lambda: projected(states, states, embedding, weights=jnp.ones(3)),
            r"weights .*the states; got \(3,\)",
        ),
    ]:
        with pytest.raises(ShapeError, match=words):
            call()
