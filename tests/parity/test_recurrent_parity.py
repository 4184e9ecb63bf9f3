"""Our recurrence with PyTorch's weights against nn.RNN, nn.LSTM and nn.GRU: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_store import load_case

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import recurrence
from transformer_jax.interop.torch_cells import cell_from_torch, cells_from_torch
from transformer_jax.testing.recurrence_suite import assert_close

pytestmark = pytest.mark.parity

FAMILY = "recurrent"
# Written out, not computed, so that no case goes missing unseen; make_golden_recurrent.py must make the same.
CASES = [
    "rnn_tanh-uni-full",
    "rnn_tanh-uni-lengths",
    "rnn_tanh-bi-full",
    "rnn_tanh-bi-lengths",
    "rnn_relu-uni-full",
    "rnn_relu-uni-lengths",
    "rnn_relu-bi-full",
    "rnn_relu-bi-lengths",
    "lstm-uni-full",
    "lstm-uni-lengths",
    "lstm-bi-full",
    "lstm-bi-lengths",
    "gru-uni-full",
    "gru-uni-lengths",
    "gru-bi-full",
    "gru-bi-lengths",
]


def run_stack(cells, inputs, lengths, carries):
    """All layers and directions; carries are ordered as PyTorch's: layer by layer, forward first."""
    finals = []
    for layer in cells:
        outputs = []
        for direction, cell in enumerate(layer):
            output, final = recurrence(
                cell, inputs, lengths=lengths, initial_carry=carries[len(finals)], reverse=direction == 1
            )
            outputs.append(output)
            finals.append(final)
        inputs = jnp.concatenate(outputs, axis=-1)
    return inputs, finals


@jax.jit  # one program for a case's golden and live arrays
def differentiate(cells, inputs, carries, lengths, output_weights, final_weights):
    """Gradients by cells, inputs and initial carries, outputs and final carries."""

    def loss(cells, inputs, carries):
        outputs, finals = run_stack(cells, inputs, lengths, carries)
        weighted = jax.tree.map(lambda final, weight: (final * weight).sum(), finals, final_weights)
        return (outputs * output_weights).sum() + sum(jax.tree.leaves(weighted)), (outputs, finals)

    return jax.grad(loss, (0, 1, 2), has_aux=True)(cells, inputs, carries)


def check(case, arrays):
    """Hold our outputs, final carries and all gradients to the arrays that PyTorch gave."""
    kind = case.split("-")[0]
    options = {"activation": kind.removeprefix("rnn_")} if kind.startswith("rnn") else {}
    kind = kind.split("_")[0]
    state = {
        name.removeprefix("weight."): array for name, array in arrays.items() if name.startswith("weight.")
    }
    state = {name: array.astype(np.float32) for name, array in state.items()}
    arrays = {
        name: array if name == "lengths" else array.astype(np.float32) for name, array in arrays.items()
    }
    cells = cells_from_torch(kind, state, **options)
    lengths = jnp.asarray(arrays["lengths"]) if "lengths" in arrays else None
    names = "hc" if kind == "lstm" else "h"

    def by_index(prefix):
        parts = [arrays[f"{prefix}.{name}"] for name in names]
        rows = [tuple(part[index] for part in parts) for index in range(parts[0].shape[0])]
        return rows if kind == "lstm" else [row[0] for row in rows]

    weights = arrays["output_weights"], by_index("final_weights")
    found = differentiate(cells, arrays["inputs"], by_index("initial"), lengths, *weights)
    gradients, (outputs, finals) = jax.device_get(found)
    assert_close(outputs, arrays["outputs"], 1e-5, "outputs")
    assert_close(finals, by_index("final"), 1e-5, "final carry")
    to_cells, to_inputs, to_carries = gradients
    assert_close(to_inputs, arrays["gradient.inputs"], 1e-4, "gradient of the inputs")
    assert_close(to_carries, by_index("gradient.initial"), 1e-4, "gradient of the initial carry")
    num_checked = 0
    for index, layer in enumerate(to_cells):
        for direction, cell in enumerate(layer):
            suffix = f"_l{index}" + ("_reverse" if direction else "")
            assert_close(
                cell.input_weight.T, arrays["gradient.weight_ih" + suffix], 1e-4, "weight_ih" + suffix
            )
            assert_close(
                cell.recurrent_weight.T, arrays["gradient.weight_hh" + suffix], 1e-4, "weight_hh" + suffix
            )
            assert_close(cell.bias, arrays["gradient.bias_ih" + suffix], 1e-4, "bias_ih" + suffix)
            inner = cell.bias
            if kind == "gru":
                hidden_dim = cell.recurrent_bias.shape[0]
                inner = np.concatenate([cell.bias[: 2 * hidden_dim], cell.recurrent_bias])
            assert_close(inner, arrays["gradient.bias_hh" + suffix], 1e-4, "bias_hh" + suffix)
            num_checked += 4
    assert num_checked == len(state)


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    check(case, load_case(FAMILY, case))


@pytest.mark.parametrize("case", CASES)
def test_live(case):
    pytest.importorskip("torch")
    from make_golden_recurrent import compute

    check(case, compute(case, seed=1000))


def test_generator_makes_the_listed_cases():
    pytest.importorskip("torch")
    from make_golden_recurrent import list_cases

    assert list_cases() == CASES


def test_weights_without_biases_convert():
    weight_ih, weight_hh = np.ones((6, 3), np.float32), np.ones((6, 2), np.float32)
    cell = cell_from_torch("gru", weight_ih, weight_hh)
    assert cell.bias.shape == (6,)
    assert not np.asarray(cell.bias).any()
    assert not np.asarray(cell.recurrent_bias).any()


def test_conversion_refuses_what_does_not_fit():
    weight_ih, weight_hh = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
    with pytest.raises(ShapeError, match="weight_hh"):
        cell_from_torch("gru", weight_ih, weight_hh)
    with pytest.raises(ShapeError, match="bias_hh"):
        cell_from_torch("lstm", weight_ih, weight_hh, bias_hh=np.ones(6, np.float32))
    with pytest.raises(ShapeError, match="proj"):
        cells_from_torch(
            "lstm", {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh, "weight_hr_l0": weight_hh}
        )
    with pytest.raises(ShapeError, match="weight_ih_l0"):
        cells_from_torch("lstm", {})


def test_conversion_refuses_unknown_kinds():
    from inspect import unwrap

    with pytest.raises(ConfigError, match="kind"):
        unwrap(cell_from_torch)("lsmt", np.ones((8, 3)), np.ones((8, 2)))
