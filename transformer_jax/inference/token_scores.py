"""Log-probabilities of the tokens of given texts under a language model, by sliding windows."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.batches import BOS_ID
from transformer_jax.data.evaluation_windows import evaluation_batches
from transformer_jax.data.token_windows import document_starts
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of a text under a language model.

    Attributes:
      log_probs: Of each token given those before it, in nats, ``[tokens]``; NaN where a token has no score.
      counted: Which tokens have one: all but the first of the text, and start tokens within it.
    """

    log_probs: npt.NDArray[np.float32]
    counted: npt.NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many tokens have a score."""
        return int(self.counted.sum())

    @property
    def total(self) -> float:
        """Sum of the log-probabilities, in nats."""
        return math.fsum(self.log_probs[self.counted].tolist())

    @property
    def perplexity(self) -> float:
        r"""Of a token, :math:`\exp(-\frac{1}{n} \sum_i \log p_i)`; NaN of no token, infinite beyond all numbers."""
        mean = -self.total / self.count if self.count else math.nan
        return math.inf if mean > 700.0 else math.exp(mean)


class TokenScorer:
    r"""Scores texts of any length: a token is predicted from at least ``context_len - stride`` tokens before it.

    .. math:: \log p(y_i \mid y_{s(i)}, \dots, y_{i-1})

    with :math:`s(i)` the start of the token's window, or of its document. A token's number does not depend on the other
    windows of its batch: all batches have one shape.

    Args:
      model: A language model, ``model(tokens) -> logits``; only its structure is kept.
      context_len: Tokens that the model reads at once.
      stride: Tokens between the starts of two windows: 1 gives each token all the context there may be, None
        (``context_len``) reads every token once.
      batch_size: Windows of a batch.

    Example:
      >>> from transformer_jax.testing.tiny_models import TableLanguageModel
      >>> model = TableLanguageModel.random(seed=1)
      >>> scores = TokenScorer(model, context_len=8, stride=4)(nnx.state(model), [4, 5, 6, 7] * 5)
      >>> scores.count, bool(scores.total < 0)
      (19, True)

    Source: Baevski and Auli 2019, https://arxiv.org/abs/1809.10853, section 4.3 (context windows).
    """

    def __init__(
        self, model: nnx.Module, *, context_len: int, stride: int | None = None, batch_size: int = 8
    ) -> None:
        self._context_len, self._stride, self._batch_size = context_len, stride, batch_size
        graph, params = nnx.split(model)
        window = jax.ShapeDtypeStruct((batch_size, context_len), jnp.int32)
        logits = jax.eval_shape(lambda params, inputs: nnx.merge(graph, params)(inputs), params, window)
        self._vocab_size = logits.shape[-1]

        def log_probs(params: Any, inputs: Any, targets: Any) -> Any:
            merged: Any = nnx.merge(graph, params)
            logits = merged(inputs).astype(jnp.float32)
            chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            return chosen - jax.nn.logsumexp(logits, axis=-1)

        self._log_probs = jax.jit(log_probs)

    def __call__(self, params: Any, ids: Sequence[int] | npt.NDArray[np.integer]) -> TokenScores:
        """Scores of a text's tokens.

        Args:
          params: The model's parameters.
          ids: Token ids; start tokens within begin documents, across which nothing is read.

        Raises:
          ConfigError: If ``stride`` is not between 1 and ``context_len``.
          DataError: If the text is no single row of whole numbers, or one is not in the vocabulary.
        """
        text = np.asarray(ids if len(ids) else np.zeros(0, np.int32))
        if text.ndim != 1 or not np.issubdtype(text.dtype, np.integer):
            raise DataError(f"a text must be one row of token ids; got {text.dtype} of shape {text.shape}")
        check_ids(text, self._vocab_size, name="the text")
        text = text.astype(np.int32)
        windows = evaluation_batches(
            text, context_len=self._context_len, batch_size=self._batch_size, stride=self._stride
        )
        scores = [np.zeros(0, np.float32)]
        for window in windows:
            arrays = jax.device_put((window.inputs, window.targets))
            scores.append(np.asarray(self._log_probs(params, *arrays))[window.counted()])
        # The windows count all tokens but those that begin a document, in order.
        counted = np.ones(len(text), bool)
        counted[document_starts(text) if BOS_ID in text[:1] else slice(1)] = False
        log_probs = np.full(len(text), np.nan, np.float32)
        log_probs[counted] = np.concatenate(scores)
        return TokenScores(log_probs, counted)


def check_ids(ids: npt.NDArray[np.integer], vocab_size: int, *, name: str) -> None:
    """Raise ``DataError`` unless all ids are in the vocabulary; a model has nothing for another one.

    Example:
      >>> check_ids(np.array([4, 7]), 8, name="the text")
    """
    wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if wrong.size:
        raise DataError(
            f"{name}: token {wrong[0]} is id {ids[wrong[0]]}, and the ids of the vocabulary are 0 to {vocab_size - 1}: "
            "the tokenizer is not the one that the model is made for"
        )
