"""A named data set of text, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.documents import TextSplits
from transformer_jax.data.sources.registry import names_with, read_text
from transformer_jax.errors import nearest_hint, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedText:
    """A set of `transformer_jax.data.sources.registry` that holds documents of text, with its published split.

    Attributes:
      name: ``tinyshakespeare``, ``war-and-peace``, ``english-novels`` or ``gcide``.
    """

    kind: Literal["named"] = "named"
    name: str = "tinyshakespeare"

    def __post_init__(self) -> None:
        usable = names_with("text")
        require(
            self.name in usable,
            f"no data set '{self.name}' of text{nearest_hint(self.name, usable)}; known: {', '.join(usable)}",
        )

    def load(self) -> TextSplits:
        """Read the three parts of the set.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_text(self.name)
