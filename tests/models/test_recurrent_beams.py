"""The hypotheses of a beam share what a recurrent decoder knows of their source."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.decode import beam_search, reorder_state, repeat_state
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import BeamConfig
from transformer_jax.decode.search_options import SearchIds
from transformer_jax.models import Bahdanau, LastState, Luong, RecurrentSeq2Seq, RecurrentSeq2SeqConfig
from transformer_jax.nn import Monotonic, Predictive
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.testing.step_model_suite import (
    MAX_SOURCE_LEN,
    SOURCE_VOCAB_SIZE,
    TARGET_VOCAB_SIZE,
    make_batch,
)

BOS, EOS = 2, 3
NUM_BEAMS = 3


def luong(score: Any = "general", **options: Any) -> Luong:
    return Luong(score=score, **({"input_feeding": True} | options))


ATTENTIONS = {
    "last_state": LastState(feed_each_step=False),
    "last_state_each_step": LastState(feed_each_step=True),
    "bahdanau": Bahdanau(attention_dim=5),
    "dot": luong("dot"),
    "general": luong("general"),
    "general_no_feeding": luong("general", input_feeding=False),
    "concat": luong("concat"),
    "location": luong("location", max_len=MAX_SOURCE_LEN),
    "monotonic": luong(local=Monotonic(half_width=1)),
    "predictive": luong(local=Predictive(half_width=2)),
    "predictive_concat": luong("concat", local=Predictive(half_width=2), input_feeding=False),
    "monotonic_location": luong("location", max_len=MAX_SOURCE_LEN, local=Monotonic(half_width=2)),
}


FIRST = {"last_state", "bahdanau", "general", "concat", "predictive_concat", "monotonic_location"}


@pytest.fixture(scope="module", params=tiered(ATTENTIONS, FIRST))
def model(request: pytest.FixtureRequest) -> RecurrentSeq2Seq:
    config = RecurrentSeq2SeqConfig(
        embedding_dim=6, hidden_dim=8, cell="lstm", num_encoder_layers=2, num_decoder_layers=2,
        bidirectional=request.param != "dot", attention=ATTENTIONS[request.param], dropout_rate=0.0, residual=True,
    )  # fmt: skip
    return RecurrentSeq2Seq(
        config, source_vocab_size=SOURCE_VOCAB_SIZE, target_vocab_size=TARGET_VOCAB_SIZE, rngs=nnx.Rngs(3)
    )


@pytree_dataclass
class Copies:
    """A state of which every hypothesis has its own copy, memories included: what sharing must be equal to."""

    state: Any

    def repeated(self, num_copies: int) -> "Copies":
        return Copies(jax.tree.map(lambda leaf: jnp.repeat(leaf, num_copies, axis=0), self.state))

    def reordered(self, rows: Any) -> "Copies":
        return Copies(jax.tree.map(lambda leaf: leaf[rows], self.state))


class Copying(nnx.Module):
    """The model with such a state."""

    def __init__(self, model: RecurrentSeq2Seq) -> None:
        self.model = model

    def start(self, inputs: Any, *, max_len: int) -> Copies:
        return Copies(self.model.start(inputs, max_len=max_len))

    def step(self, state: Copies, tokens: Any) -> tuple[Any, Copies]:
        assert state.state.memory.lengths.shape == tokens.shape
        logits, after = self.model.step(state.state, tokens)
        return logits, Copies(after)


def compiled(function: Any) -> Any:
    """Compiling is nearly all that these tests cost."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def search(model: Any) -> Any:
    batch, graph, params = make_batch(), *nnx.split(model)

    def run(params: Any) -> Any:
        merged: Any = nnx.merge(graph, params)
        state = merged.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=6)
        config = BeamConfig(max_len=6, num_beams=NUM_BEAMS, num_best=NUM_BEAMS, length_penalty=0.6)
        return beam_search(merged, state, config, SearchIds(bos_id=BOS, eos_id=EOS))

    return jax.tree.map(np.asarray, compiled(run)(params))


def test_a_shared_memory_gives_what_copies_of_it_give(model: RecurrentSeq2Seq) -> None:
    shared, copied = search(model), search(Copying(model))
    assert len({tuple(tokens) for tokens in shared.tokens.reshape(-1, 6).tolist()}) > NUM_BEAMS
    np.testing.assert_array_equal(shared.tokens, copied.tokens)
    np.testing.assert_array_equal(shared.finished, copied.finished)
    np.testing.assert_allclose(shared.scores, copied.scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(shared.log_probs, copied.log_probs, rtol=0, atol=1e-5)


def test_only_what_differs_between_hypotheses_is_repeated_and_reordered(model: RecurrentSeq2Seq) -> None:
    batch = make_batch()
    num_sources = batch.source_tokens.shape[0]
    num_rows = num_sources * NUM_BEAMS

    def look() -> None:
        start = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=6)
        state = repeat_state(start, NUM_BEAMS)
        assert state.memory is start.memory
        assert {leaf.shape[0] for leaf in jax.tree.leaves(state.memory)} == {num_sources}
        own = jax.tree.leaves((state.carries, state.fed, state.steps))
        assert {leaf.shape[0] for leaf in own} == {num_rows}
        _, after = model.step(state, jnp.full(num_rows, BOS, jnp.int32))
        assert reorder_state(after, state, jnp.arange(num_rows)[::-1]).memory is start.memory

    jax.eval_shape(look)


def test_hypotheses_that_change_places_score_as_their_own_tokens(
    model: RecurrentSeq2Seq, random_generator: np.random.Generator
) -> None:
    batch, num_steps = make_batch(), 4
    num_sources = batch.source_tokens.shape[0]
    num_rows = num_sources * NUM_BEAMS
    said = np.zeros((num_steps + 1, num_rows, num_steps), np.int32)  # [step, row, token]
    orders = np.zeros((num_steps, num_rows), np.int32)
    for step in range(num_steps):
        said[step, :, step] = random_generator.integers(1, TARGET_VOCAB_SIZE, num_rows)
        parents = random_generator.integers(0, NUM_BEAMS, (num_sources, NUM_BEAMS))
        orders[step] = (NUM_BEAMS * np.arange(num_sources)[:, None] + parents).reshape(-1)
        said[step + 1] = said[step, orders[step]]
    graph, params = nnx.split(model)

    def by_steps(params: Any) -> Any:
        merged: Any = nnx.merge(graph, params)
        state = merged.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=num_steps)
        state, logits = repeat_state(state, NUM_BEAMS), []
        for step in range(num_steps):
            here, after = merged.step(state, jnp.asarray(said[step, :, step]))
            state = reorder_state(after, state, jnp.asarray(orders[step]))
            logits.append(here)
        return jnp.stack(logits)

    def as_a_whole(params: Any) -> Any:
        merged: Any = nnx.merge(graph, params)
        sources = [jnp.repeat(part, NUM_BEAMS, axis=0) for part in batch[:2]]
        sources = [jnp.concatenate([part] * num_steps) for part in sources]
        logits = merged(*sources, jnp.asarray(said[:-1]).reshape(-1, num_steps))
        logits = logits.reshape(num_steps, num_rows, num_steps, -1)
        return logits[jnp.arange(num_steps), :, jnp.arange(num_steps)]

    np.testing.assert_allclose(compiled(by_steps)(params), compiled(as_a_whole)(params), atol=1e-5)
