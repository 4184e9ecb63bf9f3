"""Fonts that have the characters of a text: the usual one, and of those that are installed what it lacks."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# A box for every character there is; and fonts whose characters are not what their code points say.
_NO_FONTS = (
    "Last Resort", "LastResort", "STIXNonUnicode", "cmb10", "cmex10", "cmmi10", "cmr10", "cmss10", "cmsy10", "cmti10",
    "cmtt10",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Drawable:
    """Texts as they can be drawn.

    Attributes:
      texts: The texts; a character that no installed font has is its code point, as in ``U+4F60``.
      options: Of matplotlib's ``Text``: the families of fonts, in which a character is looked for in turn, and that a
        dollar sign starts no formula.
      missing: The characters that no installed font has, in order.
    """

    texts: tuple[str, ...]
    options: dict[str, Any]
    missing: str


def drawable(texts: Iterable[str]) -> Drawable:
    """Choose fonts that have the characters of these texts.

    Args:
      texts: Labels or titles of one figure.

    Example:
      >>> found = drawable(["cat", "a $5 note"])
      >>> found.texts, found.missing
      (('cat', 'a $5 note'), '')
    """
    from matplotlib import rcParams

    texts = tuple(texts)
    wanted = dict.fromkeys(character for text in texts for character in text if character != " ")
    families, lacking = list(rcParams["font.family"]), [one for one in wanted if ord(one) not in _usual()]
    while lacking:
        family, covered = _best(tuple(lacking))
        if not covered:
            break
        families.append(family)
        lacking = [one for one in lacking if ord(one) not in covered]
    shown = str.maketrans({one: f"U+{ord(one):04X}" for one in lacking})
    options = {"fontfamily": families, "parse_math": False}
    return Drawable(tuple(text.translate(shown) for text in texts), options, "".join(lacking))


def missing_characters(texts: Iterable[str]) -> str:
    """The characters that no installed font has, in order: figures show their code points.

    Example:
      >>> missing_characters(["cat"])
      ''
    """
    return drawable(texts).missing


def _best(characters: Sequence[str]) -> tuple[str, frozenset[int]]:
    """The family that has most of the characters, and which."""
    from matplotlib import font_manager

    codes, best = frozenset(map(ord, characters)), ("", frozenset[int]())
    entries = {(entry.name, entry.fname) for entry in font_manager.fontManager.ttflist}
    for name, path in sorted(entries):
        if name.startswith(_NO_FONTS):
            continue
        covered = codes & _characters(path)
        if len(covered) > len(best[1]):
            best = (name, covered)
        if len(covered) == len(codes):
            break
    return best


@functools.cache
def _usual() -> frozenset[int]:
    from matplotlib import font_manager

    return _characters(font_manager.findfont(font_manager.FontProperties()))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Code points that a font file has glyphs for; none of one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(Path(path)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
