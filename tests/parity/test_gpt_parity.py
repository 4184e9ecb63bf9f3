"""Our decoder-only model with Hugging Face's names of GPT-2 against its equations in PyTorch: values and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_store import load_case

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.interop.gpt2 import gpt2_config, gpt2_from_hugging_face, gpt2_to_hugging_face
from transformer_jax.models import Sizes, build_model, gpt2
from transformer_jax.nn.parameters import load_parameters, named_parameters
from transformer_jax.testing.recurrence_suite import assert_close

pytestmark = pytest.mark.parity

FAMILY = "gpt"
CASES = ["gpt2"]
DOCUMENT = {
    "model_type": "gpt2",
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 2,
    "n_positions": 7,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}


def part(arrays, prefix):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def check(arrays):
    model = build_model(gpt2_config(DOCUMENT), Sizes(vocab_size=13), seed=0)
    load_parameters(model, gpt2_from_hugging_face(part(arrays, "weight/")))
    tokens = jnp.asarray(arrays["tokens"])
    graphdef, params = nnx.split(model)

    @jax.jit
    def run(params):
        def loss(params):
            logits = nnx.merge(graphdef, params)(tokens)
            log_probs = jax.nn.log_softmax(logits[:, :-1])
            return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    with jax.default_matmul_precision("highest"):
        (loss, logits), gradients = run(params)
    assert_close(logits, arrays["logits"], 1e-5, "logits")
    assert_close(loss, arrays["loss"], 1e-5, "loss")
    wanted = gpt2_from_hugging_face(part(arrays, "gradient/"))
    found = named_parameters(gradients)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        assert_close(gradient, wanted[name], 1e-4, f"gradient of {name}")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    check(load_case(FAMILY, case))


@pytest.mark.parametrize("case", CASES)
def test_live(case):
    pytest.importorskip("torch")
    from make_golden_gpt import compute

    check(compute(case, seed=1000))


def test_weights_go_there_and_back():
    weights = part(load_case(FAMILY, "gpt2"), "weight/")
    back = gpt2_to_hugging_face(gpt2_from_hugging_face(weights))
    np.testing.assert_array_equal(back.pop("lm_head.weight"), weights["transformer.wte.weight"])
    assert set(back) == set(weights)
    for name, array in back.items():
        np.testing.assert_array_equal(array, weights[name])
    again = gpt2_from_hugging_face({"lm_head.weight": weights["transformer.wte.weight"], **weights})
    assert set(again) == set(
        named_parameters(build_model(gpt2_config(DOCUMENT), Sizes(vocab_size=13), seed=0))
    )


def test_names_without_prefix_and_stored_masks_are_read():
    bare = {
        "wte.weight": np.ones((3, 2)),
        "h.0.attn.bias": np.ones((1, 1, 4, 4)),
        "h.0.ln_1.bias": np.ones(2),
    }
    assert set(gpt2_from_hugging_face(bare)) == {
        "embedding.embedding",
        "stack.layers.0.self_attention_residual.norm.bias",
    }


def test_what_is_no_gpt2_is_refused():
    table = np.ones((3, 2))
    for state, message in (
        ({"model.layers.0.weight": table}, "model.layers.0.weight has no place in a GPT-2"),
        ({"h.0.attn.q_proj.weight": table}, "has no place"),
        ({"wte.weight": table, "transformer.wte.weight": table}, "given twice"),
        ({"wte.weight": table, "lm_head.weight": 2 * table}, "lm_head.weight is not the token embedding"),
        ({"lm_head.weight": table}, "lm_head.weight is not the token embedding"),
    ):
        with pytest.raises(ShapeError, match=message):
            gpt2_from_hugging_face(state)
    with pytest.raises(ShapeError, match=r"output_embedding\.embedding has no place"):
        gpt2_to_hugging_face({"output_embedding.embedding": table})


def test_parameters_that_are_not_those_of_a_gpt2_are_refused():
    whole = gpt2_from_hugging_face(part(load_case(FAMILY, "gpt2"), "weight/"))
    for name in whole:
        with pytest.raises(ShapeError, match=f"parameter {name} is missing"):
            gpt2_to_hugging_face({other: array for other, array in whole.items() if other != name})
        other = np.zeros((*np.shape(whole[name])[:-1], np.shape(whole[name])[-1] + 1))
        with pytest.raises(ShapeError, match="must have shape"):
            gpt2_to_hugging_face(whole | {name: other})
    grouped = dataclasses.replace(gpt2_config(DOCUMENT), num_kv_heads=1)
    with pytest.raises(ShapeError, match=r"kernel must have shape \(8, 24\) in a GPT-2, got \(8, 16\)"):
        gpt2_to_hugging_face(named_parameters(build_model(grouped, Sizes(vocab_size=13), seed=0)))


def test_the_published_config_is_the_preset():
    assert gpt2_config({"model_type": "gpt2", "vocab_size": 50257}) == gpt2()
    for changes, message in (
        ({"model_type": "llama"}, "model_type must be 'gpt2', got 'llama'"),
        ({"activation_function": "mish"}, "activation_function must be one of"),
        ({"embd_pdrop": 0.1}, "embd_pdrop must be resid_pdrop, which is 0.0, got 0.1"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False"),
    ):
        with pytest.raises(ConfigError, match=message):
            gpt2_config(DOCUMENT | changes)
