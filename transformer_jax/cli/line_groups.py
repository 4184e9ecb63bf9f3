"""The work of ``transformer-jax translate``: groups of lines through the search, in order."""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from transformer_jax.cli.lines import arriving_lines
from transformer_jax.cli.loaded import load_for
from transformer_jax.cli.streams import require_open, standard_output
from transformer_jax.data.line_breaks import escape_field
from transformer_jax.data.readers import count_lines, stream_lines
from transformer_jax.errors import ConfigError, DataError, RunError
from transformer_jax.files import require_other_file
from transformer_jax.inference.aligned_outputs import AlignedOutputs
from transformer_jax.inference.attention_maps import AlignmentFile, AttentionFile, AttentionReader
from transformer_jax.inference.batch_search import ALONE, GROUP_LINES, Hypothesis, not_found_note
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.search_change import SearchChange
from transformer_jax.inference.several_draws import SeveralDraws, check_num_samples
from transformer_jax.inference.translator import TooLong, Translator
from transformer_jax.notes import is_watched, note
from transformer_jax.runs.ensemble import load_ensemble


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineFiles:
    """Where lines come from and go to.

    Attributes:
      input: Lines to translate; None for standard input.
      output: Where translations go; None for standard output.
      prefixes: What each output must begin with, a line for each line of ``input``.
      attention: Where attention maps go.
      alignments: Where the links of output and source tokens go, a line for each line.
      goes_on: Go on behind the whole lines that ``output`` holds.
    """

    input: Path | None = None
    output: Path | None = None
    prefixes: Path | None = None
    attention: Path | None = None
    alignments: Path | None = None
    goes_on: bool = False

    @property
    def where(self) -> str:
        """What the input is called in messages."""
        return "standard input" if self.input is None else str(self.input)

    def check(self) -> None:
        """Raise ``ConfigError`` or ``DataError`` if the files do not go together."""
        if self.prefixes is not None:
            if self.input is None:
                raise ConfigError("--prefix has a line for each line of --input: name both files")
            require_same_lines(self.input, self.prefixes)
        require_other_file("--output", self.output, [self.input, self.prefixes])
        require_other_file("--attention", self.attention, [self.input, self.output, self.prefixes])
        known = [self.input, self.output, self.prefixes, self.attention]
        require_other_file("--alignments", self.alignments, known)
        if self.goes_on and (self.input is None or self.output is None or self.reads_attention):
            raise ConfigError(
                "--continue goes on with --output for --input, without --attention and --alignments: name both files"
            )

    @property
    def reads_attention(self) -> bool:
        """Whether a file wants the model's attention."""
        return self.attention is not None or self.alignments is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineOptions:
    """How lines are translated.

    Attributes:
      change: What differs from the run's own search.
      seed: Of the draws.
      num_samples: Draws of each line.
      replaces_unknown: Whether an unknown token becomes the source word that was attended to most.
      too_long: What to do with lines over the limit of training.
      num_devices: Devices that search side by side.
      invariant: Whether a line that comes alone is searched as among others.
      verify_invariance: Whether each line is translated again in other batches, and compared.
      ensemble: Folders of runs that translate together with the first one.
    """

    change: SearchChange = dataclasses.field(default_factory=SearchChange)
    seed: int = 0
    num_samples: int = 1
    replaces_unknown: bool = False
    too_long: TooLong = "whole"
    num_devices: int = 1
    invariant: bool = False
    verify_invariance: bool = False
    ensemble: tuple[Path, ...] = ()


