"""Forward pass and training step of each contestant over length, the tokens of a batch held constant.

Before anything is timed each contestant is checked: a prediction must not see later tokens, training must lower the
loss, and contestants of one kind must give one loss from the same weights, PyTorch's included.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import TransformerJaxError
from transformer_jax.models.build import build_model
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.objectives import NextToken
from transformer_jax.race import costs
from transformer_jax.race.contestants import Spec, contestant_config, parse
from transformer_jax.race.timing import (
    Record,
    available_bytes,
    compile_ahead,
    interleave,
    out_of_memory,
    quartiles,
)
from transformer_jax.training.config import Adam, Constant, TrainConfig
from transformer_jax.training.state import TrainState, split_model
from transformer_jax.training.step import StepFunction, build_step, first_state

MODES = ("forward", "training_step")
SAME_LOSS = 1e-3
"""How far the losses of contestants with the same weights may lie apart, as a share."""

OBJECTIVE = NextToken()
TRAINING = TrainConfig(
    updates=1_000_000,
    optimizer=Adam(beta2=0.999, epsilon=1e-8),
    schedule=Constant(peak_learning_rate=1e-3),
    clip_norm=None,
)
"""What a timed training step does: PyTorch's Adam without clipping."""


class RaceError(TransformerJaxError):
    """A contestant that fails its check."""


class Contestant:
    """One model with its loss on a batch and the trainer's step.

    Args:
      spec: Its name.
      width: Of the Transformer.
      vocab_size: Number of tokens.
      equal_parameters: Whether recurrent widths follow the Transformer's number of parameters.
      longest: The longest sequence, in tokens.
    """

    def __init__(
        self, spec: Spec, *, width: int, vocab_size: int, equal_parameters: bool, longest: int
    ) -> None:
        self.spec, self.name, self.vocab_size = spec, spec.name, vocab_size
        self.config = contestant_config(
            spec, width=width, vocab_size=vocab_size, equal_parameters=equal_parameters
        )
        self.model: Any = build_model(self.config, Sizes(vocab_size=vocab_size), seed=0)
        config = self.config
        self.width = config.hidden_dim if isinstance(config, RecurrentLMConfig) else config.model_dim
        self.parameters = parameter_count(self.model)
        self.structure, self.params, _ = split_model(self.model)
        self.peer: Any = None
        if spec.is_peer:
            from transformer_jax.race.torch_contestants import TorchContestant

            self.peer = TorchContestant(self.model, longest)
            self.parameters = self.peer.parameters

    def forward(self, params: Any, batch: TokenBatch) -> jax.Array:
        """The mean loss."""
        return OBJECTIVE(self.structure.merge(params, {}), batch, None)[0].mean()

    def training(self, config: TrainConfig, batch: TokenBatch) -> tuple[StepFunction, TrainState]:
        """The trainer's step, and the state before the first update."""
        structure, state = first_state(self.model, OBJECTIVE, config, batch)
        return build_step(structure, OBJECTIVE, config), state

    def check(self) -> float:
        """Causality, and a loss that falls over ten steps on one batch; the loss before them.

        Raises:
          RaceError: If one of them fails.
        """
        batch = random_batch(4, 24, self.vocab_size)
        if self.peer is not None:
            return self.peer.forward(self.peer.tokens(batch))

        @jax.jit
        def logits_and_loss(params: Any, batch: TokenBatch) -> tuple[jax.Array, jax.Array]:
            model: Any = self.structure.merge(params, {})
            return model(batch.inputs), self.forward(params, batch)

        changed = batch.inputs.copy()
        changed[:, 12:] = (changed[:, 12:] + 1) % self.vocab_size
        logits, before = logits_and_loss(self.params, batch)
        others, _ = logits_and_loss(self.params, batch._replace(inputs=changed))
        leak = float(jnp.abs(logits - others)[:, :12].max() / jnp.abs(logits).max())
        step, state = self.training(TRAINING, batch)
        step = jax.jit(step, donate_argnums=0)
        for _ in range(10):
            state = step(state, batch)
        _, after = logits_and_loss(state.params, batch)
        if not leak <= 1e-5 or not after < before:
            raise RaceError(
                f"{self.name} fails its check: a later token changes an earlier prediction by {leak:.2g} (wanted 0), "
                f"ten steps take the loss from {before:.4f} to {after:.4f}"
            )
        return float(before)

    def prepare(self, mode: str, batch: TokenBatch) -> tuple[Callable[[], Any], float | None, int | None]:
        """A callable that runs one whole call, its compile seconds and its peak bytes.

        Raises:
          MemoryError: If the compiled program needs more memory than there is.
        """
        if self.peer is not None:
            on_device, run = self.peer.tokens(batch), getattr(self.peer, mode)
            run(on_device)  # a first training step makes the optimiser's state and the gradients
            return lambda: run(on_device), None, self.peer.peak_bytes(run, on_device)
        batch = jax.device_put(batch)
        if mode == "forward":
            executable, seconds, peak = compile_ahead(self.forward, self.params, batch)
            _check_memory(peak)
            return lambda: jax.block_until_ready(executable(self.params, batch)), seconds, peak
        # Buffers are donated, as the trainer does; the state lives in this list from call to call.
        step, state = self.training(TRAINING, batch)
        executable, seconds, peak = compile_ahead(step, state, batch, donate_argnums=0)
        _check_memory(peak)
        held = [state]

        def call() -> None:
            held[0] = executable(held[0], batch)
            jax.block_until_ready(held[0].params)

        return call, seconds, peak


