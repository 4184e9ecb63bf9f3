"""Compute dtype and implementations as fields of model configs."""

import copy
import dataclasses
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.config_json import apply_overrides, from_document, from_json, to_json
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import cross_entropy, projected_cross_entropy
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.position_encodings import AlibiPositions, Rotary

_TRANSFORMER = {
    "model_dim": 16, "num_heads": 4, "num_kv_heads": 2, "feed_forward_dim": 32, "dropout_rate": 0.0,
}  # fmt: skip
_RECURRENT = {
    "embedding_dim": 8, "hidden_dim": 16, "num_encoder_layers": 1, "num_decoder_layers": 2, "dropout_rate": 0.0,
    "residual": True,
}  # fmt: skip
CONFIGS = {
    "encoder_decoder": EncoderDecoderConfig(**_TRANSFORMER, num_encoder_layers=2, num_decoder_layers=2),
    "pre_rms_rotary": EncoderDecoderConfig(
        **_TRANSFORMER, num_encoder_layers=1, num_decoder_layers=1, norm_placement="pre", normalization="rms",
        positions=Rotary(), share_embeddings="all",
    ),
    "linear": EncoderDecoderConfig(
        **_TRANSFORMER | {"num_kv_heads": 4}, num_encoder_layers=1, num_decoder_layers=1,
        decoder_self_attention="linear",
    ),
    "decoder_only": DecoderOnlyConfig(**_TRANSFORMER, num_layers=2, positions=AlibiPositions()),
    "last_state": RecurrentSeq2SeqConfig(
        **_RECURRENT, cell="lstm", bidirectional=False, attention=LastState(feed_each_step=True)
    ),
    "bahdanau": RecurrentSeq2SeqConfig(
        **_RECURRENT, cell="gru", bidirectional=True, attention=Bahdanau(attention_dim=8)
    ),
    "luong": RecurrentSeq2SeqConfig(
        **_RECURRENT, cell="min_gru", bidirectional=True, attention=Luong(score="concat", input_feeding=True)
    ),
}  # fmt: skip
FIRST = {"pre_rms_rotary", "linear", "decoder_only", "bahdanau", "luong"}
FAMILIES = ["encoder_decoder", "decoder_only", "bahdanau"]
SIZES = Sizes(source_vocab_size=12, target_vocab_size=12, vocab_size=12)
SOURCE = jnp.array(np.random.default_rng(0).integers(2, 12, (4, 6)), jnp.int32)
LENGTHS = jnp.array([6, 4, 1, 5], jnp.int32)
TARGETS = jnp.array(np.random.default_rng(1).integers(2, 12, (4, 5)), jnp.int32)


def _build(config, **changes):
    return dataclasses.replace(config, **changes).build(SIZES, rngs=nnx.Rngs(0))


def _arguments(config):
    return (TARGETS,) if isinstance(config, DecoderOnlyConfig) else (SOURCE, LENGTHS, TARGETS)


@pytest.mark.parametrize("name", tiered(CONFIGS, FIRST))
def test_bfloat16_is_near_float32_with_float32_parameters(name):
    config = CONFIGS[name]
    wide, narrow = _build(config), _build(config, dtype="bfloat16")
    chex.assert_trees_all_equal(nnx.state(wide, nnx.Param), nnx.state(narrow, nnx.Param))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(narrow, nnx.Param))} == {jnp.dtype("float32")}
    arguments = _arguments(config)
    run = jax.jit(lambda model, *arguments: (model(*arguments), model.hidden(*arguments)))
    (logits, hidden), (wanted, wide_hidden) = run(narrow, *arguments), run(wide, *arguments)
    assert (hidden.dtype, wide_hidden.dtype) == (jnp.bfloat16, jnp.float32)
    assert logits.dtype == jnp.float32
    assert float(jnp.abs(logits - wanted).max()) <= 2e-2 * float(jnp.abs(wanted).max())
    assert bool(jnp.any(logits != wanted))  # it was computed in another dtype


