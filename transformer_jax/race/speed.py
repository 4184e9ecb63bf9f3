"""Forward pass and training step of each contestant over length, the tokens of a batch held constant.

Before anything is timed each contestant is checked: a prediction must not see later tokens, training must lower the
loss, and contestants of one kind must give one loss from the same weights, PyTorch's included.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transformer_jax.errors import TransformerJaxError
from transformer_jax.nn.parameters import named_parameters, parameter_count
from transformer_jax.race import costs
from transformer_jax.race.contestants import Spec, build, mean_loss, parse
from transformer_jax.race.timing import (
    Record,
    available_bytes,
    compile_ahead,
    interleave,
    out_of_memory,
    quartiles,
)

MODES = ("forward", "training_step")
SAME_LOSS = 1e-3
"""How far the losses of contestants with the same weights may lie apart, as a share."""


class RaceError(TransformerJaxError):
    """A contestant that fails its check."""


class Contestant:
    """One model with its pure loss and its training step over (parameters, optimiser state, tokens).

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
        ours = dataclasses.replace(spec, kind=costs.cell_of(spec.kind))
        model = build(ours, width=width, vocab_size=vocab_size, equal_parameters=equal_parameters)
        self.width = model.embedding.embedding[...].shape[1]
        self.parameters = parameter_count(model)
        self.graph, self.params = nnx.split(model)
        self.peer: Any = None
        if spec.is_peer:
            from transformer_jax.race.torch_contestants import TorchContestant

            self.peer = TorchContestant(spec.kind, named_parameters(model), longest)
            self.parameters = self.peer.parameters
        self.optimizer = optax.adam(1e-3)

    def forward(self, params: Any, tokens: jax.Array) -> jax.Array:
        """The mean loss."""
        return mean_loss(nnx.merge(self.graph, params), tokens)

    def training_step(
        self, params: Any, optimizer_state: Any, tokens: jax.Array
    ) -> tuple[Any, Any, jax.Array]:
        """One update of Adam."""
        value, gradient = jax.value_and_grad(self.forward)(params, tokens)
        changes, optimizer_state = self.optimizer.update(gradient, optimizer_state)
        return optax.apply_updates(params, changes), optimizer_state, value

    def check(self) -> float:
        """Causality, and a loss that falls over ten steps on one batch; the loss before them.

        Raises:
          RaceError: If one of them fails.
        """
        tokens = random_tokens(4, 24, self.vocab_size)
        if self.peer is not None:
            on_device = self.peer.tokens(tokens)
            return self.peer.forward(on_device)
        hidden = jax.jit(lambda params, tokens: nnx.merge(self.graph, params)(tokens))
        changed = tokens.at[:, 12:].set((tokens[:, 12:] + 1) % self.vocab_size)
        leak = float(jnp.abs(hidden(self.params, tokens) - hidden(self.params, changed))[:, :12].max())
        step = jax.jit(self.training_step)
        params, optimizer_state, losses = self.params, self.optimizer.init(self.params), []
        for _ in range(10):
            params, optimizer_state, value = step(params, optimizer_state, tokens)
            losses.append(float(value))
        if not leak <= 1e-5 or not losses[-1] < losses[0]:
            raise RaceError(
                f"{self.name} fails its check: a later token changes an earlier state by {leak:.2g} (wanted 0), ten "
                f"steps take the loss from {losses[0]:.4f} to {losses[-1]:.4f}"
            )
        return losses[0]

    def prepare(self, mode: str, tokens: jax.Array) -> tuple[Callable[[], Any], float | None, int | None]:
        """A callable that runs one whole call, its compile seconds and its peak bytes.

        Raises:
          MemoryError: If the compiled program needs more memory than there is.
        """
        if self.peer is not None:
            on_device, run = self.peer.tokens(tokens), getattr(self.peer, mode)
            run(on_device)  # a first training step makes the optimiser's state and the gradients
            return lambda: run(on_device), None, self.peer.peak_bytes(run, on_device)
        if mode == "forward":
            executable, seconds, peak = compile_ahead(self.forward, self.params, tokens)
            _check_memory(peak)
            return lambda: jax.block_until_ready(executable(self.params, tokens)), seconds, peak
        # Buffers are donated, as a trainer does; the state lives in this list from call to call.
        held = [jax.tree.map(jnp.copy, (self.params, self.optimizer.init(self.params)))]
        executable, seconds, peak = compile_ahead(self.training_step, *held[0], tokens, donate_argnums=(0, 1))
        _check_memory(peak)

        def call() -> None:
            params, optimizer_state, value = executable(*held[0], tokens)
            held[0] = (params, optimizer_state)
            jax.block_until_ready((value, params))

        return call, seconds, peak


def random_tokens(batch: int, length: int, vocab_size: int) -> jax.Array:
    """One more token than positions: inputs and labels overlap."""
    return jax.random.randint(jax.random.key(1), (batch, length + 1), 0, vocab_size, dtype=jnp.int32)


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
            kind = costs.cell_of(one.spec.kind)
            name, expected = first.setdefault(kind, (one.name, loss))
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
        batch = max(1, tokens_a_batch // length)
        for mode in MODES:
            tokens = random_tokens(batch, length, contestants[0].vocab_size)
            ready, failed = {}, {}
            prepared = at_once(contestants, functools.partial(_prepare, mode, tokens), compilers)
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
            yield [_record(one, mode, length, batch, ready, times, failed) for one in contestants]


def _prepare(mode: str, tokens: jax.Array, one: Contestant) -> Any:
    return one.prepare(mode, tokens)


def _record(
    one: Contestant, mode: str, length: int, batch: int, ready: dict, times: dict, failed: dict
) -> Record:
    flops = costs.forward_flops(one.spec.kind, one.width, one.vocab_size, length) * batch * length
    moved = costs.forward_bytes(one.spec.kind, one.width, one.parameters, batch, length)
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
