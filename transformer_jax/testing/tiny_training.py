"""Parts of training tests: endless synthetic batches, and a model small enough to compile in a second."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.data.batches import (
    BOS_ID,
    DUMMY_EXAMPLE_ID,
    EOS_ID,
    NUM_SPECIAL_IDS,
    PAD_ID,
    Seq2SeqBatch,
    empty_batch,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceTask:
    """Endless batches of random strings to copy or to reverse; batch ``i`` depends on ``(seed, i)`` alone.

    Args:
      task: What the target is of the source.
      vocab_size: Entries, the four special ones included.
      min_len: Shortest string.
      max_lens: Longest strings, one a batch shape; batch ``i`` has ``max_lens[i % len(max_lens)]``.
      batch_size: Rows.
      dummy_rows: The last rows of each third batch that hold nothing, as in a padded last batch.
      seed: Of all batches.

    Example:
      >>> task = SequenceTask(task="reverse", vocab_size=9, min_len=2, max_lens=(4,), batch_size=3)
      >>> batch = next(task.iterate(0))
      >>> length = batch.source_lengths[0]
      >>> (batch.source_tokens[0, :length][::-1] == batch.target_outputs[0, :length]).all()
      np.True_
    """

    task: Literal["copy", "reverse"]
    vocab_size: int
    min_len: int
    max_lens: tuple[int, ...]
    batch_size: int
    dummy_rows: int = 0
    seed: int = 0

    def abstract_batches(self) -> list[Seq2SeqBatch]:
        """A batch without content for every shape to come."""
        return [empty_batch(self.batch_size, max_len, max_len + 1) for max_len in self.max_lens]

    def count_tokens(self, batch: Seq2SeqBatch) -> int:
        """Source and target tokens of a batch, without padding."""
        return batch.num_tokens()

    def iterate(self, start_step: int) -> Iterator[Seq2SeqBatch]:
        """Batches from ``start_step`` on, without end."""
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Seq2SeqBatch:
        """The batch of one step."""
        generator = np.random.default_rng((self.seed, step))
        max_len = self.max_lens[step % len(self.max_lens)]
        lengths = generator.integers(self.min_len, max_len + 1, self.batch_size).astype(np.int32)
        ids = np.arange(self.batch_size, dtype=np.int32)
        if self.dummy_rows and step % 3 == 2:
            lengths[-self.dummy_rows :] = 0
            ids[-self.dummy_rows :] = DUMMY_EXAMPLE_ID
        source = np.full((self.batch_size, max_len), PAD_ID, np.int32)
        inputs = np.full((self.batch_size, max_len + 1), PAD_ID, np.int32)
        outputs = np.full((self.batch_size, max_len + 1), PAD_ID, np.int32)
        for row, length in enumerate(lengths):
            if length == 0:
                continue
            symbols = generator.integers(NUM_SPECIAL_IDS, self.vocab_size, length)
            source[row, :length] = symbols
            target = symbols if self.task == "copy" else symbols[::-1]
            inputs[row, : length + 1] = [BOS_ID, *target]
            outputs[row, : length + 1] = [*target, EOS_ID]
        target_lengths = np.where(lengths > 0, lengths + 1, 0).astype(np.int32)
        return Seq2SeqBatch(source, lengths, inputs, outputs, target_lengths, ids)


class TinySeq2Seq(nnx.Module):
    """A bag of source words and the last target word, added and projected: the least that can be trained."""

    def __init__(self, *, vocab_size: int, model_dim: int, dropout_rate: float, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Param(0.3 * jax.random.normal(rngs.params(), (vocab_size, model_dim)))
        self.layers = nnx.List([nnx.Linear(model_dim, model_dim, rngs=rngs) for _ in range(2)])
        self.keep_rate = 1.0 - dropout_rate

    def hidden(self, source_tokens: Any, source_lengths: Any, target_inputs: Any, rng_key: Any = None) -> Any:
        """``[batch, target_len, model]``."""
        real = jnp.arange(source_tokens.shape[1])[None, :] < source_lengths[:, None]
        context = jnp.einsum("bs,bsm->bm", real.astype(jnp.float32), self.embedding[...][source_tokens])
        x = self.embedding[...][target_inputs]
        x = x + jnp.broadcast_to(context[:, None, :], x.shape)
        for layer in self.layers:
            x = x + jnp.tanh(layer(x))
        if rng_key is not None and self.keep_rate < 1.0:
            kept = jax.random.bernoulli(rng_key, self.keep_rate, x.shape)
            x = jnp.where(kept, x / self.keep_rate, 0.0)
        return x

    def output_projection(self) -> tuple[Any, None]:
        """The embedding, tied."""
        return self.embedding[...], None

    def __call__(
        self, source_tokens: Any, source_lengths: Any, target_inputs: Any, rng_key: Any = None
    ) -> Any:
        """Logits ``[batch, target_len, vocab]``."""
        hidden = self.hidden(source_tokens, source_lengths, target_inputs, rng_key=rng_key)
        return hidden @ self.embedding[...].T
