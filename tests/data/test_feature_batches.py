"""Batches of frames with texts: every example once an epoch, padding of zeros, few shapes, a fingerprint."""

import numpy as np
import pytest

from transformer_jax.data.feature_batches import (
    FeatureBatch,
    FrameStore,
    abstract_feature_batch,
    text_columns,
)
from transformer_jax.data.sequence_pipeline import ColumnBatches
from transformer_jax.errors import ConfigError, DataError, ShapeError


def source(store: FrameStore, texts: list[list[int]], **options: object) -> ColumnBatches[FeatureBatch]:
    def collate(indices: np.ndarray, num_rows: int, shape: tuple[int, ...]) -> FeatureBatch:
        return FeatureBatch(
            store.padded(indices, num_rows, shape[0]), *text_columns(texts, indices, num_rows, shape[1])
        )

    columns = [store.lengths, [len(ids) + 1 for ids in texts]]
    return ColumnBatches(columns, collate, names=("frames", "target"), **{"rows": 3, "seed": 0} | options)


@pytest.fixture
def store() -> FrameStore:
    rng = np.random.default_rng(0)
    lengths = [3, 9, 4, 0, 20, 7, 5]
    return FrameStore.of([rng.normal(size=(n, 2)).astype(np.float16) for n in lengths])


TEXTS = [[5], [6, 7, 8], [], [9], [5] * 6, [7, 7], [4, 8]]


def test_each_example_once_an_epoch(store: FrameStore) -> None:
    batches = source(store, TEXTS, num_buckets=2)
    announced = [batch.inputs[0].shape for batch in batches.abstract_batches()]
    seen = []
    for batch, _ in zip(batches.iterate(0), range(batches.batches_per_epoch)):
        features, lengths = batch.inputs
        assert features.dtype == np.float32
        assert features.shape in announced
        for row, index in enumerate(batch.example_ids.tolist()):
            if index < 0:
                assert lengths[row] == batch.target_lengths[row] == 0
                assert not features[row].any()
                continue
            seen.append(index)
            assert (features[row, : lengths[row]] == store[index]).all()
            assert not features[row, lengths[row] :].any()
            count = batch.target_lengths[row]
            assert batch.target_inputs[row, :count].tolist() == [2, *TEXTS[index]]
            assert batch.targets[row, :count].tolist() == [*TEXTS[index], 3]
        assert 0 < batches.count_tokens(batch) <= batch.num_positions()
    assert sorted(seen) == list(range(7))
    assert 0 < batches.padding_share() < 1
    assert batches.describe().startswith("frames by target (examples): ")
    second = next(iter(batches.iterate(2)))
    assert (second.example_ids == batches.batch_at(2).example_ids).all()


def test_fingerprint_is_of_the_examples(store: FrameStore) -> None:
    found = source(store, TEXTS).fingerprint()
    assert source(store, TEXTS, num_buckets=1, rows=2).fingerprint() == found
    assert source(store, [*TEXTS[:-1], [4, 9]]).fingerprint() != found
    changed = FrameStore(store.frames.copy(), store.offsets)
    changed.frames[0, 0] += 1
    assert source(changed, TEXTS).fingerprint() != found


def test_refusals(store: FrameStore) -> None:
    with pytest.raises(DataError, match="no training example"):
        source(FrameStore.of([], dim=2), [])
    with pytest.raises(ConfigError, match="one of batch_tokens and rows"):
        source(store, TEXTS, batch_tokens=9)
    with pytest.raises(ShapeError, match="at most 1 sequences of 4 frames"):
        store.padded(np.array([1]), 1, 4)
    with pytest.raises(ShapeError, match="offsets that end at the total"):
        FrameStore(store.frames, store.offsets[:-1])
    assert len(source(store, TEXTS, rows=None, batch_tokens=30).shapes()) >= 1
    assert abstract_feature_batch(2, 50, 3, 7).num_tokens() == 0
