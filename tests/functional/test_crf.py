"""The conditional random field against an enumeration of all paths, finite differences, and other batches."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ShapeError
from transformer_jax.functional.crf import (
    FORBIDDEN,
    ChainScores,
    crf_decode,
    crf_log_likelihood,
    crf_log_normalizer,
    crf_marginals,
    crf_path_score,
)

LABELS, STEPS = 3, 5
LENGTHS = (5, 1, 0, 3)

# Compiled once for each shape, where a call by itself compiles its loops anew.
log_normalizer = jax.jit(crf_log_normalizer)
log_likelihood = jax.jit(crf_log_likelihood)
marginals = jax.jit(crf_marginals)
decode = jax.jit(crf_decode)


@pytest.fixture(params=[1.0, 30.0], ids=["mild", "peaked"])
def case(request, random_generator):
    """Scores in float32 as NumPy float64; NaN behind each row's length, where nothing may be read."""
    scale = request.param
    scores = (scale * random_generator.normal(size=(len(LENGTHS), STEPS, LABELS))).astype(np.float32)
    chain = ChainScores(
        *(
            jnp.asarray(scale * random_generator.normal(size=shape), jnp.float32)
            for shape in ((LABELS, LABELS), (LABELS,), (LABELS,))
        )
    )
    for row, length in enumerate(LENGTHS):
        scores[row, length:] = np.nan
    labels = random_generator.integers(0, LABELS, size=(len(LENGTHS), STEPS))
    return jnp.asarray(scores), jnp.asarray(labels, jnp.int32), chain, jnp.asarray(LENGTHS, jnp.int32)


def all_paths(scores, chain, length):
    """Every path of a row with its score, from the definition in float64."""
    scores = np.asarray(scores, np.float64)
    transitions, starts, ends = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(chain))
    found = {}
    for path in itertools.product(range(LABELS), repeat=length):
        total = 0.0
        if path:
            total += starts[path[0]] + ends[path[-1]]
            total += sum(scores[step, label] for step, label in enumerate(path))
            total += sum(transitions[pair] for pair in itertools.pairwise(path))
        found[path] = total
    return found


def log_sum(values):
    top = max(values)
    return top + np.log(sum(np.exp(value - top) for value in values))


def test_log_normalizer_and_likelihood_equal_the_enumeration(case):
    scores, labels, chain, lengths = case
    totals = log_normalizer(scores, chain, lengths)
    likelihoods = log_likelihood(scores, labels, chain, lengths)
    path_scores = crf_path_score(scores, labels, chain, lengths)
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores[row], chain, length)
        wanted = paths[tuple(labels[row, :length].tolist())]
        np.testing.assert_allclose(path_scores[row], wanted, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(totals[row], log_sum(paths.values()), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(likelihoods[row], wanted - log_sum(paths.values()), rtol=1e-5, atol=2e-4)


def test_marginals_equal_the_enumeration(case):
    scores, _, chain, lengths = case
    found = np.asarray(marginals(scores, chain, lengths))
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores[row], chain, length)
        total = log_sum(paths.values())
        wanted = np.zeros((STEPS, LABELS))
        for path, score in paths.items():
            for step, label in enumerate(path):
                wanted[step, label] += np.exp(score - total)
        np.testing.assert_allclose(found[row], wanted, atol=1e-4)


def test_decoding_equals_the_enumeration(case):
    scores, _, chain, lengths = case
    labels, best = decode(scores, chain, lengths)
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores[row], chain, length)
        path = max(paths, key=paths.__getitem__)
        assert labels[row].tolist() == [*path, *[-1] * (STEPS - length)]
        np.testing.assert_allclose(best[row], paths[path], rtol=1e-5, atol=1e-4)


