r"""Lines cut at white space and around each punctuation mark, so that words of both sides are the same, and back again.

``self._lock.writer`` and ``self . _lock . writer`` have no token in common until both are cut. A cut line has single
spaces between its tokens; what that loses stands in it as tokens of their own, so that the line can be had back:

- ``￭`` joins its neighbours, which had no space between them;
- ``␣`` is a space beside another white space character, ``␛0009`` another character of white space, here a tab;
- a character of the line that is one of these three marks is written ``␛`` with its number, too.
"""

import dataclasses
import re

from transformer_jax.data.line_pairs import LineForm
from transformer_jax.data.pairs_config import PairsConfig

JOINED = "\uffed"
"""Token that joins its neighbours."""

_SPACE, _ESCAPE = "\u2423", "\u241b"
_MARKS = (JOINED, _SPACE, _ESCAPE)
_PIECE = re.compile(r"\w+|[^\w\s]|\s+")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4,6}})")


def cut_text(line: str, *, marks: bool = True) -> str:
    r"""The line without white space at its ends, cut into words and single punctuation marks.

    Args:
      line: Plain text.
      marks: Whether the result says where no space, or more than a single space, was; `joined_text` needs it.

    Example:
      >>> cut_text("call self._lock"), cut_text("call self._lock", marks=False)
      ('call self ￭ . ￭ _lock', 'call self . _lock')
    """
    tokens: list[str] = []
    is_apart = True  # whether the next piece is apart from the one before by what stands in the tokens
    for found in _PIECE.finditer(line.strip()):
        piece = found[0]
        if piece.isspace():
            if piece != " " and marks:
                tokens += [_SPACE if one == " " else _escaped(one) for one in piece]
            is_apart = True
            continue
        if not is_apart and marks:
            tokens.append(JOINED)
        tokens.append(_escaped(piece) if piece in _MARKS else piece)
        is_apart = False
    return " ".join(tokens)


def joined_text(line: str) -> str:
    r"""The line that `cut_text` cut.

    Example:
      >>> joined_text(cut_text("x = 'a  b:\t%s'"))
      "x = 'a  b:\t%s'"
    """
    text, is_joined = "", True
    for token in line.split(" "):
        if token == JOINED:
            is_joined = True
            continue
        piece = " " if token == _SPACE else _plain(token)
        if piece.isspace():
            text, is_joined = text + piece, True
        elif piece:
            text, is_joined = text + ("" if is_joined else " ") + piece, False
    return text


def _escaped(character: str) -> str:
    return f"{_ESCAPE}{ord(character):04x}"


def _plain(token: str) -> str:
    found = _ESCAPED.fullmatch(token)
    return chr(int(found[1], 16)) if found and int(found[1], 16) < 0x110000 else token


@dataclasses.dataclass(frozen=True)
class CutSides(LineForm):
    """Both sides of a data set cut into words and punctuation marks.

    Attributes:
      lowercase: Whether lines are lower-cased first.
      source_marks: Whether sources say where no space was.
    """

    lowercase: bool
    source_marks: bool

    @classmethod
    def of(cls, config: PairsConfig) -> "CutSides | None":
        """How a config cuts both sides; None if it does not."""
        return None if config.cut is None else cls(config.cut.lowercase, config.cut.source_marks)

    def source(self, line: str) -> str:
        """A source in tokens."""
        return cut_text(line.lower() if self.lowercase else line, marks=self.source_marks)

    def target(self, line: str) -> str:
        """A target in tokens."""
        return cut_text(line.lower() if self.lowercase else line)

    def plain_target(self, line: str) -> str:
        """A target's tokens as plain text again."""
        return joined_text(line)

    @property
    def description(self) -> str:
        """The form in words."""
        return f"words and punctuation marks{', lower case' if self.lowercase else ''}"
