"""Translation of lines, scored by BLEU and chrF."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from transformer_jax.tasks.pairs import PairTask
from transformer_jax.tasks.task import Direction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(PairTask):
    """Lines of one language to lines of another, or any other text to text.

    Example:
      >>> sorted(Translation.metrics)
      ['bleu', 'cer', 'chrf', 'wer']
    """

    kind: Literal["translation"] = "translation"
    score_kind: ClassVar[Literal["translation"]] = "translation"
    metrics: ClassVar[Mapping[str, Direction]] = {"bleu": "max", "chrf": "max", "wer": "min", "cer": "min"}
