"""Blockwise attention beside the reference on lengths of several blocks, and what it keeps in memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered

from transformer_jax import functional as F
from transformer_jax.functional.attention import blockwise
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.testing.attention_suite import assert_near

Q_LEN, KV_LEN = 150, 210

MASKS = {
    "none": None,
    "causal": F.AttentionMask.causal(),
    "window": F.AttentionMask.window(9, 4),
    "look ahead": F.AttentionMask.window(None, 20),
    "lengths and causal": F.AttentionMask.causal()
    & F.AttentionMask.from_lengths(jnp.array([KV_LEN, 17]), KV_LEN),
}
BIASES = {
    "none": lambda draw: None,
    "alibi": lambda draw: F.Alibi(jnp.abs(draw(4))),
    "buckets": lambda draw: F.RelativeBuckets(draw(8, 4), bidirectional=True, max_distance=64),
    "dense": lambda draw: draw(1, 4, Q_LEN, KV_LEN),
    "dense row": lambda draw: draw(2, 1, 1, KV_LEN),
}


def additive(draw) -> F.Additive:
    return F.Additive(draw(8, 5), draw(8, 5), draw(4, 5), draw(5))


LANES = ("a head at a time", "a sequence at a time", "everything at once")


def take_lanes(monkeypatch: pytest.MonkeyPatch, lanes: str) -> None:
    monkeypatch.setattr(blockwise, "_goes_by_lanes", lambda: lanes != "everything at once")
    monkeypatch.setattr(blockwise, "SHORT_KEYS", 0 if lanes == "a head at a time" else KV_LEN)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that queries and keys take several."""
    sizes = blockwise._sizes

    def small(*arguments):
        return sizes(*arguments)._replace(query_block=64, key_block=48)

    monkeypatch.setattr(blockwise, "_sizes", small)


def value_and_gradients(implementation, arrays, mask, dropout, cotangent):
    def loss(arrays):
        output = F.attention(
            arrays["query"], arrays["key"], arrays["value"],
            score=arrays["score"], bias=arrays["bias"], mask=mask, reweight=arrays["reweight"], dropout=dropout,
            implementation=implementation,
        )  # fmt: skip
        return (output * cotangent).sum(), output

    gradients, output = jax.grad(loss, has_aux=True)(arrays)
    return output, gradients


# The reference is the same whatever lanes are taken: one program for them all.
of_reference = jax.jit(functools.partial(value_and_gradients, "reference"))


def check_against_reference(draw, *, score, bias, mask, reweight=None, dropout=None, kv_heads=2) -> None:
    arrays = {"query": draw(2, Q_LEN, 4, 8), "key": draw(2, KV_LEN, kv_heads, 8)}
    arrays |= {"value": draw(2, KV_LEN, kv_heads, 6), "score": score, "bias": bias, "reweight": reweight}
    cotangent = draw(2, Q_LEN, 4, 6)
    got = jax.jit(lambda arrays: value_and_gradients("blockwise", arrays, mask, dropout, cotangent))(arrays)
    want = of_reference(arrays, mask, dropout, cotangent)
    assert_near(got[0], want[0], 1e-5, "value")
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got[1]), jax.tree.leaves(want[1]), strict=True
    ):
        assert_near(one, other, 1e-4, f"gradient in {jax.tree_util.keystr(path)}")


@pytest.fixture
def draw(random_generator):
    """Normal numbers of a shape, float32."""
    return lambda *shape: jnp.asarray(random_generator.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("mask", "lanes"),
    tiered(
        itertools.product(MASKS, LANES),
        {
            *itertools.product(("lengths and causal",), LANES),
            ("none", LANES[0]),
            ("window", LANES[1]),
            ("look ahead", LANES[2]),
        },
    ),
)
def test_masks_over_several_blocks(draw, small_blocks, monkeypatch, mask, lanes):
    take_lanes(monkeypatch, lanes)
    check_against_reference(draw, score=F.ScaledDot(), bias=None, mask=MASKS[mask])


@pytest.mark.parametrize("bias", tiered(BIASES, {"alibi", "buckets", "dense row"}))
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(lambda draw: F.ScaledDot(), id="scaled dot"),
        pytest.param(additive, id="additive", marks=pytest.mark.full),
    ],
)
def test_biases_and_rules_get_their_gradients(draw, small_blocks, bias, rule):
    check_against_reference(draw, score=rule(draw), bias=BIASES[bias](draw), mask=MASKS["causal"])


@pytest.mark.parametrize("lanes", tiered(LANES, {LANES[0], LANES[2]}))
def test_dropout_is_that_of_the_reference(draw, small_blocks, monkeypatch, lanes):
    take_lanes(monkeypatch, lanes)
    drop = F.AttentionDropout(0.3, jax.random.key(3))
    check_against_reference(draw, score=F.ScaledDot(), bias=None, mask=MASKS["window"], dropout=drop)


@pytest.mark.parametrize(("heads", "lanes"), [(1, LANES[0]), (4, LANES[1]), (4, LANES[2])])
def test_reweight_and_its_centres_gradient(draw, small_blocks, monkeypatch, heads, lanes):
    take_lanes(monkeypatch, lanes)
    centers = KV_LEN * jax.nn.sigmoid(draw(2, heads, Q_LEN))
    drop = F.AttentionDropout(0.3, jax.random.key(3)) if heads == 1 else None
    check_against_reference(
        draw,
        score=F.ScaledDot(),
        bias=None,
        mask=None,
        reweight=F.GaussianReweight(centers, 20.0),
        dropout=drop,
    )


