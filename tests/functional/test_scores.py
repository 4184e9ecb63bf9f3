"""Score rules: each against a loop, in its parts, with grouped heads and by block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.errors import ShapeError
from transformer_jax.testing.attention_suite import case_names, float64, make_case
from transformer_jax.testing.score_oracles import SCORE_ORACLES

RULES = [name for name in case_names() if type(make_case(name).arrays["score"]) is not F.ScaledDot] + [
    "plain",
    "scale",
]


def _score(rule, query, key, query_positions=None, key_positions=None):
    return rule.score(rule.prepare_query(query), rule.prepare_key(key), query_positions, key_positions)


@pytest.mark.parametrize("name", RULES)
def test_scores_equal_the_formula(name):
    case = make_case(name)
    rule, query, key = (case.arrays[part] for part in ("score", "query", "key"))
    positions = case.mask.key_positions
    scores = _score(rule, query, key, case.mask.query_positions, positions)
    assert scores.dtype == jnp.float32
    exact = float64({"rule": rule, "query": query, "key": key})
    group = query.shape[2] // key.shape[2]
    for row, head, i, j in np.ndindex(*scores.shape):
        position = j if positions is None else int(positions[row, j])
        pair = exact["query"][row, i, head], exact["key"][row, j, head // group]
        wanted = SCORE_ORACLES[type(exact["rule"])](exact["rule"], *pair, head, position)
        np.testing.assert_allclose(scores[row, head, i, j], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_a_block_of_keys_is_a_block_of_scores(name):
    case = make_case(name)
    rule, query, key = (case.arrays[part] for part in ("score", "query", "key"))
    positions = jnp.arange(key.shape[1])[None]
    whole = _score(rule, query, key, jnp.arange(query.shape[1])[None], positions)
    prepared = rule.prepare_key(key)[:, 1:4]
    block = rule.score(rule.prepare_query(query[:, 2:]), prepared, None, positions[:, 1:4])
    np.testing.assert_allclose(block, whole[:, :, 2:, 1:4], atol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_rules_are_pytrees(name):
    case = make_case(name)
    rule, query, key = (case.arrays[part] for part in ("score", "query", "key"))
    plain = _score(rule, query, key)
    np.testing.assert_allclose(jax.jit(_score)(rule, query, key), plain, atol=1e-5)
    assert isinstance(rule, F.ScoreRule)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), rule)
    # A rule without parameters has no leaf to map over.
    mapped = jax.jit(jax.vmap(_score, in_axes=(0, None, None), axis_size=2))(stacked, query, key)
    np.testing.assert_allclose(mapped[0], plain, atol=1e-5)


def test_concat_is_the_additive_rule_with_its_weight_cut():
    case = make_case("concat")
    rule, query, key = (case.arrays[part] for part in ("score", "query", "key"))
    additive = F.Additive(rule.weight[:4], rule.weight[4:], rule.vector)
    np.testing.assert_array_equal(_score(rule, query, key), _score(additive, query, key))


def test_the_unweighted_rule_is_the_additive_rule_with_ones():
    case = make_case("additive_sum_projected")
    rule, query, key = (case.arrays[part] for part in ("score", "query", "key"))
    additive = F.Additive(rule.query_weight, rule.key_weight, jnp.ones(5), rule.bias)
    np.testing.assert_allclose(_score(rule, query, key), _score(additive, query, key), atol=1e-5)


def test_a_shared_parameter_equals_the_same_one_for_every_head(random_generator):
    query, key = (jnp.asarray(random_generator.normal(size=(2, 3, 4, 5)), jnp.float32) for _ in range(2))

    def draw(*shape):
        return jnp.asarray(random_generator.normal(size=shape), jnp.float32)

    rules = [
        F.General(draw(5, 5)),
        F.Additive(draw(5, 6), draw(5, 6), draw(6), draw(6)),
        F.AdditiveSum(draw(5, 6), draw(5, 6), draw(6)),
        F.Concat(draw(10, 6), draw(6)),
        F.LinearConcat(draw(10)),
        F.Location(draw(3, 5), draw(3)),
    ]
    for rule in rules:
        per_head = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), rule)
        for keys in (key, key[:, :, :2]):
            np.testing.assert_allclose(_score(per_head, query, keys), _score(rule, query, keys), atol=1e-5)


def test_the_location_rule_reads_only_the_query():
    rule = F.Location(jnp.arange(12.0).reshape(6, 2))
    query = jnp.array([[[[1.0, 0.0]]]])
    scores = _score(rule, query, jnp.full((1, 4, 1, 3), jnp.nan))
    assert scores[0, 0, 0].tolist() == [0.0, 2.0, 4.0, 6.0]
    known = _score(rule, query, jnp.ones((1, 3, 1, 3)), None, jnp.array([[5, 6, -1]]))
    assert known[0, 0, 0].tolist() == [10.0, -np.inf, -np.inf]


def test_location_refuses_more_keys_than_it_has_positions():
    rule, query, key = F.Location(jnp.ones((4, 2))), jnp.ones((1, 1, 1, 2)), jnp.ones((1, 5, 1, 2))
    with pytest.raises(ShapeError, match="Location scores 4 key positions, got kv_len 5"):
        F.attention(query, key, key, score=rule)
    with pytest.raises(ShapeError, match="Location scores 4 key positions, got kv_len 5"):
        F.attention(query, F.prepare_key(rule, key), key, score=rule)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sixteen_bit_products_are_scaled_without_loss(random_generator, dtype):
    query, key = (jnp.asarray(random_generator.normal(size=(1, 3, 2, 12)), dtype) for _ in range(2))
    wide = _score(F.ScaledDot(), query.astype(jnp.float32), key.astype(jnp.float32))
    scores = _score(F.ScaledDot(), query, key)
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, wide, rtol=1e-5, atol=1e-6)
