"""The IOB scheme, which writes pieces of a sentence (slots, names) as a label for each word.

``B-x`` begins a piece of type ``x``, ``I-x`` continues it, and ``O`` stands outside of all pieces. A piece begins with
``B-``; ``I-x`` follows ``B-x`` or ``I-x`` (IOB2). Files in the older form, where ``I-x`` may begin a piece (IOB1), and
files with slips break this: they are repaired, or refused.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError

OUTSIDE = "O"

BrokenIob = Literal["repair", "refuse"]
"""What to do with sequences that break the scheme: ``I-x`` that continues nothing becomes ``B-x``, or an error."""


class Piece(NamedTuple):
    """A piece of a sentence.

    Attributes:
      label: Its type.
      start: Its first word, from 0.
      stop: The word behind its last one.
    """

    label: str
    start: int
    stop: int


def is_iob(labels: Iterable[str]) -> bool:
    """Whether labels are those of the scheme: all are ``O``, ``B-x`` or ``I-x``, and one at least is no ``O``.

    Example:
      >>> is_iob(["O", "B-city", "I-city"]), is_iob(["NOUN", "VERB"]), is_iob(["O"])
      (True, False, False)
    """
    found = set(labels)
    return found != {OUTSIDE} and all(label == OUTSIDE or _is_piece_label(label) for label in found)


def broken_places(labels: Sequence[str]) -> list[int]:
    """Words whose ``I-x`` continues no piece of type ``x``.

    Example:
      >>> broken_places(["I-city", "I-city", "O", "B-day", "I-city"])
      [0, 4]
    """
    places = []
    before = OUTSIDE
    for place, label in enumerate(labels):
        if label.startswith("I-") and before[2:] != label[2:]:
            places.append(place)
        before = label
    return places


def repaired(labels: Sequence[str]) -> tuple[str, ...]:
    """The same pieces in the strict form: each ``I-x`` that continues nothing begins a piece.

    That is how conlleval and seqeval read such a sequence too, and what makes IOB2 of IOB1.

    Example:
      >>> repaired(["I-city", "I-city", "B-city", "I-day"])
      ('B-city', 'I-city', 'B-city', 'B-day')
    """
    fixed = list(labels)
    for place in broken_places(labels):
        fixed[place] = f"B-{labels[place][2:]}"
    return tuple(fixed)


def require_whole(labels: Sequence[str], where: str) -> None:
    """Raise ``DataError`` if a sequence breaks the scheme.

    Args:
      labels: The labels of a sentence.
      where: The sentence, for the message.
    """
    places = broken_places(labels)
    if places:
        before = labels[places[0] - 1] if places[0] else "the start"
        raise DataError(
            f"{where}: {labels[places[0]]!r} of word {places[0] + 1} continues no piece, it follows {before!r}: begin "
            "a piece with 'B-', or let such labels be repaired"
        )


def pieces_of(labels: Sequence[str]) -> list[Piece]:
    """Pieces of a sentence, as conlleval and seqeval (in its usual mode) find them.

    A label that is neither ``O`` nor begins with a letter and a hyphen is a piece of its own.

    Args:
      labels: The labels of its words; sequences that break the scheme are read as `repaired` writes them. The letters
        ``E`` and ``S`` (end and single, of IOBES) are understood too.

    Example:
      >>> pieces_of(["B-city", "I-city", "O", "I-day"])
      [Piece(label='city', start=0, stop=2), Piece(label='day', start=3, stop=4)]
    """
    found: list[Piece] = []
    start, before, kind_before = 0, OUTSIDE, ""
    for place, label in enumerate([*labels, OUTSIDE]):
        prefix, kind = _split(label)
        if before != OUTSIDE and (before in "ES" or prefix in "BSO" or kind != kind_before):
            found.append(Piece(kind_before, start, place))
        if prefix != OUTSIDE and (prefix in "BS" or before in ("E", "S", OUTSIDE) or kind != kind_before):
            start = place
        before, kind_before = prefix, kind
    return found


class AllowedNeighbours(NamedTuple):
    """Which labels may follow each other, and begin a sentence.

    Attributes:
      transitions: ``[labels, labels]``, whether the second index may follow the first.
      starts: ``[labels]``, whether a sentence may begin with the label.
    """

    transitions: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]


def allowed_neighbours(labels: Sequence[str]) -> AllowedNeighbours:
    """Neighbours that the strict form allows: ``I-x`` behind ``B-x`` and ``I-x`` only.

    Args:
      labels: All labels in the order of their numbers; those of other schemes are free.

    Example:
      >>> found = allowed_neighbours(["B-a", "I-a", "O"])
      >>> found.transitions[:, 1].tolist(), found.starts.tolist()
      ([True, True, False], [True, False, True])
    """
    transitions = np.ones((len(labels), len(labels)), np.bool_)
    starts = np.ones(len(labels), np.bool_)
    if is_iob(labels):
        for place, label in enumerate(labels):
            if label.startswith("I-"):
                starts[place] = False
                transitions[:, place] = [before[1:] == label[1:] for before in labels]
    return AllowedNeighbours(transitions, starts)


def _is_piece_label(label: str) -> bool:
    return label[:2] in ("B-", "I-") and len(label) > 2


def _split(label: str) -> tuple[str, str]:
    """The letter and the type of a label; a label of no scheme is a piece of its own."""
    if label == OUTSIDE:
        return OUTSIDE, ""
    if len(label) > 2 and label[1] == "-" and label[0] in "BIES":
        return label[0], label[2:]
    return "S", label
