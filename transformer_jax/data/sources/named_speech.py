"""A named data set of recordings with their texts, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.sources.registry import names_with, read_speech
from transformer_jax.data.utterances import SpeechSplits
from transformer_jax.errors import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedSpeech:
    """A set of `transformer_jax.data.sources.registry` that holds recordings with what is said in them.

    Attributes:
      name: ``an4`` or ``spoken-digits``.
      test_speaker: Of ``spoken-digits``, the speaker that is tested on and not trained on; None takes the official
        test set, of the speakers that are trained on.

    Raises:
      ConfigError: If there is no such set.
    """

    kind: Literal["named"] = "named"
    name: str = "an4"
    test_speaker: str | None = None

    def __post_init__(self) -> None:
        check_choice("name", self.name, names_with("speech"))

    def load(self) -> SpeechSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_speech(self.name, test_speaker=self.test_speaker)
