"""Every implementation of attention under its contract, and the support matrix held to the code."""

import functools
import itertools
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_contract import IN_FILES_OF_THEIR_OWN, INTERPRETED, agrees_or_refuses_as_listed

from transformer_jax import functional as F
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.attention import IMPLEMENTATIONS, REFUSALS, mosaic_tpu
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.testing import attention_suite as suite
from transformer_jax.testing.support_matrix import case_refusals

CASES = suite.case_names()
HERE = [name for name, one in IMPLEMENTATIONS.items() if name in INTERPRETED or not one.device_refusals()]
COMPILED = [name for name in HERE if name not in INTERPRETED]
# Each kind of heads, part of a mask, bias, rule and of empty row; the reference is held to all cases.
FIRST = {
    "odd_lengths", "grouped_heads", "value_dim", "general", "additive_grouped", "concat", "linear",
    "window_causal_lengths", "positions_before_all_keys", "segments_causal", "dense_heads",
    "mask_rule_heads", "all_parts", "empty_rows_grouped", "bias_broadcast", "bias_hides_rows",
    "alibi_positions", "relative_buckets_causal", "reweight_window",
}  # fmt: skip
ELSEWHERE = [name for name in IMPLEMENTATIONS if name not in HERE]


@pytest.fixture(autouse=True)
def _interpreted() -> Iterator[None]:
    """Kernels for a TPU run here too."""
    with mosaic_tpu.interpreted("plain"):
        yield


