"""From a config to batches: each kind of data set, limits, reports."""

import dataclasses
import os

import numpy as np
import pytest

from transformer_jax.data.batches import BatchShape
from transformer_jax.data.examples import make_batch
from transformer_jax.data.pairs_config import (
    Characters,
    ChosenBuckets,
    GivenBuckets,
    NamedDataset,
    PairsConfig,
    ParallelFiles,
    SyntheticDataset,
    TsvFiles,
    Words,
)
from transformer_jax.data.prepare import prepare
from transformer_jax.data.sources.synthetic_pairs import copy_pairs, reverse_pairs
from transformer_jax.errors import DataError

needs_data = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("TRANSFORMER_JAX_DATA", ""), "multi30k")),
    reason="the downloadable sets are not in $TRANSFORMER_JAX_DATA",
)


def write(folder, name, lines):
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


@pytest.fixture
def parallel(tmp_path):
    """Forty training pairs, two of them with an empty side, and three development pairs."""
    sources = [f"word{number % 20} x" for number in range(38)] + ["", "alone"]
    targets = [f"t{number}" for number in range(38)] + ["t", "  "]
    return ParallelFiles(
        train_source=write(tmp_path, "train.src", sources),
        train_target=write(tmp_path, "train.tgt", targets),
        development_source=write(tmp_path, "dev.src", ["word1", "", "word2 word3 é"]),
        development_target=write(tmp_path, "dev.tgt", ["t1", "t2", "t3"]),
    )


def test_cmudict_is_ready_to_train_on():
    data = prepare(PairsConfig(max_train_pairs=20_000, max_development_items=1000, max_test_items=500))
    assert data.source_tokenizer.vocab_size == 27 + 4
    assert data.target_tokenizer.vocab_size == 39 + 4
    assert len(data.development_items) == len(data.development) == 1000
    assert len(data.test_items) == 500
    assert data.report.padding_share < 0.25
    assert 1 < len(data.train.shapes()) <= 4
    batch = next(data.train.iterate())
    assert batch.shape() in data.train.shapes()
    row = int(np.argmax(batch.target_lengths))
    word = data.source_tokenizer.decode(batch.source_tokens[row])
    phonemes = data.target_tokenizer.decode(batch.target_outputs[row])
    splits = data.config.dataset.load()
    assert phonemes in [pair.target for pair in splits.train if pair.source == word]
    for index in range(0, 1000, 256):
        batch = make_batch(data.development, [index], BatchShape(1, *data.plan.shapes[-1]))
        item = data.development_items[index]
        assert data.source_tokenizer.decode(batch.source_tokens[0]) == item.source
        assert data.target_tokenizer.decode(batch.target_outputs[0]) == item.references[0]
    lines = data.report.lines()
    assert lines[0].startswith("data: 20,000 training pairs")
    assert "1,000 development and 500 test items" in lines[0]


def test_parallel_files(parallel):
    data = prepare(PairsConfig(dataset=parallel, batch_size=4, source_tokenizer=Words()))
    assert len(data.train.examples) == 38
    assert [item.source for item in data.development_items] == ["word1", "", "word2 word3 é"]
    assert data.test_items == []
    assert len(data.test) == 0
    assert data.report.development.num_source_unknown == 1
    text = "\n".join(data.report.lines())
    assert "left out 2 training pairs with an empty side" in text
    assert "development: 1 of 4 source" in text


def test_development_set_is_held_out_where_none_is_given(tmp_path):
    rows = [f"source {number % 60}\ttarget {number}\tnote" for number in range(120)]
    data = prepare(PairsConfig(dataset=TsvFiles(train=write(tmp_path, "a.tsv", rows)), batch_size=8))
    assert len(data.development_items) == 4, "2.5 % of 60 sources, rounded up, with two targets each"
    assert len(data.train.examples) == 116
    held_out = {item.source for item in data.development_items}
    again = data.config.dataset.load()
    assert held_out == {item.source for item in again.development}
    assert not held_out & {pair.source for pair in again.train}


def test_one_source_line_stays_in_the_training_set(tmp_path):
    path = write(tmp_path, "a.tsv", ["source\ttarget", "source\tother"])
    data = prepare(PairsConfig(dataset=TsvFiles(train=path), batch_size=2))
    assert len(data.train.examples) == 2
    assert data.development_items == []
    assert "no development set: too few different source lines" in "\n".join(data.report.lines())
    with pytest.raises(DataError, match="no training pair with both sides"):
        prepare(PairsConfig(dataset=TsvFiles(train=write(tmp_path, "b.tsv", ["\tb"]))))


def test_of_two_source_lines_one_is_held_out(tmp_path):
    splits = TsvFiles(train=write(tmp_path, "a.tsv", ["one\teins", "two\tzwei"])).load()
    assert (len(splits.train), len(splits.development)) == (1, 1)


def test_tsv_columns(tmp_path):
    path = write(tmp_path, "a.tsv", ["en\tx\tzh"] * 3)
    splits = TsvFiles(train=path, development=path, source_column=2, target_column=0).load()
    assert [(pair.source, pair.target, pair.line) for pair in splits.train][-1] == ("zh", "en", 3)
    with pytest.raises(DataError, match="wanted column 3, counted from 0; its rows have 3"):
        TsvFiles(train=path, target_column=3).load()


