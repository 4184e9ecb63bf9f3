"""Scores of any task as a line of text."""

from collections.abc import Mapping, Sequence

_TITLES = {
    "per": "PER", "wer": "WER", "cer": "CER", "ter": "TER", "bleu": "BLEU", "chrf": "chrF",
    "bits_per_character": "bits a character", "mse": "MSE", "mae": "MAE",
    "smape": "sMAPE", "mase": "MASE", "owa": "OWA",
}  # fmt: skip
_PERCENT = ("per", "wer", "cer", "ter")
_DIGITS = {
    "nats": 4,
    "bits_per_character": 4,
    "perplexity": 3,
    "mse": 4,
    "mae": 4,
    "smape": 3,
    "mase": 4,
    "owa": 4,
}


def metric_title(name: str) -> str:
    """Title of a metric for tables and axes, with its unit.

    Example:
      >>> metric_title("per"), metric_title("nats")
      ('PER, %', 'nats')
    """
    return f"{_TITLES.get(name, name)}{', %' if name in _PERCENT else ''}"


def spoken(scores: Mapping[str, float], names: Sequence[str] = ()) -> str:
    """Scores with their usual titles, digits and units.

    Args:
      scores: Values by name.
      names: Which of them, in this order; all of them if empty.

    Example:
      >>> spoken({"per": 12.34, "wer": 45.6}), spoken({"nats": 1.81575})
      ('PER 12.34 %, WER 45.60 %', 'nats 1.8157')
    """
    shown = [name for name in names or scores if name in scores]
    return ", ".join(
        f"{_TITLES.get(name, name)} {scores[name]:.{_DIGITS.get(name, 2)}f}{' %' if name in _PERCENT else ''}"
        for name in shown
    )
