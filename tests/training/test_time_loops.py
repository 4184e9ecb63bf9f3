"""What loops over time read: the library's modules declare it, and what nobody declares is found in the program."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from transformer_jax.data.batches import empty_batch
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.training.sharding import abstract_mesh
from transformer_jax.training.state import split_model
from transformer_jax.training.step import loss_gradient
from transformer_jax.training.time_loops import found_in_loops

SIZES = {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}
CELLS = {
    "rnn": Luong(score="general", input_feeding=True),
    "lstm": Bahdanau(attention_dim=4),
    "gru": LastState(feed_each_step=True),
    "min_gru": Luong(score="general", input_feeding=False),
}


def recurrent(cell: Any) -> Any:
    return RecurrentSeq2SeqConfig(
        embedding_dim=8, hidden_dim=8, cell=cell, num_encoder_layers=1, num_decoder_layers=2, bidirectional=True,
        attention=CELLS[cell], dropout_rate=0.1, residual=False,
    )  # fmt: skip


def sets_of(
    model: nnx.Module, objective: Any, *, rows: int = 8
) -> tuple[frozenset[str], frozenset[str], set[str]]:
    """Declared, found and all parameters."""
    structure, params, model_state = split_model(model)
    batch = empty_batch(rows, 6, 6)
    rest = (batch, jax.random.key(0), jnp.int32(0))
    with jax.sharding.use_abstract_mesh(abstract_mesh(SIZES)):
        jaxpr = jax.make_jaxpr(loss_gradient(structure, objective))(params, model_state, *rest)
    return structure.looped, found_in_loops(jaxpr, params, model_state, batch), set(params)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_models_declare_all_that_is_found(cell: str) -> None:
    model = build_model(recurrent(cell), Sizes.of_pairs(12), seed=0)
    objective = PairCrossEntropy(label_smoothing=0.1)
    declared, found, names = sets_of(model, objective)
    assert not found, "each device runs the loops on rows of its own"
    found = sets_of(model, objective, rows=4)[1]  # too few rows for all devices: loops over cut matrices
    assert found <= declared
    assert "decoder.stack.layers.1.forward_cell.recurrent_weight" in found or cell == "min_gru"
    inside = tuple(f"decoder.{part}." for part in ("stack", "attend", "combine", "readout"))
    assert declared == {name for name in names if "_cell." in name or name.startswith(inside)}


def test_a_transformer_has_no_such_parameters() -> None:
    config = EncoderDecoderConfig(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_encoder_layers=1, num_decoder_layers=1
    )  # fmt: skip
    model = build_model(config, Sizes.of_pairs(12), seed=0)
    assert sets_of(model, PairCrossEntropy())[:2] == (frozenset(), frozenset())


def test_a_decoder_that_reads_its_own_tokens_has_its_vocabulary_in_the_loop() -> None:
    model = build_model(recurrent("gru"), Sizes.of_pairs(12), seed=0)
    declared, found, _ = sets_of(model, PairCrossEntropy(scheduled_sampling_rate=0.5), rows=4)
    assert {name.split(".")[0] for name in found - declared} >= {"target_embedding"}


def found_by(loss: Any, *, carried: bool = False) -> frozenset[str]:
    params = {"first_weight": jnp.ones((3, 3)), "second_weight": jnp.ones((3, 3))}
    inputs, state = jnp.ones((2, 4, 3)), {"rows": jnp.ones((2, 3))}
    jaxpr = jax.make_jaxpr(jax.grad(loss))(params, state, inputs, jax.random.key(0))
    return found_in_loops(jaxpr, params, state, inputs, carried=["rows"] if carried else ())


def scanned(matrix: Any, inputs: Any) -> Any:
    def body(state: Any, entry: Any) -> tuple[Any, None]:
        return jnp.tanh(entry + state @ matrix), None

    return jax.lax.scan(body, inputs[:, 0], inputs.swapaxes(0, 1))[0].sum()


LOSSES = {
    "as it is": lambda params, state, inputs, key: scanned(params["second_weight"], inputs),
    "in pieces, under a mask": lambda params, state, inputs, key: scanned(
        jnp.concatenate([params["second_weight"][:, :2] * 2, jnp.zeros((3, 1))], axis=1)
        * jax.random.bernoulli(key, 0.5, (3, 3)),
        inputs,
    ),
    "in a call": lambda params, state, inputs, key: jax.jit(scanned)(params["second_weight"], inputs),
    "computed again": lambda params, state, inputs, key: jax.checkpoint(scanned)(params["second_weight"], inputs),
    "in a branch": lambda params, state, inputs, key: jax.lax.cond(
        inputs[0, 0, 0] > 0, scanned, lambda matrix, inputs: inputs.sum(), params["second_weight"], inputs
    ),
    "one row a step": lambda params, state, inputs, key: jax.lax.scan(
        lambda total, row: (jnp.tanh(total + (inputs @ row).sum()), None), 0.0, params["second_weight"]
    )[0],
    "beside the state": lambda params, state, inputs, key: jax.lax.scan(
        lambda state, entry: (jnp.tanh(state + entry @ params["second_weight"]), None), inputs[0], inputs
    )[0].sum(),
    "beside the input's own": lambda params, state, inputs, key: scanned(
        params["second_weight"], inputs @ params["first_weight"]
    ),
    "from carried rows": lambda params, state, inputs, key: scanned(
        params["second_weight"], inputs + (state["rows"] @ params["first_weight"])[:, None]
    ),
    "under lax.map": lambda params, state, inputs, key: jax.lax.map(
        lambda row: scanned(params["second_weight"], row[None]), inputs
    ).sum(),
    "in a scan that adds up": lambda params, state, inputs, key: jax.lax.scan(
        lambda total, row: (total + scanned(params["second_weight"], row[None]), None), 0.0, inputs
    )[0],
    "handed on by a scan that adds up": lambda params, state, inputs, key: jax.lax.scan(
        lambda carry, row: ((carry[0] + scanned(carry[1], row[None]), carry[1]), None),
        (0.0, params["second_weight"]),
        inputs,
    )[0][0],
    "sliced by a map beside the input": lambda params, state, inputs, key: jax.lax.map(
        lambda pair: scanned(pair[0], pair[1][None]), (jnp.stack([params["second_weight"]] * 2), inputs)
    ).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_matrix_in_a_loop_is_found_however_it_gets_there(name: str) -> None:
    assert found_by(LOSSES[name], carried=True) == {"second_weight"}


def test_a_scan_inside_of_a_while_that_adds_up_is_found() -> None:
    def loss(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        def body(index: Any, total: Any) -> Any:
            return total + scanned(params["second_weight"], inputs * index)

        return jax.lax.fori_loop(0, (inputs[0, 0, 0] > 0) + 1, body, 0.0)  # of unknown length: a while

    params, state = {"first_weight": jnp.ones((3, 3)), "second_weight": jnp.ones((3, 3))}, {}
    inputs = jnp.ones((2, 4, 3))
    jaxpr = jax.make_jaxpr(loss)(params, state, inputs, jax.random.key(0))
    assert {equation.primitive.name for equation in jaxpr.jaxpr.eqns} >= {"while"}
    assert found_in_loops(jaxpr, params, state, inputs) == {"second_weight"}


def test_a_loop_with_a_backward_pass_of_its_own_is_found() -> None:
    @jax.custom_vjp
    def run(matrix: Any, inputs: Any) -> Any:
        return scanned(matrix, inputs)

    run.defvjp(lambda matrix, inputs: (scanned(matrix, inputs), (matrix, inputs)),
               lambda kept, cotangent: jax.vjp(scanned, *kept)[1](cotangent))  # fmt: skip
    assert found_by(lambda params, state, inputs, key: run(params["second_weight"], inputs)) == {
        "second_weight"
    }


def test_neither_products_nor_sums_over_blocks_are_loops_over_time() -> None:
    def loss(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        def block(total: Any, rows: Any) -> tuple[Any, None]:
            return total + jnp.exp(rows @ params["second_weight"]).sum(), None

        return jax.lax.scan(block, 0.0, inputs @ params["first_weight"])[0]

    assert found_by(loss) == frozenset()

    def mapped(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        return jax.lax.map(lambda row: jnp.tanh(row @ params["second_weight"]).sum(), inputs).sum()

    assert found_by(mapped) == frozenset()
