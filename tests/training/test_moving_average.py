"""Early stopping, the moving average of the parameters, and batch shapes that nobody announced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, RunError
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import (
    CheckpointStore,
    TrainConfig,
    Trainer,
    TrainResult,
    load_params,
    read_rows,
)
from transformer_jax.training.state import named_arrays


class Follow:
    """An evaluation that keeps what it saw and gives the scores it was made with."""

    def __init__(self, scores: tuple[float, ...] = ()) -> None:
        self.scores, self.seen = list(scores), []

    def __call__(self, state: Any) -> dict[str, float]:
        self.seen.append({name: np.array(array) for name, array in named_arrays(state).items()})
        return {"score": self.scores.pop(0) if self.scores else 0.0}


@pytest.fixture
def fit(
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
) -> Callable[..., tuple[TrainResult, Any]]:
    def run(
        evaluate: Any, *, folder: str = "run", resume: bool = False, batches: Any = None, strict: bool = False,
        **changes: Any,
    ) -> tuple[TrainResult, Any]:  # fmt: skip
        model = make_model()
        trainer = Trainer(
            model,
            PairCrossEntropy(),
            make_config(**changes),
            run_dir=tmp_path / folder,
            batches=batches or task,
            evaluate=evaluate,
            quiet=True,
            strict_compile=strict,
        )
        return trainer.fit(resume=resume), model

    return run


def test_the_average_is_that_of_a_loop_and_is_what_is_evaluated_and_kept(
    fit: Callable[..., Any], make_model: Callable[..., TinySeq2Seq], tmp_path: Path
) -> None:
    plain, averaged = Follow(), Follow()
    fit(plain, folder="plain", evaluate_every=1)
    _, model = fit(averaged, evaluate_every=1, average_decay=0.6)
    wanted = named_arrays(nnx.state(make_model()))
    wanted = {name: np.asarray(array, np.float64) for name, array in wanted.items()}
    for update, (params, seen) in enumerate(zip(plain.seen, averaged.seen, strict=True)):
        decay = min(0.6, (1 + update) / (10 + update))
        for name, array in params.items():
            wanted[name] = decay * wanted[name] + (1 - decay) * array
            np.testing.assert_allclose(seen[name], wanted[name], rtol=1e-5, atol=1e-6)
    assert any((plain.seen[-1][name] != averaged.seen[-1][name]).any() for name in wanted)
    loaded = make_model(seed=3)
    load_params(tmp_path / "run", "last", model=loaded)
    for found in (loaded, model):
        arrays = named_arrays(nnx.state(found))
        assert all((arrays[name] == averaged.seen[-1][name]).all() for name in wanted)


def test_a_run_with_an_average_goes_on_as_if_it_had_not_been_stopped(fit: Callable[..., Any]) -> None:
    whole, parts = Follow(), Follow()
    settings = {"average_decay": 0.9, "evaluate_every": 6, "checkpoint_every": 4}
    fit(whole, folder="whole", **settings, updates=6)
    fit(parts, **settings, updates=4)
    fit(parts, **settings, updates=6, resume=True)
    for name, array in whole.seen[-1].items():
        np.testing.assert_array_equal(array, parts.seen[-1][name])


def test_a_run_stops_when_its_score_gets_no_better(fit: Callable[..., Any], tmp_path: Path) -> None:
    scores = (0.5, 0.4, 0.6, 0.4, 0.3, 0.2)
    result, _ = fit(Follow(scores), updates=30, evaluate_every=2, checkpoint_every=2, patience=2)
    assert result.updates == 8  # 0.4 at update 4 was the best; those at 6 and 8 were not better
    assert result.best_update == 4
    assert [row["update"] for row in read_rows(tmp_path / "run") if row["kind"] == "evaluation"] == [
        2,
        4,
        6,
        8,
    ]
    assert CheckpointStore(tmp_path / "run").updates() == [4, 8]
    again, _ = fit(Follow(), updates=30, evaluate_every=2, checkpoint_every=2, patience=2, resume=True)
    assert again.updates == 8


class Surprising(SequenceTask):
    """Announces only the first of its shapes."""

    def abstract_batches(self) -> Any:
        return super().abstract_batches()[:1]


def test_a_shape_that_was_not_announced_is_an_error_where_that_is_wanted(fit: Callable[..., Any]) -> None:
    batches = Surprising(task="copy", vocab_size=9, min_len=2, max_lens=(4, 6), batch_size=3)
    result, _ = fit(Follow(), folder="lenient", batches=batches)
    assert result.unplanned_compilations == 1
    with pytest.raises(RunError, match=r"\(3, 6\).* not announced \(`strict_compile=True`\)"):
        fit(Follow(), batches=batches, strict=True)


@pytest.mark.parametrize(
    ("name", "value"), [("average_decay", 1.0), ("average_decay", -0.1), ("patience", 0)]
)
def test_settings_out_of_range_are_refused(
    make_config: Callable[..., TrainConfig], name: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=name):
        make_config(**{name: value})
