"""Examples and batches: contents by a plain loop, plans that cover an epoch, resuming from one integer."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, BatchShape, empty_batch
from transformer_jax.data.buckets import BucketPlan
from transformer_jax.data.examples import encode_examples, make_batch
from transformer_jax.data.line_pairs import EvaluationItem, Pair
from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.data.tokenizers import train_character_tokenizer, train_word_tokenizer
from transformer_jax.errors import ConfigError, DataError, ShapeError

WORDS = ["a", "bb", "ccc", "dddd", "eeeee", "abc", "cab", "", "ab", "de", "edcba", "bad"]
PAIRS = [Pair(word, " ".join(word.upper()), line) for line, word in enumerate(WORDS, 1)]
PLAN = BucketPlan(((2, 3), (3, 4), (5, 6)))


def encode(pairs=PAIRS, *, max_source_len=5, max_target_len=6, too_long="fail"):
    source = train_character_tokenizer(["abcde"])
    target = train_word_tokenizer(["A B C D E"])
    return encode_examples(
        pairs,
        source,
        target,
        max_source_len=max_source_len,
        max_target_len=max_target_len,
        too_long=too_long,
        name="training set",
    )


@pytest.fixture
def examples():
    return encode()[0]


def ids(word):
    """The same ids on both sides: the letters a to e are 4 to 8, and so are A to E."""
    return ["abcde".index(letter) + 4 for letter in word]


def check_rows(batch, words, indices):
    """Compare every row with a loop over the words it should hold."""
    for row in range(len(batch.example_ids)):
        source_row, input_row, output_row = (
            array[row].tolist() for array in (batch.source_tokens, batch.target_inputs, batch.target_outputs)
        )
        if row >= len(indices):
            assert batch.example_ids[row] == -1
            assert batch.source_lengths[row] == batch.target_lengths[row] == 0
            assert not any(source_row + input_row + output_row)
            continue
        tokens = ids(words[indices[row]])
        assert batch.example_ids[row] == indices[row]
        assert batch.source_lengths[row] == len(tokens)
        assert batch.target_lengths[row] == len(tokens) + 1
        assert source_row == tokens + [0] * (len(source_row) - len(tokens))
        assert input_row == [BOS_ID, *tokens] + [0] * (len(input_row) - len(tokens) - 1)
        assert output_row == [*tokens, EOS_ID] + [0] * (len(output_row) - len(tokens) - 1)
    assert all(array.dtype == np.int32 for array in batch)


def test_batch_contents(examples):
    batch = make_batch(examples, [3, 7, 0], BatchShape(5, 6, 7))
    check_rows(batch, WORDS, [3, 7, 0])
    assert batch.shape() == (5, 6, 7)
    assert batch.num_source_tokens() == 5
    assert batch.num_target_tokens() == 8


def test_batch_refuses_what_does_not_fit(examples):
    with pytest.raises(ShapeError, match="2 examples do not fit in a batch of 1 rows"):
        make_batch(examples, [0, 1], BatchShape(1, 5, 6))
    with pytest.raises(ShapeError, match="an example has 5 source tokens; the batch has room for 4"):
        make_batch(examples, [4], BatchShape(1, 4, 6))
    with pytest.raises(ShapeError, match="an example has 5 target tokens; the batch has room for 4"):
        make_batch(examples, [4], BatchShape(1, 5, 5))


def test_batch_of_empty_lines_only():
    empty, _ = encode([Pair("", ""), Pair("", "")])
    batch = make_batch(empty, [0, 1], BatchShape(2, 1, 1))
    assert batch.target_outputs.tolist() == [[EOS_ID], [EOS_ID]]


def test_encoding_report():
    _, report = encode([Pair("axb", "A X Y"), Pair("c", "")])
    assert (report.num_source_tokens, report.num_source_unknown) == (4, 1)
    assert (report.num_target_tokens, report.num_target_unknown) == (5, 2)
    assert report.num_too_long == 0


@pytest.mark.parametrize("limits", [{"max_source_len": 4}, {"max_target_len": 5}])
def test_too_long(limits):
    with pytest.raises(DataError) as caught:
        encode(**limits)
    assert "training set, line 5: 5 source and 6 target tokens" in str(caught.value)
    assert f"{next(iter(limits))} is {next(iter(limits.values()))}" in str(caught.value)

    unnumbered = [Pair(pair.source, pair.target) for pair in PAIRS]
    with pytest.raises(DataError, match=r"training set, example 5 \('eeeee'\): 5 source"):
        encode(unnumbered, **limits)

    kept, report = encode(**limits, too_long="skip")
    assert (len(kept), report.num_too_long) == (10, 2)
    assert "line 5" in report.first_too_long
    check_rows(make_batch(kept, [3, 4], BatchShape(2, 5, 6)), ["a", "bb", "ccc", "dddd", "abc"], [3, 4])

    cut, report = encode(**limits, too_long="truncate")
    assert (len(cut), report.num_too_long) == (12, 2)
    assert cut.source_lengths()[4] == limits.get("max_source_len", 5)
    assert cut.target_lengths()[4] == limits.get("max_target_len", 6)


class OtherIds:
    """A tokenizer that gives an id which its vocabulary does not have, as a damaged one does."""

    vocab_size = 9

    def __init__(self, worst):
        self.worst = worst

    def encode_batch(self, texts):
        return [[4] if text == "good" else [5, self.worst] for text in texts]

    def count_unknown(self, ids):
        return 0


@pytest.mark.parametrize("worst", [9, -1])
def test_an_id_outside_of_the_vocabulary_is_refused(worst):
    pairs = [Pair("good", "good"), Pair("good", "bad")]
    with pytest.raises(
        DataError, match=rf"mine, example 2: target id {worst} is not in the vocabulary.*0 to 8"
    ):
        encode_examples(
            pairs,
            OtherIds(8),
            OtherIds(worst),
            max_source_len=9,
            max_target_len=9,
            too_long="fail",
            name="mine",
        )


def test_first_reference_is_the_target():
    item = EvaluationItem("ab", ("B A", "A B"))
    batch = make_batch(encode([item])[0], [0], BatchShape(1, 2, 3))
    assert batch.target_outputs[0].tolist() == [5, 4, EOS_ID]


def test_epoch_holds_every_example_once_in_its_bucket(examples):
    pipeline = BatchPipeline(examples, PLAN, batch_size=2, seed=3)
    for epoch in range(3):
        planned = pipeline.epochs.epoch(epoch)
        assert len(planned) == pipeline.batches_per_epoch == 7
        assert sorted(np.concatenate([batch.indices for batch in planned])) == list(range(len(WORDS)))
        for bucket, indices in planned:
            shape = pipeline.shapes()[bucket]
            for index in indices:
                fitting = [edges for edges in PLAN.shapes if len(WORDS[index]) <= edges[0]]
                assert tuple(shape[1:]) == fitting[0]


def test_order_depends_on_seed_and_epoch_alone(examples):
    def order(seed, epoch):
        planned = BatchPipeline(examples, PLAN, batch_size=2, seed=seed).epochs.epoch(epoch)
        return [(batch.bucket, *batch.indices.tolist()) for batch in planned]

    assert order(0, 0) == order(0, 0)
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_follow_the_plan_over_epochs(examples):
    pipeline = BatchPipeline(examples, PLAN, batch_size=2, seed=1)
    planned = [batch for epoch in range(3) for batch in pipeline.epochs.epoch(epoch)]
    for (bucket, indices), batch in zip(planned, pipeline.iterate()):
        assert batch.shape() == pipeline.shapes()[bucket]
        check_rows(batch, WORDS, indices)


def same(first, second):
    return all(np.array_equal(one, other) for one, other in zip(first, second))


def test_resumes_from_one_integer(examples):
    pipeline = BatchPipeline(examples, PLAN, batch_size=2, seed=1)
    whole = list(itertools.islice(pipeline.iterate(), 30))
    iterator = pipeline.iterate()
    for step in range(11):
        assert iterator.state() == step
        next(iterator)
    state = iterator.state()
    assert type(state) is int
    again = BatchPipeline(encode()[0], PLAN, batch_size=2, seed=1)
    resumed = list(itertools.islice(again.iterate(state), 19))
    assert all(map(same, resumed, whole[11:]))
    iterator.restore(2)
    assert same(next(iterator), whole[2])
    assert iterator.state() == 3
    with pytest.raises(DataError, match="at least 0, got -1"):
        iterator.restore(-1)


def test_padding_share_counts_dummy_rows(examples):
    pipeline = BatchPipeline(examples, PLAN, batch_size=5, seed=0)
    batches = [pipeline.batch_at(step) for step in range(pipeline.batches_per_epoch)]
    real = sum(batch.num_source_tokens() + batch.num_target_tokens() for batch in batches)
    padded = sum(batch.source_tokens.size + batch.target_outputs.size for batch in batches)
    assert pipeline.padding_share() == pytest.approx(1 - real / padded)


def test_no_training_example():
    with pytest.raises(DataError, match="no training example"):
        BatchPipeline(encode([])[0], PLAN, batch_size=2, seed=0)


def run_python(code, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"},
        **options,
    )


SET_UP = """
from transformer_jax.data.pairs_config import PairsConfig, SyntheticDataset, Words
from transformer_jax.data.prepare import prepare
data = prepare(PairsConfig(dataset=SyntheticDataset(num_train=200), source_tokenizer=Words(), batch_size=16))
batches = data.train.iterate()
for _ in range(50): next(batches)
"""


def test_no_jax_backend_and_a_clean_exit():
    code = SET_UP + "import sys\nfrom jax._src import xla_bridge\nprint(dict(xla_bridge._backends))\n"
    process = run_python(code)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "{}\n", "")


def test_ctrl_c_ends_at_once():
    process = run_python(SET_UP + "print('ready', flush=True)\nfor batch in batches: pass\n")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1


def test_a_token_budget_gives_short_lines_more_rows():
    examples, _ = encode()
    budget = 4 * sum(PLAN.shapes[-1])
    pipeline = BatchPipeline(examples, PLAN, batch_size=1, seed=3, batch_tokens=budget)
    rows = [shape.batch_size for shape in pipeline.shapes()]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[-1]
    assert all(
        shape.batch_size * (shape.source_len + shape.target_len) <= budget for shape in pipeline.shapes()
    )
    epoch = [pipeline.batch_at(step) for step in range(pipeline.batches_per_epoch)]
    ids = np.concatenate([batch.example_ids for batch in epoch])
    assert sorted(ids[ids >= 0]) == list(range(len(examples)))
    assert {batch.shape() for batch in epoch} <= set(pipeline.shapes())
    padded = sum(batch.source_tokens.size + batch.target_inputs.size for batch in epoch)
    real = sum(batch.num_source_tokens() + batch.num_target_tokens() for batch in epoch)
    assert pipeline.padding_share() == pytest.approx(1 - real / padded)


def test_a_token_budget_below_one_pair_is_refused():
    with pytest.raises(ConfigError, match="batch_tokens"):
        PairsConfig(batch_tokens=79)


def test_abstract_batches_have_the_shapes_and_dtypes_of_those_to_come():
    examples, _ = encode()
    pipeline = BatchPipeline(examples, PLAN, batch_size=4, seed=3)
    epoch = [pipeline.batch_at(step) for step in range(pipeline.batches_per_epoch)]
    signatures = {tuple((leaf.shape, leaf.dtype) for leaf in batch) for batch in epoch}
    assert signatures == {
        tuple((leaf.shape, leaf.dtype) for leaf in one) for one in pipeline.abstract_batches()
    }
    for batch in epoch:
        real = (batch.source_tokens != PAD_ID).sum() + (batch.target_outputs != PAD_ID).sum()
        assert pipeline.count_tokens(batch) == batch.num_tokens() == real
        assert batch.num_positions() == batch.source_tokens.size + batch.target_inputs.size


def test_an_empty_batch_takes_no_memory_whatever_its_shape():
    batch = empty_batch(2**20, 2**10, 2**10)  # 4 GiB an array
    assert batch.source_tokens.shape == (2**20, 2**10)
    assert batch.source_tokens.base.nbytes == 4
