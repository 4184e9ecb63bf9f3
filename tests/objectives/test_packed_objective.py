"""The loss of packed rows is that of the same pairs one a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import BatchShape
from transformer_jax.data.examples import EncodedExamples, make_batch
from transformer_jax.data.packing import PackedPipeline
from transformer_jax.errors import ConfigError
from transformer_jax.models import EncoderDecoderConfig, build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import TinySeq2Seq

CONFIG = EncoderDecoderConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=12, num_encoder_layers=1, num_decoder_layers=2
)


def examples(num: int = 14) -> EncodedExamples:
    generator = np.random.default_rng(0)
    sources, targets = generator.integers(0, 6, num), generator.integers(0, 5, num)
    return EncodedExamples(
        generator.integers(4, 11, sources.sum()).astype(np.int32),
        np.concatenate([[0], np.cumsum(sources)]),
        generator.integers(4, 11, targets.sum()).astype(np.int32),
        np.concatenate([[0], np.cumsum(targets)]),
    )


def test_loss_and_gradient_are_those_of_the_pairs_one_a_row() -> None:
    data = examples()
    pipeline = PackedPipeline(data, source_len=11, target_len=12, batch_size=7, seed=0)
    packed = pipeline.batch_at(0)
    assert pipeline.batches_per_epoch == 1, "the batch holds every pair"
    assert (packed.example_ids >= 0).sum(axis=1).max() > 2
    alone = make_batch(data, range(len(data)), BatchShape(len(data), 6, 6))
    assert packed.num_tokens() == alone.num_tokens()
    model = build_model(CONFIG, Sizes.of_pairs(11), seed=0)
    graph, params = nnx.split(model)

    def value(params, batch):
        loss, metrics, _ = PairCrossEntropy(label_smoothing=0.1)(nnx.merge(graph, params), batch, None)
        return loss.sum, (loss.count, metrics["accuracy"])

    of_value = jax.jit(jax.value_and_grad(value, has_aux=True))
    (packed_sum, packed_rest), packed_gradient = of_value(params, packed)
    (alone_sum, alone_rest), alone_gradient = of_value(params, alone)
    assert float(packed_sum) == pytest.approx(float(alone_sum), rel=1e-5)
    assert jax.tree.map(float, packed_rest) == jax.tree.map(float, alone_rest)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(alone_gradient))
    for got, wanted in zip(jax.tree.leaves(packed_gradient), jax.tree.leaves(alone_gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * largest)


def test_a_model_that_cannot_keep_pairs_apart_is_refused() -> None:
    batch = PackedPipeline(examples(), source_len=11, target_len=12, batch_size=7, seed=0).batch_at(0)
    model = TinySeq2Seq(vocab_size=11, model_dim=4, dropout_rate=0.0, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="which TinySeq2Seq cannot keep apart"):
        PairCrossEntropy()(model, batch, None)
