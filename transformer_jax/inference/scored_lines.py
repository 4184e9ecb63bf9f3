"""Scores of a corpus of pairs of lines, group by group, with their totals: a file need not fit into memory."""

import math
from collections.abc import Sequence

from transformer_jax.inference.token_scores import perplexity
from transformer_jax.inference.translated import PairScore
from transformer_jax.inference.translator import TooLong, Translator


class ScoredLines:
    """Scores pairs of lines and sums them up.

    Args:
      translator: The trained model; its report takes the remarks on lines.
      source_name: Of the sources in messages.
      target_name: Of the targets.
      too_long: What to do with lines over the limit of training, see `Translator.encode`.

    Attributes:
      num_lines: Pairs so far.
      num_left_out: Those that were too long; their score is NaN.
      num_tokens: Tokens of the other pairs' targets, their ends included.
      num_unknown: Those that the target tokenizer does not know.
      log_prob: Sum over the scored pairs, in nats.
    """

    def __init__(
        self, translator: Translator, *, source_name: str, target_name: str, too_long: TooLong = "whole"
    ) -> None:
        self._translator, self._scorer, self._too_long = translator, translator.scorer(), too_long
        self._names = source_name, target_name
        self._state = translator.state
        self.num_lines = self.num_left_out = self.num_tokens = self.num_unknown = 0
        self.log_prob = 0.0

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Scores of the next pairs; those that are too long have NaN and no token.

        Raises:
          DataError: If a line is too long and ``too_long`` is ``"fail"``.
        """
        translator = self._translator
        first = self.num_lines + 1
        both = translator.taken_pairs(
            [one for one, _ in pairs],
            [one for _, one in pairs],
            too_long=self._too_long,
            where=self._names,
            first_line=first,
        )
        taken = {index: (a, b) for index, (a, b) in enumerate(both) if a is not None and b is not None}
        scores = self._scorer(self._state, [a for a, _ in taken.values()], [b for _, b in taken.values()])
        found = [PairScore(log_prob=math.nan, num_tokens=0)] * len(pairs)
        for (index, (_, target)), score in zip(taken.items(), scores, strict=True):
            found[index] = PairScore(log_prob=score, num_tokens=len(target) + 1)
            self.num_tokens += len(target) + 1
            self.num_unknown += translator.target_tokenizer.count_unknown(target)
        self.log_prob += math.fsum(scores)
        self.num_lines += len(pairs)
        self.num_left_out += len(pairs) - len(taken)
        return found

    @property
    def perplexity(self) -> float:
        """Of a target token; NaN where no pair was scored."""
        return perplexity(-self.log_prob, self.num_tokens)
