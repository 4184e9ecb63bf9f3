"""Outputs changed by a model's attention: reranking by coverage, and replacement of unknown tokens."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformer_jax.data.batches import UNK_ID
from transformer_jax.decode.coverage import coverage_penalty
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import RunError
from transformer_jax.inference.batch_search import Hypothesis

if TYPE_CHECKING:
    from transformer_jax.inference.translator import Translator


class AlignedOutputs:
    """Reranks hypotheses and finds the source words that replace unknown tokens.

    Args:
      translator: The model and its tokenizers.
      search: The search that found the hypotheses.
      coverage: Beta of the coverage penalty; 0 leaves the ranks.
      replaces_unknown: Whether an unknown token becomes the source word that was looked at most.

    Raises:
      RunError: If the model has no attention.
    """

    def __init__(
        self, translator: "Translator", search: SearchConfig, *, coverage: float, replaces_unknown: bool
    ) -> None:
        if replaces_unknown and translator.data.copies_unknown:
            raise RunError(
                f"the model of '{translator.name}' copies unknown words itself: leave `replace_unknown` out"
            )
        self._translator, self._coverage, self._replaces_unknown = translator, coverage, replaces_unknown
        self._reader = translator.attention_reader(search)
        option = "`coverage_penalty`" if coverage else "`replace_unknown`"
        self._reader.require_attention(translator.state, name=translator.name, option=option)

    def __call__(
        self,
        state: Any,
        lines: Sequence[str],
        sources: Sequence[Sequence[int]],
        found: Sequence[Sequence[Hypothesis]],
    ) -> list[list[Hypothesis]]:
        """The hypotheses of every line, best first by their scores with coverage, their unknown tokens named.

        Args:
          state: The model's state.
          lines: The lines as they were read.
          sources: Their ids; a line without ids keeps its hypothesis.
          found: What the search found for them.
        """
        changed = [list(hypotheses) for hypotheses in found]
        places = [
            (line, rank)
            for line, hypotheses in enumerate(found)
            if sources[line]
            for rank, one in enumerate(hypotheses)
            if self._coverage or UNK_ID in one.tokens
        ]
        alignments = self._reader(
            state,
            [sources[line] for line, _ in places],
            [found[line][rank] for line, rank in places],
            self._translator.source_tokenizer,
            self._translator.target_tokenizer,
        )
        for (line, rank), alignment in zip(places, alignments, strict=True):
            one, weights = found[line][rank], alignment.mean_of_last()
            if self._coverage:
                one = dataclasses.replace(one, score=one.score + coverage_penalty(weights, self._coverage))
            if self._replaces_unknown:
                one = dataclasses.replace(one, copied=self._copied(one, lines[line], weights.argmax(axis=1)))
            changed[line][rank] = one
        if not self._coverage:
            return changed
        return [sorted(hypotheses, key=lambda one: -one.score) for hypotheses in changed]

    def _copied(self, one: Hypothesis, line: str, looked_at: Any) -> tuple[str, ...]:
        """The source word for each unknown token; of several in a row for one word, the first has it."""
        copied: list[str] = []
        before: str | None = None
        for step, token in enumerate(one.tokens):
            word = self._translator.source_word(line, int(looked_at[step])) if token == UNK_ID else None
            if word is not None:
                copied.append("" if word == before else word)
            before = word
        return tuple(copied)
