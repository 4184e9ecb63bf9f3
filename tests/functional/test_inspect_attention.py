"""Looking into attention: what is told of the weights is what the weights are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.attention import inspect
from transformer_jax.testing import attention_suite as suite

CASES = [
    "grouped_heads", "additive_grouped", "location_positions", "all_parts", "empty_rows_dense", "bias",
    "relative_buckets_causal", "reweight", "one_query",
]  # fmt: skip


@pytest.fixture(params=[None, 60], ids=["one block", "blocks of a row or two"])
def block_elements(request, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr(inspect, "BLOCK_ELEMENTS", request.param)


def inspection_of(made, **options):
    arrays = made.arrays
    return F.inspect_attention(
        arrays["query"], arrays["key"], score=arrays["score"], mask=made.mask, bias=arrays["bias"],
        reweight=arrays["reweight"], **options,
    )  # fmt: skip


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("case", CASES)
def test_equals_what_the_oracles_weights_give(case):
    made = suite.make_case(case)
    seen = inspection_of(made, top=3, rows=(None, None))
    arrays = suite.float64(made.arrays)
    applied = suite.oracle_attention(made, arrays)[1]
    weights = suite.oracle_attention(made, {**arrays, "reweight": None})[1]
    suite.assert_near(seen.rows, applied, 1e-5, "rows")
    suite.assert_near(seen.key_mass, applied.sum(axis=2), 1e-5, "key mass")
    logs = np.log(np.where(weights > 0, weights, 1))
    suite.assert_near(seen.entropy, -(weights * logs).sum(-1), 1e-5, "entropy")
    largest = -np.sort(-applied, axis=-1)[..., :3]
    suite.assert_near(seen.top_weights, largest, 1e-5, "top weights")
    found = np.take_along_axis(applied, np.maximum(seen.top_keys, 0), axis=-1)
    suite.assert_near(np.where(seen.top_keys < 0, 0, found), largest, 1e-5, "weights of the top keys")
    np.testing.assert_array_equal(np.asarray(seen.top_keys) < 0, largest == 0)
    np.testing.assert_array_equal(np.isneginf(seen.logsumexp), weights.sum(-1) == 0)


def test_logsumexp_is_that_of_the_scores(random_generator):
    query, key = (jnp.asarray(random_generator.normal(size=(1, n, 2, 4)), jnp.float32) for n in (5, 7))
    scores = F.Dot().score(query, key)
    seen = F.inspect_attention(query, key, score=F.Dot())
    suite.assert_near(seen.logsumexp, jax.nn.logsumexp(scores, axis=-1), 1e-6, "logsumexp")
    assert seen.rows is None


def test_chosen_rows_and_prepared_keys():
    made = suite.make_case("additive")
    prepared = F.prepare_key(made.arrays["score"], made.arrays["key"])
    weights = suite.oracle_attention(made, suite.float64(made.arrays))[1]
    seen = F.inspect_attention(
        made.arrays["query"], prepared, score=made.arrays["score"], mask=made.mask, rows=([1], [2, 0]), top=99
    )
    suite.assert_near(seen.rows, weights[:, [1]][:, :, [2, 0]], 1e-5, "rows")
    assert seen.top_keys.shape[-1] == suite.make_case("additive").arrays["key"].shape[1]
    none = F.inspect_attention(made.arrays["query"], prepared, score=made.arrays["score"], rows=(None, []))
    assert none.rows.shape == (2, 2, 0, 5)


def test_a_row_that_sees_garbage_says_so_and_the_others_do_not():
    key = jnp.ones((1, 4, 1, 2)).at[0, 2].set(jnp.nan)
    seen = F.inspect_attention(jnp.ones((1, 4, 1, 2)), key, mask=F.AttentionMask.causal(), top=1)
    np.testing.assert_array_equal(np.isnan(seen.entropy[0, 0]), [False, False, True, True])
    np.testing.assert_array_equal(np.isnan(seen.logsumexp[0, 0]), [False, False, True, True])
    assert seen.entropy[0, 0, 1] == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("rule", ["scaled dot", "additive"])
def test_memory_is_linear_in_the_length(rule):
    length = 8192 if rule == "scaled dot" else 2048
    shape = jax.ShapeDtypeStruct((1, length, 1, 64), jnp.float32)
    score = (
        F.ScaledDot()
        if rule == "scaled dot"
        else F.Additive(*(jnp.ones(s) for s in [(64, 64), (64, 64), 64]))
    )

    def look(query, key):
        return F.inspect_attention(query, key, score=score, mask=F.AttentionMask.causal(), rows=([0], [5]))

    memory = jax.jit(look).lower(shape, shape).compile().memory_analysis()
    quadratic = 4 * length**2 * (1 if rule == "scaled dot" else 64)
    assert memory.temp_size_in_bytes < quadratic / 4


def test_bad_arguments_are_named():
    ones = jnp.ones((1, 3, 2, 4))
    with pytest.raises(ConfigError, match="top must be an integer >= 0, got -1"):
        F.inspect_attention(ones, ones, top=-1)
    with pytest.raises(ShapeError, match=r"rows: heads must be in \[0, 2\), got 2"):
        F.inspect_attention(ones, ones, rows=([0, 2], None))
    with pytest.raises(ShapeError, match=r"rows: queries must be in \[0, 3\), got -1"):
        F.inspect_attention(ones, ones, rows=(None, [-1]))
