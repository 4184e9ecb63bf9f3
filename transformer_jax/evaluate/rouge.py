"""ROUGE of summaries and exact matches of outputs."""

import re
from collections import Counter
from collections.abc import Sequence

from transformer_jax.errors import DataError
from transformer_jax.evaluate.text import TextScore

_NO_WORD = re.compile("[^a-z0-9]+")


def rouge_words(text: str) -> list[str]:
    """Words that ROUGE compares: lower-cased runs of ``a`` to ``z`` and digits, as in Google's ``rouge-score``.

    Example:
      >>> rouge_words("The Cat's mat.")
      ['the', 'cat', 's', 'mat']
    """
    return _NO_WORD.sub(" ", text.lower()).split()


def rouge_n(output: Sequence[str], reference: Sequence[str], n: int) -> float:
    """F-score of the n-grams that two texts share, each as often as both have it.

    Args:
      output: Words.
      reference: Words.
      n: Words of an n-gram.

    Example:
      >>> words = "police killed the gunman".split(), "police kill the gunman".split()
      >>> rouge_n(*words, 1), round(rouge_n(*words, 2), 3)
      (0.75, 0.333)

    Source: Lin 2004, https://aclanthology.org/W04-1013, section 2.
    """
    found, wanted = (
        Counter(zip(*(words[start:] for start in range(n)))) for words in (list(output), list(reference))
    )
    return _f_score((found & wanted).total(), found.total(), wanted.total())


def rouge_l(output: Sequence[str], reference: Sequence[str]) -> float:
    """F-score of the longest common subsequence of two texts.

    Args:
      output: Words.
      reference: Words.

    Example:
      >>> reference = "police killed the gunman".split()
      >>> rouge_l("police kill the gunman".split(), reference), rouge_l("the gunman kill police".split(), reference)
      (0.75, 0.5)

    Source: Lin 2004, https://aclanthology.org/W04-1013, section 3.1, whose examples these are.
    """
    row = [0] * (len(reference) + 1)
    for word in output:
        before = row
        row = [0]
        for place, wanted in enumerate(reference):
            row.append(before[place] + 1 if word == wanted else max(before[place + 1], row[place]))
    return _f_score(row[-1], len(output), len(reference))


def _f_score(common: int, num_found: int, num_wanted: int) -> float:
    return 2.0 * common / (num_found + num_wanted) if common else 0.0


def rouge(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[TextScore, ...]:
    """ROUGE-1, ROUGE-2 and ROUGE-L, mean F-scores of lines in percent, without stemming.

    Args:
      outputs: One text each.
      references: Of each output, one or more; the best counts, for each score by itself.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> [round(found.score, 1) for found in rouge(["police kill the gunman"], [["Police killed the gunman."]])]
      [75.0, 33.3, 75.0]

    Source: Lin 2004, https://aclanthology.org/W04-1013.
    """
    _check(outputs, references)
    sums = [0.0, 0.0, 0.0]
    for output, options in zip(outputs, references):
        found, wanted = rouge_words(output), [rouge_words(one) for one in options]
        for place, n in enumerate((1, 2)):
            sums[place] += max(rouge_n(found, one, n) for one in wanted)
        sums[2] += max(rouge_l(found, one) for one in wanted)
    signature = "F, lower case, letters a-z and digits, no stemming"
    return tuple(
        TextScore(name, 100.0 * total / len(outputs), signature)
        for name, total in zip(("ROUGE1", "ROUGE2", "ROUGEL"), sums)
    )


def exact_match(
    outputs: Sequence[str], references: Sequence[Sequence[str]], *, name: str = "exact"
) -> TextScore:
    """Share of outputs that are one of their references, in percent; white space at the ends of lines does not count.

    Args:
      outputs: One text each.
      references: Of each output, one or more.
      name: What to call the score.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> exact_match(["x = 1", "y = 2"], [["x = 1"], ["y = 3"]]).score
      50.0
    """
    _check(outputs, references)
    same = sum(
        output.strip() in {one.strip() for one in options} for output, options in zip(outputs, references)
    )
    return TextScore(name, 100.0 * same / len(outputs), f"{same:,} of {len(outputs):,}")


def _check(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(outputs) != len(references) or not outputs or not all(references):
        raise DataError(
            f"wanted as many outputs as references, at least one, got {len(outputs):,} and {len(references):,}"
        )
