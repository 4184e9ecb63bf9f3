"""Batches of examples of one length: each example once an epoch, static shapes, resuming, refusals."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.padding import pad_rows
from transformer_jax.data.sequence_pipeline import SequenceBatches
from transformer_jax.data.text_batches import ClassBatch, MaskedBatch, TagBatch, row_values
from transformer_jax.errors import ConfigError, DataError, ShapeError
from transformer_jax.training.contracts import BatchSource


def batches(lengths: list[int], *, first_token: int = 4, **options: Any) -> SequenceBatches[ClassBatch]:
    texts = [[first_token + i] * length for i, length in enumerate(lengths)]

    def collate(indices: Any, num_rows: int, length: int) -> ClassBatch:
        tokens, found = pad_rows([texts[i] for i in indices], num_rows=num_rows, length=length)
        return ClassBatch(tokens, found, row_values(indices % 2, num_rows), row_values(indices, num_rows))

    return SequenceBatches(lengths, collate, **{"seed": 0, "rows": 3} | options)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    num_buckets=st.integers(1, 5),
    batch_tokens=st.one_of(st.none(), st.integers(30, 200)),
)
def test_each_example_once_an_epoch_in_shapes_that_were_announced(
    lengths: list[int], num_buckets: int, batch_tokens: int | None
) -> None:
    rows = 3 if batch_tokens is None else None
    source = batches(lengths, num_buckets=num_buckets, batch_tokens=batch_tokens, rows=rows)
    announced = {batch.tokens.shape for batch in source.abstract_batches()}
    assert len(announced) <= num_buckets
    epoch = [source.batch_at(step) for step in range(source.batches_per_epoch)]
    assert {batch.tokens.shape for batch in epoch} <= announced
    if batch_tokens is not None:
        assert all(rows * length <= batch_tokens for rows, length in announced)
    ids = np.concatenate([batch.example_ids for batch in epoch])
    assert sorted(ids[ids >= 0].tolist()) == list(range(len(lengths)))
    for batch in epoch:
        is_example = batch.example_ids >= 0
        assert (batch.classes[~is_example] == -1).all()
        assert (batch.lengths[~is_example] == 0).all()
        assert [lengths[i] for i in batch.example_ids[is_example]] == batch.lengths[is_example].tolist()
    real = sum(map(source.count_tokens, epoch))
    assert real == sum(lengths)
    positions = sum(batch.num_positions() for batch in epoch)
    assert source.padding_share() == pytest.approx(1 - real / positions)


def test_a_later_start_continues_the_same_batches() -> None:
    source = batches(list(range(1, 20)))
    once = list(itertools.islice(source.iterate(0), 15))
    again = list(itertools.islice(source.iterate(6), 9))
    for first, second in zip(once[6:], again):
        assert all((one == other).all() for one, other in zip(first, second))


def test_epochs_and_seeds_differ_in_order_alone() -> None:
    source, other = batches(list(range(1, 20))), batches(list(range(1, 20)), seed=1)
    per_epoch = source.batches_per_epoch

    def order(one: SequenceBatches[ClassBatch], epoch: int) -> list[int]:
        return [
            int(i) for step in range(per_epoch) for i in one.batch_at(epoch * per_epoch + step).example_ids
        ]

    assert order(source, 0) != order(source, 1)
    assert order(source, 0) != order(other, 0)
    assert sorted(order(source, 0)) == sorted(order(other, 1))


def test_fingerprint_is_of_the_examples_and_not_of_the_shapes() -> None:
    source = batches([1, 2, 3])
    assert source.fingerprint() == batches([1, 2, 3], rows=2, num_buckets=1, seed=5).fingerprint()
    assert source.fingerprint() != batches([1, 2, 3], first_token=5).fingerprint()
    assert source.fingerprint() != batches([1, 3, 2]).fingerprint()


def test_a_trainer_takes_it() -> None:
    source = batches([1, 2, 9])
    assert isinstance(source, BatchSource)
    assert "9 in 3 rows (1)" in source.describe()


def test_refusals() -> None:
    with pytest.raises(DataError, match="no training example"):
        batches([])
    with pytest.raises(ConfigError, match="one of batch_tokens and rows"):
        batches([1], batch_tokens=4)
    with pytest.raises(ConfigError, match="rows must be at least 1"):
        batches([1], rows=0)
    with pytest.raises(ShapeError, match="batch_tokens must be at least 9"):
        batches([9], batch_tokens=8, rows=None)


def test_batches_count_their_tokens() -> None:
    tokens, lengths = pad_rows([[4, 5], [6]], num_rows=3, length=4)
    for batch in (
        ClassBatch(tokens, lengths, row_values([1, 0], 3), row_values([0, 1], 3)),
        TagBatch(tokens, lengths, tokens, None, row_values([0, 1], 3)),
        MaskedBatch(tokens, lengths, tokens, tokens, None, row_values([0, 1], 3)),
    ):
        assert (batch.num_tokens(), batch.num_positions()) == (3, 12)
