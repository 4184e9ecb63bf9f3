"""Greedy search and sampling in chunks: a host may look at the tokens, and end rows, between two of them."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from transformer_jax.decode.protocol import check_room, state_batch_size
from transformer_jax.decode.sampling import token_chooser
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.decode.search_options import (
    NO_ROW_OPTIONS,
    RowOptions,
    SearchIds,
    filled_rows,
    on_device,
)
from transformer_jax.decode.token_loop import (
    DecodeOutput,
    TokenLoopState,
    advance_tokens,
    begin_tokens,
    decode_output,
)
from transformer_jax.errors import ConfigError
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Bool, PyTree


class LatestColumns(NamedTuple):
    """What a search has written last, on the host.

    Attributes:
      tokens: Ids of the steps asked for, ``[batch, steps]``.
      log_probs: Log-probability of each of them.
      lengths: Tokens of each row so far, without the end of the sequence.
      total_log_probs: Summed log-probability of each row so far.
      finished: Which rows have reached the end of the sequence.
      running: Which rows continue.
    """

    tokens: Any
    log_probs: Any
    lengths: Any
    total_log_probs: Any
    finished: Any
    running: Any


class SearchProgress(NamedTuple):
    """A search between two chunks, on the device; what it was made into a later one of is gone.

    Attributes:
      carry: The loop's own state: tokens, caches.
      rows: Options of the rows.
      rng_key: Key of a search that draws, else None.
    """

    carry: TokenLoopState
    rows: RowOptions
    rng_key: jax.Array | None

    @property
    def output(self) -> DecodeOutput:
        """Tokens generated so far."""
        return decode_output(self.carry)

    @property
    def running(self) -> Bool[Array, "batch"]:
        """Which rows continue."""
        return self.carry.running


class ResumableSearch:
    """A compiled search that stops after any number of steps and continues from there.

    Tokens and bits are those of one call of ``greedy_search`` or ``sample_search``, however the steps are cut. The
    state stays on the device, and a chunk writes it in place. A chunk of rows that have all ended takes no step.

    Args:
      model: A ``StepModel`` that is an NNX module; only its structure is kept, not its parameters.
      config: Which search, and its options.
      ids: Tokens that begin, end and fill up an output.

    Example:
      >>> from transformer_jax.decode import TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> search = ResumableSearch(model, GreedyConfig(max_len=6), SearchIds(bos_id=2, eos_id=3, pad_id=4))
      >>> params = nnx.state(model)
      >>> progress = search.start(params, TokenInputs(np.zeros((1, 1), int), np.ones(1, int)))
      >>> for _ in range(3):
      ...   progress = search.advance(params, progress, 2)
      ...   print(progress.output.tokens.tolist(), progress.running.tolist())
      [[1, 0, 4, 4, 4, 4]] [True]
      [[1, 0, 3, 4, 4, 4]] [False]
      [[1, 0, 3, 4, 4, 4]] [False]
    """

    def __init__(self, model: nnx.Module, config: GreedyConfig | SampleConfig, ids: SearchIds) -> None:
        self.config, self._ids = config, ids
        self._graphdef = nnx.split(model)[0]
        self._start = jax.jit(self._started, static_argnames="room")
        self._restart = jax.jit(self._restarted, static_argnames="room", donate_argnames="carry")
        self._advance = jax.jit(self._advanced, donate_argnames="carry")
        self._columns = jax.jit(_columns, static_argnames="width")

    def _model(self, params: PyTree) -> Any:
        return nnx.merge(self._graphdef, params)

    def _model_state(self, params: PyTree, inputs: PyTree, room: int) -> PyTree:
        state = self._model(params).start(inputs, max_len=room)
        check_room(state, room)
        return state

    def _started(self, params: PyTree, inputs: PyTree, rows: RowOptions, *, room: int) -> TokenLoopState:
        state = self._model_state(params, inputs, room)
        return begin_tokens(self._model(params), state, self.config, self._ids, rows)

    def _restarted(
        self, params: PyTree, inputs: PyTree, carry: TokenLoopState, *, room: int
    ) -> TokenLoopState:
        return replace(carry, model_state=self._model_state(params, inputs, room))

    def _advanced(
        self,
        params: PyTree,
        carry: TokenLoopState,
        rows: RowOptions,
        rng_key: Any,
        num_steps: Any,
        goes_on: Any,
    ) -> TokenLoopState:
        choose = token_chooser(self.config, rows, len(carry.lengths), rng_key)
        carry = replace(carry, running=carry.running & goes_on)
        advance = functools.partial(advance_tokens, until=carry.step + num_steps)
        return advance(self._model(params), carry, choose, self.config, self._ids, rows)

    def start(
        self,
        params: PyTree,
        inputs: PyTree,
        rows: RowOptions = NO_ROW_OPTIONS,
        *,
        rng_key: jax.Array | None = None,
        room: int | None = None,
    ) -> SearchProgress:
        """Read the inputs; nothing is generated yet.

        Args:
          params: Second result of ``nnx.split(model)``.
          inputs: What ``model.start`` takes.
          rows: What is given for each row, as for a ``Searcher``.
          rng_key: Typed key; needed by sampling, and by it alone.
          room: Tokens that will be fed before :meth:`restart`; None for the config's ``max_len``.

        Raises:
          ConfigError: If ``rng_key`` is missing, or given to a search that draws nothing.
          ShapeError: If the rows of the inputs do not fit together.
        """
        if (rng_key is not None) != isinstance(self.config, SampleConfig):
            wanted = "needs" if rng_key is None else "takes no"
            raise ConfigError(f"{self.config.kind} search {wanted} rng_key")
        inputs = jax.tree.map(on_device, inputs)
        filled = filled_rows(rows, self.config, state_batch_size(inputs, name="inputs"))
        carry = self._start(params, inputs, filled, room=self.config.max_len if room is None else room)
        return SearchProgress(carry, filled, rng_key)

    def restart(
        self, params: PyTree, inputs: PyTree, progress: SearchProgress, *, room: int
    ) -> SearchProgress:
        """Continue from other inputs, such as the last part of a text that no longer fits the context.

        Args:
          params: As for :meth:`start`.
          inputs: What the model has read when the next token is fed, which is the last one that was generated.
          progress: The search so far; its outputs, limits and draws continue. It must not be used again.
          room: Tokens that will be fed before the next restart.
        """
        carry = self._restart(params, jax.tree.map(on_device, inputs), progress.carry, room=room)
        return progress._replace(carry=carry)

    def advance(
        self, params: PyTree, progress: SearchProgress, num_steps: int, *, goes_on: Any = None
    ) -> SearchProgress:
        """Generate at most so many tokens a row.

        Args:
          params: As for :meth:`start`.
          progress: The search so far; it must not be used any more.
          num_steps: Steps; another number recompiles nothing.
          goes_on: Rows ``[batch]`` that may continue; False ends a row here. None for all.
        """
        num_rows = len(progress.carry.lengths)
        kept = jax.device_put(np.ones(num_rows, bool) if goes_on is None else np.asarray(goes_on, bool))
        steps = jax.device_put(np.int32(num_steps))
        carry = self._advance(params, progress.carry, progress.rows, progress.rng_key, steps, kept)
        return progress._replace(carry=carry)

    def latest(self, progress: SearchProgress, start: int, stop: int, *, width: int) -> LatestColumns:
        """The steps from ``start`` to ``stop``, without fetching those before.

        Args:
          progress: The search so far.
          start: First step.
          stop: Step behind the last one.
          width: Most steps between the two in any call: one compiled program fetches so many.
        """
        width = min(width, self.config.max_len)
        first = min(start, self.config.max_len - width)
        found = jax.device_get(self._columns(progress.carry, jax.device_put(np.int32(first)), width=width))
        chosen = slice(start - first, stop - first)
        return found._replace(tokens=found.tokens[:, chosen], log_probs=found.log_probs[:, chosen])


def _columns(carry: TokenLoopState, first: Any, *, width: int) -> LatestColumns:
    tokens, log_probs = (
        jax.lax.dynamic_slice_in_dim(one, first, width, axis=1)
        for one in (carry.tokens, carry.token_log_probs)
    )
    return LatestColumns(tokens, log_probs, carry.lengths, carry.log_probs, carry.finished, carry.running)
