"""Packed rows: every pair once, in whole, beside others of its row; the same number of batches in every epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.packing import PackedPipeline
from transformer_jax.data.pairs_config import PackedRows, PairsConfig, TsvFiles
from transformer_jax.data.prepare import prepare
from transformer_jax.data.row_plan import RowPlan, pack_rows
from transformer_jax.errors import ConfigError, DataError

LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 8)), min_size=1, max_size=60)


def examples_of(lengths: list[tuple[int, int]]) -> EncodedExamples:
    """Pairs of these lengths (the target's with its end token), with ids that tell every token from the others."""
    sources, targets = np.array([one[0] for one in lengths]), np.array([one[1] - 1 for one in lengths])
    return EncodedExamples(
        np.arange(sources.sum(), dtype=np.int32) + 10,
        np.concatenate([[0], np.cumsum(sources)]),
        np.arange(targets.sum(), dtype=np.int32) + 10_000,
        np.concatenate([[0], np.cumsum(targets)]),
    )


def pipeline_of(lengths: list[tuple[int, int]], **changes) -> PackedPipeline:
    arguments = {"source_len": 12, "target_len": 10, "batch_size": 3, "seed": 0}
    return PackedPipeline(examples_of(lengths), **(arguments | changes))


def pairs_of(batch) -> dict[int, tuple[list[int], list[int], list[int]]]:
    """Source, target inputs and target outputs of each example of a batch, read by segments alone."""
    found = {}
    for row, ids in enumerate(batch.example_ids):
        for segment, example in enumerate(ids[ids >= 0], 1):
            source = batch.source_segments[row] == segment
            target = batch.target_segments[row] == segment
            found[int(example)] = (
                batch.source_tokens[row][source].tolist(),
                batch.target_inputs[row][target].tolist(),
                batch.target_outputs[row][target].tolist(),
            )
    return found


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(0, 5))
def test_an_epoch_holds_every_pair_once_and_whole(lengths, epoch):
    pipeline = pipeline_of(lengths)
    start = epoch * pipeline.batches_per_epoch
    found = {}
    for step in range(start, start + pipeline.batches_per_epoch):
        batch = pipeline.batch_at(step)
        new = pairs_of(batch)
        assert not found.keys() & new.keys()
        found |= new
        for segments, sizes in (
            (batch.source_segments, batch.source_lengths),
            (batch.target_segments, batch.target_lengths),
        ):
            np.testing.assert_array_equal((segments > 0).sum(axis=1), sizes)
            assert all(
                (np.diff(row[:size]) >= 0).all() and not row[size:].any()
                for row, size in zip(segments, sizes)
            )
    examples = pipeline.examples
    assert sorted(found) == list(range(len(lengths)))
    for index, (source, inputs, outputs) in found.items():
        target = examples.target_ids[slice(*examples.target_offsets[index : index + 2])].tolist()
        assert source == examples.source_ids[slice(*examples.source_offsets[index : index + 2])].tolist()
        assert inputs == [BOS_ID, *target]
        assert outputs == [*target, EOS_ID]


@settings(deadline=None, max_examples=60)
@given(LENGTHS)
def test_rows_hold_the_lengths_they_were_given(lengths):
    patterns = pack_rows(np.array(lengths), (12, 10), columns=("source", "target"))
    packed = [pair for pattern in patterns for pair in list(zip(*pattern.lengths)) * pattern.num_rows]
    assert sorted(packed) == sorted(lengths)
    assert all(sum(one.lengths[0]) <= 12 and sum(one.lengths[1]) <= 10 for one in patterns)


def test_rows_are_filled_with_the_longest_that_fits():
    one_column = pack_rows(np.array([[5], [4], [1], [1], [1]]), (6,))
    assert [(one.lengths, one.num_rows) for one in one_column] == [(((5, 1),), 1), (((4, 1, 1),), 1)]
    two_columns = pack_rows(np.array([[5, 5], [4, 4], [1, 1], [1, 1], [1, 1]]), (6, 6))
    assert [one.lengths for one in two_columns] == [((5, 1),) * 2, ((4, 1, 1),) * 2]


