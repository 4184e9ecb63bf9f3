"""A task's scores as plain numbers in percent, the same in logs, reports and on the terminal."""

from collections.abc import Iterable, Sequence

from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.evaluate.error_rates import edit_distance
from transformer_jax.evaluate.report import ScoreReport, score_outputs
from transformer_jax.evaluate.tokenization import DEFAULT, BleuTokenizer, bleu_metric, choose_bleu_tokenizer

__all__ = ["bleu_tokenizer", "percentages", "score_outputs", "token_errors"]


def percentages(report: ScoreReport) -> dict[str, float]:
    """Scores by short name, from 0 to 100 (error rates can be above).

    Example:
      >>> percentages(score_outputs("pronunciation", ["K AE T"], [["K AE T S"]]))
      {'per': 25.0, 'wer': 100.0}
    """
    found = {_short(score.name): score.score for score in report.text_scores}
    rates = {name: 100.0 * errors.rate() for name, errors in report.error_rates.items() if errors.total}
    return found | rates


def _short(name: str) -> str:
    """Name of a score without its parameters: ``chrF2++`` is ``chrf``."""
    return "chrf" if name.startswith("chrF") else name.lower()


def bleu_tokenizer(
    data: PairsConfig, references: Iterable[Sequence[str]], *, name: str | None = None
) -> BleuTokenizer:
    """How sacrebleu cuts texts: by the target language, and not at all where they are tokens already.

    Args:
      data: Says the language, where it knows it, and a tokenizer, where one is set.
      references: Those of every item: their script says the language where the config does not.
      name: Another tokenizer than the config's.

    Raises:
      ConfigError: If ``name`` is none of sacrebleu's, or needs a package that is not installed.
    """
    lines = (line for one in references for line in one)
    chosen = choose_bleu_tokenizer(
        lines,
        language=data.moses_languages()[1],
        name=name or data.bleu_tokenizer,
        is_cut=data.moses is not None or data.cut is not None,
    )
    if chosen.name not in (DEFAULT, "none"):
        bleu_metric(chosen.name)  # refuses now what is not installed
    return chosen


def token_errors(output: str, reference: str) -> int:
    """Tokens between spaces to insert, delete or replace.

    Example:
      >>> token_errors("K AE T", "K AA T S")
      2
    """
    return edit_distance(output.split(), reference.split())
