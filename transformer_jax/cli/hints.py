"""Python arguments in the library's messages, turned into flags of the command line.

The library names what to do by its own arguments, in backticks: "pass `resume=True`". A user of the command line
reads "--resume" there. A value of the config, "`train.updates=20`", is written as "--set train.updates=20".
"""

import re

_ARGUMENT = re.compile(r"(?<!`)`([a-z][a-z0-9_.]*)(?:=([^`]*))?`(?!`)")

_FLAGS = {
    "allow_unlike": "--unlike-machines",
    "continues": "--continue",
    "lengths": "--length",
    "lines": "--line",
    "num_beams": "--beam",
    "num_best": "--n-best",
    "num_devices": "--devices",
    "overrides": "--set",
    "start": "--warm-start",
    "timeout": "--host-timeout",
    "vocab_sizes": "--vocab-size",
}
"""Arguments whose flag has another name."""


def with_flags(text: str) -> str:
    """The text with its backticked arguments as flags; other text is left alone.

    Example:
      >>> with_flags("holds a run already: pass `resume=True` or `run_dir=other`")
      'holds a run already: pass --resume or --run-dir other'
      >>> with_flags("go on with `train.on_divergence=skip`")
      'go on with --set train.on_divergence=skip'
    """

    def flag(found: re.Match[str]) -> str:
        if "." in found[1]:
            return f"--set {found[0].strip('`')}"
        name = _FLAGS.get(found[1], "--" + found[1].replace("_", "-"))
        return name if found[2] in (None, "True") else f"{name} {found[2]}"

    return _ARGUMENT.sub(flag, text)