def test_a_plan_of_one_column_holds_every_sequence_once_and_names_the_one_too_long():
    lengths = np.random.default_rng(0).integers(1, 9, (50, 1))
    plan = RowPlan(lengths, (10,), batch_size=4, seed=2)
    for epoch in range(3):
        rows = [row for batch in plan.epoch(epoch) for row in batch]
        assert sorted(np.concatenate(rows)) == list(range(50))
        assert all(lengths[row].sum() <= 10 for row in rows)
        assert len(rows) == plan.num_rows
    assert all(map(np.array_equal, plan.at(plan.batches_per_epoch + 1), plan.epoch(1)[1]))
    with pytest.raises(DataError, match="example 2 has 11 tokens; a packed row holds 10"):
        pack_rows(np.array([[1], [2], [11]]), (10,))


def test_epochs_differ_and_a_seed_repeats_them():
    lengths = [(3, 3), (4, 4), (2, 5)] * 8
    first, again, other = pipeline_of(lengths), pipeline_of(lengths), pipeline_of(lengths, seed=1)

    def order(pipeline, epoch):
        return [
            pipeline.batch_at(epoch * pipeline.batches_per_epoch + step).example_ids.tolist()
            for step in range(4)
        ]

    assert order(first, 1) == order(again, 1)
    assert order(first, 0) != order(first, 1)
    assert order(first, 0) != order(other, 0)
    neighbours = {tuple(sorted(ids)) for epoch in range(6) for batch in order(first, epoch) for ids in batch}
    assert len(neighbours) > 3 * first.num_rows, "the same pairs share a row in every epoch"


def test_iterating_from_a_step_is_what_came_after_it():
    pipeline = pipeline_of([(3, 3), (4, 4), (2, 5)] * 8)
    iterator = pipeline.iterate(7)
    for step in (7, 8, 9):
        for array, expected in zip(next(iterator), pipeline.batch_at(step), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_all_batches_have_the_announced_shape():
    pipeline = pipeline_of([(3, 3), (4, 4), (2, 5)] * 7)
    (empty,) = pipeline.abstract_batches()
    for step in range(pipeline.batches_per_epoch):
        assert [one.shape for one in pipeline.batch_at(step)] == [one.shape for one in empty]
    assert not empty.target_lengths.any()


def test_padding_share_is_counted():
    pipeline = pipeline_of([(6, 5)] * 4, batch_size=2)  # two rows of two pairs: full on both sides
    assert (pipeline.num_rows, pipeline.padding_share()) == (2, 0.0)
    assert pipeline_of([(6, 5)] * 3, batch_size=2).padding_share() == pytest.approx(0.25)
    assert pipeline.describe() == "2 rows of 12 source and 10 target tokens, 2.0 pairs in each"


def test_tokens_of_a_batch_choose_its_rows():
    assert pipeline_of([(3, 3)] * 4, batch_tokens=22 * 16).batch_size == 16


def test_a_pair_longer_than_a_row_is_named():
    with pytest.raises(
        DataError, match="example 1 has 13 source and 2 target tokens; a packed row holds 12 and 10"
    ):
        pipeline_of([(3, 3), (13, 2)])
    with pytest.raises(DataError, match="no training example"):
        pipeline_of([])


def test_config_refuses_rows_that_are_too_short():
    with pytest.raises(ConfigError, match="a packed row holds 30 source"):
        PairsConfig(packing=PackedRows(source_len=30, target_len=50))
    with pytest.raises(ConfigError, match="batch_tokens must hold one row of 40 source and 50"):
        PairsConfig(packing=PackedRows(source_len=40, target_len=50), batch_tokens=80)


def test_packed_data_are_prepared_from_files(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{'ab' * (1 + i % 3)}\t{'A B ' * (1 + i % 2)}\n" for i in range(40)))
    config = PairsConfig(
        dataset=TsvFiles(train=str(path)), packing=PackedRows(source_len=40, target_len=40), batch_size=2
    )
    data = prepare(config)
    assert isinstance(data.train, PackedPipeline)
    assert any("pairs in each" in line for line in data.report.lines())