def random_batch(rows: int, length: int, vocab_size: int) -> TokenBatch:
    """Full windows of random tokens."""
    windows = np.random.default_rng(1).integers(vocab_size, size=(rows, length + 1), dtype=np.int32)
    return whole_windows(windows)


def whole_windows(windows: np.ndarray) -> TokenBatch:
    """A batch of windows ``[rows, length + 1]`` without padding: inputs and targets overlap."""
    rows, length = windows.shape[0], windows.shape[1] - 1
    return TokenBatch(
        inputs=windows[:, :-1],
        targets=windows[:, 1:],
        lengths=np.full(rows, length, np.int32),
        segments=None,
        restarts=np.ones(rows, np.int32),
        example_ids=np.arange(rows, dtype=np.int32),
    )


def _check_memory(peak: int | None) -> None:
    there = available_bytes()
    if peak is not None and there is not None and peak > 0.9 * there:
        raise MemoryError(f"needs {peak / 2**30:.1f} GiB, {there / 2**30:.1f} GiB are free")


def make_contestants(
    names: Sequence[str],
    *,
    width: int,
    vocab_size: int,
    equal_parameters: bool,
    longest: int,
    compilers: int = 1,
    failed: dict[str, str] | None = None,
) -> list[Contestant]:
    """The named contestants, checked against each other.

    Args:
      names: Who races.
      width: Of the Transformer.
      vocab_size: Number of tokens.
      equal_parameters: Whether recurrent widths follow the Transformer's number of parameters.
      longest: The longest sequence, in tokens.
      compilers: How many of ours are checked at a time; PyTorch's come one after the other.
      failed: Takes why a contestant is left out; without it the first one that fails raises.

    Raises:
      ConfigError: If a name is none.
      RaceError: If a contestant fails its check, or contestants with the same weights differ.
    """
    specs = [parse(name) for name in dict.fromkeys(names)]
    build_one = functools.partial(
        Contestant, width=width, vocab_size=vocab_size, equal_parameters=equal_parameters, longest=longest
    )
    with ThreadPoolExecutor(compilers) as pool:  # initial parameters are many small programs
        begun = {spec: pool.submit(build_one, spec) for spec in specs if compilers > 1 and not spec.is_peer}
    contestants = [begun[spec].result() if spec in begun else build_one(spec) for spec in specs]
    losses = at_once(contestants, lambda one: one.check(), compilers)
    first: dict[str, tuple[str, float]] = {}
    passed = []
    for one in contestants:
        try:
            loss = losses[one.name]()
            name, expected = first.setdefault(one.spec.own_kind, (one.name, loss))
            if not abs(loss - expected) <= SAME_LOSS * abs(expected):
                raise RaceError(
                    f"{one.name} and {name} have the same weights and give losses {loss} and {expected}"
                )
        except Exception as error:
            if failed is None:
                raise
            failed[one.name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            continue
        passed.append(one)
    return passed


def at_once(
    contestants: Sequence[Contestant], work: Callable[[Contestant], Any], compilers: int
) -> dict[str, Callable[[], Any]]:
    """Of each contestant a callable that gives what ``work`` gives or raises; ours are worked on side by side."""
    if compilers <= 1:
        return {one.name: functools.partial(work, one) for one in contestants}
    with ThreadPoolExecutor(compilers) as pool:
        waiting = {one.name: pool.submit(work, one) for one in contestants if one.peer is None}
    return {
        one.name: waiting[one.name].result if one.name in waiting else functools.partial(work, one)
        for one in contestants
    }


def race_over_lengths(
    contestants: Sequence[Contestant],
    lengths: Sequence[int],
    *,
    tokens_a_batch: int,
    calls: int,
    max_seconds: float,
    progress: Callable[[str], None] = lambda text: None,
    compilers: int = 1,
) -> Iterator[list[Record]]:
    """The records of one length and mode after the other, contestants taking turns.

    A contestant that runs out of memory has a record that says so, and no times.

    Args:
      contestants: Who races.
      lengths: Sequence lengths in tokens.
      tokens_a_batch: Tokens of a batch, whatever its length.
      calls: Timed calls of each.
      max_seconds: Seconds of a case at most, beyond five rounds.
      progress: Told what is being measured.
      compilers: How many programs of ours are compiled at a time, before anything is timed.
    """
    for length in lengths:
        rows = max(1, tokens_a_batch // length)
        batch = random_batch(rows, length, contestants[0].vocab_size)
        for mode in MODES:
            ready, failed = {}, {}
            prepared = at_once(contestants, functools.partial(_prepare, mode, batch), compilers)
            for one in contestants:
                progress(f"length {length:,}, {mode.replace('_', ' ')}: compiling {one.name}")
                try:
                    call, seconds, peak = prepared[one.name]()
                    call()
                except Exception as error:
                    note = out_of_memory(error)
                    if note is None:
                        raise
                    failed[one.name] = note
                else:
                    ready[one.name] = (call, seconds, peak)
            progress(f"length {length:,}, {mode.replace('_', ' ')}: {len(ready)} contestants in turns")
            times = interleave(
                {name: call for name, (call, _, _) in ready.items()},
                calls=calls,
                warmup=1,
                max_seconds=max_seconds,
            )
            yield [_record(one, mode, length, rows, ready, times, failed) for one in contestants]


def _prepare(mode: str, batch: TokenBatch, one: Contestant) -> Any:
    return one.prepare(mode, batch)


def _record(
    one: Contestant, mode: str, length: int, batch: int, ready: dict, times: dict, failed: dict
) -> Record:
    flops = costs.forward_flops(one.config, one.vocab_size, length) * batch * length
    moved = costs.forward_bytes(one.config, one.parameters, batch, length)
    share = costs.BACKWARD[mode]
    extra = {
        "mode": mode, "length": length, "batch": batch, "width": one.width, "parameters": one.parameters,
        "bytes": moved * share,
    }  # fmt: skip
    seconds = peak = lower = middle = upper = None
    if one.name in times:
        _, seconds, peak = ready[one.name]
        lower, middle, upper = quartiles(times[one.name])
        extra |= {"calls": len(times[one.name]), "milliseconds": np.round(times[one.name], 4).tolist()}
    return Record(
        case=f"{mode}-{length}", implementation=one.name, compile_s=seconds, median_ms=middle, q25_ms=lower,
        q75_ms=upper, peak_bytes=peak, tokens_per_s=batch * length / middle * 1e3 if middle else None,
        flops=flops * share, max_abs_err=None, note=failed.get(one.name, ""), extra=extra,
    )  # fmt: skip
