"""Python arguments in the library's messages, turned into flags of the command line.

The library names what to do by its own arguments, in backticks: "pass `resume=True`". A user of the command line
reads "--resume" there.
"""

import re

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")

_FLAGS = {
    "num_best": "--n-best",
    "num_beams": "--beam",
    "num_devices": "--devices",
    "continues": "--continue",
}
"""Arguments whose flag has another name."""


def with_flags(text: str) -> str:
    """The text with its backticked arguments as flags; other text is left alone.

    Example:
      >>> with_flags("holds a run already: pass `resume=True` or `run_dir=other`")
      'holds a run already: pass --resume or --run-dir other'
    """

    def flag(found: re.Match[str]) -> str:
        name = _FLAGS.get(found[1], "--" + found[1].replace("_", "-"))
        return name if found[2] in (None, "True") else f"{name} {found[2]}"

    return _ARGUMENT.sub(flag, text)
