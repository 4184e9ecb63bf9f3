"""All scores of a task at once, as text for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.evaluate.error_rates import (
    ErrorSum,
    character_errors,
    phoneme_errors,
    pronunciation_errors,
    word_errors,
)
from transformer_jax.evaluate.rouge import exact_match, rouge
from transformer_jax.evaluate.text import TextScore, bleu, chrf, ter
from transformer_jax.evaluate.tokenization import BleuTokenizer, choose_bleu_tokenizer

Task = Literal["pronunciation", "translation", "rewriting"]
_TASKS: tuple[Task, ...] = ("pronunciation", "translation", "rewriting")


@dataclass(frozen=True)
class ScoreReport:
    """The scores of a task on one set of examples.

    Attributes:
      task: Which task.
      num_examples: Lines or words that were scored.
      error_rates: Name to errors and total; lower is better.
      text_scores: BLEU, chrF, ROUGE and exact matches, of which more is better, and TER, of which less is.
      tokenizer: What BLEU cut texts into words with, and why; None where no text was scored.
    """

    task: str
    num_examples: int
    error_rates: dict[str, ErrorSum]
    text_scores: tuple[TextScore, ...] = ()
    tokenizer: BleuTokenizer | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document: rates as fractions, scores from 0 to 100.

        Example:
          >>> score_outputs("pronunciation", ["K AE T"], [["K AE T S"]]).to_json()["per"]
          {'rate': 0.25, 'errors': 1, 'total': 4}
        """
        document: dict[str, Any] = {"task": self.task, "examples": self.num_examples}
        for name, errors in self.error_rates.items():
            rate = errors.rate() if errors.total else None
            document[name] = {"rate": rate, "errors": errors.errors, "total": errors.total}
        for found in self.text_scores:
            document[found.name.lower()] = {"score": found.score, "signature": found.signature}
        if self.tokenizer is not None:
            document["tokenizer"] = {"name": self.tokenizer.name, "reason": self.tokenizer.reason}
        return document

    def lines(self) -> list[str]:
        """One line a score, percentages with what they were counted from.

        Example:
          >>> report = score_outputs("pronunciation", ["K AE T", "D"], ["K AE T", "D IY"])
          >>> print("\\n".join(report.lines()))
          PER    20.00 %  (1 of 5)
          WER    50.00 %  (1 of 2)
        """
        lines = [f"{found.name:<5} {found.score:6.2f}    ({found.signature})" for found in self.text_scores]
        for name, errors in self.error_rates.items():
            percent = f"{100 * errors.rate():6.2f} %" if errors.total else "       -"
            lines.append(f"{name.upper():<5} {percent}  ({errors.errors:,} of {errors.total:,})")
        if self.tokenizer is not None:
            of = "BLEU and WER cut" if self.tokenizer.is_unspaced else "BLEU cuts"
            lines.append(f"{of} words by sacrebleu's '{self.tokenizer.name}' ({self.tokenizer.reason})")
        return lines


def score_outputs(
    task: Task,
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str | BleuTokenizer | None = None,
    with_ter: bool = False,
) -> ScoreReport:
    """Score outputs as the task asks: PER and WER of pronunciations; BLEU, chrF, WER and CER of translations;
    exact matches, ROUGE and BLEU of rewritings.

    Args:
      task: ``pronunciation`` (lines of space separated phonemes) ``translation`` (plain text) or
        ``rewriting`` (summaries, code).
      hypotheses: One line each.
      references: For each, the line that counts as right, or several. WER and CER of translations take the
        first.
      tokenize: sacrebleu's tokenizer for BLEU, or what `choose_bleu_tokenizer` chose; None takes that of the
        references' script. Words of WER are cut by it where the script has no spaces.
      with_ter: Take the edit rate of translations too, which takes longer than all others together.

    Returns:
      The report.

    Raises:
      ConfigError: If the task is unknown.
      DataError: If the counts differ, or an example has no reference.

    Example:
      >>> report = score_outputs("pronunciation", ["K AE T"], [["K AA T", "K AE T"]])
      >>> report.error_rates
      {'per': ErrorSum(errors=0, total=3), 'wer': ErrorSum(errors=0, total=1)}
    """
    references = [[lines] if isinstance(lines, str) else lines for lines in references]
    if task == "pronunciation":
        phonemes = [line.split() for line in hypotheses]
        options = [[line.split() for line in lines] for lines in references]
        rates = {
            "per": phoneme_errors(phonemes, options),
            "wer": pronunciation_errors(phonemes, options),
        }
        return ScoreReport(task, len(hypotheses), rates)
    if task in ("translation", "rewriting"):
        if not isinstance(tokenize, BleuTokenizer):
            every = (line for lines in references for line in lines)
            tokenize = choose_bleu_tokenizer(every, name=tokenize)
        if task == "rewriting":
            scores: tuple[TextScore, ...] = (
                exact_match(hypotheses, references),
                *rouge(hypotheses, references),
                bleu(hypotheses, references, tokenize=tokenize.name),
            )
            return ScoreReport(task, len(hypotheses), {}, scores, tokenize)
        scores = (
            bleu(hypotheses, references, tokenize=tokenize.name),
            chrf(hypotheses, references),
        )
        if with_ter:
            scores = (*scores, ter(hypotheses, references, asian=tokenize.is_unspaced))
        first = [lines[0] for lines in references]
        rates = {
            "wer": word_errors(hypotheses, first, cut=tokenize.cut()),
            "cer": character_errors(hypotheses, first),
        }
        return ScoreReport(task, len(hypotheses), rates, scores, tokenize)
    raise ConfigError(
        f"task must be one of {', '.join(_TASKS)}; got {task!r}{nearest_hint(str(task), _TASKS)}"
    )
