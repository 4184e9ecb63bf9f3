"""Lines in, lines out: a trained sequence-to-sequence model with its tokenizers and its search."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.copied_words import CopiedWords
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.data.pairs_config import PRONUNCIATION_DATASETS, NamedDataset, PairsConfig
from transformer_jax.data.text_forms import text_form
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError, check_choice
from transformer_jax.inference.aligned_outputs import AlignedOutputs
from transformer_jax.inference.attention_maps import Alignment, AttentionReader
from transformer_jax.inference.batch_search import (
    ALONE,
    BATCH_ROWS,
    GROUP_LINES,
    BatchSearcher,
    Hypothesis,
    batch_rows,
    not_found_note,
)
from transformer_jax.inference.copied_outputs import hypothesis_pieces, hypothesis_text, with_copied_words
from transformer_jax.inference.line_limit import LineLimit
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.pair_scores import PairScorer
from transformer_jax.inference.requested_search import RequestedSearch, coverage_of, search_of
from transformer_jax.inference.several_draws import SeveralDraws, check_num_samples
from transformer_jax.inference.translated import PairScore, Translated
from transformer_jax.nn.parameters import parameter_count

TooLong = Literal["whole", "skip", "truncate", "fail"]

MAX_LENGTH_FACTOR = 32
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

    verbs: ClassVar[tuple[str, ...]] = ("translate", "score", "align")

    name: str
    model: Any
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    data: PairsConfig
    search: SearchConfig
    source_limit: int | None = None
    target_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _programs: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.report.unit = self.source_tokenizer.unit.removesuffix("s")

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    @property
    def source_lengths(self) -> PaddedLengths:
        """Padded lengths of sources, up to the model's limit or `MAX_LENGTH_FACTOR` times the training limit."""
        return _lengths(self.data.max_source_len, self.source_limit)

    @property
    def target_lengths(self) -> PaddedLengths:
        """The same of targets that are given, the end token included."""
        return _lengths(self.data.max_target_len, self.target_limit)

    def translate(
        self,
        lines: Sequence[str],
        *,
        search: RequestedSearch | None = None,
        prefixes: Sequence[str] | None = None,
        too_long: TooLong = "whole",
        replace_unknown: bool = False,
        seed: int = 0,
        num_samples: int = 1,
        num_devices: int = 1,
        invariant: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Translated]:
        """Translate lines.

        An output does not depend on the lines beside it, with one exception: one or two lines by themselves are
        searched in batches of one row, some times as fast, so that their scores can differ in the last digits from
        those among others; ``invariant`` does without that. What happened to lines (unknown pieces, lengths, no
        output) goes to the logger ``transformer_jax`` as warnings, and is kept in ``report``.

        Args:
          lines: Texts, one output for each; an empty line gives an empty one.
          search: How to search, such as ``BeamSearch(num_beams=4)``; None for the run's own search.
          prefixes: What each output must begin with; an empty text leaves its output free.
          too_long: What to do with lines over the limit of training, see `encode`.
          replace_unknown: Put the source word that was attended to most in the place of unknown tokens.
          seed: Of the draws, where the search draws.
          num_samples: Draws of each line; the further ones are the ``alternatives`` of the first.
          num_devices: Devices that search side by side.
          invariant: Give one or two lines the very bits that they have among others.
          on_progress: Called with the number of lines done so far.

        Raises:
          ConfigError: If the search is impossible.
          RunError: If the model has no attention, which ``replace_unknown`` and a coverage penalty need.
          DataError: If a line is too long and ``too_long`` is ``"fail"``, a prefix was never seen in training, or there
            are not as many prefixes as lines.
          TypeError: If ``lines`` is one text, or ``search`` is none.
        """
        lines = _listed("lines", lines)
        check_choice("too_long", too_long, get_args(TooLong))
        if prefixes is not None and len(prefixes := _listed("prefixes", prefixes)) != len(lines):
            raise DataError(f"there are {len(lines):,} lines and {len(prefixes):,} prefixes: give as many")
        chosen, coverage = search_of(search, self.search), coverage_of(search, self.search)
        check_num_samples(num_samples, chosen)
        self._begin()
        aligned = None
        if coverage or replace_unknown:
            aligned = AlignedOutputs(self, chosen, coverage=coverage, replaces_unknown=replace_unknown)
        rows = 1 if len(lines) * num_samples <= ALONE and not invariant else None
        searcher = self._kept(
            ("search", chosen, rows, replace_unknown, num_devices),
            lambda: self.searcher(chosen, rows=rows, may_be_unknown=replace_unknown, num_devices=num_devices),
        )
        searcher.set_seed(seed)
        state, num_best = self.state, getattr(chosen if search is None else search, "num_best", num_samples)
        draws = SeveralDraws(searcher, num_samples)
        outputs: list[Translated] = []
        for first in range(0, len(lines), GROUP_LINES):
            group = lines[first : first + GROUP_LINES]
            sources = self.encode(group, too_long=too_long, where="lines", first_line=first + 1)
            begin = None
            if prefixes is not None:
                begin = self.encode_prefixes(
                    prefixes[first : first + len(group)], where="prefixes", first_line=first + 1
                )
            numbers = range(first, first + len(group))
            found = draws(state, sources, prefixes=begin, row_ids=numbers)
            found = self.with_copied_words(group, sources, found)
            if aligned is not None:
                found = aligned(state, group, sources, found)
            outputs += [self._translated(hypotheses[:num_best]) for hypotheses in found]
            if on_progress is not None:
                on_progress(len(outputs))
        not_found = [number for number, one in enumerate(outputs, 1) if not one.found]
        if not_found:
            self.report.remark(not_found_note(len(not_found), not_found[0]))
        self.report.note_all()
        return outputs

    def _begin(self) -> None:
        """Start to count anew: what a call reports is of its own lines."""
        self.report = LineReport(unit=self.report.unit)

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for these options before, with its compiled programs, or now."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    def _translated(self, hypotheses: Sequence[Hypothesis]) -> Translated:
        outputs = [
            Translated(
                text=self.text(one),
                score=one.score,
                tokens=tuple(self._pieces(one)),
                finished=one.finished,
                found=one.found,
            )
            for one in hypotheses
        ]
        return dataclasses.replace(outputs[0], alternatives=tuple(outputs[1:]))

    def _pieces(self, hypothesis: Hypothesis) -> list[str]:
        if self.data.copies_unknown:
            return hypothesis_pieces(self.target_tokenizer, hypothesis)
        return self.target_tokenizer.pieces(hypothesis.tokens)

    def score(
        self, sources: Sequence[str], targets: Sequence[str], *, too_long: TooLong = "whole"
    ) -> list[PairScore]:
        """How probable targets are, given their sources, by teacher forcing.

        Args:
          sources: Texts.
          targets: As many texts.
          too_long: What to do with lines over the limit of training, see `encode`.

        Raises:
          DataError: If there are not as many sources as targets, or a line is too long and ``too_long`` is ``"fail"``.
        """
        sources, targets = _listed("sources", sources), _listed("targets", targets)
        self._begin()
        taken = self._taken_pairs(sources, targets, too_long)
        self.report.note_all()
        scorer = self._kept("score", self.scorer)
        scores = scorer(self.state, [a for a, _ in taken.values()], [b for _, b in taken.values()])
        found = [PairScore(log_prob=math.nan, num_tokens=0)] * len(sources)
        for index, score in zip(taken, scores):
            found[index] = PairScore(log_prob=score, num_tokens=len(taken[index][1]) + 1)
        return found

    def align(
        self, sources: Sequence[str], targets: Sequence[str] | None = None, *, too_long: TooLong = "whole"
    ) -> list[Alignment]:
        """Attention of each target token over the source tokens.

        Args:
          sources: Texts.
          targets: As many texts; None takes the outputs of the run's own search.
          too_long: What to do with lines over the limit of training, see `encode`.

        Returns:
          For each pair its tokens and, for each attention of the model, ``[heads, target, source]``; no maps where the
          pair is too long for the model.

        Raises:
          RunError: If the model has no attention.
        """
        sources = _listed("sources", sources)
        self._begin()
        reader, state = self._kept("align", lambda: self.attention_reader(self.search)), self.state
        reader.require_attention(state, name=self.name, option="align")
        if targets is None:
            check_choice("too_long", too_long, get_args(TooLong))
            ids = self.encode(sources, too_long=too_long, where="sources")
            searcher = self._kept(("search", self.search, None, False, 1), lambda: self.searcher(self.search))
            found = self.with_copied_words(sources, ids, searcher(state, ids))
            outputs = [hypotheses[0] for hypotheses in found]
        else:
            taken = self._taken_pairs(sources, _listed("targets", targets), too_long)
            ids = [taken[i][0] if i in taken else [] for i in range(len(sources))]
            outputs = [
                Hypothesis(tuple(taken[i][1]), 0.0, True) if i in taken else Hypothesis((), 0.0, True)
                for i in range(len(sources))
            ]
        self.report.note_all()
        return reader(
            state,
            ids,
            outputs,
            self.source_tokenizer,
            self.target_tokenizer,
            texts=self.copied_texts(sources),
        )

    def copied_texts(self, lines: Sequence[str]) -> list[str] | None:
        """Lines as the source tokenizer reads them, where the model copies their unknown words; None where not."""
        return [self.source_text(line) for line in lines] if self.data.copies_unknown else None

    def _taken_pairs(
        self, sources: list[str], targets: list[str], too_long: TooLong
    ) -> dict[int, tuple[list[int], list[int]]]:
        """Ids of the pairs that the model can take, by their place."""
        check_choice("too_long", too_long, get_args(TooLong))
        if len(sources) != len(targets):
            raise DataError(f"there are {len(sources):,} sources and {len(targets):,} targets: give as many")
        pairs = self.taken_pairs(sources, targets, too_long=too_long, where=("sources", "targets"))
        return {i: (a, b) for i, (a, b) in enumerate(pairs) if a is not None and b is not None}

    def taken_pairs(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        too_long: TooLong,
        where: tuple[str, str],
        first_line: int = 1,
    ) -> list[tuple[list[int] | None, list[int] | None]]:
        """Ids of sources and of targets without their end, with None for a line that is left out; see `encode`."""
        source_ids = self.taken_sources(sources, too_long=too_long, where=where[0], first_line=first_line)
        target_ids = self.taken_targets(targets, too_long=too_long, where=where[1], first_line=first_line)
        if self.data.copies_unknown:
            copied = CopiedWords(self.source_tokenizer)
            for place, (source, target) in enumerate(zip(source_ids, target_ids)):
                if source is not None and target is not None:
                    words = copied.words(source, self.source_text(sources[place]))
                    target_ids[place] = copied.target(target, self.reference(targets[place]), words)
        return list(zip(source_ids, target_ids))

    def with_copied_words(
        self,
        lines: Sequence[str],
        sources: Sequence[Sequence[int]],
        found: Sequence[Sequence[Hypothesis]],
    ) -> list[list[Hypothesis]]:
        """Hypotheses of lines, ids of copied words replaced by the words; as they are where nothing can be copied."""
        texts = self.copied_texts(lines)
        if texts is None:
            return [list(hypotheses) for hypotheses in found]
        return with_copied_words(self.target_tokenizer, texts, sources, found)

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

    def scorer(self) -> PairScorer:
        """Scores targets given their sources."""
        return PairScorer(
            self.model,
            source_len=self.data.max_source_len,
            target_len=self.data.max_target_len,
            source_limit=self.source_lengths.longest,
            target_limit=self.target_lengths.longest,
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
            if not self.data.copies_unknown and self.source_tokenizer.count_unknown(ids):
                self.report.unknown.update(self.source_tokenizer.unknown_pieces(text))
        limit = LineLimit(self.data.max_source_len, self.source_lengths.longest, "data.max_source_len")
        taken = limit.apply(encoded, too_long, self.report, where=where, first_line=first_line)
        if self.data.copies_unknown:
            copied = CopiedWords(self.source_tokenizer)
            return [None if ids is None else copied.source(ids, text) for ids, text in zip(taken, texts)]
        return taken

    def taken_targets(
        self, lines: Sequence[str], *, too_long: TooLong, where: str, first_line: int = 1
    ) -> list[list[int] | None]:
        """Ids of targets that are given, without their end, as `taken_sources`."""
        encoded = self.target_tokenizer.encode_batch([self.reference(line) for line in lines])
        limit = LineLimit(
            self.data.max_target_len - 1,
            self.target_lengths.longest - 1,
            "data.max_target_len, less the end",
        )
        return limit.apply(encoded, too_long, self.report, where=where, first_line=first_line)

    def source_text(self, line: str) -> str:
        """A line in the form that the source tokenizer reads."""
        form = text_form(self.data)
        if form is not None:
            return form.source(line)
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
        """The text of a hypothesis."""
        form, line = text_form(self.data), self.scored_text(hypothesis)
        return line if form is None else escape_line_breaks(form.plain_target(line))

    def scored_text(self, hypothesis: Hypothesis) -> str:
        """The line in the form that scores are taken of: Moses-style tokens where the data are.

        A line break in it is written as an escape, see `escape_line_breaks`: one output is one line.
        """
        text = hypothesis_text(self.target_tokenizer, hypothesis)
        line = escape_line_breaks(text)
        self.report.num_line_breaks += line != text
        return line

    def reference(self, line: str) -> str:
        """A reference in the form that scores are taken of."""
        form = text_form(self.data)
        return escape_line_breaks(line if form is None else form.target(line))


def _listed(name: str, lines: Sequence[str]) -> list[str]:
    if isinstance(lines, str):
        raise TypeError(f"{name} must be a list of texts, got one text: write [{lines[:20]!r}]")
    found = list(lines)
    for place, one in enumerate(found):
        if not isinstance(one, str):
            raise TypeError(f"{name} must be texts; number {place + 1} is of type {type(one).__name__}")
    return found


def _lengths(trained: int, limit: int | None) -> PaddedLengths:
    longest = MAX_LENGTH_FACTOR * trained if limit is None else min(limit, MAX_LENGTH_FACTOR * trained)
    return PaddedLengths.in_steps(trained, limit=max(trained, longest))
