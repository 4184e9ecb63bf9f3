r"""One output, one line: characters at which a program may end a line are written as escapes.

Files are read here by line feeds alone, but Python's ``str.splitlines``, editors and spreadsheets end a line at nine
more characters, and a NUL makes a text file binary. A byte-level tokenizer can write any of them.
"""

import re

# Where `str.splitlines` ends a line, and NUL.
_BREAKS = re.compile("[\0\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\v": r"\v", "\f": r"\f"}


def escape_line_breaks(text: str) -> str:
    r"""The text on one line: line breaks and NUL as ``\n``, ``\r``, ``\x85``, ``\u2028`` and the like.

    Nothing else changes, backslashes included, so that ordinary text stays as it is.

    Example:
      >>> print(escape_line_breaks("two\nlines\u2028or three \\ more"))
      two\nlines\u2028or three \ more
    """
    return _BREAKS.sub(_escaped, text)


def escape_field(text: str) -> str:
    r"""The text as one field of a row of fields separated by tabs: `escape_line_breaks`, and tabs as ``\t``.

    Example:
      >>> print(escape_field("a\tb\n"))
      a\tb\n
    """
    return escape_line_breaks(text).replace("\t", r"\t")


def unescape_line(text: str) -> str:
    r"""The text of a line in which ``\n`` stands for a line break and ``\\`` for a backslash; others stay.

    Example:
      >>> unescape_line(r"two\nlines, a\\name, C:\temp").splitlines()
      ['two', 'lines, a\\name, C:\\temp']
    """
    return re.sub(r"\\([n\\])", lambda found: "\n" if found[1] == "n" else "\\", text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
