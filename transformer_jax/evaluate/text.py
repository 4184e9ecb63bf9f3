"""BLEU and chrF of translations, by sacrebleu, with the signatures that make scores comparable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformer_jax.errors import DataError


@dataclass(frozen=True)
class TextScore:
    """A score with what was computed exactly.

    Attributes:
      name: ``BLEU`` or ``chrF2`` and the like.
      score: From 0 to 100.
      signature: sacrebleu's description of the metric, its options and its version.
    """

    name: str
    score: float
    signature: str


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> TextScore:
    """BLEU of a corpus of plain (detokenised) texts.

    Args:
      hypotheses: One text each.
      references: One text each, or several for each.
      tokenize: sacrebleu's tokenizer: ``13a`` for most languages, ``zh`` for Chinese, ``none`` where split.
      lowercase: Whether case is ignored.

    Returns:
      The score of the corpus.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> found = bleu(["the cat sat on the mat"], ["the cat sat on the mat"])
      >>> round(found.score), found.signature.split("|")[0]
      (100, 'nrefs:1')

    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040; Post 2018, https://arxiv.org/abs/1804.08771.
    """
    from sacrebleu.metrics import BLEU

    return _corpus_score(BLEU(tokenize=tokenize, lowercase=lowercase), hypotheses, references)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    word_order: int = 0,
) -> TextScore:
    """F-score of character n-grams of a corpus.

    Args:
      hypotheses: One text each.
      references: One text each, or several for each.
      word_order: Longest word n-gram that counts too; 2 is chrF++.

    Returns:
      The score of the corpus.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> round(chrf(["the cat"], ["the cat"]).score)
      100

    Source: Popovic 2015, https://aclanthology.org/W15-3049.
    """
    from sacrebleu.metrics import CHRF

    return _corpus_score(CHRF(word_order=word_order), hypotheses, references)


def _corpus_score(
    metric: Any, hypotheses: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]
) -> TextScore:
    if len(hypotheses) != len(references):
        raise DataError(
            f"hypotheses and references must be as many; got {len(hypotheses)} and {len(references)}"
        )
    if not hypotheses:
        raise DataError("a corpus score needs at least one text; got none")
    options = [[reference] if isinstance(reference, str) else list(reference) for reference in references]
    if any(not texts for texts in options):
        raise DataError("references of an example must hold at least one text; got none")
    # sacrebleu wants a stream of the first references, one of the second and so on; None where none is left.
    num_streams = max(len(texts) for texts in options)
    streams = [
        [texts[place] if place < len(texts) else None for texts in options] for place in range(num_streams)
    ]
    result = metric.corpus_score(list(hypotheses), streams)
    return TextScore(result.name, float(result.score), metric.get_signature().format())
