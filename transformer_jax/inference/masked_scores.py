"""Losses of hidden tokens: of a masked text as it is drawn, and of each token of a text hidden by itself."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.masked_texts import MaskedTexts
from transformer_jax.inference.row_program import RowProgram
from transformer_jax.objectives.masked_tokens import at_places

MAX_TEXT_LEN = 1 << 24
"""Most tokens of a text where the model has no limit."""

Losses = npt.NDArray[np.float32]


class MaskedScorer:
    """Losses of the hidden tokens of texts, each text by itself.

    Args:
      model: An `EncoderOnly`; only its structure is kept.
      usual_len: Most tokens of a text in training.
      source_limit: Most tokens that the model can take; None for no end.

    Attributes:
      program: What computes, for notes on compiling.
    """

    def __init__(self, model: Any, *, usual_len: int, source_limit: int | None) -> None:
        self.program = RowProgram(
            model, _losses, lengths=PaddedLengths.in_steps(usual_len, limit=source_limit or MAX_TEXT_LEN)
        )

    def check(self, state: Any) -> None:
        """Raise what scoring would raise for this model, by shapes alone."""
        self.program.check(state, _none_hidden)

    def __call__(
        self, state: Any, texts: MaskedTexts, *, visit: int = 0
    ) -> tuple[Losses, npt.NDArray[np.bool_]]:
        """Loss of each hidden token in nats, and whether it has the highest logit, text after text.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          texts: The texts; what is hidden follows from their seed, the visit and the places in them.
          visit: Of the texts.
        """

        def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
            batch = texts.batch(indices, num_rows, length, visit)
            return batch.tokens, batch.lengths, batch.places, batch.targets

        lengths = texts.lengths.tolist()
        found = self.program.run(state, lengths, make)
        losses = [losses[counted] for losses, _, counted in found]
        right = [right[counted] for _, right, counted in found]
        return _joined(losses, np.float32), _joined(right, np.bool_)

    def pseudo_losses(
        self, state: Any, sequences: Sequence[Sequence[int]], *, mask_id: int, first_ordinary: int
    ) -> list[Losses]:
        r"""Loss of each token of a text when it alone is hidden, in nats.

        .. math:: -\log p(x_t \mid x_{\setminus t})

        Args:
          state: The model's state.
          sequences: Token ids with start and end token.
          mask_id: Token that stands for a hidden one.
          first_ordinary: Tokens below it, as start and end, are given and not predicted.

        Returns:
          An array a text, with a loss for each token that is predicted.

        Source: Salazar et al. 2020, https://arxiv.org/abs/1910.14659, equation 2.
        """
        places = [
            (text, place)
            for text, ids in enumerate(sequences)
            for place, token in enumerate(ids)
            if token >= first_ordinary
        ]

        def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
            tokens, lengths, at, targets = _none_hidden(indices, num_rows, length)
            for row, index in enumerate(indices.tolist()):
                text, place = places[index]
                ids = sequences[text]
                tokens[row, : len(ids)] = ids
                lengths[row], at[row, 0], targets[row, 0] = len(ids), place, ids[place]
                tokens[row, place] = mask_id
            return tokens, lengths, at, targets

        found = self.program.run(state, [len(sequences[text]) for text, _ in places], make)
        losses: list[list[float]] = [[] for _ in sequences]
        for (text, _), (loss, _, _) in zip(places, found, strict=True):
            losses[text].append(float(loss[0]))
        return [np.array(one, np.float32) for one in losses]


def _losses(model: Any, tokens: Any, lengths: Any, places: Any, targets: Any) -> tuple[Any, Any, Any]:
    """Loss of each hidden token, whether it has the highest logit, and whether there is one."""
    vectors = model.encoder(tokens, lengths=lengths)
    logits = model.logits(at_places(vectors, places)).astype(jnp.float32)
    of_target = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - of_target
    return losses, of_target >= logits.max(axis=-1), targets >= 0


def _none_hidden(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
    """A batch of padding with room for one hidden token a row."""
    tokens, lengths = np.zeros((num_rows, length), np.int32), np.zeros(num_rows, np.int32)
    return tokens, lengths, np.full((num_rows, 1), -1, np.int32), np.full((num_rows, 1), -1, np.int32)


def _joined(parts: Sequence[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
