"""Batches of word vectors: windows, subsampling and noise follow from seed, epoch and place, not from the batch."""

import numpy as np
import pytest

from transformer_jax.data.huffman_tree import huffman_paths
from transformer_jax.data.subword_buckets import SubwordBuckets
from transformer_jax.data.word_batches import WordBatch
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.data.word_windows import WindowPlan, WordWindows
from transformer_jax.errors import DataError

COUNTS = np.sort(np.random.default_rng(1).integers(1, 400, 50))[::-1]
VOCABULARY = WordVocabulary([f"w{place}" for place in range(50)], COUNTS)
IDS = np.random.default_rng(2).permutation(np.repeat(np.arange(50, dtype=np.int32), COUNTS)).astype(np.int32)
SENTENCES = (np.arange(len(IDS)) // 17).astype(np.int32)


def source(**options: int | float | bool) -> WordWindows:
    plan = {"window": 3, "row_len": 8, "batch_size": 4, "sample": 0.01, "num_noise": 5, "seed": 3}
    return WordWindows(IDS, SENTENCES, VOCABULARY, WindowPlan(**(plan | options)))


def rows(one: WordWindows, epoch: int = 0) -> dict[int, tuple[bytes, ...]]:
    """All rows of an epoch by their number."""
    found = {}
    for step in range(epoch * one.batches_per_epoch, (epoch + 1) * one.batches_per_epoch):
        batch = one.batch_at(step)
        for place, number in enumerate(batch.example_ids):
            if number >= 0:
                found[int(number)] = tuple(leaf[place].tobytes() for leaf in batch if leaf is not None)
    return found


def test_an_epoch_has_the_same_rows_whatever_the_batch() -> None:
    for epoch in (0, 1):
        wanted = rows(source(), epoch)
        assert len(wanted) > 100
        for batch_size in (1, 7, 300):
            assert rows(source(batch_size=batch_size), epoch) == wanted


def test_batches_resume_at_any_step() -> None:
    iterator = source().iterate(0)
    batches = [next(iterator) for _ in range(2 * source().batches_per_epoch + 3)]
    for step in (0, 5, source().batches_per_epoch - 1, len(batches) - 2):
        again = next(source().iterate(step))
        for wanted, found in zip(batches[step], again, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_an_epoch_holds_each_kept_word_once_as_a_centre() -> None:
    one = source(sample=0.0)
    ids, radii = [], []
    for step in range(one.batches_per_epoch):
        batch = one.batch_at(step)
        centres = batch.words[:, 3:-3]
        ids.append(centres[batch.radius > 0])
        radii.append(batch.radius[batch.radius > 0])
    assert np.array_equal(np.bincount(np.concatenate(ids), minlength=50), COUNTS)
    shares = np.bincount(np.concatenate(radii), minlength=4)[1:] / len(IDS)
    assert np.abs(shares - 1 / 3).max() < 0.02  # every distance is equally likely


def test_rows_continue_the_text_with_a_margin_on_both_sides() -> None:
    one = source(sample=0.0, shuffles=False, batch_size=2)
    batch = one.batch_at(1)
    for row, number in enumerate(batch.example_ids):
        start = number * 8
        np.testing.assert_array_equal(batch.words[row], IDS[start - 3 : start + 11])
        np.testing.assert_array_equal(batch.segments[row], SENTENCES[start - 3 : start + 11] + 1)
    first = one.batch_at(0)
    assert not first.segments[0, :3].any()


def test_subsampling_keeps_words_as_gensim_does() -> None:
    sample = 0.01
    threshold = sample * COUNTS.sum()  # gensim.models.word2vec, `prepare_vocab`
    wanted = np.minimum((np.sqrt(COUNTS / threshold) + 1) * (threshold / COUNTS), 1.0)
    np.testing.assert_allclose(VOCABULARY.keep_rates(sample), wanted, rtol=1e-6)
    one = source(batch_size=64)
    kept = np.zeros(50)
    for step in range(20 * one.batches_per_epoch):
        batch = one.batch_at(step)
        kept += np.bincount(batch.words[:, 3:-3][batch.radius > 0], minlength=50)
    deviation = np.sqrt(20 * COUNTS * wanted * (1 - wanted)) + 1e-9
    assert (np.abs(kept - 20 * COUNTS * wanted) < 5 * deviation).all()


def test_noise_is_drawn_by_counts_to_the_three_quarters() -> None:
    one = source(batch_size=64, num_noise=64)
    drawn = np.zeros(50)
    for step in range(30):
        noise = one.batch_at(step).noise
        assert noise is not None
        drawn += np.bincount(noise.reshape(-1), minlength=50)
    wanted = COUNTS**0.75 / (COUNTS**0.75).sum()
    total = drawn.sum()
    assert (np.abs(drawn - total * wanted) < 5 * np.sqrt(total * wanted)).all()


def test_epochs_differ_and_another_seed_is_another_order() -> None:
    one = source()
    assert rows(one, 0) != rows(one, 1)
    assert rows(one, 0) != rows(source(seed=4), 0)


@pytest.mark.parametrize("sentences", [[0, 1, 2], [0]])
def test_a_text_smaller_than_a_window_is_refused(sentences: list[int]) -> None:
    ids = np.zeros(len(sentences), np.int32)
    with pytest.raises(DataError, match="smaller than one window"):
        WordWindows(
            ids, np.array(sentences, np.int32), VOCABULARY, WindowPlan(window=2, row_len=4, batch_size=2)
        )


def test_paths_are_those_of_a_huffman_tree() -> None:
    paths = huffman_paths(COUNTS)
    lengths = np.count_nonzero(paths.signs, axis=1)
    heap = [int(count) for count in COUNTS]
    cost = 0
    while len(heap) > 1:  # the cost of Huffman's tree: the sum of all its inner nodes
        heap.sort()
        heap = [heap[0] + heap[1], *heap[2:]]
        cost += heap[0]
    assert int((lengths * COUNTS).sum()) == cost
    assert sum(2.0**-length for length in lengths.tolist()) == 1.0
    codes = {tuple(zip(nodes.tolist(), signs.tolist())) for nodes, signs in zip(paths.nodes, paths.signs)}
    assert len(codes) == 50
    batch = source(has_paths=True).batch_at(0)
    assert batch.nodes is not None
    assert batch.nodes.shape == (4, 8, paths.nodes.shape[1])


def test_subwords_are_those_of_fasttext() -> None:
    buckets = SubwordBuckets(min_len=3, max_len=4, num_buckets=2_000_000)
    # fastText's `print-ngrams`: <wh whe her ere re>, <whe wher here ere>
    wanted = ["<wh", "<whe", "whe", "wher", "her", "here", "ere", "ere>", "re>"]
    from transformer_jax.data.subword_buckets import fnv_hash

    assert buckets.of_word("where") == [fnv_hash(one) % 2_000_000 for one in wanted]


def test_words_of_a_batch_are_whole_leaves_of_rows() -> None:
    batch: WordBatch = source(has_paths=True).batch_at(0)
    assert {leaf.shape[0] for leaf in batch if leaf is not None} == {4}
    announced = source(has_paths=True).abstract_batches()[0]
    for wanted, found in zip(announced, batch, strict=True):
        assert (wanted is None) == (found is None)
        assert wanted is None or (wanted.shape, wanted.dtype) == (found.shape, found.dtype)
