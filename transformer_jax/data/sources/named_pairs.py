"""A named data set of pairs, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.line_pairs import PairSplits
from transformer_jax.data.sources.registry import DATASETS, names_with, read_pairs
from transformer_jax.errors import nearest_hint, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A set of `transformer_jax.data.sources.registry` that holds pairs of lines.

    Attributes:
      name: ``cmudict``, ``cmudict-g2p``, ``multi30k``, ``tatoeba-zh-en``, ``aeslc`` or ``django-code``.
      source_language: Of a set of translations, the language to read; None for other sets.
      target_language: Of a set of translations, the language to write; None for other sets.
    """

    kind: Literal["named"] = "named"
    name: str = "cmudict"
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        usable = names_with("pairs", "pronunciations")
        require(
            self.name in usable,
            f"no data set '{self.name}' of pairs{nearest_hint(self.name, usable)}; known: "
            f"{', '.join(usable)}",
        )
        languages = DATASETS[self.name].languages
        chosen = (self.source_language, self.target_language)
        if not languages:
            require(
                chosen == (None, None),
                f"data set '{self.name}' has no languages to choose, got source_language "
                f"{self.source_language!r} and target_language {self.target_language!r}",
            )
        else:
            require(
                all(one in languages for one in chosen) and chosen[0] != chosen[1],
                f"data set '{self.name}' needs two of the languages {', '.join(languages)}; got "
                f"source_language {self.source_language!r} and target_language {self.target_language!r}",
            )

    def load(self) -> PairSplits:
        """Read the three parts of the set.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_pairs(
            self.name, source_language=self.source_language, target_language=self.target_language
        )
