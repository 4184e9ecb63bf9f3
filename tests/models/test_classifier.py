"""Classifiers: every pooling over every encoder, padding and neighbours change nothing, learning, sizes, refusals."""

import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.data.text_batches import ClassBatch
from transformer_jax.errors import ConfigError
from transformer_jax.models import (
    AttentionPool,
    ClassifierConfig,
    FirstTokenPool,
    LastStatePool,
    MaxPool,
    MeanPool,
    Pool,
    RecurrentTextEncoder,
    Sizes,
    StructuredPool,
    TextEncoder,
    TokenVectors,
    TransformerTextEncoder,
    build_model,
    model_shapes,
)
from transformer_jax.models.build import layer_counts
from transformer_jax.nn import Learned, named_parameters, parameter_count
from transformer_jax.objectives import ClassCrossEntropy

VOCAB, CLASSES, LEN = 11, 3, 6
SIZES = Sizes(vocab_size=VOCAB, num_classes=CLASSES)
POOLINGS: dict[str, Pool] = {
    "first": FirstTokenPool(),
    "mean": MeanPool(),
    "max": MaxPool(),
    "last": LastStatePool(),
    "attention": AttentionPool(attention_dim=5),
    "structured": StructuredPool(attention_dim=5, num_hops=2),
}
ENCODERS: dict[str, TextEncoder] = {
    "lstm": RecurrentTextEncoder(cell="lstm", embedding_dim=5, hidden_dim=4, num_layers=1),
    "bert": TransformerTextEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=12,
        num_layers=1,
        positions=Learned(max_len=LEN),
    ),
    "vectors": TokenVectors(embedding_dim=6),
}
LENGTHS = jnp.array([6, 3, 1, 0])


def classifier(encoder: str = "lstm", pooling: str = "mean", **changes: Any) -> ClassifierConfig:
    return ClassifierConfig(encoder=ENCODERS[encoder], pooling=POOLINGS[pooling], **changes)


def tokens() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (4, LEN)), jnp.int32)


@pytest.mark.parametrize(
    ("pooling", "encoder"),
    tiered(
        itertools.product(POOLINGS, ENCODERS),
        {
            ("first", "bert"),
            ("mean", "vectors"),
            ("max", "vectors"),
            ("last", "lstm"),
            ("attention", "bert"),
            ("structured", "lstm"),
        },
    ),
)
def test_padding_and_neighbours_change_nothing(encoder: str, pooling: str) -> None:
    model: Any = build_model(classifier(encoder, pooling, hidden_dim=7), SIZES, seed=0)
    outputs = nnx.jit(lambda model, tokens, lengths: model.outputs(tokens, lengths=lengths))
    found = outputs(model, tokens(), LENGTHS)
    hops = 2 if pooling == "structured" else 1
    assert found.logits.shape == (4, CLASSES)
    assert found.weights.shape == (4, hops, LEN)
    behind = jnp.arange(LEN)[None, :] >= LENGTHS[:, None]
    chex.assert_trees_all_equal(outputs(model, jnp.where(behind, 99, tokens()), LENGTHS), found)
    order = jnp.array([2, 0, 3, 1])
    shuffled = outputs(model, tokens()[order], LENGTHS[order])
    chex.assert_trees_all_equal(shuffled, jax.tree.map(lambda leaf: leaf[order], found))
    alone = model(tokens()[1:2, :3], lengths=jnp.array([3]))
    chex.assert_trees_all_close(alone[0], found.logits[1], atol=1e-5)
    chex.assert_trees_all_equal(
        nnx.jit(lambda m, t, n: m(t, lengths=n))(model, tokens(), LENGTHS), found.logits
    )


@pytest.mark.parametrize("pooling", tiered(POOLINGS, {"max", "last", "structured"}))
def test_every_parameter_learns(pooling: str) -> None:
    model = build_model(classifier("lstm", pooling, hidden_dim=7), SIZES, seed=0)
    batch = ClassBatch(tokens(), LENGTHS, jnp.array([0, 1, 2, -1]), jnp.array([0, 1, 2, -1]))
    objective = ClassCrossEntropy(penalty_weight=0.5 if pooling == "structured" else 0.0)
    gradients = named_parameters(nnx.grad(lambda model: objective(model, batch, None)[0].mean())(model))
    assert all(np.isfinite(value).all() for value in gradients.values())
    silent = [name for name, value in gradients.items() if not np.any(value)]
    # The first step of a forward cell has no state to multiply.
    assert silent == (["encoder.stack.layers.0.forward_cell.recurrent_weight"] if pooling == "first" else [])


def test_learns_a_word_that_decides() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(5, VOCAB, (64, LEN)).astype(np.int32)
    classes = (np.arange(64) % 2).astype(np.int32)
    rows[np.arange(64), generator.integers(0, LEN, 64)] = np.where(classes == 1, 4, 3)
    batch = ClassBatch(rows, np.full(64, LEN, np.int32), classes, np.arange(64, dtype=np.int32))
    model: Any = build_model(classifier("vectors", "structured"), SIZES, seed=0)
    graph, params = nnx.split(model)
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            return ClassCrossEntropy()(nnx.merge(graph, params), batch, None)[0].mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(60):
        params, state = step(params, state)
    model = nnx.merge(graph, params)
    found = model.outputs(jnp.asarray(rows), lengths=jnp.full(64, LEN))
    assert (np.asarray(found.logits).argmax(axis=1) == classes).all()
    looked_at = np.asarray(found.weights).mean(axis=1)
    at_deciding = (looked_at * (rows < 5)).sum(axis=1)
    # To see one of the two words, or to see that it is not there, is enough.
    by_class = [at_deciding[classes == one].mean() for one in (0, 1)]
    assert max(by_class) > 0.4, "the hops look at a word that decides"


def test_parameter_counts_follow_from_the_sizes() -> None:
    def head(width: int) -> int:
        return parameter_count(build_model(classifier("vectors", "mean", hidden_dim=width), SIZES, seed=0))

    assert head(7) == VOCAB * 6 + 6 * 7 + 7 + 7 * CLASSES + CLASSES
    structured = build_model(classifier("vectors", "structured"), SIZES, seed=0)
    assert parameter_count(structured) == VOCAB * 6 + 6 * 5 + 2 * 5 + 12 * CLASSES + CLASSES


def test_shapes_and_layers_are_found_in_the_encoder() -> None:
    config = classifier("bert")
    assert layer_counts(config) == {"num_layers": 1}
    chex.assert_trees_all_equal_shapes_and_dtypes(
        nnx.state(model_shapes(config, SIZES)), nnx.state(build_model(config, SIZES, seed=0))
    )
    with pytest.raises(ConfigError, match="layers"):
        model_shapes(config, SIZES, num_arrays=0)
    huge = ClassifierConfig(
        encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=60_000, hidden_dim=60_000, num_layers=900)
    )
    with pytest.raises(ConfigError, match="GB of memory"):
        build_model(huge, SIZES, seed=0)


def test_refusals_name_the_field() -> None:
    with pytest.raises(ConfigError, match="the model needs num_classes"):
        build_model(classifier(), Sizes(vocab_size=VOCAB), seed=0)
    with pytest.raises(ConfigError, match="dropout_rate"):
        classifier(dropout_rate=1.0)
    with pytest.raises(ConfigError, match="hidden_dim must be at least 1"):
        classifier(hidden_dim=0)
    with pytest.raises(ConfigError, match="num_hops must be at least 1"):
        StructuredPool(num_hops=0)
    assert classifier("bert").source_limit == LEN
    assert classifier("lstm").source_limit is None
