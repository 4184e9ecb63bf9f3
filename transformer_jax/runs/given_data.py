"""Examples that a program has in memory, kept in the run folder as files, so that the run can be resumed."""

import contextlib
import dataclasses
import hashlib
import operator
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.data.classes_config import ClassesConfig, ClassFiles
from transformer_jax.data.masked_config import MaskedTextConfig
from transformer_jax.data.pairs_config import PairsConfig, ParallelFiles
from transformer_jax.data.sources.part_files import PARTS
from transformer_jax.data.tag_config import TagConfig, TagFiles
from transformer_jax.data.text_config import TextConfig, TextFiles
from transformer_jax.data.words_config import WordsConfig
from transformer_jax.errors import ConfigError, DataError, RunError, nearest_hint, shortened
from transformer_jax.files import partial_name

__all__ = ["FOLDER", "remove_other_data", "with_given_data"]

FOLDER = "data"
"""Name of the folder in a run folder."""

_SEPARATOR = "\n\x1e\n"
"""Between two texts of a file."""

_FIELD_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

_Files = dict[str, list[str]]
"""Lines of the files of a part by their endings."""

_Examples = Iterator[tuple[str, Any]]
"""Examples, each behind its name for messages."""

_Paths = Mapping[str, Mapping[str, str]]
"""Paths by part and ending."""


def with_given_data(config: Any, data: Any, run_dir: Path, *, resumes: bool) -> Any:
    """A task's data config on examples that a program has in memory.

    Args:
      config: The data config; of its data set nothing is left.
      data: The training examples, any iterable; or a mapping of ``"train"`` and, where there are such,
        ``"development"`` and ``"test"``. An example of pairs is ``(source, target)``, of a language model or word
        vectors a text, of a classifier ``(text, label)``, of a tagger ``(words, labels)``.
      run_dir: The run folder. The examples are written to ``data/HASH`` in it: the same ones have the same place.
      resumes: Whether the folder's run goes on, which must be on the same examples.

    Returns:
      The data config on these files.

    Raises:
      ConfigError: If such data are not taken from memory, or ``data`` is no iterable, or a part has an unknown name.
      DataError: If a part has no example, or one has another form; the message says which.
      RunError: If a run that goes on was not trained on these examples.
    """
    form = _FORMS.get(type(config))
    if form is None:
        raise ConfigError(
            f"data in memory are pairs, texts, and texts with classes or tags; {type(config).__name__} reads files: "
            "name them in its data set"
        )
    parts = {
        name: form.files(_numbered(name, examples)) for name, examples in _examples_by_part(data).items()
    }
    for name, files in parts.items():
        if not any(files.values()):
            advice = "give some" if name == "train" else "leave it out"
            raise DataError(f"data: there is no {name} example: {advice}")
    folder = run_dir / FOLDER / _fingerprint(parts)
    if not folder.is_dir():
        if resumes:
            raise RunError(
                f"data: not the examples that {run_dir} was trained on: leave them out to go on with those, or give "
                "the same"
            )
        _write(folder, parts)
    paths = {
        name: {ending: str(folder / f"{name}.{ending}") for ending in files} for name, files in parts.items()
    }
    return dataclasses.replace(config, **{form.field: form.dataset(paths)})


def remove_other_data(run_dir: Path, config: Any) -> None:
    """Remove the examples of a run that was replaced: all folders of data that its data config does not name."""
    named = repr(config)
    for folder in (run_dir / FOLDER).glob("*"):
        if folder.is_dir() and str(folder) not in named:
            shutil.rmtree(folder)


