"""Scores of a masked language model: on the development texts during training, and of a trained one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.bounds import Count, check_at_least, check_bounds
from transformer_jax.data.documents import Document, first_characters
from transformer_jax.data.masked_texts import MaskedTexts
from transformer_jax.data.prepare_masked import encode_masked, split_units
from transformer_jax.data.sources.text_files import read_documents
from transformer_jax.data.sources.text_sources import load_texts
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, check_choice
from transformer_jax.evaluate.paired_losses import paired_difference
from transformer_jax.inference.mask_filler import MaskFiller
from transformer_jax.inference.masked_scores import MaskedScorer
from transformer_jax.inference.token_scores import perplexity


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedEvaluation:
    """Options of a masked language model's evaluation.

    Attributes:
      split: Part of the task's own data; None where a file is named.
      source: A file of text.
      pseudo_texts: Take the pseudo-perplexity too, of the first so many texts: each of their tokens is hidden by
        itself, which costs a pass of the model a token; None leaves it out.
      against: Name and predictor of another run to compare with on the same hidden tokens, by the paired bootstrap over
        texts.
    """

    split: Literal["development", "test"] | None = None
    source: Path | None = None
    pseudo_texts: Count | None = None
    against: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, pseudo_texts=self.pseudo_texts)
        object.__setattr__(self, "source", None if self.source is None else Path(self.source))
        if self.split is not None:
            check_choice("split", self.split, ("development", "test"))
        if (self.split is None) == (self.source is None):
            raise ConfigError(
                "wanted one of `split` of the run's data (development or test) and `source`, a file of text"
            )


class MaskedEvaluator:
    """Scores of the development texts, the same tokens hidden at each evaluation.

    Args:
      model: The model; only its structure is kept.
      texts: The texts.
      usual_len: Most tokens of a text.
      source_limit: Most tokens that the model can take; None for no end.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, model: Any, texts: MaskedTexts, *, usual_len: int, source_limit: int | None) -> None:
        self._texts = texts
        self._scorer = MaskedScorer(model, usual_len=usual_len, source_limit=source_limit)
        self._state = nnx.split(model)[1]

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self._scorer.program.compile_seconds

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        self._scorer.check(self._state)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        return masked_metrics(*self._scorer(state, self._texts))


