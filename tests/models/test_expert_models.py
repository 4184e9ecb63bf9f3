"""Models with experts: what later tokens and other rows may reach, how configs are kept, and who refuses them."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.config_json import from_json, to_json
from transformer_jax.errors import ShapeError
from transformer_jax.interop import (
    bert_config,
    bert_to_hugging_face,
    encoder_stack_to_torch,
    gpt2_config,
    gpt2_to_hugging_face,
)
from transformer_jax.models import DecoderOnlyConfig, Sizes
from transformer_jax.nn import Dense, ExpertFeedForward, Experts, NoPositions, named_parameters
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.training.router_losses import routing_terms

CONFIG = DecoderOnlyConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=12, num_layers=1, positions=NoPositions(),
    dropout_rate=0.0, feed_forward=Experts(num_experts=3, capacity_factor=0.7),
)  # fmt: skip


def test_later_tokens_reach_nothing_in_training_with_a_capacity() -> None:
    model = CONFIG.build(Sizes(vocab_size=9), rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    tokens = np.repeat(random.integers(4, 9, (1, 12)), 16, axis=0)
    tokens[:, -3:] = random.integers(4, 9, (16, 3))
    graph, state = nnx.split(model)

    @jax.jit
    def outputs(tokens: Any) -> Any:
        def of_row(row: Any) -> Any:
            own = nnx.merge(graph, state, copy=True)
            output = own(row[None], rng_key=jax.random.key(0))[0]
            return output, own.stack.layers[0].feed_forward.dropped[...]

        return jax.lax.map(of_row, tokens)

    found, dropped = outputs(jnp.asarray(tokens))
    assert np.asarray(dropped).min() > 0
    assert len(np.unique(np.asarray(found)[:, -1], axis=0)) > 1
    np.testing.assert_array_equal(found[:, :9], np.broadcast_to(found[:1, :9], found[:, :9].shape))


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_rows_bits_do_not_depend_on_other_rows_in_evaluation(top_k: int) -> None:
    layer = ExpertFeedForward(
        16, 24, Experts(num_experts=8, top_k=top_k, capacity_factor=0.5), activation="gelu", dropout_rate=0.0,
        use_bias=True, rngs=nnx.Rngs(0),
    )  # fmt: skip
    run = jax.jit(lambda x: layer(x))
    x = jax.random.normal(jax.random.key(0), (8, 16, 16))
    wanted = run(x)
    assert np.any(wanted, axis=-1).all(), "no token is dropped"
    for others in (
        jax.random.normal(jax.random.key(1), x.shape),
        jnp.full(x.shape, jnp.nan),
        jnp.broadcast_to(x[0, 5], x.shape),  # all to the same experts
    ):
        found = run(others.at[3].set(x[3]))
        np.testing.assert_array_equal(found[3], wanted[3])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("capacity_factor", [None, 1.0])
def test_an_update_mixes_no_dtypes_unsaid(capacity_factor: float | None, dtype: Any) -> None:
    config = Experts(num_experts=3, num_shared=1, capacity_factor=capacity_factor)
    layer = ExpertFeedForward(
        4, 6, config, activation="swiglu", dropout_rate=0.1, use_bias=True, rngs=nnx.Rngs(0)
    )
    graph, params, others = nnx.split(layer, nnx.Param, ...)

    def loss(params: Any, x: Any) -> Any:
        own = nnx.merge(graph, params, others, copy=True)
        y = own(x, tokens=TrainingTokens(x[..., 0] > 0), rng_key=jax.random.key(0))
        assert y.dtype == x.dtype
        return y.astype(jnp.float32).sum() + routing_terms(own)[0]

    with jax.numpy_dtype_promotion("strict"):
        gradient = jax.eval_shape(jax.grad(loss), params, jax.ShapeDtypeStruct((2, 5, 4), dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}


def test_configs_are_kept_and_those_without_the_field_are_dense() -> None:
    assert from_json(DecoderOnlyConfig, to_json(CONFIG)) == CONFIG
    dense = DecoderOnlyConfig(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=12, num_layers=1, positions=NoPositions()
    )
    assert dense.feed_forward == Dense()
    document = json.loads(to_json(dense))
    assert document.pop("feed_forward") == {"kind": "dense"}
    assert from_json(DecoderOnlyConfig, json.dumps(document)) == dense


def test_other_programs_layouts_have_no_place_for_experts() -> None:
    experts = Experts(num_experts=2)
    gpt2 = gpt2_config({"n_embd": 4, "n_head": 2, "n_layer": 1, "n_positions": 6})
    model = dataclasses.replace(gpt2, feed_forward=experts).build(Sizes(vocab_size=5), rngs=nnx.Rngs(0))
    with pytest.raises(
        ShapeError, match=r"feed_forward\.router\.kernel has no place in Hugging Face's GPT-2"
    ):
        gpt2_to_hugging_face(named_parameters(model))
    with pytest.raises(ShapeError, match=r"feed_forward\.router\.kernel' has no place in PyTorch's stack"):
        encoder_stack_to_torch(named_parameters(model.stack))
    bert = bert_config({
        "hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8,
        "max_position_embeddings": 6, "vocab_size": 5,
    })  # fmt: skip
    bert = dataclasses.replace(bert, encoder=dataclasses.replace(bert.encoder, feed_forward=experts))
    arrays = named_parameters(bert.build(Sizes(vocab_size=5), rngs=nnx.Rngs(0)))
    with pytest.raises(ShapeError, match=r"feed_forward\.router\.kernel has no place in Hugging Face's BERT"):
        bert_to_hugging_face(arrays)
