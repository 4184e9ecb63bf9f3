"""The loss of language models: what it counts, what it hands to the model, and carried state."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import ConfigError
from transformer_jax.nn import CarriedState
from transformer_jax.objectives import NextToken

VOCAB_SIZE = 11


class Embedded(nnx.Module):
    """Logits of the token before alone; takes neither segments nor restarts."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.embedding = nnx.Param(jnp.asarray(generator.normal(size=(VOCAB_SIZE, 4)), jnp.float32))

    def states(self, tokens: Any) -> Any:
        return jnp.tanh(self.embedding[...][tokens])

    def __call__(self, tokens: Any, *, rng_key: Any = None) -> Any:
        return self.states(tokens) @ self.embedding[...].T


class WithHidden(Embedded):
    """The same through its hidden states."""

    def hidden(self, tokens: Any, *, rng_key: Any = None) -> Any:
        return self.states(tokens)

    def output_projection(self) -> tuple[Any, None]:
        return self.embedding[...], None


class Carrying(Embedded):
    """Keeps the sum of the tokens read so far of each row, from batch to batch."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.total = CarriedState(jnp.zeros((rows,), jnp.int32))

    def __call__(self, tokens: Any, *, rng_key: Any = None, restarts: Any) -> Any:
        self.total[...] = jnp.where(restarts > 0, 0, self.total[...]) + tokens.sum(axis=1)
        return super().__call__(tokens)


def batch_of(**changes: Any) -> TokenBatch:
    generator = np.random.default_rng(1)
    inputs, targets = generator.integers(0, VOCAB_SIZE, (2, 3, 5)).astype(np.int32)
    lengths = np.array([5, 2, 0], np.int32)
    return TokenBatch(
        inputs, targets, lengths, None, np.zeros(3, np.int32), np.arange(3, dtype=np.int32)
    )._replace(**changes)


@pytest.mark.parametrize("make", [Embedded, WithHidden])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_accuracy_equal_a_double_loop(make: Any, smoothing: float) -> None:
    model, batch = make(), batch_of()
    loss, metrics, model_state = NextToken(label_smoothing=smoothing)(model, batch, None)
    logits = np.asarray(model(batch.inputs), np.float64)
    total = correct = 0.0
    for row, length in enumerate(batch.lengths):
        for place in range(length):
            scores = logits[row, place] - np.log(np.exp(logits[row, place]).sum())
            label = batch.targets[row, place]
            total -= (1 - smoothing) * scores[label] + smoothing * scores.mean()
            correct += scores.argmax() == label
    assert float(loss.sum) == pytest.approx(total, rel=1e-5)
    assert float(loss.count) == float(metrics["accuracy"].count) == batch.num_tokens() == 7
    assert float(metrics["accuracy"].sum) == correct
    assert metrics.keys() == {"accuracy"}
    assert not nnx.to_flat_state(model_state)


def test_targets_before_the_first_that_counts_are_given() -> None:
    model, batch = Embedded(), batch_of()
    given = np.array([3, 0, 0], np.int32)
    loss, metrics, _ = NextToken()(model, batch._replace(first_counted=given), None)
    whole, _, _ = NextToken()(model, batch, None)
    prefix, _, _ = NextToken()(model, batch._replace(lengths=given), None)
    assert float(loss.sum) == pytest.approx(float(whole.sum) - float(prefix.sum), rel=1e-5)
    assert float(loss.count) == float(metrics["accuracy"].count) == 4
    assert batch._replace(first_counted=given).num_tokens() == 4


def test_segments_reach_the_model_and_only_where_the_batch_has_them() -> None:
    given: list[Any] = []

    class Spy(Embedded):
        def __call__(self, tokens: Any, *, rng_key: Any = None, **keywords: Any) -> Any:
            given.append(keywords)
            return super().__call__(tokens)

    segments = np.array([[1, 1, 2, 2, 2], [1, 1, 0, 0, 0], [0] * 5], np.int32)
    NextToken()(Spy(), batch_of(segments=segments), None)
    NextToken()(Spy(), batch_of(), None)
    np.testing.assert_array_equal(given[0]["segments"], segments)
    assert given[0].keys() == {"segments"}
    assert given[1] == {}


def test_carried_state_is_reset_by_restarts_and_returned() -> None:
    model, first = Carrying(3), batch_of()
    _, _, state = NextToken()(model, first, None)
    np.testing.assert_array_equal(state["total"][...], first.inputs.sum(axis=1))
    _, _, state = NextToken()(model, batch_of(restarts=np.array([0, 1, 0], np.int32)), None)
    sums = first.inputs.sum(axis=1)
    np.testing.assert_array_equal(state["total"][...], sums * [2, 1, 2])


@pytest.mark.parametrize("value", [1.0, -0.1])
def test_value_out_of_range_is_named(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"NextToken\.label_smoothing must be .*; got {value!r}"):
        NextToken(label_smoothing=value)
