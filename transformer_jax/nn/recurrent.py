"""Recurrent layers and stacks: modules that own the parameters of the cells in ``functional.recurrent``."""

import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError, check_choice
from transformer_jax.functional.dropout import check_rate, dropout, split_key
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.recurrent import (
    Carry,
    GatedCell,
    cell_class,
    check_recurrence_implementation,
    recurrence,
)
from transformer_jax.functional.remat import Remat, remat
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.norms import make_norm, normalized
from transformer_jax.nn.pytree_parameters import PytreeParameters
from transformer_jax.typing import Array, Float, Int

CellKind = str | type[GatedCell]
"""A cell by its name, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`, or by its class."""

RecurrentNormalization = Literal["none", "layer", "rms"]
"""Norms between recurrent layers; statistics of a batch are none of them, as a step of a decoder sees no batch."""

RecurrentNormPlacement = Literal["post", "pre"]


class RecurrentCell(PytreeParameters):
    """The parameters of one cell, initialised by the cell's own rule.

    Args:
      kind: Name or class of the cell: ``"rnn"``, ``"lstm"``, ``"gru"``, or one that is linear in its carry,
        ``"min_gru"``, ``"min_lstm"``, ``"diagonal"``, or a cell of one's own.
      input_dim: Width of the inputs.
      hidden_dim: Width of the carry.
      dtype: Of the matrix products; parameters, gates and carries are float32.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If there is no such cell or dtype.

    Example:
      >>> cell = RecurrentCell("lstm", 3, 5, rngs=nnx.Rngs(0)).cell()
      >>> cell.project(jnp.ones((2, 7, 3))).shape
      (2, 7, 20)
    """

    loops_over_time = True

    def __init__(
        self,
        kind: CellKind,
        input_dim: int,
        hidden_dim: int,
        *,
        dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        check_compute_dtype("dtype", dtype)
        found = cell_class(kind)
        self.kind = found.kind
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.dtype = dtype
        self.own(found.initialize(rngs.params, input_dim, hidden_dim))

    def cell(self) -> GatedCell:
        """The cell as a pytree for ``functional.recurrent``, its matrices in the compute dtype."""
        return self.owned(self.dtype)


class RecurrentLayer(nnx.Module):
    r"""One cell run over a sequence, in one direction or in both.

    .. math:: y_t = [\overrightarrow{h}_t; \overleftarrow{h}_t]

    Args:
      kind: The cell, see `RecurrentCell`.
      input_dim: Width of the inputs.
      hidden_dim: Width of each direction's carry.
      bidirectional: Run a second cell from each row's last step to its first, and concatenate the outputs.
      dtype: Of the matrix products, see `RecurrentCell`.
      implementation: See :func:`~transformer_jax.functional.recurrent.run_cells`.
      rngs: Source of the initial parameters.

    Example:
      >>> layer = RecurrentLayer("gru", 3, 4, bidirectional=True, rngs=nnx.Rngs(0))
      >>> outputs, (forward, backward) = layer(jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2]))
      >>> outputs.shape, backward.shape
      ((2, 5, 8), (2, 4))

    Source: Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093.
    """

    def __init__(
        self,
        kind: CellKind,
        input_dim: int,
        hidden_dim: int,
        *,
        bidirectional: bool,
        dtype: ComputeDtype = "float32",
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_recurrence_implementation("implementation", implementation)
        self.implementation = implementation
        self.bidirectional = bidirectional
        self.output_dim = hidden_dim * (2 if bidirectional else 1)
        self.forward_cell = RecurrentCell(kind, input_dim, hidden_dim, dtype=dtype, rngs=rngs)
        if bidirectional:
            self.backward_cell = RecurrentCell(kind, input_dim, hidden_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        *,
        lengths: Int[Array, "batch"] | None = None,
        segments: Int[Array, "batch time"] | None = None,
        initial_carry: Carry | None = None,
        implementation: str | None = None,
    ) -> tuple[Float[Array, "batch time hidden"], Carry]:
        """Outputs, and the carry after each row's last step.

        Args:
          inputs: Sequences, padded at the end.
          lengths: Steps of each row; all when ``None``.
          segments: A number for each step: where it changes, the carry starts again from zeros.
          initial_carry: As returned: one carry, or ``(forward, backward)`` when bidirectional.
          implementation: Instead of the layer's own.

        Returns:
          Outputs (zeros past the length) and the final carry.
        """
        options: dict[str, Any] = {
            "lengths": lengths,
            "segments": segments,
            "implementation": self.implementation if implementation is None else implementation,
        }
        if not self.bidirectional:
            return recurrence(self.forward_cell.cell(), inputs, initial_carry=initial_carry, **options)
        forward, backward = (None, None) if initial_carry is None else initial_carry
        ahead, forward = recurrence(self.forward_cell.cell(), inputs, initial_carry=forward, **options)
        options["reverse"] = True
        back, backward = recurrence(self.backward_cell.cell(), inputs, initial_carry=backward, **options)
        return jnp.concatenate([ahead, back], axis=-1), (forward, backward)

    def initial_carry(self, batch: int) -> Carry:
        """Zeros, built like the carry that a call returns."""
        forward = self.forward_cell.cell().initial_carry(batch)
        return (forward, self.backward_cell.cell().initial_carry(batch)) if self.bidirectional else forward


class RecurrentStack(nnx.Module):
    """Recurrent layers on top of each other.

    Args:
      kind: The cell of every layer, see `RecurrentCell`.
      input_dim: Width of the inputs.
      hidden_dim: Width of each direction's carry.
      num_layers: Number of layers.
      bidirectional: Both directions in every layer.
      dropout_rate: Dropout on the input of every layer but the first (Zaremba et al. 2014).
      residual: Add the input of every layer but the first to its output (Wu et al. 2016, section 3.1).
      dtype: Of the matrix products and of what goes from layer to layer, see `RecurrentCell`.
      implementation: See :func:`~transformer_jax.functional.recurrent.run_cells`; of whole sequences, not of `step`.
      normalization: Of what goes from layer to layer, ``"layer"`` or ``"rms"``; the cells' insides are left alone.
      norm_placement: ``"post"``: ``norm(f(x))``, with ``residual`` ``norm(f(x) + x)``, of every layer; ``"pre"``:
        ``f(norm(x))``, with ``residual`` ``f(norm(x)) + x``, of every layer but the first.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If there is no layer, the rate is not in [0, 1), or a name is unknown.

    Example:
      >>> stack = RecurrentStack(
      ...   "lstm", 3, 4, 2, bidirectional=False, dropout_rate=0.1, residual=True, rngs=nnx.Rngs(0)
      ... )
      >>> outputs, carries = stack(jnp.ones((2, 5, 3)))
      >>> outputs.shape, len(carries)
      ((2, 5, 4), 2)
    """

    def __init__(
        self,
        kind: CellKind,
        input_dim: int,
        hidden_dim: int,
        num_layers: int,
        *,
        bidirectional: bool,
        dropout_rate: float,
        residual: bool,
        dtype: ComputeDtype = "float32",
        implementation: str | None = None,
        normalization: RecurrentNormalization = "none",
        norm_placement: RecurrentNormPlacement = "post",
        rngs: nnx.Rngs,
    ):
        if num_layers < 1:
            raise ConfigError(f"num_layers must be at least 1; got {num_layers}")
        check_rate("dropout_rate", dropout_rate)
        check_recurrent_norm(normalization, norm_placement)
        self.remat: Remat = "nothing"
        self.dropout_rate = dropout_rate
        self.residual = residual
        self.bidirectional = bidirectional
        self.output_dim = hidden_dim * (2 if bidirectional else 1)
        widths = [input_dim] + [self.output_dim] * (num_layers - 1)
        self.layers = nnx.List(
            [
                RecurrentLayer(
                    kind,
                    width,
                    hidden_dim,
                    bidirectional=bidirectional,
                    dtype=dtype,
                    implementation=implementation,
                    rngs=rngs,
                )
                for width in widths
            ]
        )
        self.is_post = norm_placement == "post"
        num_norms = num_layers if self.is_post else num_layers - 1
        norms = [make_norm(normalization, self.output_dim, epsilon=1e-5) for _ in range(num_norms)]
        self.norms = None if normalization == "none" else nnx.List(norms)

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        *,
        lengths: Int[Array, "batch"] | None = None,
        segments: Int[Array, "batch time"] | None = None,
        initial_carry: tuple[Any, ...] | None = None,
        rng_key: jax.Array | None = None,
        implementation: str | None = None,
    ) -> tuple[Float[Array, "batch time hidden"], tuple[Any, ...]]:
        """Outputs of the last layer, and the final carry of every layer.

        Args:
          inputs: Sequences, padded at the end.
          lengths: Steps of each row; all when ``None``.
          segments: A number for each step: where it changes, the carries start again from zeros.
          initial_carry: One carry a layer, as returned; zeros when ``None``.
          rng_key: For dropout; ``None`` = no dropout.
          implementation: Instead of the layers' own.

        Returns:
          Outputs (zeros past the length) and a tuple of final carries, first layer first.
        """
        carries = []
        keys = split_key(rng_key, len(self.layers))
        starts = [None] * len(self.layers) if initial_carry is None else initial_carry
        for index, (layer, start) in enumerate(zip(self.layers, starts, strict=True)):
            dropped = inputs
            if index > 0:
                dropped = dropout(self._entering(index, inputs), self.dropout_rate, keys[index])
            run = functools.partial(
                layer,
                lengths=lengths,
                segments=segments,
                initial_carry=start,
                implementation=implementation,
            )
            outputs, carry = remat(run, self.remat)(dropped)
            inputs = outputs + inputs if self.residual and index > 0 else outputs
            inputs = self._left(index, inputs, lengths)
            carries.append(carry)
        return inputs, tuple(carries)

    def initial_carry(self, batch: int) -> tuple[Any, ...]:
        """Zeros, one carry a layer."""
        return tuple(layer.initial_carry(batch) for layer in self.layers)

    def step(
        self,
        carries: tuple[Any, ...],
        inputs: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[tuple[Any, ...], Float[Array, "batch hidden"]]:
        """One step in time through all layers.

        Args:
          carries: One carry a layer.
          inputs: The step's inputs.
          rng_key: For dropout; ``None`` = no dropout.

        Returns:
          The new carries (float32) and the output of the last layer, in the dtype of the inputs.

        Raises:
          ShapeError: If the stack is bidirectional.
        """
        carries, output = self.step_projected(carries, self.first_cell().project(inputs), rng_key=rng_key)
        return carries, output.astype(inputs.dtype)

    def first_cell(self) -> GatedCell:
        """The first layer's cell; its ``project`` is what depends on the inputs alone.

        Raises:
          ShapeError: If the stack is bidirectional.
        """
        if self.bidirectional:
            raise ShapeError("a bidirectional stack has no steps: call it on the whole sequence")
        return self.layers[0].forward_cell.cell()

    def step_projected(
        self,
        carries: tuple[Any, ...],
        projected: Float[Array, "batch gates"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[tuple[Any, ...], Float[Array, "batch hidden"]]:
        """One step from the projected inputs, to which a context's share may have been added.

        Args:
          carries: One carry a layer.
          projected: The inputs' share of the first layer's gates.
          rng_key: For dropout; ``None`` = no dropout.

        Returns:
          The new carries and the output of the last layer, float32.
        """
        keys = split_key(rng_key, len(self.layers))
        carry, outputs = self.first_cell().step(carries[0], projected)
        outputs = self._left(0, outputs)
        new_carries = [carry]
        for index, (layer, carry) in enumerate(zip(self.layers[1:], carries[1:], strict=True), 1):
            cell = layer.forward_cell.cell()
            inputs = dropout(self._entering(index, outputs), self.dropout_rate, keys[index])
            new_carry, new = cell.step(carry, cell.project(inputs.astype(cell.input_weight.dtype)))
            outputs = self._left(index, new + outputs if self.residual else new)
            new_carries.append(new_carry)
        return tuple(new_carries), outputs

    def _entering(self, index: int, x: Array) -> Array:
        """What a layer after the first reads: normalised for pre-norm."""
        return x if self.norms is None or self.is_post else normalized(self.norms[index - 1], x)

    def _left(self, index: int, x: Array, lengths: Array | None = None) -> Array:
        """What a layer hands on: normalised for post-norm, with zeros past the length."""
        if self.norms is None or not self.is_post:
            return x
        x = normalized(self.norms[index], x)
        if lengths is None:
            return x
        valid = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :, None] < lengths[:, None, None]
        return jnp.where(valid, x, jnp.zeros_like(x))


def check_recurrent_norm(normalization: str, norm_placement: str, *, num_layers: int | None = None) -> None:
    """Raise ``ConfigError`` unless a recurrent stack's norm is known and normalises something.

    Args:
      normalization: ``"none"``, ``"layer"`` or ``"rms"``.
      norm_placement: ``"post"`` or ``"pre"``.
      num_layers: Of the deepest stack; ``None`` = not checked.
    """
    check_choice("normalization", normalization, get_args(RecurrentNormalization))
    check_choice("norm_placement", norm_placement, get_args(RecurrentNormPlacement))
    if num_layers == 1 and normalization != "none" and norm_placement == "pre":
        raise ConfigError(
            "norm_placement 'pre' normalises the input of every layer but the first, and there is one layer: use "
            "'post', or more layers"
        )


def carry_hidden(carry: Carry) -> Float[Array, "batch hidden"]:
    """The hidden state of a carry, its first part: ``h`` of ``h`` or of ``(h, c)``."""
    return carry[0] if isinstance(carry, tuple) else carry


def joined_carry(carry: Carry, *, bidirectional: bool) -> Carry:
    """The carry of a layer with both directions side by side: leaves ``[batch, output_dim]``."""
    if not bidirectional:
        return carry
    return jax.tree.map(lambda ahead, back: jnp.concatenate([ahead, back], axis=-1), *carry)


class CarryBridge(nnx.Module):
    r"""Start a decoder's carries from an encoder's final carries of another shape.

    .. math:: d_l = \tanh(W_l [\overrightarrow{h}_{e(l)}; \overleftarrow{h}_{e(l)}] + b_l)

    Decoder layer ``l`` takes encoder layer ``e(l) = l`` where both have as many layers, else the last one. Each
    part of a carry, such as an LSTM's memory, has a map of its own.

    Args:
      kind: The cell of both sides.
      encoder_dim: Width of the encoder's outputs.
      hidden_dim: Width of the decoder's carries.
      num_encoder_layers: Layers of the encoder.
      num_decoder_layers: Layers of the decoder.
      bidirectional: Whether the encoder has both directions.
      rngs: Source of the initial parameters.

    Example:
      >>> bridge = CarryBridge("gru", 8, 3, 1, 2, bidirectional=True, rngs=nnx.Rngs(0))
      >>> [carry.shape for carry in bridge(((jnp.ones((2, 4)), jnp.ones((2, 4))),))]
      [(2, 3), (2, 3)]

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.2.2 (there from the backward
    state alone).
    """

    def __init__(
        self,
        kind: CellKind,
        encoder_dim: int,
        hidden_dim: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        *,
        bidirectional: bool,
        rngs: nnx.Rngs,
    ):
        self.bidirectional = bidirectional
        same = num_encoder_layers == num_decoder_layers
        self.sources = tuple(layer if same else num_encoder_layers - 1 for layer in range(num_decoder_layers))
        num_maps = num_decoder_layers * len(cell_class(kind).carry_names)
        self.maps = nnx.List(
            [Linear(encoder_dim, (hidden_dim,), use_bias=True, rngs=rngs) for _ in range(num_maps)]
        )

    def __call__(self, carries: tuple[Any, ...]) -> tuple[Any, ...]:
        """One carry a decoder layer."""
        chosen = tuple(
            joined_carry(carries[source], bidirectional=self.bidirectional) for source in self.sources
        )
        leaves, structure = jax.tree.flatten(chosen)
        mapped = [jnp.tanh(apply(leaf)) for apply, leaf in zip(self.maps, leaves, strict=True)]
        return jax.tree.unflatten(structure, mapped)