def test_gradient_of_the_normalizer_is_the_marginals_and_transitions_pass_finite_differences(case):
    scores, _, chain, lengths = case
    gradient, of_chain = jax.grad(
        lambda scores, chain: log_normalizer(scores, chain, lengths).sum(), argnums=(0, 1)
    )(scores, chain)
    np.testing.assert_allclose(gradient, marginals(scores, chain, lengths), atol=1e-4)
    # Expected numbers of neighbours, starts and ends, by the enumeration.
    transitions, starts, ends = (np.zeros(shape) for shape in ((LABELS, LABELS), (LABELS,), (LABELS,)))
    for row, length in enumerate(LENGTHS):
        paths = all_paths(scores[row], chain, length)
        total = log_sum(paths.values())
        for path, score in paths.items():
            if path:
                probability = np.exp(score - total)
                starts[path[0]] += probability
                ends[path[-1]] += probability
                for pair in itertools.pairwise(path):
                    transitions[pair] += probability
    for found, expected in zip(jax.tree.leaves(of_chain), (transitions, starts, ends), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_gradients_pass_finite_differences(random_generator):
    with jax.enable_x64(True):
        scores = jnp.asarray(random_generator.normal(size=(2, 4, LABELS)))
        chain = ChainScores(
            *(
                jnp.asarray(random_generator.normal(size=shape))
                for shape in ((LABELS, LABELS), (LABELS,), (LABELS,))
            )
        )
        labels, lengths = jnp.array([[0, 2, 1, 1], [2, 2, 0, 0]]), jnp.array([4, 2])

        def loss(scores, chain):
            return -log_likelihood(scores, labels, chain, lengths).sum()

        gradients = jax.grad(loss, argnums=(0, 1))(scores, chain)
        leaves, structure = jax.tree.flatten((scores, chain))
        for place, leaf in enumerate(leaves):
            numeric = np.zeros(leaf.shape)
            for index in np.ndindex(leaf.shape):
                values = []
                for step in (1e-6, -1e-6):
                    moved = [*leaves]
                    moved[place] = leaf.at[index].add(step)
                    values.append(float(loss(*jax.tree.unflatten(structure, moved))))
                numeric[index] = (values[0] - values[1]) / 2e-6
            np.testing.assert_allclose(jax.tree.leaves(gradients)[place], numeric, atol=1e-7)


def test_a_row_has_the_same_bits_alone_and_padded_further(case):
    scores, labels, chain, lengths = case
    more = ((0, 0), (0, 4), (0, 0))
    wide_scores = jnp.pad(scores, more, constant_values=jnp.nan)
    wide_labels = jnp.pad(labels, more[:2], constant_values=-1)
    together = (
        log_likelihood(wide_scores, wide_labels, chain, lengths),
        marginals(wide_scores, chain, lengths)[:, :STEPS],
        decode(wide_scores, chain, lengths)[0][:, :STEPS],
    )
    for row, length in enumerate(LENGTHS):
        own = slice(row, row + 1)
        alone = (
            log_likelihood(scores[own], labels[own], chain, lengths[own]),
            marginals(scores[own], chain, lengths[own]),
            decode(scores[own], chain, lengths[own])[0],
        )
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(np.asarray(one[row]), np.asarray(other[0])), length


def test_padding_has_no_gradient_and_spreads_none(case):
    scores, labels, chain, lengths = case
    gradients = jax.grad(
        lambda scores, chain: log_likelihood(scores, labels, chain, lengths).sum(), argnums=(0, 1)
    )(scores, chain)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    for row, length in enumerate(LENGTHS):
        assert not np.asarray(gradients[0][row, length:]).any()


def test_rows_whose_products_underflow_are_exact_and_change_no_other_row(random_generator):
    # Label 1 comes from label 0 alone, which the scores make improbable beyond float32 at each step.
    chain = ChainScores(jnp.array([[0.0, 0.0], [0.0, FORBIDDEN]]), jnp.zeros(2), jnp.array([FORBIDDEN, 0.0]))
    hard = jnp.array([[[0.0, 0.0], [-200.0, 0.0], [0.0, 300.0]]])
    easy = jnp.asarray(random_generator.normal(size=(1, 3, 2)), jnp.float32)
    value_and_grad = jax.jit(
        jax.value_and_grad(
            lambda scores, lengths: log_normalizer(scores, chain, lengths).sum(), has_aux=False
        )
    )
    totals = log_normalizer(jnp.concatenate([hard, easy]), chain, jnp.array([3, 3]))
    for row, scores in enumerate((hard, easy)):
        paths = [
            sum(float(scores[0, step, label]) for step, label in enumerate(path))
            + sum(float(chain.transitions[pair]) for pair in itertools.pairwise(path))
            + float(chain.ends[path[-1]])
            for path in itertools.product(range(2), repeat=3)
        ]
        np.testing.assert_allclose(totals[row], log_sum(paths), rtol=1e-6, atol=1e-5)
        alone, gradient = value_and_grad(scores, jnp.array([3]))
        assert float(alone) == float(totals[row])
        np.testing.assert_allclose(gradient[0], marginals(scores, chain, jnp.array([3]))[0], atol=1e-5)


def test_forbidden_neighbours_never_come_and_leave_finite_gradients(random_generator):
    chain = ChainScores(jnp.array([[0.0, FORBIDDEN], [0.0, 0.0]]), jnp.array([0.0, FORBIDDEN]), jnp.zeros(2))
    scores = jnp.asarray(random_generator.normal(size=(8, 6, 2)), jnp.float32)
    lengths = jnp.full(8, 6)
    assert not np.asarray(decode(scores, chain, lengths)[0]).any()
    np.testing.assert_array_equal(marginals(scores, chain, lengths)[..., 1], 0.0)
    gradient = jax.grad(lambda scores: log_normalizer(scores, chain, lengths).sum())(scores)
    np.testing.assert_allclose(gradient[..., 0], 1.0, atol=1e-5)


def test_zero_chain_is_a_softmax_of_each_step(case):
    scores, labels, _, lengths = case
    chain = ChainScores.zeros(LABELS)
    found = np.asarray(log_likelihood(scores, labels, chain, lengths))
    for row, length in enumerate(LENGTHS):
        own = jax.nn.log_softmax(scores[row, :length], axis=-1)
        wanted = float(own[np.arange(length), labels[row, :length]].sum()) if length else 0.0
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-4)


