"""Documents of plain text, and the three parts of a set of them."""

import dataclasses
import itertools
from collections.abc import Sequence

HELD_OUT_SHARE = 0.1
"""Share of the characters held out as development text where a config names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A text with a name for messages, such as the path of its file."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSplits:
    """The three parts of a set of documents.

    Attributes:
      train: Documents to train on.
      development: Documents to select checkpoints on.
      test: Documents to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[Document]
    development: list[Document]
    test: list[Document]
    notes: tuple[str, ...] = ()


def split_documents(document: Document, separator: str | None) -> list[Document]:
    """The documents of one text between separators, without those of white space alone; None splits nothing.

    Example:
      >>> split_documents(Document("a.txt", "one|two| "), "|")
      [Document(name='a.txt, document 1', text='one'), Document(name='a.txt, document 2', text='two')]
    """
    if separator is None:
        return [document]
    parts = [part for part in document.text.split(separator) if part.strip()]
    return [Document(f"{document.name}, document {number}", part) for number, part in enumerate(parts, 1)]


def split_by_characters(document: Document, *bounds: float) -> list[str]:
    """Texts of one document cut at shares of its characters.

    Args:
      document: The text.
      *bounds: Shares between 0 and 1 at which to cut, from small to large.

    Example:
      >>> split_by_characters(Document("ten", "0123456789"), 0.8, 0.9)
      ['01234567', '8', '9']
    """
    cuts = [0, *(int(len(document.text) * bound) for bound in bounds), len(document.text)]
    return [document.text[start:stop] for start, stop in itertools.pairwise(cuts)]


def first_characters(documents: Sequence[Document], num_characters: int | None) -> list[Document]:
    """Documents up to a number of characters in all, the last one cut; None keeps them all.

    Example:
      >>> first_characters([Document("a", "one"), Document("b", "two"), Document("c", "six")], 4)
      [Document(name='a', text='one'), Document(name='b', text='t')]
    """
    if num_characters is None:
        return list(documents)
    kept = []
    for document in documents:
        if num_characters <= 0:
            break
        kept.append(dataclasses.replace(document, text=document.text[:num_characters]))
        num_characters -= len(document.text)
    return kept


def hold_out_last(
    documents: Sequence[Document], share: float = HELD_OUT_SHARE
) -> tuple[list[Document], list[Document]]:
    """The documents without the last ``share`` of all characters, and those characters; one document may be cut.

    Example:
      >>> hold_out_last([Document("a", "12345"), Document("b", "67890")], 0.2)
      ([Document(name='a', text='12345'), Document(name='b', text='678')], [Document(name='b', text='90')])
    """
    total = sum(len(document.text) for document in documents)
    train = first_characters(documents, total - int(total * share))
    held_out = list(documents[len(train) :])
    if train and len(train[-1].text) < len(documents[len(train) - 1].text):
        cut = documents[len(train) - 1]
        held_out.insert(0, dataclasses.replace(cut, text=cut.text[len(train[-1].text) :]))
    return train, held_out
