"""Objectives of word vectors: the loss does not depend on how rows are put into batches; updates by rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.data.subword_buckets import SubwordBuckets
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.data.word_windows import WindowPlan, WordWindows
from transformer_jax.errors import ConfigError
from transformer_jax.models import Sizes, WordVectorsConfig
from transformer_jax.objectives import FullSoftmax, HierarchicalSoftmax, NegativeSampling
from transformer_jax.training import Constant, RowAdagrad, TrainConfig
from transformer_jax.training.state import split_model
from transformer_jax.training.step import build_step, first_state

COUNTS = np.sort(np.random.default_rng(1).integers(1, 60, 20))[::-1]
IDS = np.random.default_rng(2).permutation(np.repeat(np.arange(20, dtype=np.int32), COUNTS)).astype(np.int32)
SENTENCES = (np.arange(len(IDS)) // 9).astype(np.int32)
WORDS = [f"word{chr(97 + place)}" for place in range(20)]
SUBWORDS = SubwordBuckets(min_len=3, max_len=4, num_buckets=30)

OBJECTIVES = {
    f"{kind.__name__}-{architecture}": kind(architecture=architecture)
    for kind in (NegativeSampling, HierarchicalSoftmax, FullSoftmax)
    for architecture in ("skip_gram", "cbow")
}


def batches(objective: Any, batch_size: int, subwords: SubwordBuckets | None = None) -> list[Any]:
    vocabulary = WordVocabulary(WORDS, COUNTS, subwords=subwords)
    plan = WindowPlan(
        window=2, row_len=6, batch_size=batch_size, sample=0.05, num_noise=objective.num_noise and 4,
        has_paths=objective.has_paths,
    )  # fmt: skip
    return list(WordWindows(IDS, SENTENCES, vocabulary, plan).epoch_batches())


def model(subwords: SubwordBuckets | None = None) -> Any:
    sizes = Sizes(vocab_size=20, num_buckets=None if subwords is None else subwords.num_buckets)
    found = WordVectorsConfig(embedding_dim=5).build(sizes, rngs=nnx.Rngs(0))
    key = jax.random.key(1)
    found.embedding.embedding[...] = jax.random.normal(key, found.embedding.embedding[...].shape)
    found.output_embedding.embedding[...] = jax.random.normal(key, (20, 5))
    return found


@pytest.mark.parametrize(
    ("name", "subwords"),
    [
        pytest.param(
            name,
            SUBWORDS if has_subwords else None,
            id=f"{name}-{'subwords' if has_subwords else 'words'}",
            marks=() if has_subwords == number % 2 else pytest.mark.full,
        )
        for number, name in enumerate(OBJECTIVES)
        for has_subwords in (False, True)
    ],
)
def test_loss_of_an_epoch_does_not_depend_on_the_number_of_rows_in_a_batch(
    name: str, subwords: SubwordBuckets | None
) -> None:
    objective, trained = OBJECTIVES[name], model(subwords)
    totals = []
    for batch_size in (3, 16):
        losses = [objective(trained, batch, None)[0] for batch in batches(objective, batch_size, subwords)]
        totals.append(
            [sum(float(part) for part in parts) for parts in zip(*((one.sum, one.count) for one in losses))]
        )
    assert totals[0][1] == totals[1][1] > 100
    np.testing.assert_allclose(totals[0][0], totals[1][0], rtol=1e-5)


def config(**options: Any) -> TrainConfig:
    chosen = {"clip_norm": None, "optimizer": RowAdagrad(initial=0.5)} | options
    return TrainConfig(updates=10, schedule=Constant(peak_learning_rate=0.1), **chosen)


@pytest.mark.parametrize(
    "name",
    tiered(OBJECTIVES, {"NegativeSampling-skip_gram", "HierarchicalSoftmax-cbow", "FullSoftmax-skip_gram"}),
)
def test_an_update_by_rows_is_that_of_a_loop_over_the_uses_of_rows(name: str) -> None:
    objective, trained = OBJECTIVES[name], model(SUBWORDS)
    batch = jax.tree.map(jnp.asarray, batches(objective, 4, SUBWORDS)[0])
    structure, state = first_state(trained, objective, config(), batch)
    after = jax.jit(build_step(structure, objective, config()))(state, batch)

    rows = {one: np.asarray(ids) for one, ids in objective.rows(batch).items()}
    tables = {one: array[rows[one]] if one in rows else array for one, array in state.params.items()}
    gradient = jax.grad(lambda given: objective.on_rows(given, batch)[0].sum)(tables)
    for table, array in state.params.items():
        slopes = np.asarray(gradient[table], np.float64)
        ids = rows.get(table, np.arange(len(array)))
        sums, wanted = np.full(len(array), 0.5), np.asarray(array, np.float64)
        for place, slope in zip(ids, slopes, strict=True):
            sums[place] += np.mean(slope**2)
        for place, slope in zip(ids, slopes, strict=True):
            wanted[place] -= 0.1 * slope / np.sqrt(sums[place])
        np.testing.assert_allclose(after.params[table], wanted, atol=2e-5)
        np.testing.assert_allclose(after.optimizer_state.sums[table], sums, rtol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_by_rows_is_that_of_whole_tables(name: str) -> None:
    objective, trained = OBJECTIVES[name], model(SUBWORDS)
    batch = jax.tree.map(jnp.asarray, batches(objective, 4, SUBWORDS)[0])
    structure, params, others = split_model(trained)
    whole = jax.grad(lambda given: objective(structure.merge(given, others), batch, None)[0].sum)(params)
    rows = objective.rows(batch)
    tables = {one: array[rows[one]] if one in rows else array for one, array in params.items()}
    gradient = jax.grad(lambda given: objective.on_rows(given, batch)[0].sum)(tables)
    for table, wanted in whole.items():
        found = (
            jnp.zeros_like(wanted).at[rows[table]].add(gradient[table]) if table in rows else gradient[table]
        )
        np.testing.assert_allclose(found, wanted, atol=1e-4 * float(jnp.abs(wanted).max()))


def test_rows_that_no_batch_reads_stay_as_they_are() -> None:
    objective, trained = NegativeSampling(), model()
    batch = jax.tree.map(jnp.asarray, batches(objective, 1)[0])
    structure, state = first_state(trained, objective, config(), batch)
    after = jax.jit(build_step(structure, objective, config()))(state, batch)
    for table, ids in objective.rows(batch).items():
        unread = np.setdiff1d(np.arange(20), np.asarray(ids))
        assert len(unread)
        np.testing.assert_array_equal(after.params[table][unread], state.params[table][unread])
        assert not np.array_equal(after.params[table], state.params[table])


@pytest.mark.parametrize("options", [{"accumulation": 2}, {"clip_norm": 1.0}])
def test_what_needs_whole_gradients_is_refused(options: dict[str, Any]) -> None:
    structure = split_model(model())[0]
    with pytest.raises(ConfigError, match=f"train.{next(iter(options))} is"):
        build_step(structure, NegativeSampling(), config(**options))


def test_options_out_of_range_are_refused() -> None:
    for options in ({"num_negatives": 0}, {"shared_noise": 0}, {"architecture": "glove"}, {"exponent": 99.0}):
        with pytest.raises(ConfigError):
            NegativeSampling(**options)
    with pytest.raises(ConfigError, match="initial"):
        RowAdagrad(initial=0.0)
    assert dataclasses.replace(NegativeSampling(), architecture="cbow").averages