def test_a_label_that_is_none_gives_nan_in_its_row_alone(case):
    scores, labels, chain, lengths = case
    for wrong in (-1, LABELS):
        found = np.asarray(log_likelihood(scores, labels.at[0, 2].set(wrong), chain, lengths))
        assert np.isnan(found[0])
        assert np.isfinite(found[1:]).all()


def test_no_steps_at_all():
    scores, lengths, chain = jnp.zeros((2, 0, 3)), jnp.zeros(2, jnp.int32), ChainScores.zeros(3)
    assert log_likelihood(scores, jnp.zeros((2, 0), jnp.int32), chain, lengths).tolist() == [0.0, 0.0]
    assert marginals(scores, chain, lengths).shape == (2, 0, 3)
    assert decode(scores, chain, lengths)[0].shape == (2, 0)


def test_sixteen_bit_scores_are_summed_in_float32(random_generator):
    scores = jnp.asarray(random_generator.normal(size=(1, 64, LABELS)), jnp.bfloat16)
    chain, lengths = ChainScores.zeros(LABELS), jnp.array([64])
    found = log_normalizer(scores, chain, lengths)
    assert found.dtype == jnp.float32
    wanted = jax.nn.logsumexp(scores[0].astype(jnp.float32), axis=-1).sum()
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6)


def test_shapes_that_do_not_go_together():
    # As users call it: under the tests' own type checks other errors would come first.
    normalizer, path_score = inspect.unwrap(crf_log_normalizer), inspect.unwrap(crf_path_score)
    scores, labels, lengths = jnp.zeros((2, 4, 3)), jnp.zeros((2, 4), jnp.int32), jnp.ones(2, jnp.int32)
    with pytest.raises(ShapeError, match="transitions must have shape"):
        normalizer(scores, ChainScores.zeros(2), lengths)
    with pytest.raises(ShapeError, match="a length for each row"):
        normalizer(scores, ChainScores.zeros(3), jnp.ones(3, jnp.int32))
    with pytest.raises(ShapeError, match="labels must have shape"):
        path_score(scores, labels[:, :2], ChainScores.zeros(3), lengths)
