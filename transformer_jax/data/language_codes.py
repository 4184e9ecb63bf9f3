"""Codes of languages in configs."""

import re

from transformer_jax.errors import ConfigError


def check_languages(**codes: str | None) -> None:
    """Raise ``ConfigError`` unless each value is the code of a language as in ``de`` or ``pt-BR``, or None.

    Example:
      >>> check_languages(source_language="de", target_language=None)
    """
    for name, value in codes.items():
        if value is not None and re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", value) is None:
            raise ConfigError(f"{name} must be the code of a language as in 'de' or 'pt-BR', got {value!r}")
