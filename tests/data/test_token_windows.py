"""Windows of token ids: contents by plain loops, epochs that are whole, resuming from one integer."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.evaluation_windows import evaluation_batches, evaluation_streams
from transformer_jax.data.text_config import ContiguousWindows, PackedDocuments, RandomWindows
from transformer_jax.data.token_windows import make_source
from transformer_jax.errors import ConfigError, DataError

IDS = np.arange(10, 111, dtype=np.int32)  # each token is told from all others


def documents_of(lengths):
    """Documents of these lengths between start and end tokens, with ids that tell every token from the others."""
    words = itertools.count(10)
    return np.array(
        [token for length in lengths for token in (BOS_ID, *itertools.islice(words, length), EOS_ID)],
        np.int32,
    )


SOURCES = {
    "random": (RandomWindows(context_len=7), IDS),
    "contiguous": (ContiguousWindows(context_len=7), IDS),
    "packed": (PackedDocuments(context_len=7), documents_of([1, 5, 20, 0, 3, 2, 6, 7, 9, 1, 1])),
}


def source_of(kind, **changes):
    windows, ids = SOURCES[kind]
    return make_source(windows, ids, **({"batch_size": 3, "seed": 5} | changes))


def same(first, second):
    return all(
        (one is None and other is None) or np.array_equal(one, other)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_batches_have_one_static_shape_and_are_padded(kind):
    source = source_of(kind)
    (empty,) = source.abstract_batches()
    for step in range(2 * source.batches_per_epoch):
        batch = source.batch_at(step)
        for leaf, expected in zip(batch, empty, strict=True):
            assert (leaf is None) == (expected is None)
            if leaf is not None:
                assert (leaf.shape, leaf.dtype) == (expected.shape, np.int32)
        padding = np.arange(7) >= batch.lengths[:, None]
        for tokens in (batch.inputs, batch.targets):
            assert (tokens[padding] == PAD_ID).all()
            assert (tokens[~padding] != PAD_ID).all()
        assert source.count_tokens(batch) == (~padding).sum() == batch.num_tokens()


@pytest.mark.parametrize("kind", SOURCES)
def test_an_epoch_has_the_tokens_and_the_padding_that_it_says(kind):
    source = source_of(kind)
    for epoch in range(2):
        first = epoch * source.batches_per_epoch
        batches = [source.batch_at(step) for step in range(first, first + source.batches_per_epoch)]
        assert sum(map(source.count_tokens, batches)) == source.num_tokens
        padded = sum(batch.inputs.size for batch in batches)
        assert source.padding_share() == pytest.approx(1 - source.num_tokens / padded)


@pytest.mark.parametrize("kind", SOURCES)
def test_resumes_from_one_integer(kind):
    source = source_of(kind)
    whole = list(itertools.islice(source.iterate(), 25))
    iterator = source_of(kind).iterate(11)
    assert iterator.state() == 11
    assert all(map(same, itertools.islice(iterator, 14), whole[11:]))
    assert type(iterator.state()) is int
    assert all(same(batch, source.batch_at(step)) for step, batch in enumerate(whole))


def test_random_windows_are_drawn_by_seed_and_step():
    source = source_of("random")
    starts = set()
    for step in range(200):
        batch = source.batch_at(step)
        assert (batch.targets == batch.inputs + 1).all()
        assert (np.diff(batch.inputs, axis=1) == 1).all()
        assert (batch.inputs[:, 0] == batch.example_ids + 10).all()
        assert batch.restarts.tolist() == [1, 1, 1]
        starts |= set(batch.example_ids.tolist())
    assert starts == set(range(len(IDS) - 7)), "every window is drawn, the first and the last too"
    assert source.batches_per_epoch == 5, "100 targets in batches of 21"
    assert not same(source.batch_at(0), source.batch_at(1))
    assert not same(source.batch_at(0), source_of("random", seed=6).batch_at(0))


def test_contiguous_windows_go_on_where_the_last_batch_ended():
    source = source_of("contiguous")
    for epoch in range(2):
        streams = [[], [], []]
        for place in range(source.batches_per_epoch):
            batch = source.batch_at(epoch * source.batches_per_epoch + place)
            assert batch.restarts.tolist() == [int(place == 0)] * 3
            for row, length in enumerate(batch.lengths):
                assert batch.example_ids[row] == batch.inputs[row, 0] - 10
                assert (batch.targets[row, :length] == batch.inputs[row, :length] + 1).all()
                streams[row] += batch.inputs[row, :length].tolist()
        assert streams == [list(range(10, 43)), list(range(43, 76)), list(range(76, 109))]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=30), st.integers(0, 3))
def test_packed_rows_hold_every_document_once_and_no_target_of_another(lengths, epoch):
    ids = documents_of(lengths)
    if len(ids) < 22:
        return
    source = make_source(PackedDocuments(context_len=7), ids, batch_size=3, seed=1)
    found = []
    for step in range(epoch * source.batches_per_epoch, (epoch + 1) * source.batches_per_epoch):
        batch = source.batch_at(step)
        np.testing.assert_array_equal((batch.segments > 0).sum(axis=1), batch.lengths)
        for row in range(3):
            for segment in range(1, batch.segments[row].max() + 1):
                here = batch.segments[row] == segment
                assert (np.diff(np.flatnonzero(here)) == 1).all()
                found.append((batch.inputs[row][here].tolist(), batch.targets[row][here].tolist()))
    expected = []
    start = 0
    for length in lengths:
        document = ids[start : start + length + 2].tolist()
        start += length + 2
        expected += [
            (document[:-1][first : first + 7], document[1:][first : first + 7])
            for first in range(0, length + 1, 7)
        ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_text_shorter_than_a_window_or_a_batch_is_refused(kind):
    windows, ids = SOURCES[kind]
    with pytest.raises(
        DataError, match=r"has 7 tokens, fewer than one window of context_len 7 .*smaller context_len"
    ):
        make_source(windows, ids[:7], batch_size=1, seed=0)
    make_source(windows, ids[:8], batch_size=1, seed=0).batch_at(3)
    with pytest.raises(DataError, match="has 21 tokens, fewer than one batch of 3 windows of 7 tokens"):
        make_source(windows, ids[:21], batch_size=3, seed=0)
    make_source(windows, ids[:22], batch_size=3, seed=0).batch_at(3)


def test_packed_documents_need_start_tokens():
    with pytest.raises(DataError, match="documents that begin with the start token 2, got ids"):
        make_source(PackedDocuments(context_len=7), IDS, batch_size=3, seed=0)


def test_fingerprints_change_with_the_tokens():
    first, again = source_of("random").fingerprint(), source_of("contiguous", seed=9).fingerprint()
    assert first == again
    windows, ids = SOURCES["random"]
    assert make_source(windows, ids[::-1], batch_size=3, seed=5).fingerprint() != first


def counted(batches):
    """Targets that count, with the inputs that each window shows before it."""
    found = {}
    for batch in batches:
        given = np.zeros_like(batch.lengths) if batch.first_counted is None else batch.first_counted
        for row in range(len(batch.lengths)):
            for place in range(given[row], batch.lengths[row]):
                target = int(batch.targets[row, place])
                assert target not in found
                found[target] = batch.inputs[row, : place + 1].tolist()
    return found


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 4), st.data())
def test_sliding_windows_count_every_token_but_the_first_once(num_tokens, context_len, batch_size, data):
    stride = data.draw(st.integers(1, context_len))
    ids = IDS[:num_tokens]
    batches = list(evaluation_batches(ids, context_len=context_len, batch_size=batch_size, stride=stride))
    assert all(one.inputs.shape == (batch_size, context_len) for one in batches)
    found = counted(batches)
    assert sorted(found) == ids[1:].tolist()
    for target, context in found.items():
        assert context == list(range(target - len(context), target))
        assert len(context) > min(context_len - stride, target - 11)
    assert sum(int(one.counted().sum()) for one in batches) == max(0, num_tokens - 1)
    assert sum(one.num_tokens() for one in batches) == max(0, num_tokens - 1)


def test_sliding_windows_do_not_cross_documents():
    ids = documents_of([12, 0, 3])
    batches = list(evaluation_batches(ids, context_len=5, batch_size=2, stride=2))
    num_counted = sum(int(one.counted().sum()) for one in batches)
    assert num_counted == 12 + 0 + 3 + 3, "every token and the three ends"
    for batch in batches:
        for row, length in enumerate(batch.lengths):
            assert BOS_ID not in batch.targets[row]
            assert EOS_ID not in batch.inputs[row]
            assert length or batch.example_ids[row] == -1


def test_windows_side_by_side_are_the_default_and_a_bad_stride_is_refused():
    batches = list(evaluation_batches(IDS, context_len=50, batch_size=2))
    assert len(batches) == 1
    assert batches[0].first_counted is None
    for stride in (0, 51):
        with pytest.raises(ConfigError, match=f"stride must be 1 to context_len, which is 50; got {stride}"):
            next(evaluation_batches(IDS, context_len=50, batch_size=2, stride=stride))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5))
def test_streams_count_every_token_but_the_first_once(num_tokens, context_len, batch_size):
    ids = IDS[:num_tokens]
    streams = [[] for _ in range(batch_size)]
    for step, batch in enumerate(evaluation_streams(ids, context_len=context_len, batch_size=batch_size)):
        assert batch.inputs.shape == (batch_size, context_len)
        assert batch.restarts.tolist() == [int(step == 0)] * batch_size
        for row, length in enumerate(batch.lengths):
            assert (batch.targets[row, :length] == batch.inputs[row, :length] + 1).all()
            streams[row] += batch.targets[row, :length].tolist()
    assert [token for stream in streams for token in stream] == ids[1:].tolist()
