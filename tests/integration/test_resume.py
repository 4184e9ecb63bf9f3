"""A run that was interrupted and resumed ends as the uninterrupted one, bit for bit, log rows too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from training_helpers import VOCAB_SIZE, build, tiny_configs

from transformer_jax.data.buckets import BucketPlan
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.training import (
    AdamW,
    CheckpointStore,
    LinearDecay,
    TrainConfig,
    Trainer,
    TrainingInterrupted,
    TrainResult,
)

CONFIG = TrainConfig(
    updates=11,
    optimizer=AdamW(),
    schedule=LinearDecay(peak_learning_rate=0.01, warmup_updates=3),
    log_every=3,  # the interruption falls between two log rows, whose sums must survive
    evaluate_every=4,
    checkpoint_every=5,
    keep_best=1,
    metric="norm",
    seed=4,
)


def pipeline() -> BatchPipeline:
    """Fourteen pairs, six a batch: epochs of three batches, the last of them filled up."""
    generator = np.random.default_rng(0)
    lengths = np.array([1, 2, 3, 4, 5, 6, 2, 3, 3, 1, 6, 5, 2, 4])
    ids = generator.integers(4, VOCAB_SIZE, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    examples = EncodedExamples(ids, offsets, ids, offsets)
    return BatchPipeline(examples, BucketPlan(((6, 7),)), batch_size=6, seed=1)


class Interrupted:
    """The same batches, until Ctrl-C comes."""

    def __init__(self, inner: BatchPipeline, at: int) -> None:
        self._inner, self._at = inner, at

    def abstract_batches(self) -> Any:
        return self._inner.abstract_batches()

    def count_tokens(self, batch: Any) -> int:
        return self._inner.count_tokens(batch)

    def iterate(self, start_step: int) -> Iterator[Any]:
        for step, batch in enumerate(self._inner.iterate(start_step), start=start_step):
            if step == self._at:
                raise KeyboardInterrupt
            yield batch


def norm_of(state: Any) -> dict[str, float]:
    return {"norm": float(sum(np.abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(state)))}


def train(name: str, run_dir: Path, batches: Any, *, resume: bool = False) -> tuple[nnx.Module, TrainResult]:
    model = build(tiny_configs(dropout_rate=0.2)[name])
    rate = 0.3 if name == "gru" else 0.0
    objective = PairCrossEntropy(
        label_smoothing=0.1, scheduled_sampling_rate=rate, scheduled_sampling_updates=6
    )
    trainer = Trainer(
        model, objective, CONFIG, run_dir=run_dir, batches=batches, evaluate=norm_of, quiet=True
    )
    return model, trainer.fit(resume=resume)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("seconds", "tokens_per_second")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.mark.parametrize(
    "name",
    [pytest.param("gru", marks=pytest.mark.full), pytest.param("transformer", marks=pytest.mark.smoke)],
)
def test_resumed_equals_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole_model, whole = train(name, tmp_path / "whole", pipeline())
    with pytest.raises(TrainingInterrupted, match="resume from update 5"):
        train(name, tmp_path / "parts", Interrupted(pipeline(), at=7))
    assert CheckpointStore(tmp_path / "parts").updates() == [4, 5]
    resumed_model, resumed = train(name, tmp_path / "parts", pipeline(), resume=True)

    for (path, expected), got in zip(
        jax.tree_util.tree_leaves_with_path(nnx.state(whole_model)),
        jax.tree.leaves(nnx.state(resumed_model)),
        strict=True,
    ):
        assert np.asarray(got).tobytes() == np.asarray(expected).tobytes(), path
    assert without_times(resumed.curve) == without_times(whole.curve)
    assert (resumed.tokens, resumed.updates) == (whole.tokens, whole.updates)
    assert (resumed.best_update, resumed.best_score) == (whole.best_update, whole.best_score)
    assert len(whole.curve) == len({row["update"] for row in whole.curve})

    # The optimiser's state and the running sums too, as saved at the end.
    stores = [CheckpointStore(tmp_path / run) for run in ("whole", "parts")]
    assert stores[0].updates() == stores[1].updates()
    saved = [_training_arrays(tmp_path / run, stores[0].updates()[-1]) for run in ("whole", "parts")]
    assert saved[0].keys() == saved[1].keys()
    for key in saved[0]:
        assert saved[0][key].tobytes() == saved[1][key].tobytes(), key


def test_the_data_go_on_where_they_stopped() -> None:
    """Guards the test above: another start of the data would give other batches."""
    first = [batch.example_ids.tolist() for _, batch in zip(range(4), pipeline().iterate(0))]
    later = [batch.example_ids.tolist() for _, batch in zip(range(4), pipeline().iterate(5))]
    assert first != later


def _training_arrays(run_dir: Path, update: int) -> dict[str, np.ndarray]:
    from transformer_jax.training.orbax_items import read_item

    return read_item(run_dir / "checkpoints" / f"{update:08d}", "training")
