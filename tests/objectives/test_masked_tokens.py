"""Loss of hidden tokens: only the chosen places count, gathered or not; the order of parts; gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.text_batches import MaskedBatch
from transformer_jax.errors import ConfigError
from transformer_jax.models import EncoderOnlyConfig, Sizes, TransformerTextEncoder, build_model
from transformer_jax.nn import Learned
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.objectives import MaskedTokens
from transformer_jax.objectives.masked_tokens import at_places
from transformer_jax.testing.recurrence_suite import assert_close

ENCODER = TransformerTextEncoder(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=12,
    num_layers=1,
    positions=Learned(max_len=8),
    weight_deviation=0.4,
)


def ints(rows: object) -> jax.Array:
    return jnp.asarray(rows, jnp.int32)


BATCH = MaskedBatch(
    tokens=ints([[2, 4, 6, 7, 3, 0], [2, 8, 4, 4, 9, 3], [0] * 6]),
    lengths=ints([5, 6, 0]),
    places=ints([[1, -1], [2, 3], [-1, -1]]),
    targets=ints([[5, -1], [6, 10], [-1, -1]]),
    classes=ints([1, 0, -1]),
    example_ids=ints([0, 1, -1]),
)


@pytest.fixture(scope="module")
def model() -> nnx.Module:
    return build_model(EncoderOnlyConfig(encoder=ENCODER, order_head=True), Sizes(vocab_size=11), seed=0)


def by_hand(model: nnx.Module, *, order_weight: float = 0.0, smoothing: float = 0.0) -> jax.Array:
    """All logits of all places, and a loop over those that are hidden."""
    vectors = model.encoder(BATCH.tokens, lengths=BATCH.lengths)  # type: ignore[attr-defined]
    log_probs = jax.nn.log_softmax(model.logits(vectors))  # type: ignore[attr-defined]
    total = jnp.zeros(())
    for row, place, target in ((0, 1, 5), (1, 2, 6), (1, 3, 10)):
        total -= (1 - smoothing) * log_probs[row, place, target] + smoothing * log_probs[row, place].mean()
    of_order = jax.nn.log_softmax(model.order_logits(vectors))  # type: ignore[attr-defined]
    return total - order_weight * (of_order[0, 1] + of_order[1, 0])


@pytest.mark.parametrize(("order_weight", "smoothing"), [(0.0, 0.0), (3.0, 0.1)])
def test_loss_and_gradients_by_hand(model: nnx.Module, order_weight: float, smoothing: float) -> None:
    graph, state = nnx.split(model)
    objective = MaskedTokens(order_weight=order_weight, label_smoothing=smoothing)

    @jax.jit
    def run(state):  # type: ignore[no-untyped-def]
        ours = jax.value_and_grad(lambda state: objective(nnx.merge(graph, state), BATCH, None)[0].sum)
        theirs = jax.value_and_grad(
            lambda state: by_hand(nnx.merge(graph, state), order_weight=order_weight, smoothing=smoothing)
        )
        return ours(state), theirs(state)

    with jax.default_matmul_precision("highest"):
        (loss, gradients), (wanted, wanted_gradients) = run(state)
    assert_close(loss, wanted, 1e-5, "loss")
    others = named_parameters(wanted_gradients)
    for name, gradient in named_parameters(gradients).items():
        assert_close(gradient, others[name], 1e-4, name)


def test_counts_and_metrics(model: nnx.Module) -> None:
    loss, metrics, _ = MaskedTokens(order_weight=1.0)(model, BATCH, None)
    assert float(loss.count) == 3.0
    assert float(metrics["accuracy"].count) == 3.0
    assert float(metrics["order_accuracy"].count) == 2.0
    logits = model(BATCH.tokens, lengths=BATCH.lengths)  # type: ignore[operator]
    right = sum(
        int(logits[row, place].argmax()) == target
        for row, place, target in ((0, 1, 5), (1, 2, 6), (1, 3, 10))
    )
    assert float(metrics["accuracy"].sum) == right
    assert set(MaskedTokens()(model, BATCH, None)[1]) == {"accuracy"}


def test_the_vocabulary_meets_hidden_places_alone(model: nnx.Module) -> None:
    """No array of the program is as large as the logits of all places would be."""
    graph, state = nnx.split(model)
    wide = jax.make_jaxpr(
        jax.value_and_grad(lambda state: MaskedTokens()(nnx.merge(graph, state), BATCH, None)[0].sum)
    )(state)
    vocab, places, length = 11, 2, 6

    def shapes(jaxpr):  # type: ignore[no-untyped-def]
        for equation in jaxpr.eqns:
            for variable in equation.outvars:
                yield tuple(variable.aval.shape)
            for value in equation.params.values():
                for inner in jax.tree.leaves(
                    value, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
                ):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from shapes(inner)

    found = set(shapes(wide.jaxpr))
    with_vocabulary = [
        shape for shape in found if vocab in shape and 8 not in shape and shape[:1] != (vocab,)
    ]
    assert with_vocabulary, "the search finds the logits"
    assert all(np.prod(shape) <= 3 * places * vocab for shape in with_vocabulary), with_vocabulary
    assert (3, length, vocab) not in found


def test_places_below_zero_reach_nothing() -> None:
    vectors = jnp.arange(12.0).reshape(2, 3, 2)
    found = at_places(vectors, ints([[2, 0], [-1, 1]]))
    assert found.tolist() == [[[4.0, 5.0], [0.0, 1.0]], [[6.0, 7.0], [8.0, 9.0]]]


def test_a_batch_of_padding_has_no_loss(model: nnx.Module) -> None:
    empty = jax.tree.map(lambda array: array[2:], BATCH)
    loss, metrics, _ = MaskedTokens(order_weight=1.0)(model, empty, None)
    assert (float(loss.sum), float(loss.count)) == (0.0, 0.0)
    assert float(metrics["accuracy"].count) == 0.0


def test_refusals(model: nnx.Module) -> None:
    with pytest.raises(ConfigError, match=r"data\.sentence_order"):
        MaskedTokens(order_weight=1.0)(model, BATCH._replace(classes=None), None)
    plain = build_model(EncoderOnlyConfig(encoder=ENCODER), Sizes(vocab_size=11), seed=0)
    with pytest.raises(ConfigError, match="order_head=True"):
        MaskedTokens(order_weight=1.0)(plain, BATCH, None)
    for options in ({"label_smoothing": 1.0}, {"order_weight": -1.0}, {"order_weight": float("nan")}):
        with pytest.raises(ConfigError):
            MaskedTokens(**options)
