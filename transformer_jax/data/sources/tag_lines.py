"""Files of one word a line with its label, and an empty line behind each sentence: columns, and CoNLL-U.

A comment ``# class = NAME`` before a sentence gives the label of the whole sentence.
"""

import os
from collections.abc import Iterator
from typing import Literal

from transformer_jax.data.readers import read_lines
from transformer_jax.data.tagged_text import TaggedSentence
from transformer_jax.errors import DataError, shortened

TagFormat = Literal["auto", "conllu", "columns"]

CONLLU_COLUMNS = {"upos": 3, "xpos": 4}
"""Columns of CoNLL-U that hold a label for each word."""

_NUM_CONLLU_COLUMNS = 10
_CLASS_COMMENTS = ("class", "label", "intent")
_DOCUMENT_START = "-DOCSTART-"
_WORD_HEADINGS = {"form", "token", "tokens", "word", "words"}
_LABEL_HEADINGS = {"label", "labels", "ner", "pos", "slot", "slots", "tag", "tags", "upos", "xpos"}


def read_conllu(path: str | os.PathLike[str], *, column: str = "upos") -> list[TaggedSentence]:
    """Sentences of a CoNLL-U file, plain or compressed by gzip or xz.

    Lines of multi-word tokens (``1-2``) are passed over, since their words follow, and so are empty nodes (``8.1``),
    which stand in no text.

    Args:
      path: The file.
      column: Column that labels are taken from, ``"upos"`` or ``"xpos"``.

    Raises:
      DataError: If the file cannot be read, a line has not ten fields or its words are not numbered 1, 2, ..., a word
        has no label, or there is no sentence; names the line.

    Source: https://universaldependencies.org/format.html
    """
    place = CONLLU_COLUMNS[column]
    found: list[TaggedSentence] = []
    for comments, rows in _blocks(path):
        words: list[str] = []
        labels: list[str] = []
        for number, text in rows:
            fields = text.split("\t")
            if len(fields) != _NUM_CONLLU_COLUMNS:
                raise DataError(
                    f"{path}, line {number}: wanted the {_NUM_CONLLU_COLUMNS} fields of CoNLL-U separated by tabs, got "
                    f"{len(fields)}: {shortened(text, 40)!r}"
                )
            if "-" in fields[0] or "." in fields[0]:
                continue
            if fields[0] != str(len(words) + 1):
                raise DataError(
                    f"{path}, line {number}: wanted word {len(words) + 1}, got number {shortened(fields[0], 20)!r}"
                )
            if fields[place] in ("", "_") or not fields[1]:
                raise DataError(f"{path}, line {number}: word {shortened(fields[1], 40)!r} has no {column}")
            words.append(fields[1])
            labels.append(fields[place])
        if words:
            found.append(TaggedSentence(tuple(words), tuple(labels), _class_of(comments), rows[0][0]))
    return _some(found, path)


def read_columns(
    path: str | os.PathLike[str], *, word_column: int = 0, label_column: int = -1
) -> list[TaggedSentence]:
    """Sentences of a file in columns, separated by tabs, or by blanks in a line without a tab.

    Lines that begin with ``-DOCSTART-`` (CoNLL-2003) are passed over, and so is a first line of headings such as
    ``word`` and ``tag``.

    Args:
      path: The file, plain or compressed by gzip or xz.
      word_column: Column of the word, from 0; negative ones count from the last.
      label_column: Column of the label.

    Raises:
      DataError: If the file cannot be read, a line lacks a column or has an empty word or label, or there is no
        sentence; names the line.
    """
    found: list[TaggedSentence] = []
    for comments, rows in _blocks(path):
        words: list[str] = []
        labels: list[str] = []
        for number, text in rows:
            fields = text.split("\t") if "\t" in text else text.split()
            if fields[0] == _DOCUMENT_START:
                continue
            if len(fields) < 2:
                raise DataError(
                    f"{path}, line {number}: wanted a word and its label, separated by a tab or a blank, got "
                    f"{shortened(text, 40)!r}"
                )
            try:
                word, label = fields[word_column].strip(), fields[label_column].strip()
            except IndexError:
                raise DataError(
                    f"{path}, line {number}: wanted columns {word_column} and {label_column}, got {len(fields)} fields"
                ) from None
            if not found and number == rows[0][0] and _are_headings(word, label):
                continue
            if not word or not label:
                raise DataError(f"{path}, line {number}: the {'label' if word else 'word'} is empty")
            words.append(word)
            labels.append(label)
        if words:
            found.append(TaggedSentence(tuple(words), tuple(labels), _class_of(comments), rows[0][0]))
    return _some(found, path)


def _are_headings(word: str, label: str) -> bool:
    return word.lower() in _WORD_HEADINGS and label.lower() in _LABEL_HEADINGS


def read_tag_file(
    path: str | os.PathLike[str],
    *,
    form: TagFormat = "auto",
    word_column: int = 0,
    label_column: int = -1,
    conllu_column: str = "upos",
) -> list[TaggedSentence]:
    """Sentences of a file of either form.

    Args:
      path: The file.
      form: ``"conllu"``, ``"columns"``, or ``"auto"`` to go by the name, ``.conllu`` with or without ``.gz``, ``.xz``.
      word_column: See `read_columns`.
      label_column: See `read_columns`.
      conllu_column: See `read_conllu`.

    Raises:
      DataError: As the readers of the forms do.
    """
    name = os.path.basename(os.fspath(path)).lower().removesuffix(".gz").removesuffix(".xz")
    if form == "conllu" or (form == "auto" and name.endswith(".conllu")):
        return read_conllu(path, column=conllu_column)
    return read_columns(path, word_column=word_column, label_column=label_column)


def _blocks(path: str | os.PathLike[str]) -> Iterator[tuple[list[str], list[tuple[int, str]]]]:
    """Comments and numbered lines of each sentence."""
    comments: list[str] = []
    rows: list[tuple[int, str]] = []
    for number, text in enumerate(read_lines(path), start=1):
        if not text.strip():
            if rows:
                yield comments, rows
                comments, rows = [], []
        elif not rows and text.startswith("# "):
            comments.append(text[2:])
        else:
            rows.append((number, text))
    if rows:
        yield comments, rows


def _class_of(comments: list[str]) -> str | None:
    for comment in comments:
        name, equals, value = comment.partition("=")
        if equals and name.strip().lower() in _CLASS_COMMENTS and value.strip():
            return value.strip()
    return None


def _some(found: list[TaggedSentence], path: str | os.PathLike[str]) -> list[TaggedSentence]:
    if not found:
        raise DataError(
            f"{path}: no sentence; wanted a word and its label a line, an empty line behind each sentence"
        )
    classed = sum(one.label is not None for one in found)
    if 0 < classed < len(found):
        first = next(one for one in found if one.label is None)
        raise DataError(
            f"{path}, line {first.line}: this sentence has no comment '# class = NAME', {classed:,} of {len(found):,} "
            "have one: give it to all or none"
        )
    return found