def _ones(*shape: int, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


def _marks(implementation, case):
    if case == "grouped_heads":
        return [pytest.mark.smoke]
    is_first = implementation == "reference" or case in FIRST or case in REFUSALS[implementation]
    return [] if is_first else [pytest.mark.full]


@pytest.mark.parametrize(
    ("implementation", "case"),
    [
        pytest.param(implementation, case, marks=_marks(implementation, case))
        for implementation in HERE
        if implementation not in IN_FILES_OF_THEIR_OWN
        for case in CASES
    ],
)
def test_agrees_with_the_oracle_or_refuses_as_listed(implementation, case):
    agrees_or_refuses_as_listed(implementation, case)


@pytest.mark.parametrize("implementation", HERE)
def test_dropout_agrees_or_refuses_as_listed(implementation):
    attend = functools.partial(F.attention, implementation=implementation)
    if "dropout" in REFUSALS[implementation]:
        ones, drop = _ones(1, 2, 1, 4), F.AttentionDropout(0.5, jax.random.key(0))
        with pytest.raises(NotImplementedError, match="dropout"):
            attend(ones, ones, ones, dropout=drop)
    else:
        suite.check_dropout(attend)


@pytest.mark.parametrize("implementation", ELSEWHERE)
def test_what_needs_another_machine_says_so(implementation):
    ones = _ones(1, 2, 1, 8, dtype=jnp.bfloat16)
    reason = IMPLEMENTATIONS[implementation].device_refusals()[0]
    with pytest.raises(NotImplementedError, match=re.escape(reason)):
        F.attention(ones, ones, ones, implementation=implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_support_matrix_is_what_the_code_refuses(implementation):
    for case in CASES:
        reasons = "; ".join(case_refusals(implementation, case))
        wanted = REFUSALS[implementation].get(case)
        assert (wanted is None) == (not reasons), (
            f"{implementation}, {case}: listed {wanted!r}, says {reasons!r}"
        )
        assert wanted is None or wanted in reasons


def test_the_support_matrix_names_existing_cases_only():
    assert set(REFUSALS) == set(IMPLEMENTATIONS)
    for refused in REFUSALS.values():
        assert set(refused) <= {*CASES, "dropout"}
    assert not REFUSALS["reference"]
    assert not REFUSALS["blockwise"]


@pytest.mark.parametrize("case", ["plain", "additive_empty_rows", "value_dim"])
def test_none_takes_an_implementation_that_can(case):
    suite.check_case(F.attention, case)


@pytest.mark.parametrize(
    "case", ["plain", "grouped_heads", "empty_rows_dense", "general_per_head", "all_parts"]
)
def test_weights_equal_the_oracle_and_give_the_output(case):
    made = suite.make_case(case)
    attend = jax.jit(functools.partial(suite.call, F.attention_with_weights))
    output, weights = attend(made.arrays, made.mask)
    wanted = suite.oracle_attention(made, suite.float64(made.arrays))
    suite.assert_near(output, wanted[0], 1e-5, "output")
    suite.assert_near(weights, wanted[1], 1e-5, "weights")
    assert weights.dtype == jnp.float32


def test_a_large_case_of_odd_lengths_equals_the_oracle(random_generator):
    def draw(*shape):
        return jnp.asarray(random_generator.normal(size=shape), jnp.float32)

    arrays = {"query": draw(2, 37, 4, 16), "key": draw(2, 61, 2, 16), "value": draw(2, 61, 2, 16)}
    arrays |= {"score": F.ScaledDot(), "bias": None}
    mask = F.AttentionMask.window(9, 4) & F.AttentionMask.from_lengths(jnp.array([61, 17]), 61)
    case = suite.AttentionCase("large", arrays, mask, np.zeros(()))
    wanted = suite.oracle_attention(case, suite.float64(arrays))[0]
    for implementation in COMPILED:
        attend = functools.partial(F.attention, implementation=implementation)
        output = jax.jit(functools.partial(suite.call, attend))(arrays, mask)
        suite.assert_near(output, wanted, 1e-5, implementation)


@pytest.mark.parametrize(
    "case", ["general", "additive", "concat", "linear", "location", "additive_sum_projected"]
)
def test_a_prepared_key_is_not_prepared_again(case):
    made = suite.make_case(case)
    score, key = made.arrays["score"], made.arrays["key"]
    prepared = {**made.arrays, "key": F.prepare_key(score, key)}
    suite.assert_near(
        suite.call(F.attention, prepared, made.mask),
        suite.call(F.attention, made.arrays, made.mask),
        1e-6,
        case,
    )


def test_prepared_keys_of_a_rule_with_weights_a_head_may_have_more_heads_than_values():
    made = suite.make_case("general_per_head")
    prepared = F.prepare_key(made.arrays["score"], made.arrays["key"])
    assert prepared.array.shape[2] == 4
    output = suite.call(F.attention, {**made.arrays, "key": prepared}, made.mask)
    suite.assert_near(output, suite.call(F.attention, made.arrays, made.mask), 1e-6, "output")


@pytest.mark.parametrize("implementation", HERE)
def test_a_prepared_key_serves_the_dot_products(implementation):
    made = suite.make_case("grouped_heads")
    arrays = {**made.arrays, "key": F.PreparedKey(made.arrays["key"])}
    output = suite.call(functools.partial(F.attention, implementation=implementation), arrays, made.mask)
    suite.assert_near(output, suite.oracle_attention(made, suite.float64(made.arrays))[0], 1e-5, "output")


def test_stepwise_with_positions_equals_the_whole_causal_call(random_generator):
    length, capacity = 5, 8
    query, key, value = (
        jnp.asarray(random_generator.normal(size=(2, length, 2, 4)), jnp.float32) for _ in range(3)
    )
    whole = F.attention(query, key, value, mask=F.AttentionMask.causal())
    # Slots of a cache that are not filled yet hold anything.
    padding = ((0, 0), (0, capacity - length), (0, 0), (0, 0))
    key, value = (jnp.pad(array, padding, constant_values=jnp.nan) for array in (key, value))
    slots = jnp.arange(capacity)[None]

    @functools.partial(jax.jit, static_argnums=0)
    def at_step(implementation, query, step):
        mask = F.AttentionMask.causal() & F.AttentionMask.positions(jnp.full((2, 1), step), slots)
        return F.attention(query, key, value, mask=mask, implementation=implementation)

    for step, implementation in itertools.product(range(length), COMPILED):
        one = at_step(implementation, query[:, step : step + 1], step)
        suite.assert_near(one[:, 0], whole[:, step], 1e-5, f"{implementation} step {step}")


def test_the_query_half_of_the_linear_rule_has_exactly_zero_gradient():
    made = suite.make_case("linear")

    def loss(arrays):
        return jnp.sum(suite.call(F.attention, arrays, made.mask) * jnp.asarray(made.cotangent, jnp.float32))

    gradients = jax.jit(jax.grad(loss))(made.arrays)
    assert np.all(np.asarray(gradients["query"]) == 0)
    assert np.all(np.asarray(gradients["score"].weight[:4]) == 0)
    assert np.all(np.asarray(gradients["score"].weight[4:]) != 0)
    moved = {**made.arrays, "query": made.arrays["query"] + 1.0}
    suite.assert_near(
        suite.call(F.attention, moved, made.mask),
        suite.call(F.attention, made.arrays, made.mask),
        1e-5,
        "value",
    )


@pytest.mark.parametrize("implementation", HERE)
def test_garbage_in_a_query_that_sees_nothing_leaks_nowhere(implementation):
    query = _ones(2, 3, 1, 4).at[0].set(jnp.nan)
    mask = F.AttentionMask.from_lengths(jnp.array([0, 2]), 5)

    def loss(query, key, value):
        output = F.attention(query, key, value, mask=mask, implementation=implementation)
        return jnp.sum(output**2)

    key = value = _ones(2, 5, 1, 4)
    result, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(query, key, value)
    assert np.isfinite(result)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.all(np.asarray(gradients[0][0]) == 0)


def test_grouped_heads_do_not_repeat_the_keys():
    """No array of the compiled call is as large as the keys repeated for every query head."""
    query, key = _ones(1, 2, 16, 8), _ones(1, 512, 2, 8)
    text = str(jax.make_jaxpr(lambda q, k: F.attention(q, k, k, implementation="reference"))(query, key))
    assert "1,512,16,8" not in text.replace("[", "").replace(" ", "")
    assert "512,2,8,8" not in text.replace(" ", "")


def test_a_valid_mask_costs_one_row_of_the_mask():
    mask = F.AttentionMask.valid(jnp.ones((2, 5), bool))
    assert mask.compact(3, 5).shape == (2, 1, 1, 5)


def test_second_derivatives_and_forward_mode_exist():
    made = suite.make_case("causal")

    def loss(query):
        return jnp.sum(suite.call(F.attention, {**made.arrays, "query": query}, made.mask) ** 2)

    query = made.arrays["query"]

    @jax.jit
    def derivatives(query):
        _, tangent = jax.jvp(loss, (query,), (jnp.ones_like(query),))
        gradient, hessian_row = jax.jvp(jax.grad(loss), (query,), (jnp.ones_like(query),))
        return tangent, gradient, hessian_row

    tangent, gradient, hessian_row = derivatives(query)
    np.testing.assert_allclose(tangent, gradient.sum(), rtol=1e-4)
    step = 1e-2
    above, below = (derivatives(query + by)[1] for by in (step, -step))
    differences = (above - below) / (2 * step)
    np.testing.assert_allclose(hessian_row, differences, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("q_len", "kv_len"), [(0, 3), (3, 0)])
def test_empty_axes(q_len, kv_len):
    output = F.attention(_ones(1, q_len, 1, 2), _ones(1, kv_len, 1, 2), _ones(1, kv_len, 1, 2))
    np.testing.assert_array_equal(output, np.zeros((1, q_len, 1, 2)))
    with pytest.raises(NotImplementedError, match="empty axes"):
        F.attention(
            _ones(1, q_len, 1, 2), _ones(1, kv_len, 1, 2), _ones(1, kv_len, 1, 2), implementation="xla"
        )


def test_a_named_implementation_never_falls_back_and_says_all_reasons():
    key = jax.random.key(0)
    with pytest.raises(
        NotImplementedError, match=r"'xla'.*Additive.*dropout.*value_dim.*implementation=None"
    ):
        F.attention(
            _ones(1, 2, 1, 4),
            _ones(1, 2, 1, 4),
            _ones(1, 2, 1, 5),
            score=F.Additive(_ones(4, 3), _ones(4, 3), _ones(3)),
            dropout=F.AttentionDropout(0.5, key),
            implementation="xla",
        )


def test_explanation_tells_the_choice_and_every_refusal():
    short, long = jnp.ones((1, 4, 2, 4)), jnp.ones((1, 1024, 2, 4))
    drop = F.AttentionDropout(0.1, jax.random.key(0))
    explanation = F.explain_attention(short, short, short, score=F.AdditiveSum(), dropout=drop)
    assert explanation.chosen == "reference"
    assert set(explanation.passed_over) == {"blockwise"}
    assert explanation.refusals["xla"] == (
        "the score rule AdditiveSum is not a dot product",
        "dropout of attention weights is not offered",
    )
    for name in ELSEWHERE:
        assert set(IMPLEMENTATIONS[name].device_refusals()) <= set(explanation.refusals[name])
    lines = str(explanation).splitlines()
    assert [line.split()[0] for line in lines] == ["reference", "blockwise", *explanation.refusals]
    assert explanation.refusals["batched"] == (
        "the score rule AdditiveSum is not a product of queries and keys",
    )
    assert F.explain_attention(short, short, short, dropout=drop).chosen == "batched"
    assert F.explain_attention(long, long, long).chosen == "blockwise"


def test_none_takes_what_the_explanation_says(monkeypatch):
    taken = []
    for name, one in IMPLEMENTATIONS.items():
        spy = one._replace(attend=lambda call, name=name: taken.append(name))
        monkeypatch.setitem(IMPLEMENTATIONS, name, spy)
    for length in (3, 511, 512, 2048):
        query = jnp.ones((1, length, 1, 1))
        getattr(F.attention, "__wrapped__", F.attention)(query, query, query)
        assert taken.pop() == F.explain_attention(query, query, query).chosen


def test_an_experimental_implementation_is_never_chosen():
    for length in (1, 64, 4096):
        query = jnp.ones((1, length, 1, 64), jnp.bfloat16)
        assert not IMPLEMENTATIONS[F.explain_attention(query, query, query).chosen].is_experimental


def test_an_unknown_implementation_is_named_with_the_nearest():
    ones = _ones(1, 2, 1, 4)
    with pytest.raises(ConfigError, match=r"got 'refrence'; did you mean 'reference'"):
        F.attention(ones, ones, ones, implementation="refrence")


def _call(query=None, key=None, value=None, score=None, mask=None, bias=None, dropout=None, reweight=None):
    """The checks of ``attention`` without the test run's own shape checks in front of them."""
    query = _ones(2, 3, 4, 8) if query is None else query
    key = _ones(2, 5, 2, 8) if key is None else key
    value = _ones(2, 5, 2, 8) if value is None else value
    check = getattr(make_call, "__wrapped__", make_call)
    return check(query, key, value, F.ScaledDot() if score is None else score, mask, bias, dropout, reweight)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"query": _ones(3, 4, 8)},
            ShapeError,
            r"query must be \[batch, q_len, heads, head_dim\], got \(3, 4, 8\)",
        ),
        ({"key": _ones(2, 5, 2, 8, dtype=jnp.int32)}, ConfigError, "key must be floating point, got int32"),
        ({"value": _ones(2, 5, 2, 8, dtype=jnp.bfloat16)}, ConfigError, "value must have the dtype of query"),
        ({"key": _ones(3, 5, 2, 8)}, ShapeError, "key must have the batch size of query, 2, got 3"),
        ({"value": _ones(2, 6, 2, 8)}, ShapeError, "value must have the kv_len of key, 5, got 6"),
        ({"value": _ones(2, 5, 1, 8)}, ShapeError, "value must have the heads of key, 2, got 1"),
        (
            {"key": _ones(2, 5, 3, 8), "value": _ones(2, 5, 3, 8)},
            ShapeError,
            "key heads must divide the query's 4 heads, got 3",
        ),
        ({"key": _ones(2, 5, 2, 6)}, ShapeError, "ScaledDot needs query and key of one width, got 8 and 6"),
        ({"score": F.General(_ones(8, 6))}, ShapeError, r"General.weight must be \[8, 8\] .* got \[8, 6\]"),
        ({"score": F.General(_ones(2, 8, 8))}, ShapeError, r"or \[4, 8, 8\] \(per head\), got \[2, 8, 8\]"),
        ({"score": F.LinearConcat(_ones(9))}, ShapeError, r"LinearConcat.weight must be \[16\]"),
        ({"score": F.Location(_ones(4, 8))}, ShapeError, "Location scores 4 key positions, got kv_len 5"),
        ({"score": "dot"}, ConfigError, "score must be a score rule"),
        ({"mask": jnp.ones((2, 1, 3, 5), bool)}, ConfigError, r"AttentionMask.dense\(array\) wraps an array"),
        (
            {"mask": F.AttentionMask.dense(jnp.ones((2, 3, 3, 5), bool))},
            ShapeError,
            r"mask dense must be \[batch\|1, heads\|1, q_len, kv_len\] = \[2, 4, 3, 5\], got \[2, 3, 3, 5\]",
        ),
        (
            {"mask": F.AttentionMask.valid(jnp.ones((2, 4), bool))},
            ShapeError,
            r"mask valid .* \[2, 5\], got \[2, 4\]",
        ),
        (
            {"mask": F.AttentionMask.from_lengths(jnp.array([1, 2]), 6)},
            ShapeError,
            "made for kv_len 6, keys have 5",
        ),
        ({"mask": F.AttentionMask.from_lengths(jnp.array([1, 2, 3]), 5)}, ShapeError, "mask lengths"),
        (
            {"mask": F.AttentionMask.positions(jnp.ones((2, 4), int), jnp.ones((1, 5), int))},
            ShapeError,
            r"mask positions \(query\) must be .* \[2, 3\], got \[2, 4\]",
        ),
        ({"bias": _ones(1, 3, 3, 5)}, ShapeError, "bias must broadcast to"),
        ({"bias": jnp.ones((1, 1, 3, 5), bool)}, ConfigError, "a bool array is a mask"),
        ({"bias": F.Alibi(_ones(3))}, ShapeError, "bias must have the query's 4 heads, got 3"),
        ({"bias": 1.0}, ConfigError, "bias must be an array"),
        ({"reweight": 0.5}, ConfigError, "reweight must be a rule such as GaussianReweight"),
        (
            {"reweight": F.GaussianReweight(_ones(2, 4, 5), 1.0)},
            ShapeError,
            r"GaussianReweight.center must be .* \[2\|1, 4\|1, 3\], got \[2, 4, 5\]",
        ),
        (
            {"reweight": F.GaussianReweight(_ones(2, 1, 3), 0.0)},
            ConfigError,
            "deviation must be above 0, got 0.0",
        ),
        ({"dropout": 0.1}, ConfigError, r"dropout must be AttentionDropout\(rate, rng_key\)"),
        (
            {"dropout": F.AttentionDropout(1.0, None)},
            ConfigError,
            r"dropout rate must be in \[0, 1\), got 1.0",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        _call(**arguments)
