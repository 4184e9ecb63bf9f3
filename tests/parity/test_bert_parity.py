"""Our encoder-only model with Hugging Face's names of BERT against their BERT: values and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_store import load_case

from transformer_jax.data.text_batches import MaskedBatch
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.interop import bert_config, bert_from_hugging_face, bert_to_hugging_face
from transformer_jax.models import EncoderOnlyConfig, Sizes, bert_encoder, build_model
from transformer_jax.nn.parameters import load_parameters, named_parameters
from transformer_jax.nn.position_encodings import Rotary
from transformer_jax.objectives import MaskedTokens
from transformer_jax.testing.recurrence_suite import assert_close

pytestmark = pytest.mark.parity

FAMILY = "bert"
CASES = ["masked", "pretraining"]
DOCUMENT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 7,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"


def part(arrays, prefix):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def model_of(case):
    return build_model(bert_config(DOCUMENT, order_head=case == "pretraining"), Sizes(vocab_size=13), seed=0)


def masked_batch(arrays):
    """The labels of the golden arrays as hidden places, in the form that the objective takes."""
    labels = arrays["labels"]
    order = np.argsort(labels < 0, axis=1, kind="stable")[:, :3]
    targets = np.take_along_axis(labels, order, axis=1)
    return MaskedBatch(
        tokens=jnp.asarray(arrays["tokens"]),
        lengths=jnp.asarray(arrays["lengths"]),
        places=jnp.asarray(np.where(targets < 0, -1, order), jnp.int32),
        targets=jnp.asarray(np.where(targets < 0, -1, targets), jnp.int32),
        classes=jnp.asarray(arrays["order"]) if "order" in arrays else None,
        example_ids=jnp.arange(3, dtype=jnp.int32),
    )


def check(case, arrays):
    model = model_of(case)
    load_parameters(model, bert_from_hugging_face(part(arrays, "weight/")))
    batch, graph = masked_batch(arrays), nnx.split(model)[0]
    objective = MaskedTokens(order_weight=2.0 if case == "pretraining" else 0.0)

    @jax.jit
    def run(params):
        def loss(params):
            return objective(nnx.merge(graph, params), batch, None)[0].sum

        merged = nnx.merge(graph, params)
        vectors = merged.encoder(batch.tokens, lengths=batch.lengths)
        order = merged.order_logits(vectors) if case == "pretraining" else None
        return jax.value_and_grad(loss)(params), merged.logits(vectors), order

    with jax.default_matmul_precision("highest"):
        (loss, gradients), logits, order = run(nnx.split(model)[1])
    for row, length in enumerate(arrays["lengths"].tolist()):
        assert_close(logits[row, :length], arrays["logits"][row, :length], 1e-5, f"logits of row {row}")
    if case == "pretraining":
        assert_close(order, arrays["order_logits"], 1e-5, "logits of the order")
    assert_close(loss, arrays["loss"], 1e-5, "loss")
    theirs = part(arrays, "gradient/")
    wanted = bert_from_hugging_face(theirs | {SEGMENTS: np.zeros((2, 8))})
    found = named_parameters(gradients)
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        assert_close(gradient, wanted[name], 1e-4, f"gradient of {name}")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    check(case, load_case(FAMILY, case))


@pytest.mark.parametrize("case", CASES)
def test_live(case):
    pytest.importorskip("transformers")
    from make_golden_bert import compute

    check(case, compute(case, seed=1000))


@pytest.mark.parametrize("case", CASES)
def test_weights_go_there_and_back(case):
    weights = part(load_case(FAMILY, case), "weight/")
    own = bert_from_hugging_face(weights)
    assert set(own) == set(named_parameters(model_of(case)))
    back = bert_to_hugging_face(own)
    again = bert_from_hugging_face(back | {"bert.embeddings.position_ids": np.arange(7)})
    for name, array in own.items():
        np.testing.assert_array_equal(again[name], array)
    assert not back[SEGMENTS].any()
    positions = "bert.embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(back[positions], weights[positions] + weights[SEGMENTS][0])
    for name in set(weights) - {SEGMENTS, positions}:
        np.testing.assert_array_equal(back[name], weights[name])


def test_what_is_no_bert_is_refused():
    weights = part(load_case(FAMILY, "masked"), "weight/")
    for name in weights:
        if name == "bert.embeddings.position_ids":
            continue
        with pytest.raises(ShapeError, match="is missing"):
            bert_from_hugging_face({other: array for other, array in weights.items() if other != name})
    for state, message in (
        (weights | {"transformer.wte.weight": np.ones(2)}, "transformer.wte.weight has no place in a BERT"),
        (weights | {"cls.predictions.decoder.weight": np.ones((13, 8))}, "BERT ties the two"),
        (weights | {"bert.pooler.dense.weight": np.ones((8, 8))}, "is missing"),
    ):
        with pytest.raises(ShapeError, match=message):
            bert_from_hugging_face(state)
    own = bert_from_hugging_face(weights)
    for name in own:
        with pytest.raises(ShapeError, match="is missing: the model is no BERT"):
            bert_to_hugging_face({other: array for other, array in own.items() if other != name})
    with pytest.raises(ShapeError, match="parameter extra has no place"):
        bert_to_hugging_face(own | {"extra": np.ones(2)})
    encoder = bert_config(DOCUMENT).encoder
    for changes in (
        {"num_kv_heads": 1},
        {"positions": Rotary()},
        {"embedding_norm": False},
        {"norm_placement": "pre"},
    ):
        other = EncoderOnlyConfig(encoder=dataclasses.replace(encoder, **changes))
        with pytest.raises(ShapeError):
            bert_to_hugging_face(named_parameters(build_model(other, Sizes(vocab_size=13), seed=0)))


def test_the_published_config_is_the_preset():
    assert bert_config({"model_type": "bert", "vocab_size": 30522}).encoder == bert_encoder("base")
    for changes, message in (
        ({"model_type": "gpt2"}, "model_type must be 'bert', got 'gpt2'"),
        ({"hidden_act": "mish"}, "hidden_act must be one of"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be absolute"),
        ({"is_decoder": True}, "is_decoder must be False"),
    ):
        with pytest.raises(ConfigError, match=message):
            bert_config(DOCUMENT | changes)
