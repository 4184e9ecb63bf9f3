"""Buckets: the programme against all chains of shapes, assignment and padding share by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_jax.data.buckets import BucketEpochs, BucketPlan, PaddedLengths, choose_shapes
from transformer_jax.errors import DataError, ShapeError

LENGTHS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=20)


def padded_tokens(shapes, pairs):
    """Tokens after padding, by a plain loop: each pair takes the cheapest shape that holds it."""
    return sum(
        min(
            source_len + target_len
            for source_len, target_len in shapes
            if source <= source_len and target <= target_len
        )
        for source, target in pairs
    )


def least_by_enumeration(pairs, max_shapes):
    """Least padded tokens over every growing chain of shapes."""
    last = (max(source for source, _ in pairs), max(target for _, target in pairs))
    cells = list(itertools.product(range(1, last[0] + 1), range(1, last[1] + 1)))
    best = padded_tokens([last], pairs)
    for count in range(1, max_shapes):
        for chain in itertools.combinations(cells, count):
            if all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise((*chain, last))):
                best = min(best, padded_tokens([*chain, last], pairs))
    return best


@settings(max_examples=40)
@given(LENGTHS, st.integers(1, 3))
def test_programme_finds_the_least_padding(pairs, max_shapes):
    shapes = choose_shapes(*zip(*pairs), max_shapes=max_shapes)
    assert len(shapes) <= max_shapes
    assert padded_tokens(shapes, pairs) == least_by_enumeration(pairs, max_shapes)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 4))
def test_chosen_shapes_hold_everything_and_share_is_true(pairs, max_shapes, multiple_of):
    sources, targets = zip(*pairs)
    shapes = choose_shapes(sources, targets, max_shapes=max_shapes, multiple_of=multiple_of)
    assert all(length % multiple_of == 0 for shape in shapes for length in shape)
    plan = BucketPlan(shapes)
    buckets = plan.assign(sources, targets)
    for (source, target), bucket in zip(pairs, buckets):
        assert source <= shapes[bucket][0]
        assert target <= shapes[bucket][1]
    real = sum(sources) + sum(targets)
    assert plan.padding_share(sources, targets) == pytest.approx(1 - real / padded_tokens(shapes, pairs))
    assert sum(plan.counts(sources, targets)) == len(pairs)
    assert all(plan.counts(sources, targets)), "a shape that holds nothing"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=25), st.integers(1, 3))
def test_one_column_of_lengths_is_like_two_of_which_one_is_constant(lengths, max_shapes):
    shapes = choose_shapes(lengths, max_shapes=max_shapes)
    chains = itertools.combinations(sorted(set(lengths)), min(max_shapes, len(set(lengths))))
    least = min(
        sum(min(edge for edge in chain if edge >= length) for length in lengths)
        for chain in chains
        if chain[-1] == max(lengths)
    )
    plan = BucketPlan(shapes, columns=("",))
    buckets = plan.assign(lengths)
    assert sum(shapes[bucket][0] for bucket in buckets) == least
    assert plan.padding_share(lengths) == pytest.approx(1 - sum(lengths) / least)
    with pytest.raises(DataError, match=f"example 0 has 99 tokens; the largest bucket is {max(lengths)}"):
        plan.assign([99])


def test_batches_of_one_column_hold_every_example_once():
    lengths = np.random.default_rng(3).integers(1, 40, 100)
    plan = BucketPlan(choose_shapes(lengths, max_shapes=3), columns=("",))
    epochs = BucketEpochs(plan.assign(lengths), [8, 4, 2], seed=0)
    for epoch in range(2):
        batches = epochs.epoch(epoch)
        assert len(batches) == epochs.batches_per_epoch
        assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(100))
        assert all(lengths[indices].max() <= plan.shapes[bucket][0] for bucket, indices in batches)
        assert all(len(indices) <= [8, 4, 2][bucket] for bucket, indices in batches)
    assert epochs.at(epochs.batches_per_epoch + 2).indices.tolist() == epochs.epoch(1)[2].indices.tolist()
    padded = sum([8, 4, 2][bucket] * plan.shapes[bucket][0] for bucket, _ in epochs.epoch(0))
    assert epochs.num_positions(plan.shapes) == padded


def test_many_lengths_stay_near_the_best_and_cover_the_longest():
    generator = np.random.default_rng(0)
    sources = generator.integers(1, 400, 5000)
    targets = np.maximum(1, sources + generator.integers(-20, 20, 5000))
    shares = [
        BucketPlan(choose_shapes(sources, targets, max_shapes=count)).padding_share(sources, targets)
        for count in (1, 2, 4, 8)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.15 < 0.45 < shares[0]


def test_assignment_by_hand():
    plan = BucketPlan(((4, 5), (8, 5), (8, 12)))
    assert plan.assign([4, 5, 8, 1, 0], [5, 5, 6, 12, 1]).tolist() == [0, 1, 2, 2, 0]
    with pytest.raises(
        DataError, match="example 1 has 9 source and 2 target tokens; the largest bucket is 8 by 12"
    ):
        plan.assign([1, 9], [1, 2])


@pytest.mark.parametrize("shapes", [(), ((0, 4),), ((4, 4), (3, 8)), ((4, 4), (4, 4)), ((4, 4), (8,))])
def test_bad_shapes(shapes):
    with pytest.raises(ShapeError, match="buckets: "):
        BucketPlan(shapes)


def test_lengths_beyond_the_usual_grow_by_half_up_to_the_limit() -> None:
    padded = PaddedLengths.in_steps(8, limit=20)
    assert [padded.of(length) for length in (0, 1, 3, 8, 9, 12, 13, 18, 19, 20)] == [
        2, 2, 4, 8, 12, 12, 18, 18, 20, 20,
    ]  # fmt: skip
    assert [padded.rows(length, 12) for length in (2, 8, 12, 20, 1000)] == [12, 12, 8, 4, 1]
    with pytest.raises(ShapeError, match="has 21 tokens, at most 20"):
        padded.of(21)
    with pytest.raises(ShapeError, match="has 9 tokens, at most 8"):
        PaddedLengths((4, 8)).of(9)
    for lengths, limit in (((), None), ((0,), None), ((4, 4), None), ((4, 8), 7)):
        with pytest.raises(ShapeError):
            PaddedLengths(lengths, limit)


def test_bad_arguments():
    with pytest.raises(ShapeError, match="max_shapes 0"):
        choose_shapes([1], [1], max_shapes=0)
    with pytest.raises(ShapeError, match="no example"):
        choose_shapes([], [], max_shapes=1)
