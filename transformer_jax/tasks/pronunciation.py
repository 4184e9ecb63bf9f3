"""Pronunciation of written words, scored by error rates of phonemes and words."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

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
