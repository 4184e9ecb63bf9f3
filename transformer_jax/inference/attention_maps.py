"""Attention weights of a model for its outputs, computed in batches of a few shapes."""

import dataclasses
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from transformer_jax.data.batches import BOS_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import RunError
from transformer_jax.files import behind_link, partial_name, reported_as
from transformer_jax.inference.batch_search import Hypothesis
from transformer_jax.inference.copied_outputs import hypothesis_pieces, source_pieces

END_TEXT = "<end>"


def padded_lengths(longest: int) -> list[int]:
    """The few lengths that sources up to ``longest`` tokens are padded to, by searches and by readers alike.

    Quarters of the longest; below the first, which a short line should not be padded to where it is long, halves of it
    down to `SHORT`.

    Example:
      >>> padded_lengths(10)
      [2, 5, 8, 10]
      >>> padded_lengths(2048)
      [64, 128, 256, 512, 1024, 1536, 2048]
    """
    return list(PaddedLengths.in_steps(longest).lengths)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Attention of one line.

    Args:
      source: Texts of the source tokens.
      target: Texts of the written tokens, and the end if the search came to it.
      maps: For each attention of the model by name ``[heads, target, source]``.
    """

    source: list[str]
    target: list[str]
    maps: dict[str, np.ndarray]

    def mean_of_last(self) -> np.ndarray:
        """The last attention's mean over its heads, ``[target, source]``."""
        # By number: names in order of letters have layer 10 before layer 2.
        last = max(self.maps, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
        return self.maps[last].mean(axis=0)

    def links(self) -> list[tuple[int, int]]:
        """For each written token but the end: the source token that was looked at most, and its own number.

        Example:
          >>> maps = {"cross": np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])}
          >>> Alignment(["a", "b"], ["A", "B", END_TEXT], maps).links()
          [(0, 0), (1, 1)]
        """
        if not (self.maps and self.source):
            return []
        looked_at = self.mean_of_last().argmax(axis=1)
        return [(int(looked_at[place]), place) for place, text in enumerate(self.target) if text != END_TEXT]

    def pharaoh(self) -> str:
        """The links in the format of Pharaoh, ``source-target`` by numbers from 0.

        Example:
          >>> maps = {"cross": np.array([[[0.1, 0.9], [0.8, 0.2]]])}
          >>> Alignment(["a", "b"], ["B", "A"], maps).pharaoh()
          '1-0 0-1'
        """
        return " ".join(f"{source}-{target}" for source, target in self.links())


class AttentionReader:
    """Runs a model by teacher forcing on its own outputs and takes its attention maps.

    Args:
      model: The model; only its structure is kept.
      batch_size: Rows of a batch.
      source_len: Most tokens of a usual source; a batch of shorter ones is padded to less, see `padded_lengths`.
      target_len: Most tokens of a usual output, its end included: the ``max_len`` of the search.
      source_limit: Most tokens of any source; None for ``source_len``. Longer ones come in batches of fewer rows.
      target_limit: Most tokens of any output; None for no end, as its search's limit grew with the source.
    """

    def __init__(
        self,
        model: Any,
        *,
        batch_size: int,
        source_len: int,
        target_len: int,
        source_limit: int | None = None,
        target_limit: int | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._source_lens = PaddedLengths.in_steps(source_len, limit=source_limit)
        self._target_lens = PaddedLengths((target_len,), limit=max(target_len, target_limit or sys.maxsize))
        graph = nnx.split(model)[0]

        def maps(state: Any, source_tokens: Any, source_lengths: Any, target_inputs: Any) -> Any:
            return nnx.merge(graph, state).attention_maps(source_tokens, source_lengths, target_inputs)

        self._maps = jax.jit(maps)

    def require_attention(self, state: Any, *, name: str, option: str) -> None:
        """Raise ``RunError`` if the model has no attention; nothing is computed.

        Args:
          state: The model's state.
          name: What to call the model in the message.
          option: The option that asked for its attention.
        """
        tokens, lengths = np.zeros((1, 1), np.int32), np.ones(1, np.int32)
        if not jax.eval_shape(self._maps, state, tokens, lengths, tokens):
            raise RunError(f"the model of '{name}' has no attention to look at: leave {option} out")

    def __call__(
        self,
        state: Any,
        sources: Sequence[Sequence[int]],
        outputs: Sequence[Hypothesis],
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        *,
        texts: Sequence[str] | None = None,
    ) -> list[Alignment]:
        """Alignments of outputs with their sources; without maps where the model has no attention.

        As in a search, a batch's shape follows from the line alone, so that its weights do not depend on others. The
        texts of sources name their words outside of the vocabulary, where such have ids of their own.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (ids, output) in enumerate(zip(sources, outputs, strict=True)):
            shape = (
                self._source_lens.of(len(ids)),
                self._target_lens.of(len(output.tokens) + output.finished),
            )
            groups.setdefault(shape, []).append(index)
        found: dict[int, Alignment] = {}
        for (source_len, target_len), members in groups.items():
            batch_size = self._source_lens.rows(source_len, self._batch_size)
            for first in range(0, len(members), batch_size):
                chosen = members[first : first + batch_size]
                rows = [(sources[index], outputs[index]) for index in chosen]
                tokens, lengths = pad_rows(
                    [source for source, _ in rows], num_rows=batch_size, length=source_len
                )
                # The last token of an output that was cut off is read by no step.
                read = [[BOS_ID, *output.tokens[: target_len - 1]] for _, output in rows]
                inputs, _ = pad_rows(read, num_rows=batch_size, length=target_len)
                maps = {
                    name: np.asarray(value)
                    for name, value in self._maps(state, *jax.device_put((tokens, lengths, inputs))).items()
                }
                for row, (index, (source, output)) in enumerate(zip(chosen, rows)):
                    written = (
                        target_tokenizer.pieces(output.tokens)
                        if texts is None
                        else hypothesis_pieces(target_tokenizer, output)
                    )
                    target = written + [END_TEXT] * output.finished
                    cut = {name: value[row, :, : len(target), : len(source)] for name, value in maps.items()}
                    text = None if texts is None else texts[index]
                    found[index] = Alignment(source_pieces(source_tokenizer, source, text), target, cut)
        return [found[index] for index in range(len(sources))]


class AttentionFile:
    """An ``.npz`` file that grows line by line, so that it may be larger than memory; holds no objects.

    Args:
      path: The file; appears under its name when it is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = behind_link(path)
        self._partial = partial_name(self._target)
        with reported_as(path):
            self._archive = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_DEFLATED)

    def add(self, number: int, alignment: Alignment) -> None:
        """Append one line's arrays."""
        arrays = {"source": np.array(alignment.source, str), "target": np.array(alignment.target, str)}
        for name, value in {**arrays, **alignment.maps}.items():
            with reported_as(self._path), self._archive.open(f"{number}/{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)

    def __enter__(self) -> "AttentionFile":
        return self

    def __exit__(self, kind: Any, *unused: object) -> None:
        try:
            with reported_as(self._path):
                self._archive.close()
                if kind is None:
                    self._partial.replace(self._target)
        finally:
            self._partial.unlink(missing_ok=True)


class AlignmentFile:
    """A text file of links in the format of Pharaoh, a line for each line.

    Args:
      path: The file; appears under its name when it is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = behind_link(path)
        self._partial = partial_name(self._target)
        with reported_as(path):
            self._file = self._partial.open("w", encoding="utf-8", newline="\n")

    def add(self, number: int, alignment: Alignment) -> None:
        """Append one line's links; its number follows from its place."""
        with reported_as(self._path):
            self._file.write(alignment.pharaoh() + "\n")

    def __enter__(self) -> "AlignmentFile":
        return self

    def __exit__(self, kind: Any, *unused: object) -> None:
        try:
            with reported_as(self._path):
                self._file.close()
                if kind is None:
                    self._partial.replace(self._target)
        finally:
            self._partial.unlink(missing_ok=True)
