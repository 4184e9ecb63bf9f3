"""A model and a search as one compiled function of (parameters, inputs)."""

import time
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from transformer_jax.decode.beam import BeamOutput, beam_search
from transformer_jax.decode.greedy import greedy_search
from transformer_jax.decode.protocol import TokenInputs, repeat_state, state_batch_size
from transformer_jax.decode.sampling import sample_search
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig, SearchConfig
from transformer_jax.decode.search_options import (
    NO_ROW_OPTIONS,
    RowOptions,
    SearchIds,
    filled_rows,
    on_device,
)
from transformer_jax.decode.token_loop import DecodeOutput
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.row_shards import ROW_AXES, by_row_shards
from transformer_jax.memory import machine_memory
from transformer_jax.pytree import replace
from transformer_jax.typing import PyTree

__all__ = ["BeamConfig", "GreedyConfig", "SampleConfig", "SearchConfig", "Searcher", "make_searcher"]

_SMALL_SEARCH = 2**19
"""Tokens of all hypotheses together up to which a search needs no look at the memory."""


class Searcher:
    """Compiled search; make it with ``make_searcher``. Start, loop and all run inside one ``jit``."""

    def __init__(
        self,
        model: nnx.Module,
        config: SearchConfig,
        ids: SearchIds,
        *,
        num_devices: int = 1,
    ):
        self.config = config
        self._mesh = _mesh_of(num_devices)
        self._ids = ids
        self._graphdef, params = nnx.split(model)
        self._abstract_params = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._everywhere()), params
        )
        self._executables: dict[Hashable, Any] = {}
        self._compile_seconds = 0.0
        self._jitted = jax.jit(self._search if self._mesh is None else self._search_by_rows)

    @property
    def compile_count(self) -> int:
        """Searches compiled so far: one for each shape of the inputs."""
        return len(self._executables)

    @property
    def executables(self) -> tuple[jax.stages.Compiled, ...]:
        """The compiled searches, which tell of their memory."""
        return tuple(self._executables.values())

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on tracing and compiling so far."""
        return self._compile_seconds

    def _search(
        self, params: PyTree, inputs: PyTree, rows: RowOptions, rng_key: Any
    ) -> DecodeOutput | BeamOutput:
        config, ids = self.config, self._ids
        model: Any = nnx.merge(self._graphdef, params)
        state = model.start(inputs, max_len=config.max_len)
        if isinstance(config, GreedyConfig):
            return greedy_search(model, state, config, ids, rows)
        if isinstance(config, SampleConfig):
            return sample_search(model, state, config, ids, rows, rng_key=rng_key)
        if config.coverage_penalty:
            rows = replace(rows, source_lengths=_source_lengths(inputs))
        return beam_search(model, state, config, ids, rows)

    def _search_by_rows(self, params: PyTree, inputs: PyTree, *others: Any) -> DecodeOutput | BeamOutput:
        """Each device searches for its own rows, in a loop of its own: caches lie with their rows, nothing is sent."""
        assert self._mesh is not None

        def search(*arguments: Any) -> Any:
            found = self._search(*arguments)
            # What is one number for a batch is one for each device.
            return jax.tree.map(lambda leaf: leaf if leaf.ndim else leaf[None], found)

        in_axes, num_rows = (None, 0, 0, None), state_batch_size(inputs)
        with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
            found = by_row_shards(search, in_axes, 0, num_rows)(params, inputs, *others)
        return replace(found, num_steps=found.num_steps.max())

    def _everywhere(self) -> NamedSharding | None:
        return None if self._mesh is None else NamedSharding(self._mesh, PartitionSpec())

    def _by_rows(self) -> NamedSharding | None:
        return None if self._mesh is None else NamedSharding(self._mesh, PartitionSpec(ROW_AXES[:1]))

    def placed(self, params: PyTree) -> PyTree:
        """Parameters where the search takes them: a caller that searches several times puts them there once."""
        return params if self._mesh is None else jax.device_put(params, self._everywhere())

    def _executable(self, params: PyTree, inputs: PyTree, rows: RowOptions) -> Any:
        """The compiled search for inputs and options of these shapes, compiled now where they are new."""
        leaves, structure = jax.tree.flatten((inputs, rows))
        key = (structure, tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves))
        if key not in self._executables:
            self._check_memory(inputs)
            began = time.perf_counter()
            lowered = self._jitted.lower(params, *self._abstract_arguments(inputs, rows))
            self._executables[key] = lowered.compile()
            self._compile_seconds += time.perf_counter() - began
        return self._executables[key]

    def _abstract_arguments(self, inputs: PyTree, rows: RowOptions | None = None) -> tuple[Any, ...]:
        """Shapes of what is compiled for; without ``rows`` those of a search that is given none."""

        def by_rows(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._by_rows())

        rng_key = None
        if isinstance(self.config, SampleConfig):
            key = jax.eval_shape(lambda: jax.random.key(0))
            rng_key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=self._everywhere())
        rows = self._usual_rows(inputs) if rows is None else rows
        return *jax.tree.map(by_rows, (inputs, rows)), rng_key

    def _usual_rows(self, inputs: PyTree) -> Any:
        """Shapes of the options that a search without any takes: numbers may change without compiling again."""
        numbers = jax.ShapeDtypeStruct((state_batch_size(inputs),), jnp.int32)
        is_sampling = isinstance(self.config, SampleConfig)
        return jax.tree.map(
            lambda _: numbers,
            RowOptions(max_lens=np.zeros(1, int), row_ids=np.zeros(1, int) if is_sampling else None),
        )

    def _check_memory(self, inputs: PyTree) -> None:
        """Raise ``ConfigError`` if what the hypotheses carry, caches above all, is more than the machine's memory.

        Compiling for it would take as much, or end the process. A step writes the state in place, so it counts once.
        """
        num_beams = self.config.num_beams if isinstance(self.config, BeamConfig) else 1
        rows = state_batch_size(inputs) * num_beams
        if rows * self.config.max_len < _SMALL_SEARCH:
            return

        def start(params: PyTree, inputs: PyTree) -> PyTree:
            model: Any = nnx.merge(self._graphdef, params)
            state = model.start(inputs, max_len=self.config.max_len)
            return repeat_state(state, num_beams) if num_beams > 1 else state

        state = jax.eval_shape(start, self._abstract_params, self._abstract_arguments(inputs)[0])
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        memory = machine_memory()
        if memory is not None and needed > memory:
            raise ConfigError(
                f"a search of {rows:,} hypotheses (num_beams times rows of a batch) of up to {self.config.max_len:,} "
                f"tokens (max_len) needs {needed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of "
                "memory: lower num_beams or max_len"
            )

    def check(self, inputs: PyTree) -> None:
        """Trace the search for inputs of these shapes, and compile nothing.

        Args:
          inputs: Arrays or ``jax.ShapeDtypeStruct`` as leaves, such as ``TokenInputs.abstract(num_rows, length)``; the
            batch is that of all devices together.

        Raises:
          ConfigError: If model and search do not fit together, such as a forbidden token that is not in the vocabulary,
            or the hypotheses need more memory than the machine has.
          ShapeError: If the model cannot take inputs or outputs of these lengths.
        """
        self._check_memory(inputs)
        jax.eval_shape(self._jitted, self._abstract_params, *self._abstract_arguments(inputs))

    def compile(self, all_inputs: Iterable[PyTree]) -> float:
        """Compile ahead of time.

        Args:
          all_inputs: Inputs to come, arrays or ``jax.ShapeDtypeStruct`` as leaves: ``TokenInputs.abstract(2, 8)``.

        Returns:
          The seconds it took; near zero for shapes that are compiled already.
        """
        before = self._compile_seconds
        for inputs in all_inputs:
            self._executable(self._abstract_params, inputs, self._usual_rows(inputs))
        return self._compile_seconds - before

    def __call__(
        self,
        params: PyTree,
        inputs: PyTree,
        rows: RowOptions = NO_ROW_OPTIONS,
        *,
        rng_key: jax.Array | None = None,
    ) -> DecodeOutput | BeamOutput:
        """Search; compiles first where inputs of these shapes are new.

        Args:
          params: Second result of ``nnx.split(model)``, of the shapes the searcher was made with.
          inputs: What ``model.start`` takes, `TokenInputs` or another pytree with the batch as axis 0 of each leaf.
          rows: What is given for each row. Other numbers of ``max_lens`` and ``row_ids`` recompile nothing, a limit of
            0 skips a row, as for the dummy rows of a short last batch; ``prefix`` is ``[batch, max_len]``;
            ``source_lengths`` are those of the inputs.
          rng_key: Typed key; needed by sampling, and by it alone.

        Returns:
          ``DecodeOutput`` of greedy search and sampling, ``BeamOutput`` of beam search.

        Raises:
          ConfigError: If ``rng_key`` is missing, or given to a search that draws nothing; if the hypotheses need more
            memory than the machine has.
          ShapeError: If the rows of the inputs do not fit together, or do not divide over the devices.
        """
        if (rng_key is not None) != isinstance(self.config, SampleConfig):
            wanted = "needs" if rng_key is None else "takes no"
            raise ConfigError(f"{self.config.kind} search {wanted} rng_key")
        inputs = jax.tree.map(on_device, inputs)
        if isinstance(inputs, TokenInputs) and inputs.tokens.ndim != 2:
            raise ShapeError(f"tokens of TokenInputs must be [batch, len]; got {inputs.tokens.shape}")
        num_rows = state_batch_size(inputs, name="inputs")
        rows = filled_rows(rows, self.config, num_rows)
        placed = self.placed(params)
        executable = self._executable(placed, inputs, rows)
        if self._mesh is not None:
            if num_rows % self._mesh.size:
                raise ShapeError(f"{num_rows} rows do not divide over {self._mesh.size} devices")
            inputs, rows = jax.device_put((inputs, rows), self._by_rows())
            rng_key = jax.device_put(rng_key, self._everywhere())
        return executable(placed, inputs, rows, rng_key)


def _source_lengths(inputs: PyTree) -> Any:
    """Lengths of the sources, which a coverage penalty needs."""
    if not isinstance(inputs, TokenInputs):
        raise ConfigError(
            "coverage_penalty needs TokenInputs, which say how many tokens each source has; "
            f"got {type(inputs).__name__}: set it to 0"
        )
    return inputs.lengths


def _mesh_of(num_devices: int) -> Mesh | None:
    """A mesh of that many devices of this process, or None for the default one alone."""
    have = jax.local_devices()
    if not 1 <= num_devices <= len(have):
        raise ConfigError(
            f"num_devices must be 1 to {len(have)}, as many as this process has ({have[0].platform}); got {num_devices}"
        )
    if num_devices == 1:
        return None
    return jax.make_mesh(
        (num_devices,), ROW_AXES[:1], axis_types=(AxisType.Auto,), devices=have[:num_devices]
    )


def make_searcher(
    model: nnx.Module,
    config: SearchConfig,
    ids: SearchIds,
    *,
    num_devices: int = 1,
) -> Searcher:
    """Bind a model's structure to a search, as a compiled function of parameters and inputs.

    Args:
      model: A ``StepModel`` that is an NNX module; only its structure is kept, not its parameters.
      config: Which search, and its options.
      ids: Tokens that begin, end and fill up an output.
      num_devices: Devices of this process that share the rows of a batch, each of which has all parameters. A row's
        output has the bits that one device gives it in a batch of as many rows as each of these gets.

    Returns:
      A callable ``(params, inputs, rows, *, rng_key) -> output`` that compiles once for each shape of the inputs
      and counts it (``compile_count``).

    Example:
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> searcher = make_searcher(model, GreedyConfig(max_len=4), SearchIds(bos_id=2, eos_id=3, pad_id=4))
      >>> seconds = searcher.compile([TokenInputs.abstract(2, 6)])
      >>> params = nnx.state(model)
      >>> output = searcher(params, TokenInputs(np.zeros((2, 6), int), np.array([6, 4])))
      >>> output.tokens.tolist(), searcher.compile_count
      ([[1, 0, 3, 4], [1, 0, 3, 4]], 1)
    """
    return Searcher(model, config, ids, num_devices=num_devices)
