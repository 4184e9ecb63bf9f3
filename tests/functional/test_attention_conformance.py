"""The public contract check: what is right passes, and what is known to be wrong is found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.testing.attention_conformance import (
    ConformanceResult,
    attention_conformance,
    conformance_table,
)


@functools.cache
def by_implementation(implementation):
    @jax.jit  # once for each shape, for all tests
    def attend(query, key, value, mask):
        mask = None if mask is None else F.AttentionMask.dense(mask)
        return F.attention(query, key, value, mask=mask, implementation=implementation)

    return attend


def verdicts(results):
    return {result.check: result.verdict for result in results}


def test_ours_pass_every_check():
    results = attention_conformance(by_implementation("blockwise"))
    assert [result for result in results if result.verdict != "yes"] == []


def test_the_known_faults_of_another_are_found():
    @jax.jit
    def naive(query, key, value, mask):
        key, value = (jnp.repeat(array, query.shape[2] // array.shape[2], axis=2) for array in (key, value))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        scores = scores if mask is None else jnp.where(mask, scores, -1e9)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)

    found = verdicts(attention_conformance(naive))
    wrong = {check for check, verdict in found.items() if verdict == "no"}
    assert wrong >= {
        "a row that sees nothing: zeros", "a row that sees nothing: gradients", "NaN in a masked slot: values",
        "NaN in a masked slot: gradients", "Inf in a masked slot: values", "Inf in a masked slot: gradients",
    }  # fmt: skip
    assert found["causal: values"] == found["causal: gradients"] == found["jit"] == "yes"


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda output: output * 1.001, "no mask: values"),
        (lambda output: output[:, ::-1], "causal: values"),
        (lambda output: output.astype(jnp.float32), "bfloat16 in, bfloat16 out"),
        (lambda output: output + jax.lax.stop_gradient(output) - output, "causal: gradients"),
    ],
)
def test_a_small_fault_is_found(spoil, check):
    attend = by_implementation("reference")
    found = verdicts(attention_conformance(lambda *arguments: spoil(attend(*arguments))))
    assert found[check] == "no"


def test_a_function_that_refuses_or_brings_its_own_gradient():
    attend = by_implementation("xla")

    def gradient(query, key, value, mask, cotangent):
        raise RuntimeError("no gradient\nhere")

    results = attention_conformance(attend, gradient=gradient)
    assert verdicts(results)["jit"] == "not asked"
    assert ConformanceResult("causal: gradients", "refuses", "no gradient") in results
    assert verdicts(results)["values of another width: values"] == "refuses"


def test_the_table_lists_what_failed():
    results = [ConformanceResult("values", "no", "off"), ConformanceResult("jit", "yes", "")]
    table = conformance_table({"a": results, "b": [*results[:1], ConformanceResult("jit", "no", "slow")]})
    assert "| values | no | no |" in table
    assert "- b, jit: slow" in table
    with pytest.raises(ValueError, match="different checks"):
        conformance_table({"a": results, "b": results[:1]})
