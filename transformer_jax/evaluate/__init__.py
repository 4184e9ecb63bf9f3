"""Scores of outputs: error rates by edit distance, BLEU and chrF, perplexity."""

from transformer_jax.evaluate.error_rates import (
    ErrorSum,
    character_errors,
    closest_reference,
    edit_distance,
    phoneme_errors,
    pronunciation_errors,
    word_errors,
)
from transformer_jax.evaluate.likelihood import bits_per_token, mean_loss, perplexity
from transformer_jax.evaluate.report import ScoreReport, score_outputs
from transformer_jax.evaluate.text import TextScore, bleu, chrf
from transformer_jax.evaluate.tokenization import BleuTokenizer, choose_bleu_tokenizer

__all__ = [
    "BleuTokenizer",
    "ErrorSum",
    "ScoreReport",
    "TextScore",
    "bits_per_token",
    "bleu",
    "character_errors",
    "choose_bleu_tokenizer",
    "chrf",
    "closest_reference",
    "edit_distance",
    "mean_loss",
    "perplexity",
    "phoneme_errors",
    "pronunciation_errors",
    "score_outputs",
    "word_errors",
]
