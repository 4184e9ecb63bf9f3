"""Token sequences as rows of an array."""

import numpy as np
import pytest

from transformer_jax.data.padding import pad_rows
from transformer_jax.errors import ShapeError


def test_rows_are_filled_up_behind_and_below():
    tokens, lengths = pad_rows([[9, 8, 7], [], (1,), np.array([4, 5])], num_rows=5, length=4, pad_id=-1)
    assert tokens.tolist() == [[9, 8, 7, -1], [-1] * 4, [1, -1, -1, -1], [4, 5, -1, -1], [-1] * 4]
    assert lengths.tolist() == [3, 0, 1, 2, 0]
    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int32)


def test_no_rows_and_no_columns():
    assert [part.shape for part in pad_rows([], num_rows=0, length=3)] == [(0, 3), (0,)]
    assert [part.shape for part in pad_rows([[]], num_rows=2, length=0)] == [(2, 0), (2,)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="num_rows must be at least 2, the number of sequences; got 1"):
        pad_rows([[1], [2]], num_rows=1, length=3)
    with pytest.raises(ShapeError, match="length must be at least 4, the tokens of sequence 1; got 3"):
        pad_rows([[1], [2, 3, 4, 5]], num_rows=2, length=3)
