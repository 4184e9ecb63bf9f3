"""The IOB scheme: pieces as seqeval finds them, broken sequences repaired or refused, neighbours that are allowed."""

import itertools

import hypothesis
import hypothesis.strategies as st
import pytest

from transformer_jax.data.iob import (
    OUTSIDE,
    Piece,
    allowed_neighbours,
    broken_places,
    is_iob,
    pieces_of,
    repaired,
    require_whole,
)
from transformer_jax.errors import DataError

NAMES = ("B-a", "I-a", "B-b", "I-b", OUTSIDE)
SEQUENCES = st.lists(st.sampled_from(NAMES), max_size=12)

# seqeval 1.2.2: get_entities(labels), whose ends are the last words.
SEQEVAL = {
    "B-a I-a O B-b": [("a", 0, 1), ("b", 3, 3)],
    "I-a I-a O I-b I-a": [("a", 0, 1), ("b", 3, 3), ("a", 4, 4)],
    "B-a B-a I-b I-b B-b": [("a", 0, 0), ("a", 1, 1), ("b", 2, 3), ("b", 4, 4)],
    "S-a B-a E-a I-a O E-b E-b": [("a", 0, 0), ("a", 1, 2), ("a", 3, 3), ("b", 5, 5), ("b", 6, 6)],
    "B-a-b I-a-b": [("a-b", 0, 1)],
    "O O": [],
}


@pytest.mark.parametrize("text", SEQEVAL)
def test_pieces_are_those_of_seqeval(text: str) -> None:
    assert pieces_of(text.split()) == [Piece(kind, start, end + 1) for kind, start, end in SEQEVAL[text]]


def test_labels_of_no_scheme_are_pieces_of_their_own() -> None:
    assert pieces_of(["NOUN", "NOUN", OUTSIDE, "X"]) == [
        Piece("NOUN", 0, 1),
        Piece("NOUN", 1, 2),
        Piece("X", 3, 4),
    ]


@hypothesis.given(SEQUENCES)
def test_repair_keeps_the_pieces_and_leaves_nothing_broken(labels: list[str]) -> None:
    fixed = repaired(labels)
    assert pieces_of(fixed) == pieces_of(labels)
    assert broken_places(fixed) == []
    assert repaired(fixed) == fixed
    require_whole(fixed, "here")
    if broken_places(labels):
        with pytest.raises(DataError, match=r"here: 'I-.' of word .* continues no piece"):
            require_whole(labels, "here")


@hypothesis.given(SEQUENCES)
def test_allowed_neighbours_are_what_repair_does_not_touch(labels: list[str]) -> None:
    allowed = allowed_neighbours(NAMES)
    numbers = [NAMES.index(label) for label in labels]
    fits = all(allowed.transitions[pair] for pair in itertools.pairwise(numbers))
    fits = fits and (not numbers or bool(allowed.starts[numbers[0]]))
    assert fits == (not broken_places(labels))


def test_labels_of_other_schemes_are_free() -> None:
    allowed = allowed_neighbours(["NOUN", "I-a"])
    assert allowed.transitions.all()
    assert allowed.starts.all()


@pytest.mark.parametrize("labels", [["B-a", "X"], ["O"], ["B-", "O"], ["E-a", "O"], ["b-a"]])
def test_what_is_no_iob(labels: list[str]) -> None:
    assert not is_iob(labels)
