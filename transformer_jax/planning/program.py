"""Products and collectives of a compiled program on each device, read from its text.

XLA's own count (``cost_analysis``) takes the body of a loop once, whatever its length; here a loop counts as often as
its ``known_trip_count`` says. Products that a library call does (``custom-call`` on GPUs) are not seen, only ``dot``.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from transformer_jax.planning.layout import ring_bytes

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_DTYPE_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "f16": 2,
    "bf16": 2,
    "s16": 2,
    "u16": 2,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|true_computation|false_computation|branch_computations)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: Such as ``"all-reduce"``.
      buffer_bytes: Of a device's buffer at its larger end, all arrays of the instruction together.
      devices: In each of its groups.
      times: How often a step does it.
      in_loop: Whether it is inside a loop.
    """

    kind: str
    buffer_bytes: float
    devices: int
    times: float
    in_loop: bool

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends in a step, around a ring."""
        return ring_bytes(self.kind, self.buffer_bytes, self.devices) * self.times


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """Work of a compiled program on each device.

    Attributes:
      dot_flops: Floating-point operations of its products, loops multiplied out.
      collectives: All of them.
      loops_of_unknown_length: Counted once.
    """

    dot_flops: float
    collectives: tuple[Collective, ...]
    loops_of_unknown_length: int

    def sent_bytes(self) -> float:
        """Bytes that a device sends over its links in a step."""
        return sum(one.sent_bytes for one in self.collectives)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    opcode: str
    result: str
    text: str


def program_costs(text: str) -> ProgramCosts:
    """Read a program.

    Args:
      text: Of an optimised program, as ``jax.jit(f).lower(...).compile().as_text()`` gives it.

    Returns:
      Its products and collectives.

    Example:
      >>> compiled = jax.jit(lambda a, b: a @ b).lower(jnp.ones((4, 8)), jnp.ones((8, 2))).compile()
      >>> program_costs(compiled.as_text()).dot_flops
      128.0
    """
    computations, entry = _computations(text)
    shapes = {one.name: one.result for body in computations.values() for one in body}
    flops, unknown = 0.0, 0
    collectives: list[Collective] = []
    for instruction, times, in_loop in _executed(computations, entry, 1.0, False):
        kind = instruction.opcode.removesuffix("-start")
        if instruction.opcode == "dot":
            flops += times * _dot_flops(instruction, shapes)
        elif kind in KINDS:
            collectives.append(_collective(instruction, kind, times, in_loop))
        elif instruction.opcode == "while" and "known_trip_count" not in instruction.text:
            unknown += 1
    return ProgramCosts(flops, tuple(collectives), unknown)


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry, name = "", ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if header := _COMPUTATION.match(line):
            name = header[2]
            found[name] = []
            entry = name if header[1] else entry
        elif name and (match := _INSTRUCTION.match(line)):
            opcode = re.search(r"(?:^|[\s)}])([a-z][a-z\-]*)\(", match[2])
            if opcode is not None:
                result, rest = match[2][: opcode.start(1)], match[2][opcode.start(1) :]
                found[name].append(_Instruction(match[1], opcode[1], result, rest))
    return found, entry


def _executed(
    computations: dict[str, list[_Instruction]], name: str, times: float, in_loop: bool
) -> Iterator[tuple[_Instruction, float, bool]]:
    """Every instruction that a call of a computation runs, and how often."""
    for instruction in computations.get(name, []):
        yield instruction, times, in_loop
        trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.text)
        for role, called in _CALLED.findall(instruction.text):
            loops = instruction.opcode == "while" and role == "body"
            factor = float(trips[1]) if loops and trips else 1.0
            for one in re.findall(r"[\w.\-]+", called):
                yield from _executed(computations, one, times * factor, in_loop or loops)


def _array_bytes(text: str) -> list[float]:
    """Bytes of every array that a type names."""
    return [
        _DTYPE_BYTES.get(dtype, 4) * float(math.prod(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _ARRAY.findall(text)
    ]


def _sizes(text: str) -> list[int]:
    match = _ARRAY.search(text)
    assert match is not None, text
    return [int(size) for size in match[2].split(",") if size]


def _dot_flops(instruction: _Instruction, shapes: dict[str, str]) -> float:
    operand = re.search(r"dot\((?:[a-z]+\d*\[[\d,]*\]\S* )?%?([\w.\-]+)", instruction.text)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
    assert operand is not None, instruction.text
    left = _sizes(shapes[operand[1]])
    terms = math.prod(left[int(place)] for place in (contracted[1] if contracted else "").split(",") if place)
    return 2.0 * terms * math.prod(_sizes(instruction.result))


def _collective(instruction: _Instruction, kind: str, times: float, in_loop: bool) -> Collective:
    sizes, devices = _array_bytes(instruction.result), _group_size(instruction.text)
    # The start of an asynchronous one names its operands before its results.
    if instruction.opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
        sizes = sizes[len(sizes) // 2 :] if kind == "all-gather" else sizes[1:2]
    buffer = sum(sizes) * (devices if kind == "reduce-scatter" else 1)
    return Collective(kind, buffer, devices, times, in_loop)


def _group_size(text: str) -> int:
    """Devices in a group; all texts that XLA writes for it: lists, ``[groups,size]<=...`` and axes of a mesh."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
        axes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return math.prod(axes[name] for name in re.findall(r"'(\w+)'", mesh[2]))
    if numbered := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", text):
        return int(numbered[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    return 2  # a permutation has pairs, not groups