def test_nothing_left_to_train_on(tmp_path):
    path = write(tmp_path, "a.tsv", ["\tb", "a\t"])
    with pytest.raises(DataError, match="no training pair with both sides"):
        prepare(PairsConfig(dataset=TsvFiles(train=path, development=path)))


def test_too_long_lines(parallel):
    def config(too_long):
        return PairsConfig(
            dataset=parallel, batch_size=4, source_tokenizer=Words(), max_source_len=2, too_long=too_long
        )

    with pytest.raises(DataError, match="development set, line 3: 3 source and 2 target tokens"):
        prepare(config("fail"))
    for too_long in ("skip", "truncate"):
        data = prepare(config(too_long))
        assert len(data.development) == 3, "development items are never left out"
        assert data.report.development.num_too_long == 1
        assert "line 3" in "\n".join(data.report.lines())


def test_training_line_over_the_limit_is_named_by_its_line_in_the_file(parallel):
    config = PairsConfig(dataset=parallel, source_tokenizer=Words(), max_source_len=1)
    with pytest.raises(DataError, match=r"training set, line 1: 2 source and .* max_source_len is 1"):
        prepare(config)


def test_given_buckets(parallel):
    buckets = GivenBuckets(shapes=((2, 2), (6, 6)))
    data = prepare(
        PairsConfig(
            dataset=parallel, source_tokenizer=Words(), buckets=buckets, max_source_len=6, max_target_len=6
        )
    )
    assert [tuple(shape) for shape in data.train.shapes()] == [(256, 2, 2), (256, 6, 6)]


def test_shared_vocabulary_and_given_tokenizers():
    config = PairsConfig(
        dataset=SyntheticDataset(),
        source_tokenizer=Words(),
        target_tokenizer=Words(),
        share_vocabulary=True,
        buckets=ChosenBuckets(max_shapes=2, multiple_of=4),
    )
    data = prepare(config)
    assert data.source_tokenizer is data.target_tokenizer
    assert all(length % 4 == 0 for shape in data.train.shapes() for length in shape[1:])
    again = prepare(config, source_tokenizer=data.source_tokenizer, target_tokenizer=data.target_tokenizer)
    assert again.source_tokenizer is data.source_tokenizer


def test_fewer_training_pairs_are_a_fixed_sample():
    config = PairsConfig(dataset=SyntheticDataset(), max_train_pairs=50)
    first, second = prepare(config), prepare(config)
    assert len(first.train.examples) == 50
    assert np.array_equal(first.train.examples.source_ids, second.train.examples.source_ids)


def test_synthetic_tasks():
    options = {"num_symbols": 5, "min_len": 3, "max_len": 6, "seed": 4}
    copies, reverses = copy_pairs(300, **options), reverse_pairs(300, **options)
    assert len({pair.source for pair in copies}) == 300
    for copy, reverse in zip(copies, reverses):
        words = copy.source.split(" ")
        assert 3 <= len(words) <= 6
        assert set(words) <= set("01234")
        assert copy.target == copy.source == reverse.source
        assert reverse.target == " ".join(words[::-1])
    assert copy_pairs(300, **options) == copies
    with pytest.raises(DataError, match="cannot draw 9 different lines"):
        copy_pairs(9, num_symbols=2, min_len=3, max_len=3, seed=0)
    splits = SyntheticDataset(num_train=100, num_development=20, num_test=30).load()
    assert (len(splits.train), len(splits.development), len(splits.test)) == (100, 20, 30)
    assert not {pair.source for pair in splits.train} & {item.source for item in splits.test}


@needs_data
@pytest.mark.parametrize(
    ("dataset", "counts", "tokenizers"),
    [
        (
            NamedDataset(name="multi30k", source_language="de", target_language="en"),
            (29_000, 1_014, 1_000),
            (Words(max_size=5000), Words(max_size=5000)),
        ),
        (
            NamedDataset(name="tatoeba-zh-en", source_language="zh", target_language="en"),
            (25_791, 1_000, 1_000),
            (Characters(), Words(min_count=2)),
        ),
    ],
)
def test_translation_sets(dataset, counts, tokenizers):
    data = prepare(
        PairsConfig(
            dataset=dataset,
            source_tokenizer=tokenizers[0],
            target_tokenizer=tokenizers[1],
            too_long="skip",
            max_source_len=60,
            max_target_len=60,
        )
    )
    assert data.report.train.num_examples + data.report.train.num_too_long == counts[0]
    assert (len(data.development_items), len(data.test_items)) == counts[1:]
    assert data.report.padding_share < 0.35
    assert data.report.test.num_source_unknown < 0.1 * data.report.test.num_source_tokens


def test_a_training_set_of_lines_too_long_says_what_to_raise(tmp_path):
    (tmp_path / "pairs.tsv").write_text("abcdef\tA B C D\nabcdefgh\tA B C D E F\n" * 20)
    config = PairsConfig(
        dataset=TsvFiles(train=str(tmp_path / "pairs.tsv")),
        max_source_len=5,
        max_target_len=4,
        too_long="skip",
    )
    with pytest.raises(DataError) as caught:
        prepare(config)
    for part in (
        "all 20 pairs", "max_source_len 5", "max_target_len 4", "raise the limits",
        "sources have up to", "targets up to", "'truncate'",
    ):  # fmt: skip
        assert part in str(caught.value)
    kept = prepare(dataclasses.replace(config, too_long="truncate"))
    assert kept.report.train.num_too_long == 20
