"""Our attention, layers and stacks with PyTorch's weights against PyTorch: values and all gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_store import load_case

from transformer_jax.errors import ShapeError
from transformer_jax.functional import AttentionMask
from transformer_jax.interop import torch_modules as convert
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.parameters import load_parameters, named_parameters
from transformer_jax.nn.position_encodings import NoPositions
from transformer_jax.nn.stacks import DecoderStack, EncoderStack
from transformer_jax.nn.transformer_layers import DecoderLayer, EncoderLayer, TransformerLayerConfig
from transformer_jax.testing.recurrence_suite import assert_close

pytestmark = pytest.mark.parity

FAMILY = "transformer"
# Written out, not computed, so that no case goes missing unseen; make_golden_transformer.py makes the same.
CASES = [
    "attention-self_full",
    "attention-self_causal",
    "attention-self_padding",
    "attention-self_both",
    "attention-self_bias",
    "attention-self_no_bias",
    "attention-cross_full",
    "attention-cross_padding",
    "attention-cross_dims",
    "attention-cross_no_bias",
    "encoder_layer-post-relu",
    "encoder_layer-post-gelu",
    "encoder_layer-pre-relu",
    "encoder_layer-pre-gelu",
    "decoder_layer-post-relu",
    "decoder_layer-post-gelu",
    "decoder_layer-pre-relu",
    "decoder_layer-pre-gelu",
    "transformer-post-relu",
    "transformer-pre-gelu",
]
MODEL, HEADS, FEED_FORWARD, LAYERS = 8, 2, 12, 2


class Transformer(nnx.Module):
    """Both stacks, as in torch.nn.Transformer, whose stacks have a last norm in post-norm too."""

    def __init__(self, config, *, rngs):
        options = {"positions": NoPositions(), "final_norm": True, "rngs": rngs}
        self.encoder = EncoderStack(config, LAYERS, **options)
        self.decoder = DecoderStack(config, LAYERS, **options)


def layer_config(placement, activation):
    return TransformerLayerConfig(
        model_dim=MODEL,
        num_heads=HEADS,
        num_kv_heads=HEADS,
        feed_forward_dim=FEED_FORWARD,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        activation_dropout_rate=0.0,
        norm_placement=placement,
        normalization="layer",
        norm_epsilon=1e-5,
        activation=activation,
        attention_bias=True,
        rotary_base=None,
        self_attention="softmax",
    )


def transformer_from_torch(state):
    arrays = {}
    for side, from_torch in (
        ("encoder", convert.encoder_stack_from_torch),
        ("decoder", convert.decoder_stack_from_torch),
    ):
        part = {
            name.removeprefix(f"{side}."): array
            for name, array in state.items()
            if name.startswith(f"{side}.")
        }
        arrays |= {f"{side}.{name}": array for name, array in from_torch(part).items()}
    return arrays


def make(case, memory_dim):
    """Our module for a case, and the function that names PyTorch's weights our way."""
    kind, placement, *rest = case.split("-")
    rngs = nnx.Rngs(0)
    if kind == "attention":
        is_cross = placement.startswith("cross")
        layer = MultiHeadAttention(
            MODEL,
            HEADS,
            HEADS,
            key_value_dim=memory_dim if is_cross else None,
            use_bias=not placement.endswith("no_bias"),
            dropout_rate=0.0,
            rngs=rngs,
        )
        return layer, convert.cross_attention_from_torch if is_cross else convert.self_attention_from_torch
    config = layer_config(placement, rest[0])
    if kind == "encoder_layer":
        return EncoderLayer(config, rngs=rngs), convert.encoder_layer_from_torch
    if kind == "decoder_layer":
        return DecoderLayer(config, rngs=rngs), convert.decoder_layer_from_torch
    return Transformer(config, rngs=rngs), transformer_from_torch


def run(case, module, inputs, lengths):
    """What the module gives, and attention's weights where the case is attention."""
    kind, variant = case.split("-")[:2]
    causal, source_mask = AttentionMask.causal(), None
    if "source" in inputs:
        source_mask = AttentionMask.from_lengths(lengths, inputs["source"].shape[1])
    if kind == "encoder_layer":
        return module(inputs["source"], mask=source_mask), None
    if kind == "decoder_layer":
        memory = module.project_memory(inputs["source"])
        return module(inputs["target"], memory, mask=causal, memory_mask=source_mask), None
    if kind == "transformer":
        memories = module.decoder.project_memory(module.encoder(inputs["source"], mask=source_mask))
        return module.decoder(inputs["target"], memories, memory_mask=source_mask), None
    mask = AttentionMask()
    if variant.endswith(("causal", "both")):
        mask = mask & causal
    if variant.endswith(("padding", "both")):
        mask = mask & AttentionMask.from_lengths(lengths, inputs.get("memory", inputs["query"]).shape[1])
    options = {"mask": mask, "bias": inputs.get("bias")}
    _, weights = module.attention_weights(inputs["query"], inputs.get("memory"), **options)
    return module(inputs["query"], inputs.get("memory"), **options), weights


