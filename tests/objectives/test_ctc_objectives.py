"""CTC alone and joint: an example without an alignment is counted, and in neither loss nor gradient."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.feature_batches import FeatureBatch, FrameStore, text_columns
from transformer_jax.errors import ConfigError
from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToText, FeatureToTextConfig
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder
from transformer_jax.objectives import CtcLoss, FeatureCrossEntropy, JointCtc

TEXTS = [[5, 6], [5, 5, 5, 5], [6], []]  # the second needs seven vectors, and has five


def batch(indices: list[int], num_rows: int) -> FeatureBatch:
    rng = np.random.default_rng(0)
    store = FrameStore.of([rng.normal(size=(n, 3)) for n in (12, 10, 5, 6)])
    chosen = np.array(indices)
    return FeatureBatch(store.padded(chosen, num_rows, 12), *text_columns(TEXTS, chosen, num_rows, 5))


@pytest.fixture(scope="module")
def model() -> FeatureToText:
    config = FeatureToTextConfig(
        encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
        decoder=RecurrentTextDecoder(embedding_dim=4, hidden_dim=4, attention=Bahdanau(attention_dim=4)),
        ctc=True,
    )
    return FeatureToText(config, feature_dim=3, vocab_size=8, rngs=nnx.Rngs(0))


@functools.cache
def program(objective: Any) -> Any:
    def total(model: Any, given: Any) -> Any:
        loss, metrics, _ = objective(model, given, None)
        return loss.sum, (loss.count, metrics)

    return nnx.jit(nnx.value_and_grad(total, has_aux=True))


def test_ctc_leaves_out_what_has_no_alignment(model: FeatureToText) -> None:
    (loss, (count, metrics)), gradient = program(CtcLoss())(model, batch([0, 1, 2, 3], 5))
    (without, (fewer, _)), expected = program(CtcLoss())(model, batch([0, 2, 3], 5))
    assert (float(metrics["no_alignment"].sum), float(metrics["no_alignment"].count)) == (1.0, 4.0)
    assert float(count) == float(fewer) == 3 + 2 + 1
    assert float(loss) == pytest.approx(float(without), rel=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_joint_loss_is_the_weighed_sum(model: FeatureToText) -> None:
    given = batch([0, 1, 2, 3], 5)
    objectives = (
        JointCtc(ctc_weight=0.25, label_smoothing=0.1), CtcLoss(), FeatureCrossEntropy(label_smoothing=0.1)
    )  # fmt: skip
    run = nnx.jit(lambda model, given: [one(model, given, None)[:2] for one in objectives])
    (joint, metrics), (ctc, _), (plain, _) = run(model, given)
    assert float(joint.sum) == pytest.approx(0.25 * float(ctc.sum) + 0.75 * float(plain.sum), rel=1e-5)
    assert float(joint.count) == float(plain.count) == 3 + 5 + 2 + 1
    assert float(metrics["ctc"].mean()) == pytest.approx(float(ctc.mean()), rel=1e-5)
    assert float(metrics["no_alignment"].sum) == 1.0


def test_rows_of_padding_count_for_nothing(model: FeatureToText) -> None:
    (loss, (count, metrics)), gradient = program(CtcLoss())(model, batch([], 5))
    assert float(loss) == float(count) == float(metrics["no_alignment"].count) == 0.0
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_weight_is_a_share() -> None:
    for weight in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="ctc_weight must be above 0 and below 1"):
            JointCtc(ctc_weight=weight)
