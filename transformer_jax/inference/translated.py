"""What a translator gives for a line, and how probable it finds a pair."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translated:
    """An output of a translator.

    Attributes:
      text: The line.
      score: What the search ranks by: log-probability, or that over the length penalty.
      tokens: Its pieces.
      finished: False where the search was cut off at its longest output.
      found: False where no output keeps the rules of the search; the text is empty then.
      alternatives: Further outputs of the line, best first, where several were asked for.
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    finished: bool
    found: bool = True
    alternatives: tuple["Translated", ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairScore:
    """How probable a model finds a target given its source.

    Attributes:
      log_prob: Sum over the target's tokens and its end, in nats; NaN where the pair is too long for the model.
      num_tokens: How many those are.
    """

    log_prob: float
    num_tokens: int