def translate_lines(run_dir: Path, files: LineFiles, options: LineOptions) -> int:
    """Translate a file or standard input; see the command's help.

    Returns:
      Number of lines read.

    Raises:
      DataError: If the input is missing, empty (a file), binary or not UTF-8, a line is too long, or the prefixes
        do not go with the input.
      RunError: If ``run_dir`` holds no trained run, or its attention is wanted and it has none; if
        ``verify_invariance`` finds a line that its neighbours change.
      ConfigError: If the search is impossible.
    """
    files.check()
    # A file is read twice: a bad line is found before any work is done.
    total = count_lines(files.input) if files.input is not None and files.input.is_file() else None
    run = load_for("translate", Translator, run_dir)
    translator: Translator = (
        load_ensemble([run_dir, *options.ensemble]) if options.ensemble else run
    ).predictor
    search = _Search(translator, options)
    reader = None
    if files.reads_attention:  # before the output is opened: a refusal leaves the files as they are
        option = "--alignments" if files.attention is None else "--attention"
        reader = translator.attention_reader(search.config)
        reader.require_attention(search.state, name=translator.name, option=option)
    num_best = options.num_samples if options.num_samples > 1 else options.change.num_best
    done = 0
    if files.goes_on and files.output is not None:
        done = _whole_lines(files.output, num_best)
    if total is not None and done > total:
        raise DataError(
            f"{files.output} holds {done:,} lines, {files.input} has {total:,}: not its translation"
        )
    number = done
    num_not_found = first_not_found = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(opened_output(files.output, appends=files.goes_on))
        attention = None
        if reader is not None:
            opened: list[AttentionFile | AlignmentFile] = []
            if files.attention is not None:
                opened.append(stack.enter_context(AttentionFile(files.attention)))
            if files.alignments is not None:
                opened.append(stack.enter_context(AlignmentFile(files.alignments)))
            attention = _AttentionWriter(translator, reader, opened)
        prefixes = (
            None if files.prefixes is None else itertools.islice(stream_lines(files.prefixes), done, None)
        )
        progress = stack.enter_context(progress_bar(total))
        for group in line_groups(files.input, files.where, done):
            sources = translator.encode(
                group, too_long=options.too_long, where=files.where, first_line=number + 1
            )
            note_remarks(translator.report)
            given: dict[str, Any] = {"row_ids": range(number, number + len(group))}
            if prefixes is not None:
                lines = list(itertools.islice(prefixes, len(group)))
                given["prefixes"] = translator.encode_prefixes(
                    lines, where=str(files.prefixes), first_line=number + 1
                )
            found, outputs = search(group, sources, given)
            for index, hypotheses in enumerate(outputs):
                if not hypotheses[0].found:
                    num_not_found += 1
                    first_not_found = first_not_found or number + index + 1
            texts = [
                _written(translator, hypotheses, number + index + 1, num_best)
                for index, hypotheses in enumerate(outputs)
            ]
            write_texts(out, texts, files.output)
            if options.verify_invariance:
                search.verify(sources, found, given, files.where, number)
            if attention is not None:
                attention(search.state, number, group, sources, outputs)
            number += len(group)
            progress(number)
    note_lines(translator.report)
    if num_not_found:
        note(f"note: {not_found_note(num_not_found, first_not_found)}")
    if options.verify_invariance:
        note(f"verified: {number:,} lines, the same bits in other batches and another order")
    return number


class _Search:
    """A run's search with what the options change: in batches, or alone for a line or two."""

    def __init__(self, translator: Translator, options: LineOptions) -> None:
        self._translator, self.state = translator, translator.state
        self.config = options.change.of(translator.search)
        check_num_samples(options.num_samples, self.config)
        self._num_samples = options.num_samples
        chosen: dict[str, Any] = {"seed": options.seed, "may_be_unknown": options.replaces_unknown}
        searcher = translator.searcher(self.config, num_devices=options.num_devices, **chosen)
        self._searcher = SeveralDraws(searcher, options.num_samples)
        self._alone = SeveralDraws(translator.searcher(self.config, rows=1, **chosen), options.num_samples)
        self._always_filled = options.invariant or options.verify_invariance
        coverage = options.change.coverage_afterwards(translator.search)
        self._aligned = None
        if coverage or options.replaces_unknown:
            self._aligned = AlignedOutputs(
                translator, self.config, coverage=coverage, replaces_unknown=options.replaces_unknown
            )

    def __call__(self, group: list[str], sources: list[list[int]], given: dict[str, Any]) -> tuple[Any, Any]:
        """What the search found, and the outputs: the same, or ranked anew and with their unknown tokens named."""
        is_alone = len(group) * self._num_samples <= ALONE and not self._always_filled
        found = (self._alone if is_alone else self._searcher)(self.state, sources, **given)
        outputs = self._translator.with_copied_words(group, sources, found)
        return found, outputs if self._aligned is None else self._aligned(self.state, group, sources, outputs)

    def verify(
        self, sources: list[list[int]], found: Any, given: dict[str, Any], where: str, number: int
    ) -> None:
        """Raise ``RunError`` if a line's bits follow from its neighbours."""
        changed = self._searcher.changed_by_neighbours(self.state, sources, found, seed=number, **given)
        if changed:
            raise RunError(
                f"{where}: line {number + changed[0] + 1} ({len(changed)} of {len(sources)} lines): another "
                "translation or score in another batch; please report the machine and the versions"
            )


