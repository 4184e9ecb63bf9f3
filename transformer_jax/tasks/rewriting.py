"""Rewriting of lines, such as summaries and code, scored by ROUGE and exact matches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from transformer_jax.data.line_pairs import EvaluationItem
from transformer_jax.data.prepare import limited_splits
from transformer_jax.evaluate.rouge import exact_match, rouge_l, rouge_words
from transformer_jax.evaluate.text import TextScore
from transformer_jax.tasks.pairs import PairTask
from transformer_jax.tasks.task import Direction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewriting(PairTask):
    """Lines to lines that are much like them: e-mails to subjects, English to code.

    Where a test pair stands in the training set, too, knowing it by heart is enough: exact matches of the pairs that do
    not are counted apart.

    Example:
      >>> sorted(Rewriting.metrics)
      ['bleu', 'exact', 'rouge1', 'rouge2', 'rougel']
    """

    kind: Literal["rewriting"] = "rewriting"
    score_kind: ClassVar[Literal["rewriting"]] = "rewriting"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "exact": "max",
        "rouge1": "max",
        "rouge2": "max",
        "rougel": "max",
        "bleu": "max",
    }
    sentence_measure: ClassVar[str] = "ROUGE-L, against the nearest reference"

    def sentence_score(self, output: str, references: Sequence[str]) -> float:
        """ROUGE-L of one output, against the nearest reference, from 0 to 100.

        Example:
          >>> Rewriting().sentence_score("police kill the gunman", ["police killed the gunman"])
          75.0
        """
        found = rouge_words(output)
        return 100.0 * max(rouge_l(found, rouge_words(one)) for one in references)

    def scores_apart(
        self, items: Sequence[EvaluationItem], outputs: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[TextScore, ...]:
        """Exact matches of the items that are no training pair; nothing where all or none are.

        Args:
          items: Of the task's own data, as they were read.
          outputs: One for each.
          references: Of each output, in the form that scores are taken of.
        """
        train = limited_splits(self.data.dataset.load(), self.data).train
        seen = {(pair.source, pair.target) for pair in train}
        unseen = [
            place
            for place, item in enumerate(items)
            if not any((item.source, one) in seen for one in item.references)
        ]
        if len(unseen) in (0, len(items)):
            return ()
        chosen: list[Any] = [[values[place] for place in unseen] for values in (outputs, references)]
        return (exact_match(*chosen, name="exact_unseen"),)
