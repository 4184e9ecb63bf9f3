"""How a text is written before it is cut into tokens, in training and ever after."""

import re

# Words with apostrophes, hyphens, and points or commas between digits stay whole; every other sign stands alone.
_PIECES = re.compile(r"\w+(?:['’-]\w+|(?<=\d)[.,]\d+)*|[^\w\s]", re.UNICODE)


def clean_text(text: str, *, lowercase: bool, splits_punctuation: bool) -> str:
    """A text with single spaces between its words.

    Args:
      text: Any text.
      lowercase: Whether to write it in lower case.
      splits_punctuation: Whether punctuation becomes words of its own, so that ``Rome?`` is known where ``Rome`` is.

    Example:
      >>> clean_text("Who's in  Rome? 1,000 (or so).", lowercase=True, splits_punctuation=True)
      "who's in rome ? 1,000 ( or so ) ."
      >>> clean_text(" A  B. ", lowercase=False, splits_punctuation=False)
      'A B.'
    """
    words = _PIECES.findall(text) if splits_punctuation else text.split()
    joined = " ".join(words)
    return joined.lower() if lowercase else joined