def write_texts(out: BinaryIO, texts: Sequence[str], path: Path | None) -> None:
    """Write lines that are ready.

    Raises:
      DataError: If there is no room, say; tells how to go on.
    """
    try:
        for text in texts:
            out.write(text.encode())
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if path is None:
            raise DataError(f"standard output: {reason}") from None
        raise DataError(
            f"{path}: {reason}; what was written is kept: make room, then go on with --continue"
        ) from None


def _whole_lines(path: Path, num_best: int | None) -> int:
    """How many inputs a broken-off output answers; what it holds of the next one is cut off.

    Raises:
      DataError: If it holds something else than lines of this form.
    """
    if not path.exists():
        return 0
    done = end = place = 0
    with path.open("r+b") as file:
        for line in file:
            place += len(line)
            if not line.endswith(b"\n"):
                break
            if num_best is None:
                done, end = done + 1, place
                continue
            number = line.split(b"\t", 1)[0]
            if not number.isdigit() or int(number) not in (done, done + 1):
                raise DataError(f"{path}: byte {place - len(line):,}: not a line of --n-best output")
            if int(number) == done + 1:  # all of the one before is there
                done, end = done + 1, place - len(line)
        if num_best is not None and done:
            done -= 1  # of the last one some may be missing
        file.truncate(end)
    return done


def require_same_lines(first: Path, second: Path) -> None:
    """Check that two files have a line for each line.

    Raises:
      DataError: If not.
    """
    counts = [count_lines(path) for path in (first, second)]
    if counts[0] != counts[1]:
        raise DataError(f"{second} has {counts[1]:,} lines, {first} {counts[0]:,}: one is wanted for each")


def line_groups(input_path: Path | None, where: str, done: int) -> Iterator[list[str]]:
    """Groups of lines as they come: of a file behind the first ``done``, or of standard input."""
    if input_path is None:
        require_open(0, "--input FILE")
        yield from arriving_lines(sys.stdin.buffer, where=where, max_lines=GROUP_LINES)
        return
    lines = itertools.islice(stream_lines(input_path), done, None)
    while group := list(itertools.islice(lines, GROUP_LINES)):
        yield group


def _written(
    translator: Translator, hypotheses: Sequence[Hypothesis], number: int, num_best: int | None
) -> str:
    if num_best is None:
        return translator.text(hypotheses[0]) + "\n"
    rows = [
        f"{number}\t{one.score:.4f}\t{escape_field(translator.text(one))}\n" for one in hypotheses[:num_best]
    ]
    return "".join(rows)


class _AttentionWriter:
    """Reads the attention of each line's best output and appends it to files."""

    def __init__(
        self,
        translator: Translator,
        reader: AttentionReader,
        files: Sequence[AttentionFile | AlignmentFile],
    ) -> None:
        self._translator, self._reader, self._files = translator, reader, files

    def __call__(
        self,
        state: Any,
        number: int,
        lines: list[str],
        sources: list[list[int]],
        found: list[list[Hypothesis]],
    ) -> None:
        outputs = [hypotheses[0] for hypotheses in found]
        tokenizers = (self._translator.source_tokenizer, self._translator.target_tokenizer)
        texts = self._translator.copied_texts(lines)
        for index, alignment in enumerate(self._reader(state, sources, outputs, *tokenizers, texts=texts)):
            for file in self._files:
                file.add(number + index + 1, alignment)


def note_remarks(report: LineReport) -> None:
    """Print remarks of a report that are new, such as the first line that was too long."""
    for text in report.take_remarks():
        note(f"note: {text}")


def note_lines(report: LineReport) -> None:
    """Print a report's remarks and counts on standard error."""
    note_remarks(report)
    for text in report.lines():
        note(f"note: {text}")


@contextlib.contextmanager
def opened_output(path: Path | None, *, appends: bool = False) -> Iterator[BinaryIO]:
    """A file to write, or standard output, which must be open."""
    if path is None:
        require_open(1, "--output FILE")
        yield standard_output()
    else:
        file = path.open("ab" if appends else "wb")
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):  # a full disk was told of when it was found
                file.close()


@contextlib.contextmanager
def progress_bar(total: int | None, unit: str = "lines") -> Iterator[Any]:
    """A bar on standard error while a person watches it; nothing otherwise, or where the total is not known."""
    if total is None or not is_watched():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda done: bar.update(task, completed=done)
