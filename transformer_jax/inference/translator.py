"""Lines in, lines out: a trained sequence-to-sequence model with its tokenizers and its search."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.data.moses import MosesSides
from transformer_jax.data.pairs_config import PRONUNCIATION_DATASETS, NamedDataset, PairsConfig
from transformer_jax.data.tokenizers import UNKNOWN_TEXT, Tokenizer
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError
from transformer_jax.inference.attention_maps import AttentionReader
from transformer_jax.inference.batch_search import BATCH_ROWS, BatchSearcher, Hypothesis, batch_rows
from transformer_jax.inference.line_report import LineReport
from transformer_jax.nn.parameters import parameter_count

TooLong = Literal["whole", "skip", "truncate", "fail"]

FAR = 32
"""Sources and targets so many times as long as the longest of training are taken for no sentences any more."""


@dataclasses.dataclass
class Translator:
    """A trained sequence-to-sequence model that reads and writes lines.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      source_tokenizer: Turns lines into ids.
      target_tokenizer: Turns ids into lines.
      data: Data that it was trained on: limits of lengths, and the form of the text.
      search: Search that `translate` uses unless it is given another.
      source_limit: The longest source that the model can take, in tokens; None where it has no limit.
      target_limit: The same of targets, the end token included.
      report: Counts of what was done to lines so far.
    """

    name: str
    model: Any
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    data: PairsConfig
    search: SearchConfig
    source_limit: int | None = None
    target_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=LineReport)

    def __post_init__(self) -> None:
        self.report.unit = self.source_tokenizer.unit.removesuffix("s")

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    @property
    def source_lengths(self) -> PaddedLengths:
        """What sources are padded to; the longest is what the model can take, or `FAR` times the limit of training."""
        return _lengths(self.data.max_source_len, self.source_limit)

    @property
    def target_lengths(self) -> PaddedLengths:
        """The same of targets that are given, the end token included."""
        return _lengths(self.data.max_target_len, self.target_limit)

    def searcher(
        self,
        search: SearchConfig,
        *,
        rows: int | None = None,
        seed: int = 0,
        may_be_unknown: bool = False,
        num_devices: int = 1,
    ) -> BatchSearcher:
        """A search over batches of a few shapes.

        Args:
          search: Which.
          rows: Of a batch; None for what suits the search.
          seed: Of the draws, where it draws.
          may_be_unknown: Whether an output may hold the unknown token.
          num_devices: Devices that search side by side.
        """
        return BatchSearcher(
            self.model,
            search,
            batch_size=rows or batch_rows(search, parameters=parameter_count(self.model)),
            lengths=self.source_lengths,
            longest_output=self.target_limit,
            seed=seed,
            may_be_unknown=may_be_unknown,
            num_devices=num_devices,
        )

    def attention_reader(self, search: SearchConfig, *, batch_size: int = BATCH_ROWS) -> AttentionReader:
        """Reads the attention of whatever this search puts out."""
        return AttentionReader(
            self.model,
            batch_size=batch_size,
            source_len=self.data.max_source_len,
            target_len=search.max_len,
            source_limit=self.source_lengths.longest,
            target_limit=self.target_limit,
        )

    def encode(
        self, lines: Sequence[str], *, too_long: TooLong, where: str, first_line: int = 1
    ) -> list[list[int]]:
        """Ids of lines; a line that is left out has none.

        Args:
          lines: Texts.
          too_long: What to do with a line over the limit of training: take it whole, where the model can take it, and
            else leave it out; leave it out in any case; cut it; or raise.
          where: What to call the source of the lines in messages.
          first_line: Number of the first line.

        Raises:
          DataError: If a line is too long and ``too_long`` is ``"fail"``; says which.
        """
        taken = self.taken_sources(lines, too_long=too_long, where=where, first_line=first_line)
        return [ids or [] for ids in taken]

    def taken_sources(
        self, lines: Sequence[str], *, too_long: TooLong, where: str, first_line: int = 1
    ) -> list[list[int] | None]:
        """The same, with None for a line that is left out."""
        texts = [self.source_text(line) for line in lines]
        encoded = self.source_tokenizer.encode_batch(texts)
        for ids, text in zip(encoded, texts):
            if self.source_tokenizer.count_unknown(ids):
                self.report.unknown.update(self.source_tokenizer.unknown_pieces(text))
        limits = (self.data.max_source_len, self.source_lengths.longest, "data.max_source_len")
        return self._within(encoded, limits, too_long, where, first_line)

    def taken_targets(
        self, lines: Sequence[str], *, too_long: TooLong, where: str, first_line: int = 1
    ) -> list[list[int] | None]:
        """Ids of targets that are given, without their end, as `taken_sources`."""
        encoded = self.target_tokenizer.encode_batch([self.reference(line) for line in lines])
        limits = (
            self.data.max_target_len - 1,
            self.target_lengths.longest - 1,
            "data.max_target_len, less the end",
        )
        return self._within(encoded, limits, too_long, where, first_line)

    def _within(
        self,
        encoded: Sequence[list[int]],
        limits: tuple[int, int, str],
        too_long: TooLong,
        where: str,
        first_line: int,
    ) -> list[list[int] | None]:
        """Lines within the limits: ``(of training, of the model, name of the first)``."""
        capacity, longest, name = limits
        taken: list[list[int] | None] = []
        for index, ids in enumerate(encoded):
            if len(ids) <= capacity:
                taken.append(ids)
                continue
            message = (
                f"{where}: line {first_line + index}: {len(ids)} tokens; the limit of training is {capacity} "
                f"({name})"
            )
            if too_long == "fail":
                raise DataError(f"{message}: shorten it, or choose --too-long whole, skip or truncate")
            kept: list[int] | None = ids
            if too_long == "truncate":
                done, kept = "cut off", ids[:capacity]
            elif too_long == "skip":
                done, kept = "skipped", None
            elif len(ids) <= longest:
                done = "more than it was trained on, taken whole"
            else:
                done, kept = f"left out, since the model takes at most {longest}", None
            if self.report.num_too_long == 0 or (kept is None and self.report.num_left_out == 0):
                self.report.remark(f"{message}: {done}")
            self.report.num_too_long += 1
            self.report.num_left_out += kept is None
            taken.append(kept)
        return taken

    def source_text(self, line: str) -> str:
        """A line in the form that the source tokenizer reads."""
        moses = MosesSides.of(self.data)
        if moses is not None:
            return moses.source(line)
        return line.lower() if self.lowers_case else line

    def source_word(self, line: str, place: int) -> str:
        """The word of a line, between white space, that its source token at ``place`` belongs to.

        A tokenizer of characters gives the character.
        """
        text = self.source_text(line)
        start, stop = self.source_tokenizer.spans(text)[place]
        if self.source_tokenizer.unit == "characters":
            return text[start:stop]
        while start < stop and text[start].isspace():
            start += 1
        if start == stop:  # only the space before a word
            return (text[stop:].split(maxsplit=1) or [""])[0]
        return text[:start].rpartition(" ")[2] + text[start:].split(maxsplit=1)[0]

    @property
    def lowers_case(self) -> bool:
        """Whether lines are lower-cased first: the named dictionaries hold words in lower case only."""
        dataset = self.data.dataset
        return isinstance(dataset, NamedDataset) and dataset.name in PRONUNCIATION_DATASETS

    def encode_prefixes(self, lines: Sequence[str], *, where: str, first_line: int = 1) -> list[list[int]]:
        """Ids of what outputs must begin with; an empty line leaves its output free.

        Args:
          lines: Texts, in the form that :meth:`scored_text` has.
          where: What to call the source of the lines in messages.
          first_line: Number of the first line.

        Raises:
          DataError: If a piece was never seen in training, or no room is left behind a prefix.
        """
        encoded = self.target_tokenizer.encode_batch(lines)
        for index, ids in enumerate(encoded):
            if self.target_tokenizer.count_unknown(ids):
                piece = self.target_tokenizer.unknown_pieces(lines[index])[0]
                raise DataError(
                    f"{where}: line {first_line + index}: {piece!r} was never seen in training: no output can have it"
                )
            if len(ids) >= self.search.max_len:
                raise DataError(
                    f"{where}: line {first_line + index}: {len(ids)} tokens leave no room in an output of "
                    f"{self.search.max_len} (search.max_len)"
                )
        return encoded

    def text(self, hypothesis: Hypothesis) -> str:
        """The line that a hypothesis says."""
        moses, line = MosesSides.of(self.data), self.scored_text(hypothesis)
        return line if moses is None else escape_line_breaks(moses.plain_target(line))

    def scored_text(self, hypothesis: Hypothesis) -> str:
        """The line in the form that scores are taken of: Moses-style tokens where the data are.

        A line break in it is written as an escape, see `escape_line_breaks`: one output is one line.
        """
        text = self.target_tokenizer.decode(hypothesis.tokens)
        parts = text.split(UNKNOWN_TEXT)
        if len(parts) == len(hypothesis.copied) + 1:  # something is copied, or nothing is unknown
            text = "".join(piece for pair in zip(parts, (*hypothesis.copied, "")) for piece in pair)
        line = escape_line_breaks(text)
        self.report.num_line_breaks += line != text
        return line

    def reference(self, line: str) -> str:
        """A reference in the form that scores are taken of."""
        moses = MosesSides.of(self.data)
        return escape_line_breaks(line if moses is None else moses.target(line))


def _lengths(trained: int, limit: int | None) -> PaddedLengths:
    longest = FAR * trained if limit is None else min(limit, FAR * trained)
    return PaddedLengths.in_steps(trained, limit=max(trained, longest))
