"""Log-probabilities of the tokens of given texts under a language model, by sliding windows or in one pass."""

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
from transformer_jax.data.evaluation_windows import evaluation_batches, evaluation_streams
from transformer_jax.data.token_windows import document_starts
from transformer_jax.errors import DataError
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import carries_state


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
        """Of a token, see `perplexity`."""
        return perplexity(-self.total, self.count)


def perplexity(nats: float, num_tokens: int) -> float:
    r"""Perplexity of a token, :math:`e^{\ell / n}`; NaN of no token, infinite beyond all numbers.

    Args:
      nats: Summed negative log-likelihood :math:`\ell`.
      num_tokens: Tokens that were predicted, :math:`n`.

    Example:
      >>> perplexity(0.0, 4), perplexity(0.0, 0), perplexity(1e6, 4)
      (1.0, nan, inf)
    """
    mean = nats / num_tokens if num_tokens else math.nan
    return math.inf if mean > 700.0 else math.exp(mean)


def non_finite_note(scores: TokenScores) -> str | None:
    """Remark on tokens whose log-probability is NaN or infinite; None where there is none.

    Example:
      >>> scores = TokenScores(np.array([np.nan, -1, np.nan], np.float32), np.array([False, True, True]))
      >>> non_finite_note(scores)[:72]
      '1 of 2 tokens has no finite log-probability, the first of them is token '
      >>> non_finite_note(TokenScores(scores.log_probs[:2], scores.counted[:2])) is None
      True
    """
    wrong = np.flatnonzero(scores.counted & ~np.isfinite(scores.log_probs))
    if not wrong.size:
        return None
    has = "has" if wrong.size == 1 else "have"
    return (
        f"{wrong.size:,} of {scores.count:,} tokens {has} no finite log-probability, the first of them is token "
        f"{wrong[0] + 1:,}: the model computes non-finite logits for this text; check its parameters, or take an "
        "earlier checkpoint"
    )


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
        text = _checked_text(ids, self._vocab_size)
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


class CarriedScorer:
    r"""Scores texts of any length by a model that carries its state: a token is predicted from all tokens before it.

    .. math:: \log p(y_i \mid y_1, \dots, y_{i-1})

    The text is read in windows, each from the state that the one before has left.

    Args:
      model: A language model with one row of carried state, see `with_carried_state`; only its structure is kept.
      context_len: Tokens of a window.

    Example:
      >>> from transformer_jax.models.recurrent_lm import RecurrentLMConfig
      >>> config = RecurrentLMConfig(cell="gru", embedding_dim=4, hidden_dim=4, num_layers=1)
      >>> model = config.build(Sizes(vocab_size=9, carried_rows=1), rngs=nnx.Rngs(0))
      >>> CarriedScorer(model, context_len=4)(nnx.state(model), [4, 5, 6, 7] * 5).count
      19
    """

    def __init__(self, model: nnx.Module, *, context_len: int) -> None:
        self._context_len = context_len
        graph = nnx.split(model)[0]

        def log_probs(state: Any, inputs: Any, targets: Any, restarts: Any) -> Any:
            merged: Any = nnx.merge(graph, state)
            logits = merged(inputs, restarts=restarts).astype(jnp.float32)
            chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            return chosen - jax.nn.logsumexp(logits, axis=-1), nnx.split(merged)[1]

        self._log_probs = jax.jit(log_probs)
        window = jax.ShapeDtypeStruct((1, context_len), jnp.int32)
        logits = jax.eval_shape(
            lambda params, inputs: nnx.merge(graph, params)(inputs), nnx.split(model)[1], window
        )
        self._vocab_size = logits.shape[-1]

    def __call__(self, state: Any, ids: Sequence[int] | npt.NDArray[np.integer]) -> TokenScores:
        """Scores of a text's tokens.

        Args:
          state: The model's parameters and carried state, of which nothing is read before it restarts.
          ids: Token ids, without start tokens.

        Raises:
          DataError: If the text is no single row of whole numbers, or one is not in the vocabulary.
        """
        text = _checked_text(ids, self._vocab_size)
        scores = [np.full(min(1, len(text)), np.nan, np.float32)]
        for window in evaluation_streams(text, context_len=self._context_len, batch_size=1):
            arrays = jax.device_put((window.inputs, window.targets, window.restarts))
            found, state = self._log_probs(state, *arrays)
            scores.append(np.asarray(found)[0, : window.lengths[0]])
        return TokenScores(np.concatenate(scores), np.arange(len(text)) > 0)


def with_carried_state(model: Any, *, vocab_size: int) -> Any | None:
    """A trained model with one row of carried state and the same parameters; None if it has no state to carry.

    Args:
      model: The model, with its ``config``.
      vocab_size: Tokens of its vocabulary.
    """
    sizes = Sizes(vocab_size=vocab_size, carried_rows=1)
    if not carries_state(nnx.eval_shape(lambda: model.config.build(sizes, rngs=nnx.Rngs(0)))):
        return None
    again = model.config.build(sizes, rngs=nnx.Rngs(0))
    nnx.update(again, nnx.state(model, nnx.Param))
    return again


def _checked_text(ids: Sequence[int] | npt.NDArray[np.integer], vocab_size: int) -> npt.NDArray[np.int32]:
    text = np.asarray(ids if len(ids) else np.zeros(0, np.int32))
    if text.ndim != 1 or not np.issubdtype(text.dtype, np.integer):
        raise DataError(f"a text must be one row of token ids; got {text.dtype} of shape {text.shape}")
    check_ids(text, vocab_size, name="the text")
    return text.astype(np.int32)


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