def test_garbage_that_some_rows_see_marks_those_alone(draw, small_blocks):
    query, key, value = draw(1, Q_LEN, 2, 8), draw(1, KV_LEN, 2, 8), draw(1, KV_LEN, 2, 8)
    attend = jax.jit(functools.partial(F.attention, mask=MASKS["causal"], implementation="blockwise"))
    clean = attend(query, key, value)
    key = key.at[0, 100, 1].set(jnp.nan)
    output = attend(query, key, value)
    spoiled = np.isnan(output).all(-1)[0]
    np.testing.assert_array_equal(spoiled[:, 1], np.arange(Q_LEN) >= 100)
    assert not spoiled[:, 0].any()
    np.testing.assert_array_equal(output[0, :100], clean[0, :100])


@pytest.mark.parametrize("lanes", [LANES[0], LANES[2]])
@pytest.mark.parametrize("rule", ["scaled dot", "additive"])
def test_memory_is_a_twentieth_of_the_references(monkeypatch, rule, lanes):
    take_lanes(monkeypatch, lanes)
    length, heads, hidden = (16384, 8, 64) if rule == "scaled dot" else (2048, 1, 64)
    shape = jax.ShapeDtypeStruct((1, length, heads, hidden), jnp.float32)
    score = F.ScaledDot() if rule == "scaled dot" else additive_shapes(hidden)

    def peak(implementation):
        def loss(query, key, value, score):
            output = F.attention(query, key, value, score=score, implementation=implementation)
            return (output**2).sum()

        compiled = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(shape, shape, shape, score).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert peak("blockwise") <= peak("reference") / 20


def additive_shapes(hidden: int) -> F.Additive:
    matrix = jax.ShapeDtypeStruct((hidden, hidden), jnp.float32)
    return jax.eval_shape(F.Additive, matrix, matrix, jax.ShapeDtypeStruct((hidden,), jnp.float32))


def test_logsumexp_has_a_gradient(draw):
    query, key = draw(1, 9, 1, 4), draw(1, 11, 1, 4)

    def by_blocks(query):
        call = make_call(query, key, key, F.Dot(), None, None, None)
        return blockwise.attend_with_logsumexp(call)[1].sum()

    def plain(query):
        return jax.nn.logsumexp(F.Dot().score(query, key), axis=-1).sum()

    assert_near(by_blocks(query), plain(query), 1e-5, "value")
    assert_near(jax.grad(by_blocks)(query), jax.grad(plain)(query), 1e-4, "gradient")


@pytest.mark.parametrize(
    ("lanes", "num"),
    [(LANES[1], 2), *(pytest.param(one, 4, marks=pytest.mark.full) for one in LANES)],
)
def test_derivatives_of_every_mode_and_order_are_the_references(draw, monkeypatch, lanes, num):
    """Gradient penalties and Hessian products, forward over reverse, reverse over forward, with all that a call has."""
    take_lanes(monkeypatch, lanes)
    sizes = blockwise._sizes
    monkeypatch.setattr(blockwise, "_sizes", lambda *one: sizes(*one)._replace(query_block=4, key_block=3))
    arrays = {
        "query": draw(2, 7, 2, 4),
        "key": draw(2, 8, 1, 4),
        "value": draw(2, 8, 1, 3),
        "bias": draw(1, 2, 7, 8),
    }
    arrays["bias"] = arrays["bias"].at[0, 0, 2].set(-jnp.inf)
    arrays["reweight"] = F.GaussianReweight(8 * jax.nn.sigmoid(draw(2, 1, 7)), 3.0)
    mask = F.AttentionMask.causal() & F.AttentionMask.from_lengths(jnp.array([8, 0]), 8)
    drop = F.AttentionDropout(0.2, jax.random.key(1))
    direction = jax.tree.map(jnp.ones_like, arrays)

    def derivatives(implementation):
        def loss(arrays):
            output = F.attention(**arrays, mask=mask, dropout=drop, implementation=implementation)
            return (output**2).sum()

        def penalty(arrays):
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(jax.grad(loss)(arrays)))

        def forward(arrays):
            return jax.jvp(loss, (arrays,), (direction,))[1]

        def product(arrays):
            return jax.jvp(jax.grad(loss), (arrays,), (direction,))[1]

        functions = (forward, jax.grad(penalty), product, jax.grad(forward))[:num]
        return jax.jit(lambda: [function(arrays) for function in functions])()

    got, want = derivatives("blockwise"), derivatives("reference")
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        assert_near(one, other, 1e-4, jax.tree_util.keystr(path))


def test_what_none_can_differentiate_does_not_depend_on_the_length():
    # The shapes alone decide: from 512 x 512 pairs on it is the blocks' turn.
    def traced(length):
        query = jax.ShapeDtypeStruct((1, length, 1, 4), jnp.float32)

        def loss(query):
            return F.attention(query, query, query).sum()

        jax.eval_shape(jax.hessian(lambda scale: loss(scale * jnp.ones(query.shape))), jnp.float32(1.0))
        jax.eval_shape(lambda query: jax.jvp(loss, (query,), (query,)), query)
        return jax.eval_shape(jax.grad(lambda query: jax.grad(loss)(query).sum()), query).shape

    assert [traced(length) for length in (511, 512)] == [(1, 511, 1, 4), (1, 512, 1, 4)]


def test_vmap_over_the_values_alone(draw):
    """The log-sum-exp is then the same for all, and its tangents are not."""
    query, key, values = draw(1, 5, 1, 4), draw(1, 6, 1, 4), draw(3, 1, 6, 1, 2)

    def loss(implementation, values):
        run = jax.vmap(lambda value: F.attention(query, key, value, implementation=implementation))
        return (run(values) ** 2).sum()

    got, want = (
        jax.grad(lambda values, name=name: loss(name, values))(values) for name in ("blockwise", "reference")
    )
    assert_near(got, want, 1e-5, "gradient")