@pytest.mark.parametrize("name", tiered(CONFIGS, FIRST))
def test_steps_in_bfloat16_are_the_whole_run(name):
    config = CONFIGS[name]
    model = _build(config, dtype="bfloat16")
    logits = jax.jit(lambda model: model(*_arguments(config)))(model)
    inputs = TokenInputs(SOURCE, LENGTHS)
    if isinstance(config, DecoderOnlyConfig):
        inputs = TokenInputs(TARGETS[:, :0], jnp.zeros(4, jnp.int32))
    state = model.start(inputs, max_len=5)
    step = jax.jit(lambda model, state, tokens: model.step(state, tokens))
    for time in range(5):
        stepped, state = step(model, state, TARGETS[:, time])
        assert stepped.dtype == jnp.float32
        assert float(jnp.abs(stepped - logits[:, time]).max()) <= 2e-2 * float(jnp.abs(logits).max())


@pytest.mark.parametrize("name", tiered(FAMILIES, {"decoder_only", "bahdanau"}))
def test_a_model_in_bfloat16_learns(name):
    config = CONFIGS[name]
    model, arguments = _build(config, dtype="bfloat16"), _arguments(config)
    graph, params = nnx.split(model, nnx.Param)
    optimizer = optax.adam(1e-2)

    def loss(params):
        model = nnx.merge(graph, params)
        return projected_cross_entropy(
            model.hidden(*arguments), model.output_projection()[0], TARGETS, bias=model.output_projection()[1]
        ).mean()

    @jax.jit
    def update(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        chex.assert_trees_all_equal_shapes_and_dtypes(gradients, params)
        changes, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, changes), state, value

    state, losses = optimizer.init(params), []
    for _ in range(40):
        params, state, value = update(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.3 * losses[0]
    logits = nnx.merge(graph, params)(*arguments)
    np.testing.assert_allclose(cross_entropy(logits, TARGETS).mean(), loss(params), rtol=2e-2)


@pytest.mark.parametrize("name", FAMILIES)
def test_configs_without_the_fields_load_and_overrides_reach_them(name):
    config = CONFIGS[name]
    before = {key: value for key, value in dataclasses.asdict(config).items() if "implementation" not in key}
    del before["dtype"]
    before["positions" if "positions" in before else "attention"].pop("score", None)
    document = from_json(type(config), to_json(config))
    assert document == config
    assert from_document(type(config), _as_json(before)) == config
    patched = apply_overrides(
        type(config), _as_json(before), ["dtype=bfloat16", "attention_implementation=reference"]
    )
    changed = from_document(type(config), patched)
    assert (changed.dtype, changed.attention_implementation) == ("bfloat16", "reference")


def _as_json(document):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}


@pytest.mark.parametrize("name", tiered(FAMILIES, {"decoder_only", "bahdanau"}))
def test_another_implementation_is_near_and_one_that_cannot_refuses(name):
    config = CONFIGS[name]
    arguments = _arguments(config)
    wanted = _build(config)(*arguments)
    changes = {"attention_implementation": "blockwise"}
    if isinstance(config, RecurrentSeq2SeqConfig):
        changes["recurrence_implementation"] = "parallel"
    chex.assert_trees_all_close(_build(config, **changes)(*arguments), wanted, rtol=1e-4, atol=1e-4)
    model = _build(config, attention_implementation="cudnn")
    with pytest.raises(NotImplementedError, match="cudnn"):
        jax.eval_shape(model, *arguments)  # refused while shapes are known and nothing is computed


def test_a_recurrence_that_cannot_run_the_cell_refuses():
    model = _build(CONFIGS["bahdanau"], recurrence_implementation="associative")
    with pytest.raises(NotImplementedError, match="not linear"):
        jax.eval_shape(model, SOURCE, LENGTHS, TARGETS)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("encoder_decoder", {"dtype": "bfloat61"}, "dtype must be one of .*did you mean 'bfloat16'"),
        ("decoder_only", {"dtype": "float16"}, "dtype must be one of"),
        ("luong", {"dtype": "float64"}, "dtype must be one of"),
        ("encoder_decoder", {"attention_implementation": "blockwis"}, "attention_implementation must be .*'blockwise'"),
        ("decoder_only", {"attention_implementation": "scan"}, "attention_implementation must be"),
        ("luong", {"recurrence_implementation": "scam"}, "recurrence_implementation must be .*'scan'"),
        ("last_state", {"attention_implementation": "reference"}, "must be None without attention to the whole"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_at_construction(name, changes, message):
    config = copy.copy(CONFIGS[name])
    for field, value in changes.items():  # past the run-time checks of the tests
        object.__setattr__(config, field, value)
    with pytest.raises(ConfigError, match=message):
        inspect.unwrap(type(config).__post_init__)(config)
