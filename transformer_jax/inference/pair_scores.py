"""The work of ``transformer-jax score``: log-probabilities of given targets, in batches of a few fixed shapes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.inference.batch_search import BATCH_ROWS


class PairScorer:
    """Log-probabilities of token sequences given others.

    Args:
      model: The model; only its structure is kept.
      source_len: Most tokens of a usual source.
      target_len: Most tokens of a usual target, the end token included.
      source_limit: Most tokens of any source; None for ``source_len``.
      target_limit: Most tokens of any target; None for ``target_len``.
    """

    def __init__(
        self,
        model: Any,
        *,
        source_len: int,
        target_len: int,
        source_limit: int | None = None,
        target_limit: int | None = None,
    ) -> None:
        self._source_lens = PaddedLengths.in_steps(source_len, limit=source_limit)
        self._target_lens = PaddedLengths.in_steps(target_len, limit=target_limit)
        graph = nnx.split(model)[0]

        def log_probs(state: Any, source: Any, source_lengths: Any, inputs: Any, outputs: Any) -> Any:
            logits = nnx.merge(graph, state)(source, source_lengths, inputs, rng_key=None)
            of_labels = jnp.take_along_axis(jax.nn.log_softmax(logits), outputs[..., None], axis=-1)[..., 0]
            return jnp.where(outputs == PAD_ID, 0.0, of_labels).sum(axis=1)

        self._log_probs = jax.jit(log_probs)

    def __call__(
        self, state: Any, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        """The sum over each target's tokens and its end, in nats."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (source, target) in enumerate(zip(sources, targets, strict=True)):
            shape = (self._source_lens.of(len(source)), self._target_lens.of(len(target) + 1))
            groups.setdefault(shape, []).append(index)
        found = [0.0] * len(sources)
        for (source_len, target_len), members in sorted(groups.items()):
            rows = min(
                self._source_lens.rows(source_len, BATCH_ROWS), self._target_lens.rows(target_len, BATCH_ROWS)
            )
            for first in range(0, len(members), rows):
                chosen = members[first : first + rows]
                own = [targets[index] for index in chosen]
                tokens, lengths = pad_rows(
                    [sources[index] for index in chosen], num_rows=rows, length=source_len
                )
                inputs, _ = pad_rows([[BOS_ID, *ids] for ids in own], num_rows=rows, length=target_len)
                outputs, _ = pad_rows([[*ids, EOS_ID] for ids in own], num_rows=rows, length=target_len)
                arrays = jax.device_put((tokens, lengths, inputs, outputs))
                scores = np.asarray(self._log_probs(state, *arrays))
                for index, score in zip(chosen, scores.tolist()):
                    found[index] = score
        return found
