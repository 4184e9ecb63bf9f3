"""After warm-up nothing compiles: not in training, not in evaluation by search, not after a resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from training_helpers import CompilationCounter, build, counted_compilations, tiny_configs

from transformer_jax.data.batches import BOS_ID, EOS_ID, Seq2SeqBatch
from transformer_jax.data.buckets import BucketPlan
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.pipeline import BatchPipeline, evaluation_batches
from transformer_jax.decode import GreedyConfig, make_searcher
from transformer_jax.train import Adam, Constant, TrainConfig, Trainer, sequence_to_sequence_loss

PLAN = BucketPlan(((3, 4), (6, 7)))


def examples(seed: int) -> EncodedExamples:
    generator = np.random.default_rng(seed)
    lengths = np.array([1, 2, 3, 4, 5, 6, 2, 3, 3, 1, 6])
    ids = generator.integers(4, 10, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return EncodedExamples(ids, offsets, ids, offsets)


class Watched:
    """The pipeline; notes how much was compiled when the first batch was asked for, and short batches."""

    def __init__(self, counter: CompilationCounter) -> None:
        self._inner = BatchPipeline(examples(0), PLAN, batch_size=4, seed=0)
        self._counter = counter
        self.before_first: list[int] = []
        self.short_batches = 0

    def shapes(self) -> Any:
        return self._inner.shapes()

    def iterate(self, start_step: int) -> Iterator[Seq2SeqBatch]:
        self.before_first.append(self._counter.count)
        for batch in self._inner.iterate(start_step):
            self.short_batches += bool((batch.example_ids < 0).any())
            yield batch


@pytest.mark.parametrize("name", sorted(tiny_configs()))
def test_nothing_compiles_after_warm_up(name: str, tmp_path: Path) -> None:
    model = build(tiny_configs(dropout_rate=0.1)[name])
    searcher = make_searcher(model, GreedyConfig(max_len=7), bos_id=BOS_ID, eos_id=EOS_ID)
    searcher.compile([(4, source_len) for source_len, _ in PLAN.shapes])
    searches = searcher.compile_count

    with counted_compilations() as counter:
        evaluations: list[int] = []

        def evaluate(state: Any) -> dict[str, float]:
            written = 0
            for batch in evaluation_batches(examples(1), PLAN, batch_size=4):
                output = searcher(state, batch.source_tokens, batch.source_lengths)
                written += int(np.sum(output.lengths))
            evaluations.append(counter.count)
            return {"written": float(written)}

        def fit(updates: int, *, resume: bool, batches: Watched) -> Trainer:
            config = TrainConfig(
                updates=updates,
                optimizer=Adam(),
                schedule=Constant(peak_learning_rate=0.01),
                log_every=2,
                evaluate_every=3,
                checkpoint_every=4,
                metric="written",
            )
            trainer = Trainer(
                model,
                sequence_to_sequence_loss(0.1),
                config,
                run_dir=tmp_path / "run",
                batches=batches,
                evaluate=evaluate,
                quiet=True,
            )
            result = trainer.fit(resume=resume)
            assert result.unplanned_compilations == 0
            return trainer

        first = Watched(counter)
        trainer = fit(9, resume=False, batches=first)
        assert first.short_batches > 0
        assert counter.count > 0, "the counter hears nothing"
        # Between the first batch and the first evaluation, and from the second on, nothing compiles.
        assert len(trainer.steps) == len(PLAN.shapes)
        assert len(evaluations) == 3
        assert evaluations[0] == first.before_first[0]
        assert evaluations[2] == evaluations[1]
        assert counter.count == evaluations[2]

        resumed = Watched(counter)
        fit(14, resume=True, batches=resumed)
        assert counter.count == resumed.before_first[0], "compiled in a resumed run after its first batch"
        assert searcher.compile_count == searches
    jax.block_until_ready(jax.numpy.zeros(()))
