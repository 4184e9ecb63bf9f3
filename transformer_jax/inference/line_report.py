"""Counts of what was done to lines on their way through a model: unknown pieces, lengths, line breaks."""

import collections
import dataclasses

from transformer_jax.notes import note


@dataclasses.dataclass
class LineReport:
    """Counts of what was done to the lines of one job, and remarks for the user.

    Attributes:
      unknown: Pieces that were never seen in training, with their counts.
      num_too_long: Lines over the limit of training.
      num_left_out: Those of them that were left out: as asked, or because the model cannot take them.
      num_line_breaks: Outputs that held a line break, which was written as an escape.
      unit: What a piece is called, such as ``"character"``.
    """

    unknown: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    num_too_long: int = 0
    num_left_out: int = 0
    num_line_breaks: int = 0
    unit: str = "piece"
    _pending: list[str] = dataclasses.field(default_factory=list)

    def remark(self, text: str) -> None:
        """Keep a remark for whoever reads the report next."""
        self._pending.append(text)

    def take_remarks(self) -> list[str]:
        """Remarks since the last call, such as the first line that was too long."""
        taken, self._pending = self._pending, []
        return taken

    def note_all(self) -> None:
        """Hand remarks and counts to whoever listens, or to Python's logging as warnings."""
        for text in (*self.take_remarks(), *self.lines()):
            note(f"note: {text}", is_warning=True)

    def lines(self) -> list[str]:
        """The counts in words, a line each; none where nothing happened.

        Example:
          >>> LineReport(num_too_long=3, num_left_out=1).lines()
          ['3 lines were over the limit of training, 1 of them left out']
        """
        found = []
        if self.unknown:
            total = sum(self.unknown.values())
            shown = ", ".join(f"{piece!r} {count}" for piece, count in self.unknown.most_common(8))
            more = f", and {len(self.unknown) - 8} more kinds" if len(self.unknown) > 8 else ""
            kinds = f"{total:,} {self.unit}{'s' if total != 1 else ''}"
            found.append(f"{kinds} never seen in training became <unk>: {shown}{more}")
        if self.num_too_long > 1:
            left_out = f", {self.num_left_out:,} of them left out" if self.num_left_out else ""
            found.append(f"{self.num_too_long:,} lines were over the limit of training{left_out}")
        if self.num_line_breaks:
            are = "output holds" if self.num_line_breaks == 1 else "outputs hold"
            found.append(
                f"{self.num_line_breaks:,} {are} a line break (or NUL), written as \\n, \\r, \\u2028 and so on: "
                "one line each"
            )
        return found
