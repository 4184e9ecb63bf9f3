"""At length 1,024 no model holds an array of source by target positions: neither in training nor in decoding."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax import models, nn
from transformer_jax.data.batches import Seq2SeqBatch
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.objectives import PairCrossEntropy

SOURCE_LEN, TARGET_LEN, VOCAB = 1024, 1088, 20

TRANSFORMER = models.EncoderDecoderConfig(
    model_dim=16, num_heads=2, num_kv_heads=2, feed_forward_dim=24, num_encoder_layers=1, num_decoder_layers=1,
    dropout_rate=0.1,
)  # fmt: skip
RECURRENT = models.RecurrentSeq2SeqConfig(
    embedding_dim=6, hidden_dim=8, cell="gru", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
    attention=models.LastState(feed_each_step=True), dropout_rate=0.1, residual=False,
)  # fmt: skip


def luong(**changes: Any) -> models.RecurrentSeq2SeqConfig:
    attention = models.Luong(**{"score": "general", "input_feeding": True, **changes})
    return dataclasses.replace(RECURRENT, attention=attention)


MODELS = {
    "transformer": TRANSFORMER,
    "transformer, weights dropped": dataclasses.replace(TRANSFORMER, attention_dropout_rate=0.1),
    "transformer, relative positions": dataclasses.replace(
        TRANSFORMER, positions=nn.RelativePositions(num_buckets=8, max_distance=64)
    ),
    "transformer, alibi": dataclasses.replace(TRANSFORMER, positions=nn.AlibiPositions()),
    "last state": RECURRENT,
    "bahdanau": dataclasses.replace(RECURRENT, attention=models.Bahdanau(attention_dim=5)),
    "luong, input feeding": luong(),
    "luong, concat": luong(score="concat"),
    "luong, no feeding": luong(input_feeding=False),
    "luong, predictive": luong(local=nn.Predictive(half_width=3)),
}


def shapes_in(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of everything computed, inside of loops and calls too."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield getattr(variable.aval, "shape", ())
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(parameter):
                yield from shapes_in(getattr(parameter, "jaxpr", parameter))


def is_jaxpr(parameter: Any) -> bool:
    return hasattr(parameter, "eqns")


def assert_linear(jaxpr: Any) -> None:
    wide = {shape for shape in shapes_in(jaxpr.jaxpr) if sum(size >= SOURCE_LEN for size in shape) > 1}
    assert not wide, f"arrays with two long axes: {sorted(wide)}"


FIRST = {
    "transformer, weights dropped", "transformer, relative positions", "last state", "bahdanau", "luong, input feeding",
    "luong, predictive",
}  # fmt: skip


@pytest.fixture(params=tiered(MODELS, FIRST))
def model(request):
    return models.build_model(MODELS[request.param], models.Sizes.of_pairs(VOCAB), seed=0)


def test_the_check_finds_a_square():
    square = jax.make_jaxpr(lambda x: jax.lax.map(lambda row: row[:, None] * row[None], x))(
        jnp.ones((2, 1024))
    )
    with pytest.raises(AssertionError, match="two long axes"):
        assert_linear(square)


def test_training(model):
    structure, parameters, rest = nnx.split(model, nnx.Param, ...)
    objective = PairCrossEntropy(label_smoothing=0.1)
    source, target = jnp.ones((1, SOURCE_LEN), jnp.int32), jnp.ones((1, TARGET_LEN), jnp.int32)
    batch = Seq2SeqBatch(
        source, jnp.array([SOURCE_LEN]), target, target, jnp.array([TARGET_LEN]), jnp.zeros(1, jnp.int32)
    )

    def loss(parameters: Any) -> Any:
        return objective(nnx.merge(structure, parameters, rest), batch, jax.random.key(0))[0].sum

    assert_linear(jax.make_jaxpr(jax.grad(loss))(parameters))


def test_decoding(model):
    source = jnp.ones((1, SOURCE_LEN), jnp.int32)

    def search(source: Any) -> Any:
        state = model.start(TokenInputs(source, jnp.array([SOURCE_LEN])), max_len=TARGET_LEN)
        return jax.lax.fori_loop(
            0, TARGET_LEN, lambda _, carry: model.step(carry[1], jnp.argmax(carry[0], -1)),
            model.step(state, jnp.ones(1, jnp.int32)),
        )  # fmt: skip

    assert_linear(jax.make_jaxpr(search)(source))