def masked_metrics(losses: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> dict[str, float]:
    r"""Scores from the losses of hidden tokens.

    .. math:: \bar\ell, \quad e^{\bar\ell}, \quad \text{share that is right}

    Args:
      losses: In nats, of each hidden token.
      right: Whether each has the highest probability.

    Example:
      >>> masked_metrics(np.array([0.0, 2.0], np.float32), np.array([True, False]))["accuracy"]
      0.5
    """
    total, count = float(losses.astype(np.float64).sum()), len(losses)
    finite = math.isfinite(total)
    return {
        "nats": total / count if count else math.nan,
        "accuracy": float(right.mean()) if count and finite else math.nan,
        "perplexity": perplexity(total, count),
    }


def evaluate_masked(task: Any, filler: MaskFiller, options: MaskedEvaluation) -> dict[str, Any]:
    """Score a masked language model.

    Args:
      task: The task that it was trained for.
      filler: The trained model with its tokenizer.
      options: What to score it on, and how.

    Returns:
      The scores by name: ``"nats"`` a hidden token, ``"accuracy"``, ``"perplexity"`` and, where it was asked for,
      ``"pseudo_perplexity"``; ``"texts"``, ``"tokens"`` and ``"hidden"`` say what they were taken on; ``"text"`` and
      ``"remarks"`` are for people; ``"environment"`` names machine and versions.

    Raises:
      DataError: If a file is missing, empty or binary, or the data have no such part.
      ConfigError: If the other run cuts text into other tokens.
    """
    if options.against is not None:
        _require_comparable(filler, *options.against)
    documents = _documents(task, filler, options)
    texts = encode_masked(
        split_units(documents, task.data),
        task.data,
        filler.encoding.tokenizer,
        name=str(options.source or options.split),
    )
    losses, right = filler.scorer(filler.state, texts)
    if not len(losses):
        raise DataError(f"the text of {options.source or options.split} has no token that could be hidden")
    scores = masked_metrics(losses, right)
    where = f"{options.split} text" if options.source is None else str(options.source)
    text = [
        f"{where}: {len(texts):,} texts of {len(texts.ids):,} tokens, {len(losses):,} of them hidden",
        f"nats a hidden token {scores['nats']:.4f}, perplexity {scores['perplexity']:.3f}, accuracy "
        f"{scores['accuracy']:.2%}",
    ]
    found: dict[str, Any] = {}
    if options.pseudo_texts is not None:
        sequences = [_whole(texts, place) for place in range(min(options.pseudo_texts, len(texts)))]
        pseudo = np.concatenate(filler.pseudo_losses(sequences))
        found["pseudo_perplexity"] = perplexity(float(pseudo.astype(np.float64).sum()), len(pseudo))
        found["pseudo_tokens"] = len(pseudo)
        text.append(
            f"pseudo-perplexity {found['pseudo_perplexity']:.3f}, of {len(pseudo):,} tokens of {len(sequences):,} "
            "texts, each hidden by itself"
        )
    if options.against is not None:
        name, other = options.against
        others, others_right = other.scorer(other.state, texts)
        difference = paired_difference(losses, others, window_len=texts.masking.num_places(task.data.max_len))
        theirs = masked_metrics(others, others_right)
        found["against"] = {
            "run": name,
            **theirs,
            "difference": difference.nats,
            "interval": [difference.low, difference.high],
            "differs": difference.differs,
        }
        verdict = "differs" if difference.differs else "not shown to differ"
        text.append(
            f"against {name}: nats a hidden token {theirs['nats']:.4f}, difference {difference.nats:+.4f}, 95 % "
            f"interval {difference.low:+.4f} to {difference.high:+.4f}: {verdict}"
        )
    unknown = filler.encoding.tokenizer.count_unknown(texts.ids)
    remarks = [] if np.isfinite(losses).all() else ["the model gives non-finite probabilities"]
    if unknown:
        remarks.append(
            f"{unknown:,} of {len(texts.ids):,} tokens never seen in training were read as <unk>, none hidden"
        )
    return {
        "task": task.kind,
        "heading": f"{len(texts):,} texts",
        "lines": len(documents),
        "texts": len(texts),
        "tokens": len(texts.ids),
        "hidden": len(losses),
        "unknown": unknown,
        **scores,
        **found,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _whole(texts: MaskedTexts, place: int) -> list[int]:
    """A text with its start and end token, in one part."""
    from transformer_jax.data.batches import BOS_ID, EOS_ID

    return [BOS_ID, *texts.ids[texts.offsets[place] : texts.offsets[place + 1]].tolist(), EOS_ID]


def _documents(task: Any, filler: MaskFiller, options: MaskedEvaluation) -> list[Document]:
    datasets = task.data.datasets
    if options.source is not None:
        return read_documents(str(options.source), getattr(datasets[0], "document_separator", None))
    limit = getattr(task.data, f"max_{options.split}_characters")
    documents = first_characters(getattr(load_texts(datasets), str(options.split)), limit)
    if not documents:
        raise DataError(f"the data of {filler.name} have no {options.split} text: name `source`")
    return list(documents)


def _require_comparable(filler: MaskFiller, name: str, other: Any) -> None:
    """Raise ``ConfigError`` unless another model predicts the same tokens."""
    if not isinstance(other, MaskFiller):
        raise ConfigError(f"{name} is no masked language model; {filler.name} is one")
    if other.encoding != filler.encoding and (
        other.encoding.tokenizer.fingerprint() != filler.encoding.tokenizer.fingerprint()
    ):
        raise ConfigError(
            f"{name} cuts text into other tokens than {filler.name}, whose losses cannot be paired"
        )
    limit = other.source_limit
    if limit is not None and filler.usual_len > limit:
        raise ConfigError(
            f"{name} reads {limit} tokens at most, the texts of {filler.name} have {filler.usual_len}"
        )
