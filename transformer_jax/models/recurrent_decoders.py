"""The decoders of the recurrent encoder-decoders: last state, Bahdanau, Luong.

Each reads embedded target tokens in two ways that agree: ``run`` on a whole sentence (training), where all
that does not depend on the loop is done before or after it, and ``step`` on one token (search).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.recurrent import Cell
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.nn.combining import CombineQueryContext, MaxoutReadout
from transformer_jax.nn.local_attention import LocalAttention
from transformer_jax.nn.recurrent import RecurrentStack, carry_hidden, joined_carry
from transformer_jax.nn.score_attention import AdditiveScore, ScoreAttention, ScoreMemory
from transformer_jax.pytree import pytree_dataclass, replace
from transformer_jax.typing import Array, Float, Int

_FORGET_FROM = 256
"""Source tokens from which on a loop over target tokens does not keep what its attention computed."""


@pytree_dataclass
class RecurrentState:
    """Everything a recurrent decoder remembers; the batch is axis 0 of every leaf.

    Attributes:
      carries: One carry a layer.
      source_lengths: Tokens of each source.
      memory: The source as attention asks it, prepared once; ``None`` without attention.
      fed: What is fed to the next step beside the token: the constant context of Cho et al., the last
        attentional vector of Luong et al., or ``None``.
      steps: Target tokens read so far, for local attention; ``None`` where nobody asks.
    """

    carries: Any
    source_lengths: Int[Array, "batch"]
    memory: ScoreMemory | None
    fed: Float[Array, "batch features"] | None
    steps: Int[Array, "batch"] | None = None

    def mask(self) -> AttentionMask:
        """Which source positions exist."""
        assert self.memory is not None
        return AttentionMask.from_lengths(self.source_lengths, self.memory.value.shape[1])


class LastStateDecoder(nnx.Module):
    r"""A decoder that starts from the encoder's last state ``c``, and may see it at each step.

    .. math:: h_t = f(h_{t-1}, [y_{t-1}; c]), \quad o_t = \mathrm{maxout}(h_t, y_{t-1}, c)

    Without ``feed_each_step``: :math:`h_t = f(h_{t-1}, y_{t-1})` and :math:`o_t = h_t`.

    Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, section 2; Cho et al. 2014,
    https://arxiv.org/abs/1406.1078, section 2.2.
    """

    def __init__(self, config: RecurrentSeq2SeqConfig, *, rngs: nnx.Rngs):
        assert isinstance(config.attention, LastState)
        self.feed_each_step = config.attention.feed_each_step
        self.bidirectional = config.bidirectional
        context_dim = config.encoder_dim if self.feed_each_step else 0
        self.stack = decoder_stack(config, context_dim, rngs=rngs)
        if self.feed_each_step:
            self.readout = MaxoutReadout(
                config.hidden_dim, config.embedding_dim, context_dim, config.readout_dim, rngs=rngs
            )

    def initial_state(
        self,
        encoded: Float[Array, "batch kv_len features"],
        encoder_carries: tuple[Any, ...],
        carries: tuple[Any, ...],
        source_lengths: Int[Array, "batch"],
    ) -> RecurrentState:
        """State before the first token; ``carries`` are the decoder's own, ready to start."""
        last = joined_carry(encoder_carries[-1], bidirectional=self.bidirectional)
        context = carry_hidden(last) if self.feed_each_step else None
        return RecurrentState(carries, source_lengths, None, context)

    def run(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch time hidden"]:
        """Readouts of all steps: one recurrence."""
        if state.fed is None:
            return self.stack(embedded, initial_carry=state.carries, rng_key=rng_key)[0]
        context = jnp.broadcast_to(state.fed[:, None, :], (*embedded.shape[:2], state.fed.shape[-1]))
        inputs = jnp.concatenate([embedded, context], axis=-1)
        outputs, _ = self.stack(inputs, initial_carry=state.carries, rng_key=rng_key)
        return self.readout(outputs, embedded, context)

    def step(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch hidden"], RecurrentState]:
        """Readout of one step, and the state after it."""
        inputs = embedded if state.fed is None else jnp.concatenate([embedded, state.fed], axis=-1)
        carries, output = self.stack.step(state.carries, inputs, rng_key=rng_key)
        if state.fed is not None:
            output = self.readout(output, embedded, state.fed)
        return output, replace(state, carries=carries)

    def attention_weights(
        self, state: RecurrentState, embedded: Float[Array, "batch time features"]
    ) -> Float[Array, "batch 1 time kv_len"] | None:
        """There is no attention."""
        return None


class BahdanauDecoder(nnx.Module):
    r"""A decoder that asks the source with its previous state, then steps with what it found.

    .. math:: c_t = \mathrm{attend}(h_{t-1}), \quad h_t = f(h_{t-1}, [y_{t-1}; c_t]), \quad
      o_t = \mathrm{maxout}(h_t, y_{t-1}, c_t)

    With several layers the last one asks and the first one is told.

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, section 3.1 and appendix A.2.2.
    """

    def __init__(self, config: RecurrentSeq2SeqConfig, *, rngs: nnx.Rngs):
        assert isinstance(config.attention, Bahdanau)
        self.stack = decoder_stack(config, config.encoder_dim, rngs=rngs)
        rule = AdditiveScore(attention_dim=config.attention.attention_dim)
        self.attend = ScoreAttention(rule, config.hidden_dim, config.encoder_dim, rngs=rngs)
        self.readout = MaxoutReadout(
            config.hidden_dim, config.embedding_dim, config.encoder_dim, config.readout_dim, rngs=rngs
        )

    def initial_state(
        self,
        encoded: Float[Array, "batch kv_len features"],
        encoder_carries: tuple[Any, ...],
        carries: tuple[Any, ...],
        source_lengths: Int[Array, "batch"],
    ) -> RecurrentState:
        """State before the first token; ``carries`` are the decoder's own, ready to start."""
        return RecurrentState(carries, source_lengths, self.attend.prepare(encoded), None)

    def run(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch time hidden"]:
        """Readouts of all steps: the loop holds the recurrence and the attention, nothing else."""
        _, outputs, contexts = self._run(state, embedded, rng_key=rng_key)
        return self.readout(outputs, embedded, contexts)

    def step(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch hidden"], RecurrentState]:
        """Readout of one step, and the state after it."""
        context = self._ask(state, carry_hidden(state.carries[-1]))
        inputs = jnp.concatenate([embedded, context], axis=-1)
        carries, output = self.stack.step(state.carries, inputs, rng_key=rng_key)
        return self.readout(output, embedded, context), replace(state, carries=carries)

    def attention_weights(
        self, state: RecurrentState, embedded: Float[Array, "batch time features"]
    ) -> Float[Array, "batch 1 time kv_len"] | None:
        """Where each step looked."""
        queries, _, _ = self._run(state, embedded, keep_queries=True)
        assert state.memory is not None
        assert queries is not None
        return self.attend.with_weights(queries, state.memory, state.mask())[1]

    def _ask(self, state: RecurrentState, query: Array) -> Array:
        assert state.memory is not None
        return self.attend(query[:, None, :], state.memory, state.mask())[:, 0, :]

    def _run(
        self,
        state: RecurrentState,
        embedded: Array,
        *,
        rng_key: jax.Array | None = None,
        keep_queries: bool = False,
    ) -> tuple[Array | None, Array, Array]:
        cell, context_weight = split_inputs(self.stack.first_cell(), embedded.shape[-1])
        projected = cell.project(embedded.swapaxes(0, 1))  # [time, batch, gates]
        ask = forgetting(self._ask, state)

        def body(carries: Any, at_time: tuple[Array, Any]) -> tuple[Any, Any]:
            query = carry_hidden(carries[-1])
            context = ask(state, query)
            gates = at_time[0] + context @ context_weight
            carries, output = self.stack.step_projected(carries, gates, rng_key=at_time[1])
            return carries, (query if keep_queries else None, output, context)

        emitted = lax.scan(body, state.carries, (projected, step_keys(rng_key, self.stack, projected)))[1]
        return jax.tree.map(lambda array: array.swapaxes(0, 1), emitted)


class LuongDecoder(nnx.Module):
    r"""A decoder that steps, then asks the source with its new state.

    .. math:: h_t = f(h_{t-1}, [y_{t-1}; \tilde h_{t-1}]), \quad c_t = \mathrm{attend}(h_t), \quad
      o_t = \tilde h_t = \tanh(W_c [h_t; c_t])

    Without input feeding nothing flows back from the attention, and the whole sentence is one recurrence
    and one attention. Global, or local by ``config.attention.local``.

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, sections 3.1 to 3.3.
    """

    def __init__(self, config: RecurrentSeq2SeqConfig, *, rngs: nnx.Rngs):
        assert isinstance(config.attention, Luong)
        self.hidden_dim = config.hidden_dim
        self.input_feeding = config.attention.input_feeding
        self.stack = decoder_stack(config, config.hidden_dim if self.input_feeding else 0, rngs=rngs)
        rule, reach = config.attention.rule(config.hidden_dim), config.attention.local
        self.attend: ScoreAttention | LocalAttention
        if reach is None:
            self.attend = ScoreAttention(rule, config.hidden_dim, config.encoder_dim, rngs=rngs)
        else:
            self.attend = LocalAttention(rule, reach, config.hidden_dim, config.encoder_dim, rngs=rngs)
        self.combine = CombineQueryContext(
            config.hidden_dim, config.encoder_dim, config.hidden_dim, use_bias=False, rngs=rngs
        )

    def initial_state(
        self,
        encoded: Float[Array, "batch kv_len features"],
        encoder_carries: tuple[Any, ...],
        carries: tuple[Any, ...],
        source_lengths: Int[Array, "batch"],
    ) -> RecurrentState:
        """State before the first token; ``carries`` are the decoder's own, ready to start."""
        fed = jnp.zeros((encoded.shape[0], self.hidden_dim)) if self.input_feeding else None
        steps = jnp.zeros_like(source_lengths) if isinstance(self.attend, LocalAttention) else None
        return RecurrentState(carries, source_lengths, self.attend.prepare(encoded), fed, steps)

    def run(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch time hidden"]:
        """Attentional vectors of all steps."""
        if self.input_feeding:
            return self._run(state, embedded, rng_key=rng_key)[0]
        outputs, _ = self.stack(embedded, initial_carry=state.carries, rng_key=rng_key)
        return self._attentional(state, outputs, jnp.arange(outputs.shape[1]))

    def step(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch hidden"], RecurrentState]:
        """Attentional vector of one step, and the state after it."""
        inputs = embedded if state.fed is None else jnp.concatenate([embedded, state.fed], axis=-1)
        carries, output = self.stack.step(state.carries, inputs, rng_key=rng_key)
        attentional = self._attentional(state, output[:, None, :], jnp.arange(1))[:, 0, :]
        fed = attentional if self.input_feeding else None
        steps = None if state.steps is None else state.steps + 1
        return attentional, replace(state, carries=carries, fed=fed, steps=steps)

    def attention_weights(
        self, state: RecurrentState, embedded: Float[Array, "batch time features"]
    ) -> Float[Array, "batch 1 time kv_len"] | None:
        """Where each step looked."""
        if self.input_feeding:
            queries = self._run(state, embedded, keep_queries=True)[1]
        else:
            queries = self.stack(embedded, initial_carry=state.carries)[0]
        assert state.memory is not None
        assert queries is not None
        if isinstance(self.attend, LocalAttention):
            steps = _at(state, jnp.arange(queries.shape[1]))
            return self.attend.with_weights(queries, state.memory, state.source_lengths, steps)[1]
        return self.attend.with_weights(queries, state.memory, state.mask())[1]

    def _attentional(self, state: RecurrentState, outputs: Array, ahead: Array) -> Array:
        """Attentional vectors of outputs that come ``ahead`` steps after the state, ``[q_len]``."""
        assert state.memory is not None
        if isinstance(self.attend, LocalAttention):
            context = self.attend(outputs, state.memory, state.source_lengths, _at(state, ahead))
        else:
            context = self.attend(outputs, state.memory, state.mask())
        return jnp.tanh(self.combine(outputs, context))

    def _run(
        self,
        state: RecurrentState,
        embedded: Array,
        *,
        rng_key: jax.Array | None = None,
        keep_queries: bool = False,
    ) -> tuple[Array, Array | None]:
        cell, feed_weight = split_inputs(self.stack.first_cell(), embedded.shape[-1])
        projected = cell.project(embedded.swapaxes(0, 1))  # [time, batch, gates]
        attentional = forgetting(self._attentional, state)

        def body(carry: tuple[Any, Any], at_time: tuple[Array, Any, Array]) -> tuple[Any, Any]:
            carries, fed = carry
            gates = at_time[0] + fed @ feed_weight
            carries, output = self.stack.step_projected(carries, gates, rng_key=at_time[1])
            fed = attentional(state, output[:, None, :], at_time[2][None])[:, 0, :]
            return (carries, fed), (fed, output if keep_queries else None)

        keys = step_keys(rng_key, self.stack, projected)
        inputs = (projected, keys, jnp.arange(projected.shape[0]))
        emitted = lax.scan(body, (state.carries, state.fed), inputs)[1]
        return jax.tree.map(lambda array: array.swapaxes(0, 1), emitted)


RecurrentDecoder = LastStateDecoder | BahdanauDecoder | LuongDecoder


def _at(state: RecurrentState, ahead: Int[Array, "q_len"]) -> Int[Array, "batch q_len"]:
    """Which steps come ``ahead`` of those that the state has done."""
    assert state.steps is not None
    return state.steps[:, None] + ahead[None, :].astype(state.steps.dtype)


def decoder_stack(config: RecurrentSeq2SeqConfig, fed_dim: int, *, rngs: nnx.Rngs) -> RecurrentStack:
    """The decoder's layers; the first one reads ``[token; what is fed]``."""
    return RecurrentStack(
        config.cell,
        config.embedding_dim + fed_dim,
        config.hidden_dim,
        config.num_decoder_layers,
        bidirectional=False,
        dropout_rate=config.dropout_rate,
        residual=config.residual,
        rngs=rngs,
    )


def split_inputs(cell: Any, width: int) -> tuple[Cell, Float[Array, "features gates"]]:
    """The cell for the first ``width`` inputs, and the weight of the other inputs.

    What is known before the loop is projected before it; only the fed part is left inside.
    """
    weight = cell.input_weight
    return replace(cell, input_weight=weight[:width]), weight[width:]


def forgetting(attend: Callable[..., Array], state: RecurrentState) -> Callable[..., Array]:
    """``attend``, done again in the backward pass where keeping every step's weights would be quadratic in memory."""
    assert state.memory is not None
    return jax.checkpoint(attend) if state.memory.value.shape[1] >= _FORGET_FROM else attend


def step_keys(rng_key: jax.Array | None, stack: RecurrentStack, projected: Array) -> jax.Array | None:
    """One key a step, or ``None`` where the stack drops nothing between its layers."""
    if rng_key is None or stack.dropout_rate == 0.0 or len(stack.layers) == 1:
        return None
    return jax.random.split(rng_key, projected.shape[0])
