"""The decoders of the recurrent encoder-decoders: last state and Bahdanau here, Luong in ``luong_decoder``.

Each reads embedded target tokens in two ways that agree: ``run`` on a whole sentence (training), where all
that does not depend on the loop is done before or after it, and ``step`` on one token (search).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from transformer_jax.functional.recurrent.cells import recur
from transformer_jax.models.luong_decoder import LuongDecoder
from transformer_jax.models.recurrent_config import Bahdanau, LastState, RecurrentDecoderConfig
from transformer_jax.models.recurrent_loop import decoder_stack, forgetting, step_keys
from transformer_jax.models.recurrent_state import RecurrentState, SourceMemory
from transformer_jax.nn.combining import MaxoutReadout
from transformer_jax.nn.coverage_attention import CoverageAttention
from transformer_jax.nn.recurrent import carry_hidden, joined_carry
from transformer_jax.nn.score_attention import ScoreAttention
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Float, Int


class LastStateDecoder(nnx.Module):
    r"""A decoder that starts from the encoder's last state ``c``, and may see it at each step.

    .. math:: h_t = f(h_{t-1}, [y_{t-1}; c]), \quad o_t = \mathrm{maxout}(h_t, y_{t-1}, c)

    Without ``feed_each_step``: :math:`h_t = f(h_{t-1}, y_{t-1})` and :math:`o_t = h_t`.

    Source: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, section 2; Cho et al. 2014,
    https://arxiv.org/abs/1406.1078, section 2.2.
    """

    loops_over_time = True

    def __init__(self, config: RecurrentDecoderConfig, *, rngs: nnx.Rngs):
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
        context = carry_hidden(last).astype(encoded.dtype) if self.feed_each_step else None
        return RecurrentState(carries, SourceMemory(source_lengths, None, context))

    def run(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch time hidden"]:
        """Readouts of all steps: one recurrence."""
        told = state.memory.context_of(embedded.shape[0])
        if told is None:
            return self.stack(embedded, initial_carry=state.carries, rng_key=rng_key)[0]
        context = jnp.broadcast_to(told[:, None, :], (*embedded.shape[:2], told.shape[-1]))
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
        context = state.memory.context_of(embedded.shape[0])
        inputs = embedded if context is None else jnp.concatenate([embedded, context], axis=-1)
        carries, output = self.stack.step(state.carries, inputs, rng_key=rng_key)
        if context is not None:
            output = self.readout(output, embedded, context)
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

    With several layers the last one asks and the first one is told. With coverage the scores see the weights of all
    former steps, which the state sums up.

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, section 3.1 and appendix A.2.2; coverage:
    Tu et al. 2016, https://arxiv.org/abs/1601.04811.
    """

    loops_over_time = True

    def __init__(self, config: RecurrentDecoderConfig, *, rngs: nnx.Rngs):
        assert isinstance(config.attention, Bahdanau)
        self.stack = decoder_stack(config, config.encoder_dim, rngs=rngs)
        self.attend = self._attention(config, config.attention, rngs=rngs)
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
        coverage = None
        if isinstance(self.attend, CoverageAttention):
            coverage = jnp.zeros(encoded.shape[:2], jnp.float32)
        memory = SourceMemory(source_lengths, self.attend.prepare(encoded))
        return RecurrentState(carries, memory, coverage=coverage)

    def run(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch time hidden"]:
        """Readouts of all steps: the loop holds the recurrence and the attention, nothing else."""
        _, outputs, contexts, _ = self._run(state, embedded, rng_key=rng_key)
        return self.readout(outputs, embedded, contexts)

    def run_with_weights(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch time hidden"], Float[Array, "batch time kv_len"]]:
        """As :meth:`run`, and where each step looked."""
        _, outputs, contexts, weights = self._run(state, embedded, rng_key=rng_key, keep_weights=True)
        assert weights is not None
        return self.readout(outputs, embedded, contexts), weights

    def step(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch hidden"], RecurrentState]:
        """Readout of one step, and the state after it."""
        context, weights = self._ask(state, carry_hidden(state.carries[-1]))
        return self._advance(state, embedded, context, weights, rng_key)

    def step_with_attention(
        self, state: RecurrentState, embedded: Float[Array, "batch features"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch kv_len"], RecurrentState]:
        """Readout of one step, where it looked, and the state after it."""
        query = carry_hidden(state.carries[-1])
        context, weights = self._ask(state, query, with_weights=True)
        assert weights is not None
        output, state = self._advance(state, embedded, context, weights, None)
        return output, weights, state

    def attention_weights(
        self, state: RecurrentState, embedded: Float[Array, "batch time features"]
    ) -> Float[Array, "batch 1 time kv_len"] | None:
        """Where each step looked."""
        queries, _, _, weights = self._run(state, embedded, keep_queries=True)
        if weights is not None:
            return weights[:, None]
        assert queries is not None
        return self.attend.with_weights(queries, state.memory.asked(), state.memory.mask())[1]

    @staticmethod
    def _attention(
        config: RecurrentDecoderConfig, attention: Bahdanau, *, rngs: nnx.Rngs
    ) -> ScoreAttention | CoverageAttention:
        if attention.coverage_width is not None:
            return CoverageAttention(
                attention.attention_dim,
                config.hidden_dim,
                config.encoder_dim,
                coverage_width=attention.coverage_width,
                dtype=config.dtype,
                rngs=rngs,
            )
        return ScoreAttention(
            attention.rule(),
            config.hidden_dim,
            config.encoder_dim,
            dtype=config.dtype,
            implementation=config.attention_implementation,
            rngs=rngs,
        )

    def _ask(
        self, state: RecurrentState, query: Array, *, with_weights: bool = False
    ) -> tuple[Array, Array | None]:
        """The context, and the weights where they are wanted, or where the next step needs them for coverage."""
        memory, num_rows = state.memory, query.shape[0]
        by_source = memory.by_source(query[:, None, :])
        if isinstance(self.attend, CoverageAttention):
            assert state.coverage is not None
            context, weights = self.attend.covering(
                by_source, memory.asked(), memory.lengths, memory.by_source(state.coverage[:, None, :])
            )
            return memory.by_row(context, num_rows), memory.by_row(weights, num_rows)
        if with_weights:
            context, weights = self.attend.with_weights(by_source, memory.asked(), memory.mask())
            return memory.by_row(context, num_rows), memory.by_row(weights, num_rows)
        return memory.by_row(self.attend(by_source, memory.asked(), memory.mask()), num_rows), None

    def _advance(
        self,
        state: RecurrentState,
        embedded: Array,
        context: Array,
        weights: Array | None,
        rng_key: jax.Array | None,
    ) -> tuple[Array, RecurrentState]:
        inputs = jnp.concatenate([embedded, context], axis=-1)
        carries, output = self.stack.step(state.carries, inputs, rng_key=rng_key)
        coverage = _covered(state.coverage, weights)
        return self.readout(output, embedded, context), replace(state, carries=carries, coverage=coverage)

    def _run(
        self,
        state: RecurrentState,
        embedded: Array,
        *,
        rng_key: jax.Array | None = None,
        keep_queries: bool = False,
        keep_weights: bool = False,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        """Queries if they are to be kept, outputs, contexts, and weights of all steps if there are such."""
        cell, context_weight = self.stack.first_cell().split_inputs(embedded.shape[-1])
        projected = cell.project(embedded.swapaxes(0, 1))  # [time, batch, gates]
        ask = forgetting(functools.partial(self._ask, with_weights=keep_weights), state)

        def body(carry: tuple[Any, Any], at_time: tuple[Array, Any]) -> tuple[Any, Any]:
            carries, coverage = carry
            query = carry_hidden(carries[-1])
            context, weights = ask(replace(state, coverage=coverage), query)
            gates = at_time[0] + recur(context, context_weight)
            carries, output = self.stack.step_projected(carries, gates, rng_key=at_time[1])
            output = output.astype(embedded.dtype)
            keeps = keep_queries or keep_weights
            kept = (query if keep_queries else None, output, context, weights if keeps else None)
            return (carries, _covered(coverage, weights)), kept

        start = (state.carries, state.coverage)
        emitted = lax.scan(body, start, (projected, step_keys(rng_key, self.stack, projected)))[1]
        return jax.tree.map(lambda array: array.swapaxes(0, 1), emitted)


def _covered(coverage: Array | None, weights: Array | None) -> Array | None:
    """The coverage behind a step; None where there is none."""
    return None if coverage is None or weights is None else coverage + weights


RecurrentDecoder = LastStateDecoder | BahdanauDecoder | LuongDecoder
