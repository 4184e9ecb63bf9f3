"""Models that copy: the same probabilities by teacher forcing, step by step and under beams; refusals in one line."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import EOS_ID, PAD_ID, Seq2SeqBatch
from transformer_jax.decode.protocol import TokenInputs, reorder_state, repeat_state
from transformer_jax.errors import ConfigError
from transformer_jax.models import EncoderDecoderConfig, build_model
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy

VOCAB = 9
RECURRENT = RecurrentSeq2SeqConfig(
    embedding_dim=4,
    hidden_dim=6,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=True,
    attention=Bahdanau(attention_dim=5),
    dropout_rate=0.0,
    residual=False,
    pointer=Pointer(extended=True),
)
TRANSFORMER = EncoderDecoderConfig(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=2,
    dropout_rate=0.0,
    share_embeddings="all",
    pointer=Pointer(extended=True),
)
CONFIGS: dict[str, Any] = {
    "bahdanau": RECURRENT,
    "coverage": dataclasses.replace(RECURRENT, attention=Bahdanau(attention_dim=5, coverage_width=1)),
    "luong-fed": dataclasses.replace(RECURRENT, attention=Luong(score="general", input_feeding=True)),
    "luong": dataclasses.replace(RECURRENT, attention=Luong(score="general", input_feeding=False)),
    "transformer": TRANSFORMER,
}
IN_FIRST_TIER = ("coverage", "transformer")
SOURCE = jnp.array([[4, VOCAB + 1, 6, VOCAB + 1, PAD_ID], [5, 5, PAD_ID, PAD_ID, PAD_ID]])
LENGTHS = jnp.array([4, 2])
INPUTS = jnp.array([[2, 4, VOCAB + 1], [2, 5, EOS_ID]])
OUTPUTS = jnp.array([[4, VOCAB + 1, EOS_ID], [5, EOS_ID, PAD_ID]])
BATCH: Any = Seq2SeqBatch(SOURCE, LENGTHS, INPUTS, OUTPUTS, jnp.array([3, 2]), jnp.array([0, 1]))  # type: ignore[arg-type]


@functools.cache
def model_of(name: str) -> Any:
    return build_model(CONFIGS[name], Sizes.of_pairs(VOCAB), seed=0)


@functools.cache
def log_probs_of(name: str) -> jax.Array:
    """Of `BATCH` by teacher forcing."""
    return nnx.jit(lambda model: model(SOURCE, LENGTHS, INPUTS))(model_of(name))


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in IN_FIRST_TIER else pytest.mark.full) for name in CONFIGS]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_steps_agree_with_teacher_forcing_under_beams(name: str) -> None:
    model = model_of(name)
    wanted = np.exp(np.asarray(log_probs_of(name)))
    assert wanted.shape == (2, 3, VOCAB + SOURCE.shape[1])
    np.testing.assert_allclose(wanted.sum(axis=-1), 1.0, rtol=1e-5)
    rows = jnp.array([1, 0, 2, 3])  # the hypotheses of the first source change places

    def steps(model: Any) -> jax.Array:
        state, found = repeat_state(model.start(TokenInputs(SOURCE, LENGTHS), max_len=3), 2), []
        for step in range(3):
            logits, after = model.step(state, jnp.repeat(INPUTS[:, step], 2))
            found.append(logits)
            state = reorder_state(after, state, rows)
        return jnp.stack(found, axis=1)

    found = np.exp(np.asarray(nnx.jit(steps)(model)))
    np.testing.assert_allclose(found, np.repeat(wanted, 2, axis=0), rtol=1e-4, atol=1e-6)


def test_loss_is_that_of_the_log_probabilities(name: str) -> None:
    model = model_of(name)
    log_probs = log_probs_of(name)
    weights = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    wanted = -jnp.sum(jnp.take_along_axis(log_probs, OUTPUTS[..., None], axis=-1)[..., 0] * weights)
    plain, metrics = nnx.jit(lambda model: PairCrossEntropy()(model, BATCH, None)[:2])(model)
    np.testing.assert_allclose(plain.sum, wanted, rtol=1e-5)
    assert float(metrics["accuracy"].sum) == float(jnp.sum((log_probs.argmax(axis=-1) == OUTPUTS) * weights))

    graph, parameters = nnx.split(model)

    def loss(parameters: Any) -> tuple[jax.Array, Any]:
        found, metrics, _ = PairCrossEntropy(coverage_weight=0.5)(nnx.merge(graph, parameters), BATCH, None)
        return found.sum, metrics["coverage"].sum

    (with_coverage, coverage), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters)
    np.testing.assert_allclose(with_coverage, plain.sum + 0.5 * coverage, rtol=1e-5)
    leaves = jax.tree.leaves(gradients)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
    assert all(bool((leaf != 0).any()) for leaf in jax.tree.leaves(gradients["pointer"]))


def test_padding_changes_nothing(name: str) -> None:
    model = model_of(name)
    longer = jnp.pad(SOURCE, ((0, 0), (0, 2)), constant_values=5)
    found = nnx.jit(lambda model: model(longer, LENGTHS, INPUTS))(model)
    wanted = log_probs_of(name)
    np.testing.assert_allclose(np.exp(found[..., : VOCAB + 5]), np.exp(wanted), rtol=1e-5, atol=1e-7)
    assert bool((found[..., VOCAB + 5 :] == -jnp.inf).all())


def test_pointer_leaves_the_other_parameters_as_they_were() -> None:
    with_pointer = nnx.to_flat_state(nnx.state(model_of("bahdanau")))
    without = build_model(dataclasses.replace(RECURRENT, pointer=None), Sizes.of_pairs(VOCAB), seed=0)
    paths = dict(with_pointer)
    for path, value in nnx.to_flat_state(nnx.state(without)):
        np.testing.assert_array_equal(paths.pop(path)[...], value[...])
    assert {path[0] for path in paths} == {"pointer"}


def test_coverage_loss_without_a_pointer() -> None:
    config = dataclasses.replace(CONFIGS["coverage"], pointer=None)
    model = build_model(config, Sizes.of_pairs(VOCAB), seed=0)
    batch = jax.tree.map(lambda array: jnp.minimum(array, VOCAB - 1), BATCH)
    plain, _, _ = PairCrossEntropy(label_smoothing=0.1)(model, batch, None)
    found, metrics, _ = PairCrossEntropy(label_smoothing=0.1, coverage_weight=2.0)(model, batch, None)
    np.testing.assert_allclose(found.sum, plain.sum + 2.0 * metrics["coverage"].sum, rtol=1e-5)


@pytest.mark.parametrize(
    ("objective", "part"),
    [
        (PairCrossEntropy(label_smoothing=0.1), "label_smoothing is for models without a pointer"),
        (
            PairCrossEntropy(scheduled_sampling_rate=0.1),
            "scheduled_sampling_rate is for models without a pointer",
        ),
        (PairCrossEntropy(r_drop_weight=1.0), "r_drop_weight is for models without a pointer"),
    ],
)
def test_objectives_that_do_not_go_with_a_pointer(objective: PairCrossEntropy, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        objective(model_of("bahdanau"), BATCH, jax.random.key(0))


def test_models_that_cannot_copy() -> None:
    with pytest.raises(ConfigError, match="'last_state' attends to nothing"):
        dataclasses.replace(RECURRENT, attention=LastState(feed_each_step=True))
    for config in (RECURRENT, dataclasses.replace(TRANSFORMER, share_embeddings="none")):
        with pytest.raises(ConfigError, match="pointer needs one vocabulary"):
            build_model(config, Sizes(source_vocab_size=9, target_vocab_size=8), seed=0)
