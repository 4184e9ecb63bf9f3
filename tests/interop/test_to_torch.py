"""Weights in PyTorch's layout: what is written is read back, and what has no place there is refused."""

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.interop.to_torch import cells_to_torch, decoder_stack_to_torch, encoder_stack_to_torch
from transformer_jax.interop.torch_cells import cells_from_torch
from transformer_jax.interop.torch_modules import decoder_stack_from_torch, encoder_stack_from_torch
from transformer_jax.models import EncoderDecoderConfig, Sizes, build_model
from transformer_jax.nn import RecurrentStack
from transformer_jax.nn.parameters import named_parameters


def filled(arrays):
    """Arrays of the same shapes with a number of its own in each place."""
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=array.shape).astype(np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_cells_are_read_back(kind):
    stack = RecurrentStack(
        kind, 3, 5, 2, bidirectional=False, dropout_rate=0.0, residual=False, rngs=nnx.Rngs(0)
    )
    cells = []
    for layer in stack.layers:
        cell = layer.forward_cell.cell()
        leaves, structure = jax.tree.flatten(cell)
        numbers = filled({str(place): leaf for place, leaf in enumerate(leaves)})
        cells.append(jax.tree.unflatten(structure, list(numbers.values())))
    again = [cell for (cell,) in cells_from_torch(kind, cells_to_torch(cells))]
    assert jax.tree.structure(again) == jax.tree.structure(cells)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(cells), strict=True):
        np.testing.assert_array_equal(one, other)


def test_stacks_are_read_back():
    config = EncoderDecoderConfig(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=12, num_encoder_layers=2, num_decoder_layers=2,
        attention_bias=True, norm_placement="pre",
    )  # fmt: skip
    model = build_model(config, Sizes.of_pairs(7), seed=0)
    for stack, to_torch, from_torch in (
        (model.encoder, encoder_stack_to_torch, encoder_stack_from_torch),
        (model.decoder, decoder_stack_to_torch, decoder_stack_from_torch),
    ):
        ours = filled(named_parameters(stack))
        again = from_torch(to_torch(ours))
        assert again.keys() == ours.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(again[name], array)


def test_what_pytorch_has_no_place_for_is_refused():
    stack = RecurrentStack(
        "min_gru", 3, 5, 1, bidirectional=False, dropout_rate=0.0, residual=False, rngs=nnx.Rngs(0)
    )
    with pytest.raises(ConfigError, match="got 'min_gru'"):
        cells_to_torch([stack.layers[0].forward_cell.cell()])
    with pytest.raises(ShapeError, match=r"'positions\.table'"):
        encoder_stack_to_torch({"positions.table": np.zeros((2, 2))})