@functools.partial(jax.jit, static_argnums=(0, 1))  # one program for a case's golden and live arrays
def differentiate(case, graphdef, params, inputs, lengths, output_weights):
    """Gradients by parameters and inputs, outputs and attention's weights."""

    def loss(params, inputs):
        outputs, weights = run(case, nnx.merge(graphdef, params), inputs, lengths)
        return (outputs * output_weights).sum(), (outputs, weights)

    return jax.grad(loss, (0, 1), has_aux=True)(params, inputs)


def check(case, arrays):
    """Hold our outputs, weights and gradients to PyTorch's."""

    def part(prefix):
        return {
            name.removeprefix(prefix): array.astype(np.float32)
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    inputs = {name: jnp.asarray(array) for name, array in part("input.").items()}
    memory = inputs.get("memory", inputs.get("source", inputs.get("query")))
    module, from_torch = make(case, memory.shape[-1])
    load_parameters(module, from_torch(part("weight.")))
    graphdef, params = nnx.split(module)
    gradients, (outputs, weights) = differentiate(
        case, graphdef, params, inputs,
        jnp.asarray(arrays["lengths"]), jnp.asarray(arrays["output_weights"], jnp.float32),
    )  # fmt: skip
    assert_close(outputs, arrays["outputs"], 1e-5, "outputs")
    if weights is not None:
        assert_close(weights, arrays["weights"], 1e-5, "weights")
    to_params, to_inputs = gradients
    for name, gradient in to_inputs.items():
        assert_close(gradient, arrays[f"gradient.input.{name}"], 1e-4, f"gradient of {name}")
    got, wanted = named_parameters(to_params), from_torch(part("gradient.weight."))
    assert set(got) == set(wanted)
    for name, gradient in got.items():
        assert_close(gradient, wanted[name], 1e-4, f"gradient of {name}")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    check(case, load_case(FAMILY, case))


@pytest.mark.parametrize("case", CASES)
def test_live(case):
    pytest.importorskip("torch")
    from make_golden_transformer import compute

    check(case, compute(case, seed=1000))


def test_generator_makes_the_listed_cases():
    pytest.importorskip("torch")
    from make_golden_transformer import list_cases

    assert list_cases() == CASES


def test_missing_weights_are_named():
    with pytest.raises(ShapeError, match=r"'in_proj_weight' is missing"):
        convert.self_attention_from_torch({"out_proj.weight": np.zeros((4, 4))})


def attention_state(**more):
    return {"in_proj_weight": np.zeros((12, 4)), "out_proj.weight": np.zeros((4, 4)), **more}


def layer_state(**more):
    parts = [
        f"{name}.{part}" for name in ("linear1", "linear2", "norm1", "norm2") for part in ("weight", "bias")
    ]
    is_matrix = {"linear1.weight", "linear2.weight"}
    whole = {name: np.zeros((4, 4) if name in is_matrix else 4) for name in parts}
    return {**whole, **{f"self_attn.{name}": array for name, array in attention_state().items()}, **more}


@pytest.mark.parametrize(
    ("take", "state", "message"),
    [
        (
            convert.self_attention_from_torch,
            attention_state(bias_k=np.ones((1, 1, 4)), bias_v=np.ones((1, 1, 4))),
            r"\['bias_k', 'bias_v'\].*add_bias_kv=True.*nothing was converted",
        ),
        (
            convert.cross_attention_from_torch,
            attention_state(bias_k=np.ones((1, 1, 4))),
            "bias_k.*add_bias_kv",
        ),
        (
            convert.cross_attention_from_torch,
            attention_state(q_proj_weight=np.zeros((4, 4))),
            "'q_proj_weight'",
        ),
        (
            convert.encoder_layer_from_torch,
            layer_state(**{"norm3.weight": np.ones(4)}),
            r"\['norm3.weight'\]",
        ),
        (
            convert.encoder_layer_from_torch,
            layer_state(**{"self_attn.bias_k": np.ones((1, 1, 4))}),
            "bias_k.*add_bias_kv",
        ),
        (
            convert.encoder_stack_from_torch,
            {f"encoder.layers.0.{name}": array for name, array in layer_state().items()},
            r"layers.0.*it holds \['encoder'\].*under 'encoder.'",
        ),
        (convert.decoder_stack_from_torch, {}, r"must hold a stack"),
        (
            convert.encoder_stack_from_torch,
            {f"layers.{place}.{name}": array for place in (0, 2) for name, array in layer_state().items()},
            r"layers\.2\.linear1",
        ),
        (
            convert.encoder_stack_from_torch,
            {f"layers.0.{name}": array for name, array in layer_state().items()}
            | {"embedding.weight": np.ones(4)},
            r"\['embedding.weight'\]",
        ),
    ],
)
def test_a_state_is_taken_whole_or_refused_by_name(take, state, message):
    with pytest.raises(ShapeError, match=message):
        take(state)
