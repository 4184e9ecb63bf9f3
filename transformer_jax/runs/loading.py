"""A trained run, read back from its folder alone and ready to translate lines."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.data.moses import MosesSides
from transformer_jax.data.pairs_config import PRONUNCIATION_DATASETS, NamedDataset
from transformer_jax.data.tokenizers import UNKNOWN_TEXT, Tokenizer
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError, RunError
from transformer_jax.inference.attention_maps import AttentionReader
from transformer_jax.inference.batch_search import BATCH_ROWS, BatchSearcher, Hypothesis, batch_rows
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.notes import note
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.folder import (
    CONFIG_NAME,
    SOURCE_TOKENIZER_NAME,
    TARGET_TOKENIZER_NAME,
    require_file,
    require_run,
)
from transformer_jax.runs.training import ExperimentConfig, Start, shapes_from, tokenizer_fingerprints
from transformer_jax.train.checkpoint import load_model
from transformer_jax.train.weights_file import read_weights, weight_shapes

WEIGHTS_NAME = "model.safetensors"
"""Makes a folder a model folder, see `transformer_jax.runs.model_folder`."""
TOKENIZER_NAME = "tokenizer.json"
"""In a model folder, where sources and targets have one tokenizer."""

TooLong = Literal["whole", "skip", "truncate", "fail"]

FAR = 32
"""Sources and targets so many times as long as the longest of training are taken for no sentences any more."""


@dataclasses.dataclass
class LoadedRun:
    """Everything that translating needs.

    Args:
      config: The run's config.
      model: With the parameters of the run's best checkpoint.
      source_tokenizer: Turns lines into ids.
      target_tokenizer: Turns ids into lines.
      unknown: Pieces that training never saw, counted while lines are encoded.
      num_too_long: Lines over the limit of training, counted while lines are encoded.
      num_left_out: Those of them that are left out: as asked, or because the model cannot take them.
      num_line_breaks: Outputs with a line break in them, counted while they are written out.
    """

    config: ExperimentConfig
    model: Any
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    unknown: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    num_too_long: int = 0
    num_left_out: int = 0
    num_line_breaks: int = 0

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    @property
    def source_lengths(self) -> PaddedLengths:
        """What sources are padded to; the longest is what the model can take, or `FAR` times the limit of training."""
        return _lengths(self.config.data.max_source_len, self.config.model.source_limit)

    @property
    def target_lengths(self) -> PaddedLengths:
        """The same of targets that are given, the end token included."""
        return _lengths(self.config.data.max_target_len, self.config.model.target_limit)

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
            longest_output=self.config.model.target_limit,
            seed=seed,
            may_be_unknown=may_be_unknown,
            num_devices=num_devices,
        )

    def attention_reader(self, search: SearchConfig, *, batch_size: int = BATCH_ROWS) -> AttentionReader:
        """Reads the attention of whatever this search puts out."""
        return AttentionReader(
            self.model,
            batch_size=batch_size,
            source_len=self.config.data.max_source_len,
            target_len=search.max_len,
            source_limit=self.source_lengths.longest,
            target_limit=self.config.model.target_limit,
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
                self.unknown.update(self.source_tokenizer.unknown_pieces(text))
        limits = (self.config.data.max_source_len, self.source_lengths.longest, "data.max_source_len")
        return self._within(encoded, limits, too_long, where, first_line)

    def taken_targets(
        self, lines: Sequence[str], *, too_long: TooLong, where: str, first_line: int = 1
    ) -> list[list[int] | None]:
        """Ids of targets that are given, without their end, as `taken_sources`."""
        encoded = self.target_tokenizer.encode_batch([self.reference(line) for line in lines])
        limits = (
            self.config.data.max_target_len - 1,
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
            if self.num_too_long == 0 or (kept is None and self.num_left_out == 0):
                note(f"note: {message}: {done}")
            self.num_too_long += 1
            self.num_left_out += kept is None
            taken.append(kept)
        return taken

    def source_text(self, line: str) -> str:
        """A line in the form that the source tokenizer reads."""
        moses = MosesSides.of(self.config.data)
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
        dataset = self.config.data.dataset
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
            if len(ids) >= self.config.search.max_len:
                raise DataError(
                    f"{where}: line {first_line + index}: {len(ids)} tokens leave no room in an output of "
                    f"{self.config.search.max_len} (search.max_len)"
                )
        return encoded

    def text(self, hypothesis: Hypothesis) -> str:
        """The line that a hypothesis says."""
        moses, line = MosesSides.of(self.config.data), self.scored_text(hypothesis)
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
        self.num_line_breaks += line != text
        return line

    def reference(self, line: str) -> str:
        """A reference in the form that scores are taken of."""
        moses = MosesSides.of(self.config.data)
        return escape_line_breaks(line if moses is None else moses.target(line))

    def report_lines(self) -> None:
        """Say on standard error what was done to lines: unknown pieces, lengths and line breaks."""
        if self.unknown:
            total = sum(self.unknown.values())
            shown = ", ".join(f"{piece!r} {count}" for piece, count in self.unknown.most_common(8))
            more = f", and {len(self.unknown) - 8} more kinds" if len(self.unknown) > 8 else ""
            unit = self.source_tokenizer.unit.removesuffix("s")
            kinds = f"{total:,} {unit}{'s' if total != 1 else ''}"
            note(f"note: {kinds} never seen in training became <unk>: {shown}{more}")
        if self.num_too_long > 1:
            left_out = f", {self.num_left_out:,} of them left out" if self.num_left_out else ""
            note(f"note: {self.num_too_long:,} lines were over the limit of training{left_out}")
        if self.num_line_breaks:
            are = "output holds" if self.num_line_breaks == 1 else "outputs hold"
            note(
                f"note: {self.num_line_breaks:,} {are} a line break (or NUL), written as \\n, \\r, \\u2028 and so on: "
                "one line each"
            )


def _lengths(trained: int, limit: int | None) -> PaddedLengths:
    longest = FAR * trained if limit is None else min(limit, FAR * trained)
    return PaddedLengths.in_steps(trained, limit=max(trained, longest))


def start_from(run_dir: Path, *, allow_partial: bool = False) -> Start:
    """What a new run takes of another: its parameters and tokenizers.

    Args:
      run_dir: A run folder or model folder.
      allow_partial: Whether the new run's model may be of another structure.

    Raises:
      RunError: If it cannot be read.
    """
    other = load_run(run_dir)
    return Start(
        where=run_dir,
        model=other.model,
        source_tokenizer=other.source_tokenizer,
        target_tokenizer=other.target_tokenizer,
        allow_partial=allow_partial,
    )


def load_run(run_dir: Path) -> LoadedRun:
    """Read a run folder or a model folder; only JSON and arrays are read, nothing in it is executed.

    Raises:
      RunError: If the folder holds neither, or no checkpoint, or its tokenizers are not those of the training.
      ConfigError: If its config is damaged.
    """
    is_model_folder = (run_dir / WEIGHTS_NAME).is_file()
    names = (SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME)
    if is_model_folder:
        if (run_dir / TOKENIZER_NAME).is_file():
            names = (TOKENIZER_NAME, TOKENIZER_NAME)
        for name in (CONFIG_NAME, *names):
            require_file(run_dir, name)
    else:
        require_run(run_dir)
    config = saved_config(run_dir)
    source_tokenizer, target_tokenizer = (Tokenizer.load(run_dir / name) for name in names)

    def shapes(stored: Mapping[str, Any]) -> Any:
        return shapes_from(config, source_tokenizer, target_tokenizer, num_arrays=len(stored), where=run_dir)

    if is_model_folder:
        model = shapes(weight_shapes(run_dir / WEIGHTS_NAME))
        said: Mapping[str, Any] = read_weights(run_dir / WEIGHTS_NAME, model)
    else:
        model, info = load_model(run_dir, "best", build=shapes)
        said = info.extra
    for name, found in tokenizer_fingerprints(source_tokenizer, target_tokenizer).items():
        wanted = said.get(name, found)
        if wanted != found:
            raise RunError(
                f"{run_dir}: the model was trained with another tokenizer: {name} was {wanted}, the file's is {found}; "
                "bring the run's own file back"
            )
    return LoadedRun(config, model, source_tokenizer, target_tokenizer)
