"""Which implementation does a call, and why not another."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional import device_record, native_kernels
from transformer_jax.functional.attention import (
    batched,
    blockwise,
    cudnn_attention,
    jax_nn,
    mosaic_gpu,
    mosaic_tpu,
    native_cpu,
    reference,
    tokamax,
)
from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.attention.every_derivative import attend_with_every_derivative
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.typing import Array

BLOCKWISE_FROM_PAIRS = 512 * 512
"""Number of query-key pairs from which on blockwise is preferred: see ``benchmarks/results/attention-cpu.json``.

There the full forward pass and both causal ones gain by it on the oldest and the newest JAX; the full one with
gradients loses a tenth to a quarter, and gains from twice the length on."""


class Implementation(NamedTuple):
    """One way to compute attention.

    Attributes:
      attend: The output of a call, ``[batch, q_len, heads, value_dim]``.
      refusals: Reasons not to do a call, whatever the machine.
      device_refusals: Reasons not to do any call on this machine.
      awaits_record: Its name, where it was written for an accelerator.
    """

    attend: Callable[[AttentionCall], Array]
    refusals: Callable[[AttentionCall], list[str]]
    device_refusals: Callable[[], list[str]] = list
    awaits_record: str | None = None

    @property
    def is_experimental(self) -> bool:
        """Whether no committed run shows it on the hardware that it was written for; then it is never chosen."""
        return self.awaits_record is not None and not device_record.has_passed(
            "attention", self.awaits_record
        )


IMPLEMENTATIONS: dict[str, Implementation] = {
    "reference": Implementation(reference.attend, reference.refusals),
    "batched": Implementation(batched.attend, batched.refusals),
    "blockwise": Implementation(blockwise.attend, blockwise.refusals),
    "xla": Implementation(jax_nn.attend, jax_nn.refusals),
    "native_cpu": Implementation(native_cpu.attend, native_cpu.refusals, native_kernels.refusals_here),
    "cudnn": Implementation(
        cudnn_attention.attend, cudnn_attention.refusals, cudnn_attention.device_refusals, "cudnn"
    ),
    "mosaic_gpu": Implementation(
        mosaic_gpu.attend, mosaic_gpu.refusals, mosaic_gpu.device_refusals, "mosaic_gpu"
    ),
    "mosaic_tpu": Implementation(
        mosaic_tpu.attend, mosaic_tpu.refusals, mosaic_tpu.device_refusals, "mosaic_tpu"
    ),
    "tokamax": Implementation(tokamax.attend, tokamax.refusals, tokamax.device_refusals, "tokamax"),
}


def check_attention_implementation(name: str, implementation: str | None) -> None:
    """Raise ``ConfigError`` unless an implementation of attention is known, or ``None``.

    Args:
      name: Of the argument or field, for the message.
      implementation: What it holds.

    Example:
      >>> check_attention_implementation("implementation", "blockwise")
    """
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ConfigError(
            f"{name} must be None or one of {sorted(IMPLEMENTATIONS)}, got {implementation!r}"
            f"{nearest_hint(implementation, IMPLEMENTATIONS)}"
        )


@dataclasses.dataclass(frozen=True)
class AttentionExplanation:
    """Explains the choice of ``implementation=None`` for a call; as text, one line an implementation.

    Attributes:
      chosen: The implementation taken.
      reason: Why this one.
      refusals: For each of the others that cannot do the call, the reasons.
      passed_over: For each of the others that could, why it was not taken.
    """

    chosen: str
    reason: str
    refusals: dict[str, tuple[str, ...]]
    passed_over: dict[str, str]

    def __str__(self) -> str:
        width = max(map(len, IMPLEMENTATIONS))
        lines = [f"{self.chosen:{width}}  chosen: {self.reason}"]
        lines += [f"{name:{width}}  could, but {reason}" for name, reason in self.passed_over.items()]
        lines += [f"{name:{width}}  cannot: {'; '.join(why)}" for name, why in self.refusals.items()]
        return "\n".join(lines)


def all_refusals(name: str, call: AttentionCall) -> list[str]:
    """Why an implementation cannot do a call here."""
    implementation = IMPLEMENTATIONS[name]
    return implementation.device_refusals() + implementation.refusals(call)


def choose(call: AttentionCall) -> tuple[str, str]:
    """The implementation that ``None`` stands for, and why.

    On an accelerator whose measurements are committed the fastest there; elsewhere the rule measured on CPUs: see
    ``benchmarks/results/attention-cpu.json``.
    """
    measured = _by_measurement(call)
    if measured is not None:
        return measured
    if not all_refusals("native_cpu", call):
        return (
            "native_cpu",
            "the native kernels are the fastest of every case measured on a CPU, and hold no weights",
        )
    pairs = call.q_len * call.kv_len
    if pairs < BLOCKWISE_FROM_PAIRS:
        return (
            "reference" if all_refusals("batched", call) else "batched",
            f"q_len * kv_len = {pairs} is below {BLOCKWISE_FROM_PAIRS}, where blocks begin to pay",
        )
    return (
        "blockwise",
        f"q_len * kv_len = {pairs} is at least {BLOCKWISE_FROM_PAIRS}: linear memory, where blocks pay",
    )


def _by_measurement(call: AttentionCall) -> tuple[str, str] | None:
    """The fastest of the nearest case measured on this device, of those that can do the call."""
    entry = device_record.entry_here()
    kind = mask_kind(call.mask)
    if entry is None or kind is None or call.bias is not None or 0 in (*call.query.shape, *call.key.shape):
        return None
    same = {"mask": kind, "dtype": str(call.query.dtype), "grouped": call.key.shape[2] != call.num_heads}
    near = {"pairs": float(call.q_len * call.kv_len), "head_dim": float(call.query.shape[-1])}
    row = device_record.nearest(entry.times.get("attention", ()), same, near)
    if row is None:
        return None
    times: dict[str, float] = {
        name: milliseconds
        for name, milliseconds in row["milliseconds"].items()
        if name in IMPLEMENTATIONS
        and (name in entry.passed.get("attention", {}) or IMPLEMENTATIONS[name].awaits_record is None)
        and not all_refusals(name, call)
    }
    if not times:
        return None
    best = min(times, key=lambda name: times[name])
    others = ", ".join(f"{name} {times[name]:.3g} ms" for name in sorted(times, key=lambda name: times[name]))
    return best, f"the fastest of the nearest case measured on {entry.device} ({row['case']}: {others})"


def mask_kind(mask: AttentionMask) -> str | None:
    """The class of a mask by which measurements are kept; ``None`` for one that is not measured.

    Example:
      >>> mask_kind(AttentionMask.causal()), mask_kind(AttentionMask.dense(jax.numpy.ones((1, 1, 2, 2), bool)))
      ('causal', None)
    """
    if mask.dense_mask is not None or mask.segment_pairs or mask.rules or not mask.has_default_positions:
        return None
    if mask.has_window:
        return "window"
    if mask.is_causal:
        return "causal"
    return "padded" if mask.has_key_part else "full"


def chosen(call: AttentionCall) -> Implementation:
    """The implementation that :func:`choose` selects, with derivatives of every mode and order."""
    return with_every_derivative(IMPLEMENTATIONS[choose(call)[0]])


def with_every_derivative(one: Implementation) -> Implementation:
    """An implementation with derivatives of every mode and order: those for accelerators lack some."""
    if one.awaits_record is None:
        return one
    return one._replace(attend=functools.partial(attend_with_every_derivative, one.attend))


def explain(call: AttentionCall) -> AttentionExplanation:
    """The choice of :func:`choose` for a call, with the reasons against the others."""
    taken, reason = choose(call)
    others = {name: tuple(all_refusals(name, call)) for name in IMPLEMENTATIONS if name != taken}
    refusals = {name: why for name, why in others.items() if why}
    passed_over = {name: _why_not(name, taken) for name, why in others.items() if not why}
    return AttentionExplanation(taken, reason, refusals, passed_over)


def named(name: str, call: AttentionCall) -> Implementation:
    """The implementation of that name.

    Raises:
      ConfigError: If there is none.
      NotImplementedError: If it cannot do the call here.
    """
    check_attention_implementation("implementation", name)
    reasons = all_refusals(name, call)
    if reasons:
        raise NotImplementedError(
            f"attention implementation {name!r} cannot do this call: {'; '.join(reasons)}. "
            "Use implementation=None to let the library choose."
        )
    return IMPLEMENTATIONS[name]


def _why_not(name: str, chosen: str) -> str:
    if IMPLEMENTATIONS[name].is_experimental:
        return f"no log of it on such a machine ({jax.default_backend()}) is committed: taken by name only"
    return (
        f"{chosen} is faster at this size"
        if name != "reference"
        else f"it holds every weight; {chosen} does not"
    )
