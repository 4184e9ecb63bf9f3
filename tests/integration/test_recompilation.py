"""After warm-up nothing compiles: not in training, not in evaluation by search, not after a resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_helpers import CompilationCounter, build, counted_compilations, tiny_configs

from transformer_jax.data.batches import BOS_ID, EOS_ID, Seq2SeqBatch
from transformer_jax.data.buckets import BucketPlan
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.decode import GreedyConfig, SearchIds, make_searcher
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.training import (
    Adam,
    Constant,
    TrainConfig,
    Trainer,
    TrainingInterrupted,
)

PLAN = BucketPlan(((3, 4), (6, 7)))


def examples(seed: int) -> EncodedExamples:
    generator = np.random.default_rng(seed)
    lengths = np.array([1, 2, 3, 4, 5, 6, 2, 3, 3, 1, 6])
    ids = generator.integers(4, 10, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return EncodedExamples(ids, offsets, ids, offsets)


class Watched:
    """The pipeline; notes how much was compiled when its first batch was asked for, and stops once at a step."""

    def __init__(self, counter: CompilationCounter, *, stop_at: int) -> None:
        self._inner = BatchPipeline(examples(0), PLAN, batch_size=4, seed=0)
        self._counter, self._stop_at = counter, stop_at
        self.compiled_before: list[int] = []
        self.short_batches = 0
        self.shapes_seen: set[tuple[int, ...]] = set()

    def abstract_batches(self) -> Any:
        return self._inner.abstract_batches()

    def count_tokens(self, batch: Any) -> int:
        return self._inner.count_tokens(batch)

    def iterate(self, start_step: int) -> Iterator[Seq2SeqBatch]:
        self.compiled_before.append(self._counter.count)
        for step, batch in enumerate(self._inner.iterate(start_step), start=start_step):
            if step == self._stop_at:
                self._stop_at = -1
                raise KeyboardInterrupt
            self.short_batches += bool((batch.example_ids < 0).any())
            self.shapes_seen.add(batch.shape())
            yield batch


@pytest.mark.parametrize("name", ["transformer", pytest.param("gru", marks=pytest.mark.full)])
def test_nothing_compiles_after_warm_up(name: str, tmp_path: Path) -> None:
    model = build(tiny_configs(dropout_rate=0.1)[name])
    searcher = make_searcher(model, GreedyConfig(max_len=7), SearchIds(bos_id=BOS_ID, eos_id=EOS_ID))
    searcher.compile([TokenInputs.abstract(4, source_len) for source_len, _ in PLAN.shapes])
    searches = searcher.compile_count
    development = BatchPipeline(examples(1), PLAN, batch_size=4, seed=0)
    config = TrainConfig(
        updates=14,
        optimizer=Adam(),
        schedule=Constant(peak_learning_rate=0.01),
        log_every=2,
        evaluate_every=3,
        checkpoint_every=4,
        metric="written",
    )

    with counted_compilations() as counter:
        before_evaluations: list[int] = []
        after_evaluations: list[int] = []

        def evaluate(state: Any) -> dict[str, float]:
            before_evaluations.append(counter.count)
            written = 0
            for batch in map(development.batch_at, range(development.batches_per_epoch)):
                output = searcher(state, TokenInputs(batch.source_tokens, batch.source_lengths))
                written += int(np.sum(output.lengths))
            after_evaluations.append(counter.count)
            return {"written": float(written)}

        batches = Watched(counter, stop_at=10)
        trainer = Trainer(
            model,
            PairCrossEntropy(label_smoothing=0.1),
            config,
            run_dir=tmp_path / "run",
            batches=batches,
            evaluate=evaluate,
            quiet=True,
        )
        with pytest.raises(TrainingInterrupted):
            trainer.fit()
        before_resume, compile_seconds = counter.count, trainer.steps.compile_seconds
        result = trainer.fit(resume=True)

    assert counter.count > 0, "the counter hears nothing"
    assert batches.short_batches > 0
    assert len(batches.shapes_seen) == len(trainer.steps) == len(PLAN.shapes) == 2
    # Updates 3, 6, 9, then 9, 12, 14 from the checkpoint of update 8.
    first, resumed = batches.compiled_before
    warm = after_evaluations[0]  # the first evaluation may warm up what surrounds the compiled search
    assert before_evaluations == [first, warm, warm, resumed, resumed, resumed]
    assert after_evaluations == [warm, warm, warm, resumed, resumed, resumed]
    assert before_resume == warm
    assert counter.count == resumed
    # Copying the checkpoint's arrays compiles a little before the resumed run's first batch, but no step:
    assert result.compile_seconds == compile_seconds, "a step was compiled again"
    assert result.unplanned_compilations == 0
    assert searcher.compile_count == searches
