"""Error rates by edit distance: PER and WER of pronunciations, WER and CER of texts.

Errors travel as ``ErrorSum(errors, total)``: parts of a data set add up and are divided once.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from transformer_jax.errors import DataError


@dataclass(frozen=True)
class ErrorSum:
    """Errors and what they are counted against.

    Attributes:
      errors: Edits, or wrong words.
      total: Tokens of the references, or words.

    Example:
      >>> (ErrorSum(1, 4) + ErrorSum(2, 2)).rate()
      0.5
    """

    errors: int
    total: int

    def __add__(self, other: "ErrorSum") -> "ErrorSum":
        return ErrorSum(self.errors + other.errors, self.total + other.total)

    def rate(self) -> float:
        """Errors divided by the total; above 1 where there are more edits than tokens.

        Raises:
          DataError: If the total is zero.
        """
        if self.total == 0:
            raise DataError(
                f"an error rate needs at least one reference token; got {self.errors} errors of 0"
            )
        return self.errors / self.total


def edit_distance(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions of tokens that turn one sequence into the other.

    Args:
      hypothesis: Tokens that were put out.
      reference: Tokens that were wanted.

    Returns:
      The Levenshtein distance.

    Example:
      >>> edit_distance("K AE T".split(), "K AA T S".split())
      2
    """
    from rapidfuzz.distance import Levenshtein

    # Two strings would be compared by letters, which is right; a string and a list would not.
    return Levenshtein.distance(hypothesis, reference)


def closest_reference(
    hypothesis: Sequence[Hashable], references: Sequence[Sequence[Hashable]]
) -> tuple[int, Sequence[Hashable]]:
    """The reference with the smallest edit distance; of equally close ones the first.

    Args:
      hypothesis: Tokens that were put out.
      references: Token sequences that all count as right.

    Returns:
      The distance and the reference.

    Raises:
      DataError: If there are no references.

    Example:
      >>> closest_reference(["R", "IY", "D"], [["R", "EH", "D"], ["R", "IY", "D"]])
      (0, ['R', 'IY', 'D'])
    """
    if not references:
        raise DataError("references of an example must hold at least one sequence; got none")
    distances = [edit_distance(hypothesis, reference) for reference in references]
    best = distances.index(min(distances))
    return distances[best], references[best]


def phoneme_errors(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> ErrorSum:
    r"""Phoneme error rate of pronunciations, each against the closest of its references.

    .. math:: PER = \frac{\sum_i d(h_i, r_i^*)}{\sum_i |r_i^*|}, \quad r_i^* = \arg\min_{r \in R_i} d(h_i, r)

    Args:
      hypotheses: Phonemes of each word.
      references: For each word, its pronunciations, as phonemes.

    Returns:
      Edits, and phonemes of the chosen references.

    Raises:
      DataError: If the counts differ, or a word has no reference.

    Example:
      >>> phoneme_errors([["K", "AE", "T"]], [[["K", "AA", "T", "S"], ["K", "AE", "T", "S"]]])
      ErrorSum(errors=1, total=4)

    Source: Bisani and Ney 2008, https://doi.org/10.1016/j.specom.2008.01.002, section 5.
    """
    _check_counts(hypotheses, references)
    errors = total = 0
    for hypothesis, options in zip(hypotheses, references):
        _refuse_bare_string("references", options)
        distance, chosen = closest_reference(hypothesis, options)
        errors += distance
        total += len(chosen)
    return ErrorSum(errors, total)


def pronunciation_errors(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> ErrorSum:
    """Word error rate of pronunciations: words whose output equals none of their references.

    Args:
      hypotheses: Phonemes of each word.
      references: For each word, its pronunciations, as phonemes.

    Returns:
      Wrong words, and words.

    Raises:
      DataError: If the counts differ, or a word has no reference.

    Example:
      >>> pronunciation_errors([["K", "AE", "T"], ["D"]], [[["K", "AE", "T"]], [["D", "AO", "G"]]])
      ErrorSum(errors=1, total=2)

    Source: Bisani and Ney 2008, https://doi.org/10.1016/j.specom.2008.01.002, section 5.
    """
    _check_counts(hypotheses, references)
    errors = 0
    for hypothesis, options in zip(hypotheses, references):
        _refuse_bare_string("references", options)
        errors += closest_reference(hypothesis, options)[0] > 0
    return ErrorSum(errors, len(hypotheses))


def word_errors(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    cut: Callable[[str], Sequence[str]] = str.split,
) -> ErrorSum:
    """Word error rate of texts: edits of words, between white space unless ``cut`` says otherwise.

    Args:
      hypotheses: One text each.
      references: The wanted texts.
      cut: From a text to its words, for languages that write no spaces between them.

    Returns:
      Edits, and words of the references.

    Raises:
      DataError: If the counts differ.

    Example:
      >>> word_errors(["the cat sat"], ["the cat sat down"])
      ErrorSum(errors=1, total=4)
    """
    _check_counts(hypotheses, references)
    return _text_errors([cut(text) for text in hypotheses], [cut(text) for text in references])


def character_errors(hypotheses: Sequence[str], references: Sequence[str]) -> ErrorSum:
    """Character error rate of texts: edits of characters, spaces included.

    Args:
      hypotheses: One text each.
      references: The wanted texts.

    Returns:
      Edits, and characters of the references.

    Raises:
      DataError: If the counts differ.

    Example:
      >>> character_errors(["kat"], ["cats"])
      ErrorSum(errors=2, total=4)
    """
    _check_counts(hypotheses, references)
    return _text_errors(hypotheses, references)


def _text_errors(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> ErrorSum:
    errors = sum(
        edit_distance(hypothesis, reference) for hypothesis, reference in zip(hypotheses, references)
    )
    return ErrorSum(errors, sum(len(reference) for reference in references))


def _check_counts(hypotheses: Sequence[object], references: Sequence[object]) -> None:
    if len(hypotheses) != len(references):
        raise DataError(
            f"hypotheses and references must be as many; got {len(hypotheses)} and {len(references)}"
        )


def _refuse_bare_string(name: str, sequences: Sequence[object]) -> None:
    """Phonemes are lists: a string would be compared letter by letter without a word."""
    if isinstance(sequences, str) or any(isinstance(sequence, str) for sequence in sequences):
        raise DataError(
            f"{name} of a word must be lists of phonemes; got the string in {sequences!r}: split it"
        )
