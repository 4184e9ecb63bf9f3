"""The decoder of Luong et al.: attention after the step, global or local, with or without input feeding."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from transformer_jax.functional.recurrent.cells import recur
from transformer_jax.models.recurrent_config import Luong, RecurrentDecoderConfig
from transformer_jax.models.recurrent_loop import decoder_stack, forgetting, step_keys
from transformer_jax.models.recurrent_state import RecurrentState, SourceMemory
from transformer_jax.nn.combining import CombineQueryContext
from transformer_jax.nn.local_attention import LocalAttention
from transformer_jax.nn.score_attention import ScoreAttention
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Float, Int


class LuongDecoder(nnx.Module):
    r"""A decoder that steps, then asks the source with its new state.

    .. math:: h_t = f(h_{t-1}, [y_{t-1}; \tilde h_{t-1}]), \quad c_t = \mathrm{attend}(h_t), \quad
      o_t = \tilde h_t = \tanh(W_c [h_t; c_t])

    Without input feeding nothing flows back from the attention, and the whole sentence is one recurrence
    and one attention. Global, or local by ``config.attention.local``.

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, sections 3.1 to 3.3.
    """

    loops_over_time = True

    def __init__(self, config: RecurrentDecoderConfig, *, rngs: nnx.Rngs):
        assert isinstance(config.attention, Luong)
        self.hidden_dim = config.hidden_dim
        self.input_feeding = config.attention.input_feeding
        self.stack = decoder_stack(config, config.hidden_dim if self.input_feeding else 0, rngs=rngs)
        rule, reach = config.attention.rule(config.hidden_dim), config.attention.local
        self.attend: ScoreAttention | LocalAttention
        if reach is None:
            self.attend = ScoreAttention(
                rule,
                config.hidden_dim,
                config.encoder_dim,
                dtype=config.dtype,
                implementation=config.attention_implementation,
                rngs=rngs,
            )
        else:
            self.attend = LocalAttention(
                rule, reach, config.hidden_dim, config.encoder_dim, dtype=config.dtype, rngs=rngs
            )
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
        fed = None
        if self.input_feeding:
            fed = jnp.zeros((encoded.shape[0], self.hidden_dim), encoded.dtype)
        steps = jnp.zeros_like(source_lengths) if isinstance(self.attend, LocalAttention) else None
        return RecurrentState(carries, SourceMemory(source_lengths, self.attend.prepare(encoded)), fed, steps)

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

    def run_with_weights(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch time features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch time hidden"], Float[Array, "batch time kv_len"]]:
        """As :meth:`run`, and where each step looked; the state has a row for each source."""
        if self.input_feeding:
            attentional, queries = self._run(state, embedded, rng_key=rng_key, keep_queries=True)
            assert queries is not None
            return attentional, self._look(state, queries)[1][:, 0]
        outputs, _ = self.stack(embedded, initial_carry=state.carries, rng_key=rng_key)
        context, weights = self._look(state, outputs)
        return jnp.tanh(self.combine(outputs, context)), weights[:, 0]

    def step(
        self,
        state: RecurrentState,
        embedded: Float[Array, "batch features"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch hidden"], RecurrentState]:
        """Attentional vector of one step, and the state after it."""
        carries, output = self._output(state, embedded, rng_key)
        attentional = self._attentional(state, output[:, None, :], jnp.arange(1))[:, 0, :]
        return attentional, self._after(state, carries, attentional)

    def step_with_attention(
        self, state: RecurrentState, embedded: Float[Array, "batch features"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch kv_len"], RecurrentState]:
        """Attentional vector of one step, where it looked, and the state after it."""
        carries, output = self._output(state, embedded, None)
        context, weights = self._look(state, output[:, None, :])
        attentional = jnp.tanh(self.combine(output, state.memory.by_row(context, output.shape[0])))
        weights = state.memory.by_row(weights, output.shape[0])
        return attentional, weights, self._after(state, carries, attentional)

    def attention_weights(
        self, state: RecurrentState, embedded: Float[Array, "batch time features"]
    ) -> Float[Array, "batch 1 time kv_len"] | None:
        """Where each step looked."""
        if self.input_feeding:
            queries = self._run(state, embedded, keep_queries=True)[1]
        else:
            queries = self.stack(embedded, initial_carry=state.carries)[0]
        assert queries is not None
        return self._look(state, queries)[1]

    def _look(self, state: RecurrentState, queries: Array) -> tuple[Array, Array]:
        """Contexts and weights of queries of the steps from the state's on, all those of a source side by side."""
        memory, by_source = state.memory, state.memory.by_source(queries)
        if isinstance(self.attend, LocalAttention):
            steps = memory.by_source(state.steps_ahead(jnp.arange(queries.shape[1])))
            return self.attend.with_weights(by_source, memory.asked(), memory.lengths, steps)
        return self.attend.with_weights(by_source, memory.asked(), memory.mask())

    def _output(self, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> tuple[Any, Array]:
        """The recurrence of one step: carries and output."""
        inputs = embedded if state.fed is None else jnp.concatenate([embedded, state.fed], axis=-1)
        return self.stack.step(state.carries, inputs, rng_key=rng_key)

    def _after(self, state: RecurrentState, carries: Any, attentional: Array) -> RecurrentState:
        """The state behind a step."""
        fed = attentional if self.input_feeding else None
        steps = None if state.steps is None else state.steps + 1
        return replace(state, carries=carries, fed=fed, steps=steps)

    def _attentional(self, state: RecurrentState, outputs: Array, ahead: Array) -> Array:
        """Attentional vectors of outputs that come ``ahead`` steps after the state, ``[q_len]``."""
        memory = state.memory
        queries = memory.by_source(outputs)
        if isinstance(self.attend, LocalAttention):
            steps = memory.by_source(state.steps_ahead(ahead))
            context = self.attend(queries, memory.asked(), memory.lengths, steps)
        else:
            context = self.attend(queries, memory.asked(), memory.mask())
        return jnp.tanh(self.combine(outputs, context.reshape(*outputs.shape[:2], context.shape[-1])))

    def _run(
        self,
        state: RecurrentState,
        embedded: Array,
        *,
        rng_key: jax.Array | None = None,
        keep_queries: bool = False,
    ) -> tuple[Array, Array | None]:
        cell, feed_weight = self.stack.first_cell().split_inputs(embedded.shape[-1])
        projected = cell.project(embedded.swapaxes(0, 1))  # [time, batch, gates]
        attentional = forgetting(self._attentional, state)

        def body(carry: tuple[Any, Any], at_time: tuple[Array, Any, Array]) -> tuple[Any, Any]:
            carries, fed = carry
            gates = at_time[0] + recur(fed, feed_weight)
            carries, output = self.stack.step_projected(carries, gates, rng_key=at_time[1])
            output = output.astype(embedded.dtype)
            fed = attentional(state, output[:, None, :], at_time[2][None])[:, 0, :]
            return (carries, fed), (fed, output if keep_queries else None)

        keys = step_keys(rng_key, self.stack, projected)
        inputs = (projected, keys, jnp.arange(projected.shape[0]))
        emitted = lax.scan(body, (state.carries, state.fed), inputs)[1]
        return jax.tree.map(lambda array: array.swapaxes(0, 1), emitted)
