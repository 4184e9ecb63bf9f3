"""Pronunciation of written words, scored by error rates of phonemes and words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from transformer_jax.evaluate.error_rates import edit_distance
from transformer_jax.tasks.pairs import PairTask
from transformer_jax.tasks.task import Direction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pronunciation(PairTask):
    """Letters to phonemes; a word may have several pronunciations, and any of them is right.

    Example:
      >>> Pronunciation.metrics
      {'per': 'min', 'wer': 'min'}
    """

    kind: Literal["pronunciation"] = "pronunciation"
    score_kind: ClassVar[Literal["pronunciation"]] = "pronunciation"
    metrics: ClassVar[Mapping[str, Direction]] = {"per": "min", "wer": "min"}
    compares_texts: ClassVar[bool] = False
    sentence_measure: ClassVar[str] = "the share of phonemes that are right, against the nearest reference"

    def sentence_score(self, output: str, references: Sequence[str]) -> float:
        """Share of the phonemes that are right, against the nearest reference, from 0 to 100.

        Example:
          >>> Pronunciation().sentence_score("K AE T", ["K AE T S", "K AA T S"])
          75.0
        """
        said = output.split()
        wanted = [reference.split() for reference in references]
        return max(100.0 * (1.0 - edit_distance(said, one) / max(len(one), len(said), 1)) for one in wanted)
