"""An update and the searches of every kind of model, traced under ``jax_numpy_dtype_promotion=strict``."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from training_helpers import build, tiny_configs

from transformer_jax import decode
from transformer_jax.data.batches import empty_batch
from transformer_jax.decode.constraints import Constraints
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.functional import LossSum
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.training import Adam, Cosine, TrainConfig
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.schedules import build_schedule
from transformer_jax.training.state import create_state, split_model
from transformer_jax.training.step import build_step, metric_shapes

OBJECTIVES: dict[str, dict[str, Any]] = {
    "gru": {},
    "lstm+luong": {"scheduled_sampling_rate": 0.2, "scheduled_sampling_updates": 5},
    "transformer": {"label_smoothing": 0.1, "r_drop_weight": 1.0},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_update_mixes_no_dtypes_unsaid(name: str) -> None:
    model, objective = build(tiny_configs(0.1)[name]), PairCrossEntropy(**OBJECTIVES[name])
    config = TrainConfig(
        updates=4, log_every=2, evaluate_every=2, checkpoint_every=2, metric="loss", optimizer=Adam(), clip_norm=1.0,
        schedule=Cosine(peak_learning_rate=0.1, warmup_updates=1, final_ratio=0.1), average_decay=0.9,
        on_divergence="skip", accumulation=2,
    )  # fmt: skip
    batch = empty_batch(4, 3, 3)
    with jax.numpy_dtype_promotion("strict"):
        structure, params, model_state = split_model(model)
        metrics: dict[str, LossSum] = metric_shapes(structure, params, model_state, objective, batch)
        optimizer = build_optimizer(config.optimizer, build_schedule(config.schedule, updates=config.updates))
        _, state = create_state(model, optimizer, seed=0, metrics=metrics, averages=True)
        after = jax.eval_shape(build_step(structure, objective, config), state, batch)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_searches_mix_no_dtypes_unsaid(name: str) -> None:
    model: Any = build(tiny_configs()[name])
    options: dict[str, Any] = {
        "max_len": 4, "forbidden_ids": (1,), "constraints": Constraints(min_len=2, no_repeat_ngram=2),
    }  # fmt: skip
    ids = decode.SearchIds(bos_id=2, eos_id=3)
    sampling = decode.SampleConfig(top_k=3, top_p=0.9, min_p=0.01, repetition_penalty=1.2, **options)
    penalty = 0.0 if name == "gru" else 0.2
    beam = decode.BeamConfig(num_beams=2, length_penalty=0.6, coverage_penalty=penalty, **options)

    def run(tokens: Any, lengths: Any) -> tuple[Any, Any]:
        state = model.start(TokenInputs(tokens, lengths), max_len=4)
        rows = decode.RowOptions(
            prefix=jnp.full((2, 4), -1, jnp.int32), first_tokens=lengths, source_lengths=lengths,
            context=TokenInputs(tokens, lengths),
        )  # fmt: skip
        drawn = decode.sample_search(model, state, sampling, ids, rows, rng_key=jax.random.key(0))
        best = decode.beam_search(model, state, beam, ids, rows)
        return drawn.tokens, best.tokens

    ints = jax.ShapeDtypeStruct((2, 3), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32)
    with jax.numpy_dtype_promotion("strict"):
        drawn, best = jax.eval_shape(run, *ints)
    assert drawn.shape == (2, 4)
    assert best.shape == (2, 1, 4)
