"""A named data set of drawings with captions, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.captioned import CaptionSplits
from transformer_jax.data.sources.registry import names_with, read_captions
from transformer_jax.errors import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedCaptions:
    """A set of `transformer_jax.data.sources.registry` that holds drawings or images with captions.

    Attributes:
      name: ``crohme``.

    Raises:
      ConfigError: If there is no such set.
    """

    kind: Literal["named"] = "named"
    name: str = "crohme"

    def __post_init__(self) -> None:
        check_choice("name", self.name, names_with("captions"))

    def load(self) -> CaptionSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_captions(self.name)