def _numbered(part: str, examples: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each example behind its name for messages."""
    for number, example in enumerate(examples, 1):
        yield f"data: {part} example {number}", example


def _examples_by_part(data: Any) -> dict[str, Iterable[Any]]:
    parts = dict(data) if isinstance(data, Mapping) else {"train": data}
    for name, examples in parts.items():
        if name not in PARTS:
            raise ConfigError(
                f"data: no part {name!r}{nearest_hint(str(name), PARTS)}; wanted {', '.join(PARTS)}"
            )
        if isinstance(examples, str | bytes) or not isinstance(examples, Iterable):
            raise ConfigError(f"data: wanted an iterable of {name} examples, got {type(examples).__name__}")
    if "train" not in parts:
        raise ConfigError("data: wanted a part 'train'")
    return parts


def _pair_files(examples: _Examples) -> _Files:
    files: _Files = {"source": [], "target": []}
    for where, example in examples:
        pair = _of_two(where, example, "(source, target)")
        for side, line in zip(files, pair, strict=True):
            if "\n" in _text(where, side, line):
                raise DataError(
                    f"{where}: the {side} holds a line break; a source and a target are one line each: cut it"
                )
            files[side].append(line)
    return files


def _text_files(examples: _Examples) -> _Files:
    texts = []
    for where, example in examples:
        text = _text(where, "example", example)
        if _SEPARATOR in text:
            raise DataError(f"{where}: it holds a record separator (U+001E) on a line of its own: remove it")
        texts.append(text)
    return {"txt": texts}


def _class_files(examples: _Examples) -> _Files:
    rows = []
    for where, example in examples:
        text, label = _of_two(where, example, "(text, label)")
        label = _text(where, "label", label if isinstance(label, str) else _integer_as_text(label))
        if not label or _FIELD_BREAKS.search(label):
            raise DataError(f"{where}: wanted a label without tabs and line breaks, got {label!r}")
        rows.append(f"{label}\t{_FIELD_BREAKS.sub(' ', _text(where, 'text', text))}")
    return {"tsv": rows}


def _tag_files(examples: _Examples) -> _Files:
    lines = []
    for where, example in examples:
        words, labels = _of_two(where, example, "(words, labels)")
        if isinstance(words, str) or isinstance(labels, str) or len(words) != len(labels) or not len(words):
            raise DataError(f"{where}: wanted as many words as labels, at least one, in two lists")
        for word, label in zip(words, labels, strict=True):
            for what, text in (("word", word), ("label", label)):
                if not _text(where, what, text) or text.split() != [text]:
                    raise DataError(f"{where}: wanted a {what} without white space, got {text!r}")
            lines.append(f"{word}\t{label}")
        lines.append("")
    return {"tsv": lines}


def _of_two(where: str, example: Any, wanted: str) -> tuple[Any, Any]:
    if isinstance(example, str) or not isinstance(example, Sequence) or len(example) != 2:
        raise DataError(f"{where}: wanted {wanted}, got {shortened(repr(example), 60)}")
    return example[0], example[1]


def _text(where: str, what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: wanted a text as its {what}, got {shortened(repr(value), 60)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: its {what} holds half a surrogate pair, which no file can: remove it"
        ) from None
    return value


def _integer_as_text(label: Any) -> Any:
    try:
        return str(operator.index(label))
    except TypeError:
        return label


def _pair_dataset(paths: _Paths) -> ParallelFiles:
    named: dict[str, Any] = {
        f"{part}_{side}": path for part, files in paths.items() for side, path in files.items()
    }
    return ParallelFiles(**named)


def _text_dataset(paths: _Paths) -> TextFiles:
    named: dict[str, Any] = {part: tuple(files.values()) for part, files in paths.items()}
    return TextFiles(**named, document_separator=_SEPARATOR)


class _Form(NamedTuple):
    """How examples of a form are written, and which field of the data config reads them by which data set."""

    files: Callable[[_Examples], _Files]
    dataset: Callable[[_Paths], Any]
    field: str = "dataset"


def _one_file(dataset: Callable[..., Any], **settings: Any) -> Callable[[_Paths], Any]:
    return lambda paths: dataset(**{part: files["tsv"] for part, files in paths.items()}, **settings)


_FORMS: dict[type, _Form] = {
    PairsConfig: _Form(_pair_files, _pair_dataset),
    TextConfig: _Form(_text_files, _text_dataset),
    MaskedTextConfig: _Form(_text_files, lambda paths: (_text_dataset(paths),), "datasets"),
    WordsConfig: _Form(_text_files, lambda paths: (_text_dataset(paths),), "datasets"),
    ClassesConfig: _Form(_class_files, _one_file(ClassFiles, label_column=0, text_column=1)),
    TagConfig: _Form(_tag_files, _one_file(TagFiles, format="columns")),
}


def _content(ending: str, lines: list[str]) -> bytes:
    if ending == "txt":
        return _SEPARATOR.join(lines).encode()
    return "".join(f"{line}\n" for line in lines).encode()


def _fingerprint(parts: Mapping[str, _Files]) -> str:
    found = hashlib.sha256()
    for part, files in sorted(parts.items()):
        for ending, lines in files.items():
            content = _content(ending, lines)
            found.update(f"{part}.{ending} {len(content)}\n".encode() + content)
    return found.hexdigest()[:12]


def _write(folder: Path, parts: Mapping[str, _Files]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(folder)
    partial.mkdir()
    try:
        for part, files in parts.items():
            for ending, lines in files.items():
                (partial / f"{part}.{ending}").write_bytes(_content(ending, lines))
        with contextlib.suppress(OSError):  # another process was faster, with the same examples
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not folder.is_dir():
        raise OSError(f"{folder}: cannot be written")
