"""Recurrent language models: embeddings, a stack of any cell, and a readout, with state carried over windows."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from transformer_jax.bounds import Layers, Width, check_bounds
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import dropout, split_key
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype, in_compute_dtype
from transformer_jax.functional.recurrent import cell_class, check_recurrence_implementation
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.parameters import CarriedState
from transformer_jax.nn.recurrent import (
    RecurrentNormalization,
    RecurrentNormPlacement,
    RecurrentStack,
    check_recurrent_norm,
)
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["RecurrentLM", "RecurrentLMConfig", "RecurrentLMState"]

_Tokens = Int[Array, "batch len"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentLMConfig:
    """A recurrent language model.

    Attributes:
      kind: Tag of the union of model configs.
      cell: The cell of all layers, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      embedding_dim: Width of the token embeddings.
      hidden_dim: Width of a cell's state.
      num_layers: Layers.
      dropout_rate: On embeddings, between layers, and on the states before the output projection.
      tied: Whether the token embedding is the output projection too; ``embedding_dim`` must be ``hidden_dim`` then.
      residual: Add the input of every layer but the first to its output.
      dtype: Of matrix products and activations; parameters, gates, carries and softmax are float32.
      recurrence_implementation: Of layers that run over whole sequences, see
        :func:`~transformer_jax.functional.recurrent.recurrence`; ``None`` = the first that can.
      normalization: Of what goes from layer to layer, ``"layer"`` or ``"rms"``; ``"none"`` = as it is.
      norm_placement: ``"post"``: of each layer's output, after ``residual`` was added; ``"pre"``: of the input of every
        layer but the first.

    Raises:
      ConfigError: If a size, a rate or a combination is out of range.

    Example:
      >>> RecurrentLMConfig(cell="lstm", embedding_dim=4, hidden_dim=6, num_layers=1).context_len is None
      True
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size",)

    kind: Literal["recurrent_lm"] = "recurrent_lm"
    cell: str
    embedding_dim: Width
    hidden_dim: Width
    num_layers: Layers
    dropout_rate: float = 0.0
    tied: bool = False
    residual: bool = False
    dtype: ComputeDtype = "float32"
    recurrence_implementation: str | None = None
    normalization: RecurrentNormalization = "none"
    norm_placement: RecurrentNormPlacement = "post"

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("embedding_dim", "hidden_dim", "num_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        cell_class(self.cell)
        check_rate("dropout_rate", self.dropout_rate)
        check_compute_dtype("dtype", self.dtype)
        check_recurrence_implementation("recurrence_implementation", self.recurrence_implementation)
        check_recurrent_norm(self.normalization, self.norm_placement, num_layers=self.num_layers)
        if self.tied and self.embedding_dim != self.hidden_dim:
            raise ConfigError(
                f"tied needs embedding_dim and hidden_dim to be equal, got {self.embedding_dim} and {self.hidden_dim}"
            )

    @property
    def context_len(self) -> int | None:
        """None: a recurrent model reads texts of any length."""
        return None

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "RecurrentLM":
        """The model for these sizes."""
        return RecurrentLM(
            self, vocab_size=sizes.need("vocab_size"), carried_rows=sizes.carried_rows, rngs=rngs
        )


@pytree_dataclass
class RecurrentLMState:
    """Decoding state: the batch is axis 0 of every leaf.

    Attributes:
      carries: One carry a layer.
    """

    carries: tuple[Any, ...]


class RecurrentLM(nnx.Module):
    r"""Recurrent layers over one text.

    .. math:: p(x) = \prod_t \mathrm{softmax}(E' h_t + b)_{x_{t+1}}, \quad h_t = \mathrm{stack}(h_{t-1}, E_{x_t})

    With ``carried_rows`` the model remembers, in variables of type `CarriedState`, where each row of the last training
    batch ended, so that a long text may be read window by window: the values of the forward pass are those of one long
    pass, gradients end at the window's first token (truncated backpropagation through time).

    Args:
      config: Sizes and choices.
      vocab_size: Tokens of the vocabulary.
      carried_rows: Rows of a training batch whose state is carried to the next; ``None`` = nothing is carried.
      rngs: Source of the initial parameters.

    Example:
      >>> config = RecurrentLMConfig(cell="gru", embedding_dim=4, hidden_dim=6, num_layers=1)
      >>> model = RecurrentLM(config, vocab_size=7, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int)).shape
      (2, 5, 7)

    Source: Mikolov et al. 2010, https://doi.org/10.21437/Interspeech.2010-343; dropout: Zaremba et al. 2014,
    https://arxiv.org/abs/1409.2329.
    """

    def __init__(
        self,
        config: RecurrentLMConfig,
        *,
        vocab_size: int,
        carried_rows: int | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.config = config
        # Unit variance, as the Glorot-uniform weights expect.
        self.embedding = Embedding(
            vocab_size,
            config.embedding_dim,
            padding_id=None,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.stack = RecurrentStack(
            config.cell,
            config.embedding_dim,
            config.hidden_dim,
            config.num_layers,
            bidirectional=False,
            dropout_rate=config.dropout_rate,
            residual=config.residual,
            dtype=config.dtype,
            implementation=config.recurrence_implementation,
            normalization=config.normalization,
            norm_placement=config.norm_placement,
            rngs=rngs,
        )
        self.output_embedding = (
            None
            if config.tied
            else Embedding(
                vocab_size, config.hidden_dim, padding_id=None, scale="none", dtype=config.dtype, rngs=rngs
            )
        )
        self.output_bias = nnx.Param(jnp.zeros(vocab_size, jnp.float32))
        self.carried_rows = carried_rows
        if carried_rows is not None:
            leaves = jax.tree.leaves(self.stack.initial_carry(carried_rows))
            self.carried = nnx.List([CarriedState(leaf) for leaf in leaves])

    def __call__(
        self,
        tokens: _Tokens,
        *,
        segments: _Tokens | None = None,
        restarts: Int[Array, " batch"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch len vocab"]:
        """Logits of the next token after each token.

        Args:
          tokens: ``[batch, len]``. Ids of the vocabulary, padding too: another id gives NaN logits from there on.
          segments: Where a row holds several documents, the number of each token's document and 0 at padding; the
            state starts again where the number changes. ``None`` = one text a row.
          restarts: Given to a model with carried state, reads and updates that state: 0 continues where the row's last
            window ended, 1 starts from nothing. ``None`` starts all rows from nothing and leaves the state alone.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, len, vocab]``, float32.

        Raises:
          ConfigError: If ``restarts`` is given and no state is carried.
          ShapeError: If the batch has another number of rows than the carried state.
        """
        return self._logits(self.hidden(tokens, segments=segments, restarts=restarts, rng_key=rng_key))

    def hidden(
        self,
        tokens: _Tokens,
        *,
        segments: _Tokens | None = None,
        restarts: Int[Array, " batch"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch len model"]:
        """As a call, but before the output projection."""
        tokens = jnp.asarray(tokens)
        embedding_key, stack_key, readout_key = split_key(rng_key, 3)
        valid = None if segments is None else jnp.asarray(segments) > 0
        embedded = self._dropped(self.embedding(tokens, valid=valid), embedding_key)
        initial_carry = (
            None if restarts is None else self._read_carried(jnp.asarray(restarts), tokens.shape[0])
        )
        outputs, carries = self.stack(
            embedded,
            segments=None if segments is None else jnp.asarray(segments),
            initial_carry=initial_carry,
            rng_key=stack_key,
        )
        if restarts is not None:
            for variable, leaf in zip(self.carried, jax.tree.leaves(carries), strict=True):
                variable[...] = jax.lax.stop_gradient(leaf).astype(variable.dtype)
        return self._dropped(outputs, readout_key)

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, " vocab"]]:
        """``(E', b)`` with ``logits = hidden @ E'.T + b``."""
        return in_compute_dtype(self._output().table(), self.config.dtype), self.output_bias[...]

    def start(self, inputs: TokenInputs, *, max_len: int) -> RecurrentLMState:
        """Read the prompts; the state's size does not depend on ``max_len``.

        Args:
          inputs: Tokens ``[batch, prompt_len]``, and how many of them each row has; none is allowed.
          max_len: Not needed: the model has no end.

        Returns:
          The state after the prompts.
        """
        del max_len
        tokens, lengths = jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths)
        state = RecurrentLMState(self.stack.initial_carry(tokens.shape[0]))
        return state if tokens.shape[1] == 0 else self._after(state, tokens, lengths)[1]

    def step(
        self, state: RecurrentLMState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], RecurrentLMState]:
        """Feed one token a row; logits of the next one, and the state after."""
        carries, hidden = self.stack.step(state.carries, self.embedding(jnp.asarray(tokens)))
        return self._logits(hidden), RecurrentLMState(carries)

    def extend(
        self,
        state: RecurrentLMState,
        tokens: Int[Array, "batch q_len"],
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len vocab"], RecurrentLMState]:
        """Feed several tokens a row at once.

        Args:
          state: The state before.
          tokens: The next tokens, ``[batch, q_len]``.
          num_valid: How many of them count for each row; ``None`` = all.

        Returns:
          Logits after each token, ``[batch, q_len, vocab]``, and the state after.
        """
        hidden, state = self._after(state, jnp.asarray(tokens), num_valid)
        return self._logits(hidden), state

    def _after(
        self, state: RecurrentLMState, tokens: Array, lengths: Array | None
    ) -> tuple[Array, RecurrentLMState]:
        valid = None
        if lengths is not None:
            valid = jnp.arange(tokens.shape[1], dtype=lengths.dtype)[None, :] < lengths[:, None]
        hidden, carries = self.stack(
            self.embedding(tokens, valid=valid), lengths=lengths, initial_carry=state.carries
        )
        return hidden, RecurrentLMState(carries)

    def _read_carried(self, restarts: Array, num_rows: int) -> tuple[Any, ...]:
        """Initial state of the rows: the carried state, or zeros where it restarts."""
        if self.carried_rows is None:
            raise ConfigError(
                "restarts need a model with carried state: build it with Sizes(carried_rows=...)"
            )
        if num_rows != self.carried_rows:
            raise ShapeError(
                f"the carried state has {self.carried_rows} rows, the batch {num_rows}: train on batches of "
                f"{self.carried_rows} rows, or leave restarts None"
            )
        goes_on = rearrange(restarts == 0, "batch -> batch 1")
        leaves = [jnp.where(goes_on, jax.lax.stop_gradient(leaf[...]), 0) for leaf in self.carried]
        return jax.tree.unflatten(jax.tree.structure(self.stack.initial_carry(1)), leaves)

    def _dropped(self, x: Array, rng_key: jax.Array | None) -> Array:
        return dropout(x, self.config.dropout_rate, rng_key)

    def _output(self) -> Embedding:
        return self.embedding if self.output_embedding is None else self.output_embedding

    def _logits(self, hidden: Array) -> Array:
        logits = self._output().attend(hidden).astype(jnp.float32)
        return logits + jnp.broadcast_to(self.output_bias[...].astype(jnp.float32), logits.shape)
