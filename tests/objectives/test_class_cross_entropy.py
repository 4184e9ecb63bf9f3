"""Cross entropy of classes: closed forms, rows that do not count, smoothing, the penalty, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.text_batches import ClassBatch
from transformer_jax.errors import ConfigError
from transformer_jax.models import ClassifierConfig, Sizes, StructuredPool, TokenVectors, build_model
from transformer_jax.nn import redundancy
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.training.contracts import Objective


class Given(nnx.Module):
    """A model whose logits are a table of its first tokens."""

    def __init__(self, table: jax.Array) -> None:
        self.table = nnx.Param(table)

    def __call__(
        self, tokens: jax.Array, *, lengths: jax.Array, rng_key: jax.Array | None = None
    ) -> jax.Array:
        return self.table[...][tokens[:, 0]]


TABLE = jnp.array([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0], [0.0, 3.0, -1.0]])


def batch(classes: list[int]) -> ClassBatch:
    rows = jnp.array([[1], [2], [1], [0]], jnp.int32)
    return ClassBatch(rows, jnp.array([1, 1, 1, 0], jnp.int32), jnp.array(classes, jnp.int32), jnp.arange(4))


def test_loss_and_accuracy_are_those_of_a_loop() -> None:
    loss, metrics, _ = ClassCrossEntropy()(Given(TABLE), batch([0, 1, 2, -1]), None)
    rows = np.asarray(TABLE)[[1, 2, 1]]
    log_probs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    wanted = -(log_probs[0, 0] + log_probs[1, 1] + log_probs[2, 2])
    np.testing.assert_allclose(float(loss.sum), wanted, rtol=1e-6)
    assert float(loss.count) == 3
    assert (float(metrics["accuracy"].sum), float(metrics["accuracy"].count)) == (2.0, 3.0)


def test_smoothing_spreads_over_the_classes() -> None:
    smooth = ClassCrossEntropy(label_smoothing=0.3)(Given(TABLE), batch([0, -1, -1, -1]), None)[0]
    row = np.asarray(TABLE)[1]
    log_probs = row - np.log(np.exp(row).sum())
    np.testing.assert_allclose(float(smooth.sum), -(0.7 * log_probs[0] + 0.1 * log_probs.sum()), rtol=1e-6)


def test_a_row_that_does_not_count_gives_no_gradient() -> None:
    def gradient(classes: list[int]) -> jax.Array:
        return nnx.grad(lambda model: ClassCrossEntropy()(model, batch(classes), None)[0].sum)(
            Given(TABLE)
        ).table[...]

    assert not np.any(gradient([-1, -1, -1, -1]))
    assert not np.any(gradient([-1, 1, -1, -1])[1])
    assert np.any(gradient([0, 1, -1, -1])[1])


def test_the_penalty_is_added_for_rows_that_count() -> None:
    config = ClassifierConfig(
        encoder=TokenVectors(embedding_dim=4), pooling=StructuredPool(attention_dim=3, num_hops=2)
    )
    model = build_model(config, Sizes(vocab_size=9, num_classes=3), seed=0)
    tokens = jnp.array([[4, 5, 6], [7, 8, 4], [5, 5, 5]], jnp.int32)
    lengths = jnp.array([3, 2, 3], jnp.int32)
    given = ClassBatch(tokens, lengths, jnp.array([0, 2, -1], jnp.int32), jnp.arange(3))
    plain = ClassCrossEntropy()(model, given, None)[0]
    loss, metrics, _ = ClassCrossEntropy(penalty_weight=0.25)(model, given, None)
    wanted = float(redundancy(model.outputs(tokens, lengths=lengths).weights)[:2].sum())
    np.testing.assert_allclose(float(metrics["penalty"].sum), wanted, rtol=1e-6)
    np.testing.assert_allclose(float(loss.sum), float(plain.sum) + 0.25 * wanted, rtol=1e-6)
    assert float(loss.count) == float(plain.count) == 2


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="label_smoothing must be at least 0 and below 1"):
        ClassCrossEntropy(label_smoothing=1.0)
    with pytest.raises(ConfigError, match="penalty_weight must be at least 0"):
        ClassCrossEntropy(penalty_weight=-1.0)
    with pytest.raises(ConfigError, match="weights of its hops"):
        ClassCrossEntropy(penalty_weight=1.0)(Given(TABLE), batch([0, 1, 2, -1]), None)
    assert isinstance(ClassCrossEntropy(), Objective)
