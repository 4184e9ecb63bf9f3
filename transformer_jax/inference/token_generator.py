"""Prompts in, generated tokens out, as they come: language models in batches of a few fixed shapes."""

import dataclasses
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.resumable import ResumableSearch, SearchProgress
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.seeds import seed_key
from transformer_jax.inference.token_scores import check_ids

Beyond = Literal["refuse", "window"]

USUAL_LENGTHS = PaddedLengths((8, 16, 32, 64, 128), limit=sys.maxsize)
"""Padded lengths of prompts of models without a limit."""


@dataclasses.dataclass(frozen=True)
class GeneratedTokens:
    """Generated continuation of a prompt.

    Attributes:
      tokens: Ids without the prompt and without the end token.
      log_prob: Sum of the model's own log-probabilities of these tokens, and of the end token where it came.
      finished: Whether the model ended it.
      stopped: Whether the caller ended it.
      found: False where every token was ruled out before the end; the tokens are those up to there.
      token_log_probs: Log-probability of each token.
    """

    tokens: tuple[int, ...]
    log_prob: float
    finished: bool
    stopped: bool = False
    found: bool = True
    token_log_probs: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class TokenChunk:
    """New tokens of one prompt's output.

    Attributes:
      index: Which prompt.
      tokens: The tokens since the last chunk of this prompt; perhaps none where it ended.
      ended: Whether no more will come.
    """

    index: int
    tokens: tuple[int, ...]
    ended: bool


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How a prompt is read: from its length alone, so that its output does not depend on its neighbours.

    Attributes:
      kept: Of its tokens but the last, the last so many are read.
      padded: What these are padded to.
      room: Tokens that are fed before the context is full.
    """

    kept: int
    padded: int
    room: int


class TokenGenerator:
    """Generates what follows prompts, by greedy search or by drawing.

    A prompt's output depends on it, on the seed and on its number alone: each batch has ``batch_size`` rows and a
    length that follows from the prompt, whatever stands beside it.

    Args:
      model: A language model, as `StepModel` says; only its structure is kept.
      config: Which search; its ``max_len`` is the most tokens to generate.
      ids: Special ids; ``bos_id`` begins an empty prompt.
      context_len: Most tokens that the model reads, prompt and outputs together; None for no end.
      beyond: What becomes of a prompt and an output that together pass the context. ``"refuse"`` raises. ``"window"``
        slides: when the context is full the model rereads the last half of it and continues.
      batch_size: Rows of a batch; those without a prompt are skipped.
      chunk_len: Tokens between two looks at the outputs.

    Raises:
      ConfigError: If a number is below 1, or a window would be below two tokens.

    Example:
      >>> from transformer_jax.testing.tiny_models import TableLanguageModel
      >>> model = TableLanguageModel.random(seed=1)
      >>> generator = TokenGenerator(model, SampleConfig(max_len=4), SearchIds(bos_id=2, eos_id=3))
      >>> first, second = generator.generate(nnx.state(model), [[5, 6], []], seed=7)
      >>> [second] == generator.generate(nnx.state(model), [[]], seed=7, row_ids=[1])
      True
    """

    def __init__(
        self,
        model: nnx.Module,
        config: SampleConfig | GreedyConfig,
        ids: SearchIds,
        *,
        context_len: int | None = None,
        beyond: Beyond = "refuse",
        batch_size: int = 8,
        chunk_len: int = 8,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("chunk_len", chunk_len)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        if context_len is not None and context_len < 2:
            raise ConfigError(f"context_len must be at least 2, or None for no end; got {context_len}")
        self.config = config
        self._ids, self._context_len, self._beyond = ids, context_len, beyond
        self._batch_size, self._chunk_len = batch_size, chunk_len
        self._search = ResumableSearch(model, config, ids)
        self._vocab_size = _vocab_size(model)

    def generate(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int = 0,
        row_ids: Sequence[int] | None = None,
        on_tokens: Callable[[int, tuple[int, ...]], bool | None] | None = None,
    ) -> list[GeneratedTokens]:
        """The output of each prompt.

        Args:
          params: The model's parameters.
          prompts: Token ids of each prompt; an empty one begins with ``bos_id``.
          seed: Of the draws.
          row_ids: A number for each prompt, from which it draws; None numbers them from 0.
          on_tokens: Called with a prompt's place and its new tokens whenever there are some; True ends its output.

        Raises:
          DataError: If an id is not in the vocabulary.
          ShapeError: If a prompt with its output passes the context, and ``beyond`` is ``"refuse"``.
        """
        stream, stops = self.stream(params, prompts, seed=seed, row_ids=row_ids), None
        while True:
            try:
                chunk = stream.send(stops)
            except StopIteration as end:
                return end.value
            stops = on_tokens(chunk.index, chunk.tokens) if on_tokens and chunk.tokens else None

    def stream(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int = 0,
        row_ids: Sequence[int] | None = None,
    ) -> Generator[TokenChunk, bool | None, list[GeneratedTokens]]:
        """The outputs as they come, in chunks; arguments and errors as in :meth:`generate`.

        Yields:
          New tokens of one prompt. ``send(True)`` in answer ends that prompt's output there.

        Returns:
          The whole outputs, as the value of ``StopIteration``.
        """
        for index, prompt in enumerate(prompts):
            check_ids(np.asarray(prompt, np.int64), self._vocab_size, name=f"prompt {index}")
        plans = [self._plan(index, prompt) for index, prompt in enumerate(prompts)]
        numbers = list(range(len(prompts))) if row_ids is None else list(row_ids)
        if len(numbers) != len(prompts):
            raise ShapeError(
                f"row_ids must have a number for each of {len(prompts)} prompts; got {len(numbers)}"
            )
        return self._stream(params, prompts, plans, numbers, seed)

    def _plan(self, index: int, prompt: Sequence[int]) -> _Plan:
        length, max_len, context = max(len(prompt) - 1, 0), self.config.max_len, self._context_len
        if context is None:
            return _Plan(length, USUAL_LENGTHS.of(length), max_len)
        if length + max_len <= context:
            padded = PaddedLengths.in_steps(context).of(length)
            return _Plan(length, min(padded, context - max_len), max_len)
        if self._beyond == "refuse":
            raise ShapeError(
                f"prompt {index} has {len(prompt):,} tokens, and an output of up to {max_len:,} (max_len) does not fit "
                f"behind it in the model's context of {context:,}: shorten one of them, or let the context slide "
                "(beyond='window')"
            )
        kept = length if length < context else context // 2
        padded = min(PaddedLengths.in_steps(context).of(kept), context - 1)
        return _Plan(kept, padded, context - padded)

    def _stream(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        plans: Sequence[_Plan],
        numbers: Sequence[int],
        seed: int,
    ) -> Generator[TokenChunk, bool | None, list[GeneratedTokens]]:
        outputs: dict[int, GeneratedTokens] = {}
        groups: dict[tuple[int, int, int], list[int]] = {}
        for index, plan in enumerate(plans):
            groups.setdefault((plan.padded, plan.room, self._context_columns(prompts[index])), []).append(
                index
            )
        for (padded, room, columns), members in sorted(groups.items()):
            for first in range(0, len(members), self._batch_size):
                chosen = members[first : first + self._batch_size]
                batch = _Batch(
                    self,
                    indices=chosen,
                    prompts=[list(prompts[index]) or [self._ids.bos_id] for index in chosen],
                    kept=[plans[index].kept for index in chosen],
                )
                progress = batch.start(params, padded, room, columns, [numbers[i] for i in chosen], seed)
                yield from batch.run(params, progress, room, outputs)
        return [outputs[index] for index in range(len(prompts))]

    def _context_columns(self, prompt: Sequence[int]) -> int:
        """Padded length of whole prompts for a repetition penalty, which also counts tokens outside of the context."""
        is_penalized = isinstance(self.config, SampleConfig) and self.config.repetition_penalty != 1.0
        return USUAL_LENGTHS.of(len(prompt)) if is_penalized else 0


def _vocab_size(model: nnx.Module) -> int:
    """Tokens that the model knows, by the shape of its logits."""
    graph, params = nnx.split(model)

    def logits(params: Any, inputs: TokenInputs) -> Any:
        merged: Any = nnx.merge(graph, params)
        return merged.step(merged.start(inputs, max_len=1), inputs.lengths)[0]

    return jax.eval_shape(logits, params, TokenInputs.abstract(1, 1)).shape[-1]


class _Batch:
    """Prompts of one shape on their way through a search."""

    def __init__(
        self,
        owner: TokenGenerator,
        *,
        indices: Sequence[int],
        prompts: Sequence[Sequence[int]],
        kept: Sequence[int],
    ) -> None:
        self._search, self._max_len = owner._search, owner.config.max_len
        self._num_rows, self._chunk_len, self._context_len = (
            owner._batch_size,
            owner._chunk_len,
            owner._context_len,
        )
        self._draws = isinstance(owner.config, SampleConfig)
        self._indices, self._prompts, self._kept = indices, prompts, kept

    def _inputs(self, sequences: Sequence[Sequence[int]], padded: int) -> TokenInputs:
        return TokenInputs(*pad_rows(sequences, num_rows=self._num_rows, length=padded))

    def start(
        self, params: Any, padded: int, room: int, columns: int, numbers: Sequence[int], seed: int
    ) -> SearchProgress:
        """The prompts read; ``columns`` is what whole prompts are padded to, 0 where these do not count."""
        read = [prompt[:-1][-kept:] if kept else [] for prompt, kept in zip(self._prompts, self._kept)]
        limits, first, row_ids = (np.zeros(self._num_rows, np.int32) for _ in range(3))
        limits[: len(read)] = self._max_len
        first[: len(read)] = [prompt[-1] for prompt in self._prompts]
        row_ids[: len(read)] = numbers
        rows = RowOptions(
            max_lens=limits,
            first_tokens=first,
            row_ids=row_ids if self._draws else None,
            context=self._inputs(self._prompts, columns) if columns else None,
        )
        key = seed_key(seed) if self._draws else None
        return self._search.start(params, self._inputs(read, padded), rows, rng_key=key, room=room)

    def run(
        self, params: Any, progress: SearchProgress, room: int, outputs: dict[int, GeneratedTokens]
    ) -> Generator[TokenChunk, bool | None, None]:
        """Generate to the end of all rows; ``room`` is what may be fed before the context is full."""
        goes_on, step = np.ones(self._num_rows, bool), 0
        tokens: list[list[int]] = [[] for _ in self._indices]
        log_probs: list[list[float]] = [[] for _ in self._indices]
        while len(outputs.keys() & set(self._indices)) < len(self._indices):
            if room == 0:
                progress, room = self._slid(params, progress, tokens)
            size = min(self._chunk_len, room, self._max_len - step)
            progress = self._search.advance(params, progress, size, goes_on=goes_on)
            latest = self._search.latest(progress, step, step + size, width=self._chunk_len)
            step, room = step + size, room - size
            for row, index in enumerate(self._indices):
                if index in outputs:
                    continue
                count = int(latest.lengths[row]) - len(tokens[row])
                new, ended = tuple(latest.tokens[row, :count].tolist()), not latest.running[row]
                tokens[row] += new
                log_probs[row] += latest.log_probs[row, :count].tolist()
                stops = (yield TokenChunk(index, new, ended)) if new or ended else None
                if ended or stops:
                    goes_on[row] = False
                    outputs[index] = GeneratedTokens(
                        tokens=tuple(tokens[row]),
                        log_prob=float(latest.total_log_probs[row]),
                        finished=bool(latest.finished[row]),
                        stopped=bool(stops),
                        found=bool(latest.total_log_probs[row] > -np.inf),
                        token_log_probs=tuple(log_probs[row]),
                    )

    def _slid(
        self, params: Any, progress: SearchProgress, tokens: Sequence[Sequence[int]]
    ) -> tuple[SearchProgress, int]:
        """The search after rereading the last half of the context, and the room that this leaves."""
        assert self._context_len is not None
        kept = self._context_len // 2
        read = [[*prompt, *new][:-1][-kept:] for prompt, new in zip(self._prompts, tokens, strict=True)]
        room = self._context_len - kept
        return self._search.restart(params, self._inputs(read, kept), progress, room=room), room
