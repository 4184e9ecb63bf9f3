"""Text of tokens as they come, and where a stop text ends it."""

from collections.abc import Sequence

from transformer_jax.data.tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"
_CONTEXT = 8


class GrowingText:
    """The text behind a prompt, token by token; each token is decoded once, whatever stands before it.

    Args:
      tokenizer: Of the tokens.
      before: Ids of the prompt.
      stops: Texts that end the output, which is cut before the first one.

    Example:
      >>> from transformer_jax.data.byte_tokenizer import single_byte_tokenizer
      >>> tokenizer = single_byte_tokenizer()
      >>> text = GrowingText(tokenizer, (), stops=["."])
      >>> [text.add(token) for token in tokenizer.encode("\u00e9a.b")]
      [False, False, False, True, True]
      >>> text.text, text.num_tokens, text.stopped
      ('\u00e9a', 3, True)
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], *, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._longest = max(map(len, stops), default=1)
        self._before, self._pending = list(before[-_CONTEXT:]), list[int]()
        self._parts, self._tail = list[str](), ""
        self._settled = 0  # characters of the parts
        self._starts = list[int]()  # of each token's text
        self._end: int | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._end is not None

    @property
    def text(self) -> str:
        """The text so far; before the stop text where one has come."""
        return ("".join(self._parts) + self._tail)[: self._end]

    def between(self, start: int, stop: int) -> str:
        """Characters of the text, without putting together those before ``start``."""
        total = self._settled + len(self._tail)
        return self._last_characters(total - start)[: max(0, stop - start)] if start < total else ""

    @property
    def length(self) -> int:
        """Characters of the text."""
        return self._settled + len(self._tail) if self._end is None else self._end

    @property
    def num_tokens(self) -> int:
        """Tokens whose text begins before the stop text."""
        if self._end is None:
            return len(self._starts)
        return sum(start < self._end for start in self._starts)

    @property
    def num_ready(self) -> int:
        """Characters that stay as they are whatever comes: whole, and no beginning of a stop text."""
        whole = self._settled + len(self._tail.rstrip(_REPLACEMENT))
        return self.length if self.stopped else max(0, whole - (self._longest - 1))

    def add(self, token: int) -> bool:
        """Take one more token; whether a stop text has come."""
        if self.stopped:
            return True
        self._starts.append(self._settled + len(self._tail))
        self._pending.append(token)
        self._tail = self._tokenizer.decode_text(self._pending, before=self._before)
        window = self._last_characters(self._longest + len(self._tail))
        found = [place for one in self._stops if (place := window.find(one)) >= 0]
        if found:
            self._end = self._settled + len(self._tail) - len(window) + min(found)
        elif not self._tail.endswith(_REPLACEMENT):  # the last character is whole
            self._parts.append(self._tail)
            self._settled += len(self._tail)
            self._before, self._pending = [*self._before, *self._pending][-_CONTEXT:], []
            self._tail = ""
        return self.stopped

    def _last_characters(self, count: int) -> str:
        """The last so many characters, or all there are."""
        parts, length = [self._tail], len(self._tail)
        for part in reversed(self._parts):
            if length >= count:
                break
            parts.append(part)
            length += len(part)
        return "".join(reversed(parts))[-count:] if length else ""
