"""The sequence-to-sequence loss: what it counts, how it scores, and scheduled sampling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import empty_batch
from transformer_jax.errors import ConfigError
from transformer_jax.objectives import PairCrossEntropy, token_accuracy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq


class LogitsOnly(nnx.Module):
    """A model that has a call and nothing else."""

    def __init__(self, inner: TinySeq2Seq) -> None:
        self.inner = inner

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.inner(*arguments, **keywords)


class Refusing(nnx.Module):
    """A model that cannot read its own tokens."""

    def __call__(self, *arguments: Any, rng_key: Any = None, **keywords: Any) -> Any:
        raise NotImplementedError("decoded in parallel")


def reference(logits: np.ndarray, batch: Any, smoothing: float) -> tuple[float, float, float]:
    """Sum of losses, correct tokens and tokens, by a double loop in float64."""
    total = correct = tokens = 0.0
    for row, length in enumerate(batch.target_lengths):
        for position in range(length):
            scores = logits[row, position].astype(np.float64)
            log_probabilities = scores - np.log(np.exp(scores).sum())
            label = batch.target_outputs[row, position]
            total -= (1 - smoothing) * log_probabilities[label] + smoothing * log_probabilities.mean()
            correct += scores.argmax() == label
            tokens += 1
    return total, correct, tokens


@pytest.mark.parametrize("with_hidden", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_accuracy_equal_a_double_loop(
    make_model: Callable[..., TinySeq2Seq], task: SequenceTask, with_hidden: bool, smoothing: float
) -> None:
    batch = task.batch(2)
    assert isinstance(batch.target_lengths, np.ndarray)
    assert (batch.target_lengths == 0).any()
    tiny = make_model()
    model = tiny if with_hidden else LogitsOnly(tiny)
    loss, metrics, model_state = PairCrossEntropy(label_smoothing=smoothing)(model, batch, None)
    total, correct, tokens = reference(np.asarray(tiny(*batch[:3])), batch, smoothing)
    assert float(loss.sum) == pytest.approx(total, rel=1e-5)
    assert float(loss.count) == float(metrics["accuracy"].count) == tokens == batch.target_lengths.sum()
    assert float(metrics["accuracy"].sum) == correct
    assert not jax.tree.leaves(model_state)


def test_padding_changes_nothing(make_model: Callable[..., TinySeq2Seq], task: SequenceTask) -> None:
    batch = task.batch(0)
    other = batch._replace(
        target_outputs=np.where(batch.target_outputs == 0, 7, batch.target_outputs).astype(np.int32)
    )
    objective = PairCrossEntropy(label_smoothing=0.1)
    assert float(objective(make_model(), batch, None)[0].sum) == float(
        objective(make_model(), other, None)[0].sum
    )


def test_scheduled_sampling_rate_rises_and_stops(task: SequenceTask) -> None:
    given: list[float] = []

    class Spy(nnx.Module):
        def __call__(self, source: Any, lengths: Any, inputs: Any, **keywords: Any) -> Any:
            given.append(float(keywords["scheduled_sampling_rate"]))
            return jnp.zeros((*inputs.shape, 11))

    objective = PairCrossEntropy(scheduled_sampling_rate=0.5, scheduled_sampling_updates=10)
    for update in (0, 5, 10, 20):
        objective.at(jnp.int32(update))(Spy(), task.batch(0), jax.random.key(0))
    PairCrossEntropy(scheduled_sampling_rate=0.5)(Spy(), task.batch(0), jax.random.key(0))
    assert given == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.5])


def test_evaluation_never_samples(task: SequenceTask) -> None:
    class Strict(nnx.Module):
        def __call__(self, source: Any, lengths: Any, inputs: Any, *, rng_key: Any = None) -> Any:
            return jnp.zeros((*inputs.shape, 11))

    loss, _, _ = PairCrossEntropy(scheduled_sampling_rate=0.5)(Strict(), task.batch(0), None)
    assert float(loss.mean()) == pytest.approx(np.log(11), rel=1e-5)


def test_model_that_cannot_sample_is_a_config_error(task: SequenceTask) -> None:
    with pytest.raises(ConfigError, match=r"scheduled_sampling_rate is 0\.5, but Refusing cannot"):
        PairCrossEntropy(scheduled_sampling_rate=0.5)(Refusing(), task.batch(0), jax.random.key(0))
    with pytest.raises(NotImplementedError):
        PairCrossEntropy()(Refusing(), task.batch(0), jax.random.key(0))


@pytest.mark.parametrize("with_hidden", [True, False])
def test_r_drop_pulls_two_passes_of_each_row_together(
    make_model: Callable[..., TinySeq2Seq], task: SequenceTask, with_hidden: bool
) -> None:
    batch, key, weight = task.batch(2), jax.random.key(1), 3.0
    tiny = make_model(dropout_rate=0.4)
    model = tiny if with_hidden else LogitsOnly(tiny)
    loss, metrics, _ = PairCrossEntropy(label_smoothing=0.1, r_drop_weight=weight)(model, batch, key)

    rows = jax.tree.map(lambda array: np.repeat(array, 2, axis=0), batch)
    logits = np.asarray(tiny(*rows[:3], rng_key=key), np.float64)
    total, correct, tokens = reference(logits, rows, 0.1)
    divergence = 0.0
    for row, length in enumerate(batch.target_lengths):
        for position in range(length):
            p, q = (np.exp(logits[2 * row + copy, position]) for copy in range(2))
            p, q = p / p.sum(), q / q.sum()
            divergence += 0.5 * ((p - q) * (np.log(p) - np.log(q))).sum()
    assert divergence > 0.1
    assert float(loss.sum) == pytest.approx(total + weight * divergence, rel=1e-5)
    assert float(loss.count) == tokens == 2 * batch.target_lengths.sum()
    assert float(metrics["accuracy"].sum) == correct
    assert float(metrics["r_drop"].sum) == pytest.approx(divergence, rel=1e-4)
    assert float(metrics["r_drop"].count) == tokens / 2


def test_r_drop_reads_each_row_once_in_evaluation(
    make_model: Callable[..., TinySeq2Seq], task: SequenceTask
) -> None:
    model, batch = make_model(dropout_rate=0.4), task.batch(0)
    plain, r_drop = (
        PairCrossEntropy(label_smoothing=0.1, r_drop_weight=weight)(model, batch, None)
        for weight in (0.0, 5.0)
    )
    assert float(plain[0].sum) == float(r_drop[0].sum)
    assert plain[1].keys() == r_drop[1].keys() == {"accuracy"}


def test_token_accuracy_counts_weights() -> None:
    logits = jnp.array([[[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 5.0, 1.0]]])
    accuracy = token_accuracy(logits, jnp.array([[2, 1, 1]]), jnp.array([[1.0, 1.0, 0.0]]))
    assert (float(accuracy.sum), float(accuracy.count)) == (1.0, 2.0)


def test_accuracy_takes_no_label_outside_of_the_vocabulary_for_one_inside() -> None:
    logits = jnp.array([[[2.0, 0.0, 3.0], [2.0, 0.0, 3.0], [2.0, 0.0, 3.0]]])
    accuracy = token_accuracy(logits, jnp.array([[-1, 3, 2]]), jnp.ones((1, 3)))
    assert float(accuracy.sum) == 1.0


def test_logits_of_the_accuracy_are_the_losses_own(make_model: Callable[..., TinySeq2Seq]) -> None:
    """The product with the vocabulary is compiled once, not once for the loss and once for the accuracy."""
    model = make_model(model_dim=64)
    graph, state = nnx.split(model)

    def products(with_accuracy: bool) -> float:
        def function(state: Any, batch: Any) -> Any:
            loss, metrics, _ = PairCrossEntropy()(nnx.merge(graph, state), batch, None)
            return (loss, metrics) if with_accuracy else loss

        compiled = jax.jit(function).lower(state, empty_batch(32, 8, 32)).compile()
        return compiled.cost_analysis()["flops"]

    product_flops = 2 * 32 * 32 * 64 * 11
    assert products(True) - products(False) < 0.5 * product_flops


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("scheduled_sampling_rate", 1.5),
        ("scheduled_sampling_updates", -1),
        ("r_drop_weight", -1.0),
        ("r_drop_weight", float("inf")),
    ],
)
def test_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"PairCrossEntropy\.{name} must be .*; got {value!r}"):
        PairCrossEntropy(**{name: value})


def test_r_drop_beside_scheduled_sampling_is_refused() -> None:
    with pytest.raises(ConfigError, match="r_drop_weight and scheduled_sampling_rate cannot both be above 0"):
        PairCrossEntropy(r_drop_weight=5.0, scheduled_sampling_rate=0.1)
