"""What becomes of lines with more tokens than a model was trained on, or can take."""

from collections.abc import Sequence
from typing import NamedTuple

from transformer_jax.errors import DataError
from transformer_jax.inference.line_report import LineReport


class LineLimit(NamedTuple):
    """Most tokens of a line.

    Attributes:
      trained: In training.
      possible: That the model can take, at least as many.
      name: What messages call the first of them.
    """

    trained: int
    possible: int
    name: str

    def apply(
        self,
        lines: Sequence[list[int]],
        too_long: str,
        report: LineReport,
        *,
        where: str,
        first_line: int,
    ) -> list[list[int] | None]:
        """The lines as they are taken; None for one that is left out.

        Args:
          lines: Ids of each line.
          too_long: What to do with a line over the limit of training: ``"whole"`` takes it where the model can, and
            else leaves it out; ``"skip"`` leaves it out; ``"truncate"`` cuts it; ``"fail"`` raises.
          report: Gets the counts, and a remark on the first such line.
          where: What to call the source of the lines in messages.
          first_line: Number of the first line.

        Raises:
          DataError: If a line is too long and ``too_long`` is ``"fail"``; says which.

        Example:
          >>> LineLimit(2, 3, "max_len").apply(
          ...   [[7], [7, 8, 9], [7] * 4], "whole", LineReport(), where="text", first_line=1)
          [[7], [7, 8, 9], None]
        """
        taken: list[list[int] | None] = []
        for number, ids in enumerate(lines, first_line):
            if len(ids) <= self.trained:
                taken.append(ids)
                continue
            limit = f"the limit of training is {self.trained} ({self.name})"
            message = f"{where}: line {number}: {len(ids)} tokens; {limit}"
            if too_long == "fail":
                raise DataError(f"{message}: shorten it, or choose `too_long=whole`, skip or truncate")
            kept: list[int] | None = ids
            if too_long == "truncate":
                done, kept = "cut off", ids[: self.trained]
            elif too_long == "skip":
                done, kept = "skipped", None
            elif len(ids) <= self.possible:
                done = "more than it was trained on, taken whole"
            else:
                done, kept = f"left out, since the model takes at most {self.possible}", None
            if report.num_too_long == 0 or (kept is None and report.num_left_out == 0):
                report.remark(f"{message}: {done}")
            report.num_too_long += 1
            report.num_left_out += kept is None
            taken.append(kept)
        return taken
