"""BLEU, chrF and TER of translations, by sacrebleu, with the signatures that make scores comparable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_jax.errors import DataError
from transformer_jax.evaluate.tokenization import bleu_metric, choose_bleu_tokenizer


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
    tokenize: str | None = None,
    language: str | None = None,
    lowercase: bool = False,
) -> TextScore:
    """BLEU of a corpus of plain (detokenised) texts.

    Args:
      hypotheses: One text each.
      references: One text each, or several for each.
      tokenize: sacrebleu's tokenizer: ``13a`` for most languages, ``zh`` for Chinese, ``none`` where split. None takes
        the one of the language or, where that is not known, of the references' script: see `choose_bleu_tokenizer`.
      language: Code of the texts' language, such as ``"zh"``.
      lowercase: Whether case is ignored.

    Returns:
      The score of the corpus; its signature says the tokenizer (``tok:``).

    Raises:
      DataError: If there is no text, or the counts differ.
      ConfigError: If sacrebleu has no such tokenizer, or the tokenizer needs a package that is not installed.

    Example:
      >>> found = bleu(["the cat sat on the mat"], ["the cat sat on the mat"])
      >>> round(found.score), found.signature.split("|")[0]
      (100, 'nrefs:1')

    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040; Post 2018, https://arxiv.org/abs/1804.08771.
    """
    name = tokenize or choose_bleu_tokenizer(_every(references), language=language).name
    return _corpus_score(bleu_metric(name, lowercase=lowercase), hypotheses, references)


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


def ter(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    asian: bool | None = None,
) -> TextScore:
    """Translation edit rate in percent: insertions, deletions, substitutions and shifts over the reference's words.

    Args:
      hypotheses: One text each.
      references: One text each, or several for each.
      asian: Whether each Chinese character and kana is a word (tercom's Asian support); None tells by the script of
        the references. Thai and others without spaces stay uncut.

    Returns:
      The rate of the corpus; lower is better.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> ter(["a b c d"], ["c d a b"]).score
      25.0

    Source: Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25.
    """
    from sacrebleu.metrics import TER

    if asian is None:
        asian = choose_bleu_tokenizer(_every(references)).is_unspaced
    return _corpus_score(TER(normalized=asian, asian_support=asian), hypotheses, references)


@dataclass(frozen=True)
class PairedBootstrap:
    """Two systems on the same lines, by one metric.

    Attributes:
      metric: Name of the metric.
      score: Of the first system.
      other_score: Of the second.
      p_value: Share of the resampled corpora whose difference is at least as far from the mean difference as the
        difference found: the chance to see it were there none.
      signature: sacrebleu's description of the metric and of the resampling.
    """

    metric: str
    score: float
    other_score: float
    p_value: float
    signature: str


def paired_bootstrap(
    hypotheses: Sequence[str],
    other_hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str | None = None,
    num_samples: int = 1000,
) -> list[PairedBootstrap]:
    """Whether one system's BLEU and chrF differ from another's by more than the choice of lines explains.

    Args:
      hypotheses: Texts of the first system.
      other_hypotheses: Texts of the second, for the same lines.
      references: One text each, or several for each.
      tokenize: sacrebleu's tokenizer for BLEU; None takes that of the references' script.
      num_samples: Corpora to draw, with replacement.

    Returns:
      One entry a metric.

    Raises:
      DataError: If there is no text, or the counts differ.

    Example:
      >>> lines = ["the cat sat on the mat", "a dog ran in the park today"] * 5
      >>> [round(one.p_value, 3) for one in paired_bootstrap(lines, lines, lines, num_samples=50)]
      [1.0, 1.0]

    Source: Koehn 2004, https://aclanthology.org/W04-3250.
    """
    from sacrebleu.metrics import CHRF
    from sacrebleu.significance import PairedTest

    streams = _reference_streams(hypotheses, references)
    _reference_streams(other_hypotheses, references)
    name = tokenize or choose_bleu_tokenizer(_every(references)).name
    metrics: dict[str, Any] = {"BLEU": bleu_metric(name), "chrF2": CHRF()}
    systems: Any = [("Baseline: other", list(other_hypotheses)), ("this", list(hypotheses))]
    test = PairedTest(systems, metrics, references=streams, test_type="bs", n_samples=num_samples)
    signatures, results = test()
    found = []
    for name, (other, own) in dict[str, Any](results).items():
        if name != "System":
            # sacrebleu counts differences above the one found: of two equal systems it finds none, and says 1 / n.
            p_value = 1.0 if own.score == other.score else float(own.p_value)
            signature = signatures[name].format()
            found.append(PairedBootstrap(name, float(own.score), float(other.score), p_value, signature))
    return found


def _every(references: Sequence[str] | Sequence[Sequence[str]]) -> Iterator[str]:
    for one in references:
        yield from [one] if isinstance(one, str) else one


def _corpus_score(
    metric: Any, hypotheses: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]
) -> TextScore:
    streams = _reference_streams(hypotheses, references)
    result = metric.corpus_score(list(hypotheses), streams)
    return TextScore(result.name, float(result.score), metric.get_signature().format())


def _reference_streams(hypotheses: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]) -> Any:
    """A stream of the first references, one of the second and so on, as sacrebleu wants them; None fills them up."""
    if len(hypotheses) != len(references):
        raise DataError(
            f"hypotheses and references must be as many; got {len(hypotheses)} and {len(references)}"
        )
    if not hypotheses:
        raise DataError("a corpus score needs at least one text; got none")
    options = [[reference] if isinstance(reference, str) else list(reference) for reference in references]
    if any(not texts for texts in options):
        raise DataError("references of an example must hold at least one text; got none")
    num_streams = max(len(texts) for texts in options)
    return [
        [texts[place] if place < len(texts) else None for texts in options] for place in range(num_streams)
    ]
