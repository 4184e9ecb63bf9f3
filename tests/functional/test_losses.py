"""Cross-entropy against a float64 loop, optax and closed forms; sums and counts that add up."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import projected_logsumexp
from transformer_jax.functional.losses import (
    LossSum,
    cross_entropy,
    projected_cross_entropy,
    projected_loss_and_accuracy,
)
from transformer_jax.functional.projected_logsumexp import projected_logsumexp_sum
from transformer_jax.testing.recurrence_suite import assert_close

POSITIONS, MODEL, VOCAB = (3, 4), 5, 7


def as_float32(*arrays):
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


@pytest.fixture
def case(random_generator):
    """Float64 hidden states, embedding, bias; labels; weights with some zero."""
    weights = random_generator.random(size=POSITIONS) * (random_generator.random(size=POSITIONS) > 0.3)
    weights[0, 0] = 0.0
    return {
        "hidden": random_generator.normal(size=(*POSITIONS, MODEL)),
        "embedding": random_generator.normal(size=(VOCAB, MODEL)),
        "bias": random_generator.normal(size=VOCAB),
        "labels": random_generator.integers(0, VOCAB, size=POSITIONS).astype(np.int32),
        "weights": weights,
    }


def reference_loss(logits, labels, weights, smoothing):
    """The definition: minus the expected log-probability under the smoothed label, position by position."""
    total = 0.0
    for index in np.ndindex(labels.shape):
        probabilities = np.exp(logits[index]) / np.exp(logits[index]).sum()
        target = np.full(VOCAB, smoothing / VOCAB)
        target[labels[index]] += 1.0 - smoothing
        total -= weights[index] * (target * np.log(probabilities)).sum()
    return total


def logits_of(case):
    return case["hidden"] @ case["embedding"].T + case["bias"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [True, False])
def test_cross_entropy_equals_the_loop(case, smoothing, weighted):
    logits = logits_of(case)
    weights = case["weights"] if weighted else np.ones(POSITIONS)
    expected = reference_loss(logits, case["labels"], weights, smoothing)
    result = cross_entropy(
        *as_float32(logits), jnp.asarray(case["labels"]),
        weights=as_float32(weights)[0] if weighted else None, label_smoothing=smoothing,
    )  # fmt: skip
    assert_close((result.sum, result.count), (expected, weights.sum()), 1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_optax(case, smoothing):
    logits, labels = as_float32(logits_of(case))[0], jnp.asarray(case["labels"])
    targets = optax.smooth_labels(jax.nn.one_hot(labels, VOCAB), smoothing)

    def theirs(logits):
        return optax.softmax_cross_entropy(logits, targets).sum()

    def ours(logits):
        return cross_entropy(logits, labels, label_smoothing=smoothing).sum

    assert_close(ours(logits), theirs(logits), 1e-5)
    assert_close(jax.grad(ours)(logits), jax.grad(theirs)(logits), 1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_projected_equals_cross_entropy_of_the_logits(case, smoothing, weighted, with_bias):
    operands = as_float32(case["hidden"], case["embedding"], case["bias"])[: 3 if with_bias else 2]
    options = {"label_smoothing": smoothing}
    if weighted:
        options["weights"] = as_float32(case["weights"])[0]
    labels = jnp.asarray(case["labels"])

    def projected(hidden, embedding, bias=None):
        return projected_cross_entropy(hidden, embedding, labels, bias=bias, **options).mean()

    def plain(hidden, embedding, bias=None):
        logits = hidden @ embedding.T
        if bias is not None:
            logits = logits + bias[None, None, :]
        return cross_entropy(logits, labels, **options).mean()

    every = tuple(range(len(operands)))
    actual = jax.jit(jax.value_and_grad(projected, every))(*operands)
    expected = jax.jit(jax.value_and_grad(plain, every))(*operands)
    assert_close(actual[0], expected[0], 1e-5, "value")
    assert_close(actual[1], expected[1], 1e-5, "gradients")


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("label", [-100, 10_000, 0])
def test_masked_positions_reach_nothing(case, garbage, label):
    masked = case["weights"] == 0
    assert masked.any()
    weights = as_float32(case["weights"])[0]
    hidden = np.where(masked[..., None], garbage, case["hidden"])
    labels = jnp.asarray(np.where(masked, label, case["labels"]).astype(np.int32))
    clean_hidden = np.where(masked[..., None], 0.0, case["hidden"])
    (dirty, clean, embedding), clean_labels = (
        as_float32(hidden, clean_hidden, case["embedding"]),
        case["labels"],
    )

    def projected(hidden, embedding, labels):
        return projected_cross_entropy(hidden, embedding, labels, weights=weights, label_smoothing=0.1).sum

    def plain(logits, labels):
        return cross_entropy(logits, labels, weights=weights, label_smoothing=0.1).sum

    actual = jax.value_and_grad(projected, (0, 1))(dirty, embedding, labels)
    expected = jax.value_and_grad(projected, (0, 1))(clean, embedding, jnp.asarray(clean_labels))
    assert_close(actual, expected, 1e-6)
    assert not np.asarray(actual[1][0])[masked].any()
    logits = jnp.where(jnp.asarray(masked)[..., None], garbage, clean @ embedding.T)
    value, gradient = jax.value_and_grad(plain)(logits, labels)
    assert_close(value, expected[0], 1e-5)
    assert not np.asarray(gradient)[masked].any()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("label", [-1, VOCAB])
def test_a_label_outside_the_vocabulary_shows(case, label):
    hidden, embedding = as_float32(case["hidden"], case["embedding"])
    labels = jnp.asarray(case["labels"]).at[1, 1].set(label)
    assert np.isnan(projected_cross_entropy(hidden, embedding, labels).sum)
    assert np.isnan(cross_entropy(hidden @ embedding.T, labels).sum)


def test_huge_logits_stay_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    result, gradient = jax.value_and_grad(lambda z: cross_entropy(z, jnp.array([0])).sum)(logits)
    assert float(result) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
    assert float(cross_entropy(logits, jnp.array([1])).sum) == pytest.approx(2e4)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    for smoothing in (0.0, 0.3):
        loss = cross_entropy(jnp.zeros((2, 9)), jnp.array([0, 8]), label_smoothing=smoothing)
        assert float(loss.mean()) == pytest.approx(np.log(9), rel=1e-6)


def test_low_precision_is_summed_in_float32(case):
    hidden, embedding = (
        array.astype(jnp.bfloat16) for array in as_float32(case["hidden"], case["embedding"])
    )
    labels = jnp.asarray(case["labels"])
    exact = np.asarray(hidden, np.float64) @ np.asarray(embedding, np.float64).T
    expected = reference_loss(exact, case["labels"], np.ones(POSITIONS), 0.1)
    result = projected_cross_entropy(hidden, embedding, labels, label_smoothing=0.1)
    assert result.sum.dtype == result.count.dtype == jnp.float32
    assert_close(result.sum, expected, 2e-2)
    plain = cross_entropy(jnp.asarray(exact, jnp.bfloat16), labels)
    assert plain.sum.dtype == jnp.float32


def test_parts_of_a_batch_add_up_to_the_whole(case):
    hidden, embedding, weights = as_float32(case["hidden"], case["embedding"], case["weights"])
    labels = jnp.asarray(case["labels"])

    def whole(embedding):
        return projected_cross_entropy(hidden, embedding, labels, weights=weights).mean()

    def parts(embedding):
        rows = [
            projected_cross_entropy(hidden[row], embedding, labels[row], weights=weights[row])
            for row in range(3)
        ]
        return sum(rows[1:], rows[0]).mean()

    assert_close(jax.value_and_grad(parts)(embedding), jax.value_and_grad(whole)(embedding), 1e-5)


def test_nothing_counted_has_mean_zero_and_gradient_zero():
    def loss(logits):
        return cross_entropy(logits, jnp.zeros(3, jnp.int32), weights=jnp.zeros(3)).mean()

    value, gradient = jax.value_and_grad(loss)(jnp.full((3, 4), jnp.nan))
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
    assert float(LossSum.zero().mean()) == 0.0


def test_loss_sum_is_a_pytree():
    total = LossSum.of(3, 2) + LossSum.zero()
    assert float(total.mean()) == 1.5
    assert jax.tree.leaves(total) == [3.0, 2.0]

    def add(carry, loss):
        return carry + loss, loss.mean()

    losses = LossSum.of(jnp.array([1.0, 6.0]), jnp.array([1.0, 2.0]))
    carry, means = jax.lax.scan(add, LossSum.zero(), losses)
    assert float(carry.mean()) == pytest.approx(7 / 3)
    np.testing.assert_allclose(means, [1.0, 3.0])
    np.testing.assert_allclose(jax.vmap(lambda loss: loss.mean())(losses), [1.0, 3.0])


def test_vmap_of_the_loss_equals_the_loop(case):
    hidden, embedding, weights = as_float32(case["hidden"], case["embedding"], case["weights"])
    labels = jnp.asarray(case["labels"])

    def loss(hidden, labels, weights):
        return projected_cross_entropy(hidden, embedding, labels, weights=weights, label_smoothing=0.1)

    batched = jax.vmap(loss)(hidden, labels, weights)
    for row in range(3):
        single = loss(hidden[row], labels[row], weights[row])
        assert_close((batched.sum[row], batched.count[row]), (single.sum, single.count), 1e-5)


def test_bad_arguments_are_named():
    hidden, embedding, labels = jnp.ones((2, 3)), jnp.ones((5, 3)), jnp.zeros(2, jnp.int32)
    plain, projected = inspect.unwrap(cross_entropy), inspect.unwrap(projected_loss_and_accuracy)
    for call, error, words in [
        (lambda: plain(hidden, jnp.zeros(3, jnp.int32)), ShapeError, r"labels .*\(2,\).*logits.*\(3,\)"),
        (lambda: plain(hidden, labels, weights=jnp.ones(3)), ShapeError, r"weights .*\(2,\).*\(3,\)"),
        (lambda: projected(hidden, embedding, jnp.zeros(3, jnp.int32)), ShapeError, r"labels .*hidden"),
        (lambda: projected(hidden, jnp.ones((5, 4)), labels), ShapeError, r"embedding .*3.*\(5, 4\)"),
        (
            lambda: projected(hidden, embedding, labels, bias=jnp.ones(4)),
            ShapeError,
            r"bias .*\(5,\).*\(4,\)",
        ),
        (lambda: plain(hidden, labels, label_smoothing=1.0), ConfigError, r"label_smoothing .*1\.0"),
        (lambda: plain(hidden, labels, label_smoothing=-0.1), ConfigError, r"label_smoothing .*-0\.1"),
    ]:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("block_elements", [1, 3 * VOCAB, 5 * VOCAB, 10**6])
@pytest.mark.parametrize("with_bias", [True, False])
def test_blocks_of_rows_change_nothing(case, random_generator, monkeypatch, block_elements, with_bias):
    # 12 rows in blocks of 1, 3 (even), 4 of 5 (the last filled up) and all.
    operands = list(as_float32(case["hidden"].reshape(12, MODEL), case["embedding"], case["bias"]))
    if not with_bias:
        operands[2] = None
    operands += as_float32(case["weights"].reshape(12), random_generator.normal(size=12))
    highest = jnp.argmax(_logits(*operands[:3]), axis=-1)
    labels = jnp.where(jnp.arange(12) % 3 == 0, (highest + 1) % VOCAB, highest)  # every third is wrong

    def plain(hidden, embedding, bias, weights, offsets):
        logits = _logits(hidden, embedding, bias)
        return 2.5 * ((jax.nn.logsumexp(logits, axis=-1) - offsets) * weights).sum()

    def blocked(*operands):
        return 2.5 * projected_logsumexp_sum(*operands, labels)[0]

    monkeypatch.setattr(projected_logsumexp, "BLOCK_ELEMENTS", block_elements)
    actual = jax.value_and_grad(blocked, (0, 1, 2, 3, 4))(*operands)
    expected = jax.value_and_grad(plain, (0, 1, 2, 3, 4))(*operands)
    assert_close(actual, expected, 1e-5)
    assert_close(blocked(*operands), expected[0], 1e-5)
    first = [projected_logsumexp_sum(*operands, labels)[1]]
    first += [jax.vjp(lambda h: projected_logsumexp_sum(h, *operands[1:], labels), operands[0])[0][1]]
    for found in first:
        assert found.tolist() == (np.arange(12) % 3 != 0).tolist()


def test_accuracy_counts_weights_and_no_row_of_weight_zero():
    hidden = jnp.array([[2.0, 0.0], [0.0, 2.0], [jnp.nan, 0.0]])
    labels, weights = jnp.array([0, 0, 0]), jnp.array([3.0, 2.0, 0.0])
    loss, accuracy = projected_loss_and_accuracy(hidden, jnp.eye(2), labels, weights=weights)
    assert float(accuracy.sum) == 3.0
    assert float(accuracy.count) == 5.0
    assert_close(loss.sum, projected_cross_entropy(hidden, jnp.eye(2), labels, weights=weights).sum, 1e-6)
    gradient = jax.grad(lambda h: projected_loss_and_accuracy(h, jnp.eye(2), labels, weights=weights)[1].sum)
    assert not np.any(gradient(hidden))


def _logits(hidden, embedding, bias):
    logits = hidden @ embedding.T
    return logits if bias is None else logits + bias[None, :]


def test_the_logits_are_never_stored():
    vocab, rows, model = 4096, 4096, 8  # two blocks
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((rows, model), (vocab, model))]
    labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
    gradient = jax.jit(jax.grad(lambda h, e, y: projected_cross_entropy(h, e, y).mean(), (0, 1)))
    used = gradient.lower(*shapes, labels).compile().memory_analysis().temp_size_in_bytes
    assert used < 4 * vocab * rows
