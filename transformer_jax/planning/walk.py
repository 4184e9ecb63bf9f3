"""A walk through a traced program, equation by equation: operations, traffic and memory of one device.

Layouts go forward from the parameters and the batch (as in GSPMD, Xu et al. 2021, https://arxiv.org/abs/2105.04663, but
with no search): a product over a cut dimension leaves terms of a sum on each device, which are reduced where something
needs the sum itself. So each matrix product, look-up and reduction adds what must go over the links.
"""

import dataclasses
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jax.extend.core import Literal

from transformer_jax.planning.equations import (
    Frame,
    equations_within,
    flops_within,
    inner_jaxpr,
    num_shards,
)
from transformer_jax.planning.layout import (
    Layout,
    local_bytes,
    moved,
)
from transformer_jax.planning.ledger import Ledger
from transformer_jax.planning.rules import PRODUCTS, REDUCTIONS, UNFUSED, ruled
from transformer_jax.training.time_loops import scan_counts


class Walk(Ledger):
    """Adds up what a program costs a device.

    Args:
      sizes: Devices along each axis.

    Attributes:
      peak_bytes: The most that is held at one time, besides the program's arguments.
      largest: What was held then, largest first: bytes, shape and dtype.
      unknown: Primitives without a rule, whose operands are taken to be needed whole.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(sizes)
        self.peak_bytes = 0.0
        self.largest: list[tuple[float, str]] = []
        self.unknown: Counter[str] = Counter()
        self._held = 0.0
        self._frames: list[Frame] = []

    # Memory.

    def _hold(self, frame: Frame, variable: Any, size: float) -> None:
        if self._dry or size <= 0.0 or variable in frame.live:
            return
        frame.live[variable] = size
        self._held += size
        if self._held > self.peak_bytes:
            self.peak_bytes = self._held
            found = [entry for one in self._frames for entry in _named(one.live)]
            self.largest = sorted(found, key=lambda entry: -entry[0])[:8]

    def _release(self, frame: Frame, place: int) -> None:
        if self._dry:
            return
        for variable in [one for one in frame.live if frame.last_use.get(one, -1) <= place]:
            self._held -= frame.live.pop(variable)

    # The walk.

    def run(
        self,
        jaxpr: Any,
        layouts: Sequence[Layout],
        *,
        copies: Sequence[float] = (),
        targets: Sequence[Layout | None] = (),
    ) -> list[Layout]:
        """Walk a jaxpr.

        Args:
          jaxpr: Its equations.
          layouts: Of its arguments.
          copies: Bytes that copies of arguments take, gathered ones, from their first to their last use.
          targets: Where results shall lie as soon as they are made; None leaves them where they are.

        Returns:
          Layouts of its results.
        """
        wanted = {
            atom: target
            for atom, target in zip(jaxpr.outvars, targets)
            if target is not None and not isinstance(atom, Literal)
        }
        return self._run(jaxpr, layouts, copies, wanted)[0]

    def _run(
        self,
        jaxpr: Any,
        layouts: Sequence[Layout],
        sizes_of_copies: Sequence[float] = (),
        targets: Mapping[Any, Layout] = MappingProxyType({}),
    ) -> tuple[list[Layout], list[Layout]]:
        frame = Frame.of(jaxpr)
        frame.layouts |= {one: Layout.whole(len(one.aval.shape)) for one in jaxpr.constvars}
        frame.layouts |= dict(zip(jaxpr.invars, layouts, strict=True))
        copies = dict(zip(jaxpr.invars, sizes_of_copies))
        self._frames.append(frame)
        for place, equation in enumerate(jaxpr.eqns):
            for atom in equation.invars:
                if not isinstance(atom, Literal) and atom in copies:
                    self._hold(frame, atom, copies.pop(atom))
            outputs = self._equation(frame, equation)
            for variable, layout in zip(equation.outvars, outputs):
                frame.layouts[variable] = layout
                frame.made[variable] = place
                if variable in targets:
                    with self._scaled(self._result_times):
                        self._bring(frame, variable, targets[variable])
                    layout = frame.layouts[variable] = targets[variable]
                if frame.is_kept(variable):
                    self._hold(frame, variable, local_bytes(variable.aval, layout, self.sizes))
            self._release(frame, place)
        found = [frame.layout(atom) for atom in jaxpr.outvars]
        self._release(frame, len(jaxpr.eqns) + 1)
        self._frames.pop()
        return found, [frame.layouts[one] for one in jaxpr.invars]

    def _bring(self, frame: Frame, atom: Any, target: Layout) -> None:
        """Move an operand to where it is needed; sums that are taken stay so for its other readers."""
        layout = frame.layout(atom)
        if isinstance(atom, Literal) or layout == target or (layout.free and target.partial):
            return
        if layout.free:
            frame.layouts[atom] = target
            if not target.free and frame.is_kept(atom):
                self._hold(frame, atom, local_bytes(atom.aval, target, self.sizes))
            return
        if (atom, target) in frame.moved:
            return
        frame.moved.add((atom, target))
        for one in moved(atom.aval, layout, target, self.sizes):
            self.transfer(one)
        if layout.partial != target.partial:
            frame.layouts[atom] = target

    def _equation(self, frame: Frame, equation: Any) -> list[Layout]:
        name, layouts = equation.primitive.name, [frame.layout(atom) for atom in equation.invars]
        if name == "scan":
            return self._scan(frame, equation)
        if name == "while":
            return self._while(frame, equation, layouts)
        if name == "cond":
            return self._cond(frame, equation, layouts)
        if name == "shard_map":
            return self._shard_map(frame, equation)
        called = inner_jaxpr(equation)
        if called is not None:
            outputs, after = self._run(called, layouts)
            for atom, before, now in zip(equation.invars, layouts, after):
                if not isinstance(atom, Literal) and before != now:
                    frame.layouts[atom] = now
            return outputs
        found = ruled(equation, layouts, self.sizes)
        if found is None:
            if not self._dry:
                self.unknown[name] += 1
            whole = [Layout.whole(len(atom.aval.shape)) for atom in (*equation.invars, *equation.outvars)]
            operands, outputs = whole[: len(layouts)], whole[len(layouts) :]
        else:
            operands, outputs = found.operands, found.outputs
            for one in found.transfers:
                self.transfer(one)
        for atom, layout in zip(equation.invars, operands):
            self._bring(frame, atom, layout)
        if name in UNFUSED or name in REDUCTIONS:
            self._operation(equation, operands, outputs)
        if name == "reshape":
            return outputs
        inner = {axis: size for layout in layouts for axis, size in layout.inner}
        return [
            dataclasses.replace(one, inner=tuple((axis, inner[axis]) for axis in one.axes if axis in inner))
            for one in outputs
        ]

    def _scan(self, frame: Frame, equation: Any) -> list[Layout]:
        params = equation.params
        consts, carries = scan_counts(equation)
        for place, atom in enumerate(equation.invars):
            layout = frame.layout(atom)
            carried = consts <= place < consts + carries
            if layout.partial:
                self._bring(frame, atom, Layout(layout.cuts))
            elif (
                not carried and place >= consts and layout.cuts[0]
            ):  # the loop takes one entry after the other
                self._bring(frame, atom, Layout(((), *layout.cuts[1:])))
        layouts = [frame.layout(atom) for atom in equation.invars]
        slices = [Layout(one.cuts[1:], one.partial, one.free) for one in layouts[consts + carries :]]
        start = carry = layouts[consts : consts + carries]
        body = params["jaxpr"].jaxpr
        with self._without_recording():
            for _ in range(4):
                results = self._run(body, [*layouts[:consts], *carry, *slices])[0][:carries]
                following = [
                    one if first.free else Layout(one.cuts, frozenset(), one.free)
                    for one, first in zip(results, start)
                ]
                if following == carry:
                    break
                carry = following
        for atom, layout in zip(equation.invars[consts : consts + carries], carry):
            self._bring(frame, atom, layout)
        with self._loop(float(params["length"])):
            outputs, _ = self._run(body, [*layouts[:consts], *carry, *slices])
            stacked = []
            for place, (variable, layout) in enumerate(zip(body.outvars, outputs)):
                target = carry[place] if place < carries else Layout(layout.cuts, frozenset(), layout.free)
                for one in moved(variable.aval, layout, target, self.sizes):
                    self.transfer(one)
                stacked.append(target if place < carries else Layout(((), *target.cuts), free=target.free))
            if not self._dry and any(one.primitive.name in PRODUCTS for one in equations_within(body)):
                self.loop_steps += self._times
        return stacked

    def _shard_map(self, frame: Frame, equation: Any) -> list[Layout]:
        """A program for one device of the axes that it names: its arrays are parts already."""
        params = equation.params
        own = params["newly_manual_axes"]

        def of_shards(spec: Any, layout: Layout) -> Layout:
            named = [one if isinstance(one, tuple) else (one,) * (one is not None) for one in spec]
            named += [()] * (len(layout.cuts) - len(named))
            return dataclasses.replace(layout, cuts=tuple(map(operator.add, named, layout.cuts)), free=False)

        def within(layout: Layout) -> Layout:
            cuts = tuple(tuple(axis for axis in cut if axis not in own) for cut in layout.cuts)
            return Layout(cuts, free=layout.free)

        inner = [within(frame.layout(atom)) for atom in equation.invars]
        for spec, atom, layout in zip(params["in_specs"], equation.invars, inner):
            self._bring(frame, atom, of_shards(spec, layout))
        with self._scaled(shards=num_shards(equation)):
            outputs, _ = self._run(params["jaxpr"], inner)
        return [of_shards(spec, layout) for spec, layout in zip(params["out_specs"], outputs)]

    def _while(self, frame: Frame, equation: Any, layouts: list[Layout]) -> list[Layout]:
        """A loop of unknown length, counted once."""
        if not self._dry:
            self.unknown["while"] += 1
        first = equation.params["cond_nconsts"]
        with self._loop(1.0):
            return self._run(equation.params["body_jaxpr"].jaxpr, layouts[first:])[0]

    def _cond(self, frame: Frame, equation: Any, layouts: list[Layout]) -> list[Layout]:
        """Of all branches the one that multiplies most."""
        branches = [one.jaxpr for one in equation.params["branches"]]
        costs = [flops_within(branch) for branch in branches]
        return self._run(branches[costs.index(max(costs))], layouts[1:])[0]


def _named(live: dict[Any, float]) -> Iterator[tuple[float, str]]:
    for variable, size in live.items():
        yield size, f"{variable.aval.dtype.name}[{','.join(map(str, variable.aval.shape))}]"
