"""Each model family learns to copy and to reverse short strings, and greedy search then writes them."""

import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from flax import nnx
from tiers import tiered
from training_helpers import VOCAB_SIZE, build, recurrent_config, transformer_config

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.decode import GreedyConfig, SearchIds, make_searcher
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.models.build import ModelConfig
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask
from transformer_jax.training import Adam, Cosine, TrainConfig, Trainer

FAMILIES: dict[str, ModelConfig] = {
    "rnn": recurrent_config("rnn", LastState(feed_each_step=True), hidden_dim=64),
    "lstm": recurrent_config("lstm", LastState(feed_each_step=False), hidden_dim=64),
    "gru": recurrent_config("gru", LastState(feed_each_step=True), hidden_dim=64),
    "gru+bahdanau": recurrent_config("gru", Bahdanau(attention_dim=32), hidden_dim=32, bidirectional=True),
    "lstm+luong": recurrent_config(
        "lstm", Luong(score="general", input_feeding=True), hidden_dim=32, bidirectional=True
    ),
    "transformer": transformer_config(model_dim=32),
}
MAX_LEN = 5
CONFIG = TrainConfig(
    updates=600,
    optimizer=Adam(),
    schedule=Cosine(peak_learning_rate=0.005, warmup_updates=60),
    log_every=200,
    checkpoint_every=10_000,
)


# A last state, attention over a recurrence, and attention alone each learn one of the tasks in the first tier;
# recurrent states find reversing, attention copying the easier.
FIRST = {("rnn", "reverse"), ("gru+bahdanau", "copy"), ("transformer", "copy")}
CASES = tiered(itertools.product(sorted(FAMILIES), ("copy", "reverse")), FIRST)


@pytest.mark.parametrize(("family", "task_name"), CASES)
def test_learns_the_task(family: str, task_name: Literal["copy", "reverse"], tmp_path: Path) -> None:
    task = SequenceTask(task=task_name, vocab_size=VOCAB_SIZE, min_len=1, max_lens=(MAX_LEN,), batch_size=64)
    model = build(FAMILIES[family])
    trainer = Trainer(model, PairCrossEntropy(), CONFIG, run_dir=tmp_path / "run", batches=task, quiet=True)
    result = trainer.fit()
    assert result.curve[0]["accuracy"] < 0.99, "so easy that it tests nothing"

    # Strings of another seed, by search: each symbol that should have been written, and the end.
    batch = SequenceTask(
        task=task_name, vocab_size=VOCAB_SIZE, min_len=1, max_lens=(MAX_LEN,), batch_size=512, seed=1
    ).batch(0)
    searcher = make_searcher(
        model, GreedyConfig(max_len=MAX_LEN + 1), SearchIds(bos_id=BOS_ID, eos_id=EOS_ID)
    )
    output = searcher(nnx.split(model)[1], TokenInputs(batch.source_tokens, batch.source_lengths))
    written = np.asarray(output.tokens)
    ended = np.asarray(output.lengths) + 1 == batch.target_lengths
    wanted = batch.target_outputs
    is_symbol = (wanted != 0) & (wanted != EOS_ID)
    right = (written == wanted)[is_symbol].sum() + ended.sum()
    assert right / (is_symbol.sum() + len(ended)) >= 0.99
