"""What predictors of texts from features share: the trained model, its tokenizer and search, and what is compiled."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flax import nnx

from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError
from transformer_jax.inference.batch_search import Hypothesis
from transformer_jax.inference.line_report import LineReport


@dataclasses.dataclass
class FeaturePredictor:
    """A trained model that writes texts of features.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      tokenizer: Turns ids into text.
      features: How an item becomes frames.
      max_frames: Most frames of an item in training.
      search: Search that is used unless another one is given.
      report: Remarks on what was done to items so far.
    """

    name: str
    model: Any
    tokenizer: Tokenizer
    features: Any
    max_frames: int
    search: SearchConfig
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _programs: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    def _remark_not_found(self, names: Sequence[str], hypotheses: Sequence[Hypothesis]) -> None:
        """Remark the items for which the search found no text."""
        missing = [name for name, one in zip(names, hypotheses, strict=True) if not one.found]
        if missing:
            others = f", and {len(missing) - 1:,} others" if len(missing) > 1 else ""
            self.report.remark(
                f"{missing[0]}{others}: no text keeps the rules of the search, so it is empty and has score -inf; "
                "loosen `min_len` or `no_repeat_ngram`, or raise search.max_len"
            )

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for these options before, with its compiled programs, or now."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the name of an item before the message of a ``DataError``, unless it is there.

    Example:
      >>> with naming("a.wav"):
      ...   raise DataError("cut off")
      Traceback (most recent call last):
      transformer_jax.errors.DataError: a.wav: cut off
    """
    try:
        yield
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(where) else f"{where}: {text}") from None
