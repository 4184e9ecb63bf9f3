"""Generation and scores of trained models' kinds: what the whole call gives, in chunks and windows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax import nn
from transformer_jax.decode import (
    GreedyConfig,
    ResumableSearch,
    SampleConfig,
    SearchIds,
    TokenInputs,
    make_searcher,
)
from transformer_jax.inference.token_generator import TokenGenerator
from transformer_jax.inference.token_scores import TokenScorer
from transformer_jax.models import DecoderOnlyConfig, RecurrentLMConfig, Sizes, build_model

PAD, BOS, EOS, VOCAB, CONTEXT = 0, 2, 3, 11, 12
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
PROMPTS = [[5], [], [4, 5, 6, 7, 10], [9, 8, 4], [6, 5, 4, 6, 5, 4, 6, 5, 4, 7]]
LEARNED = DecoderOnlyConfig(
    model_dim=16,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_dim=24,
    num_layers=2,
    positions=nn.Learned(max_len=CONTEXT),
    weight_deviation=0.5,
)
CONFIGS: dict[str, DecoderOnlyConfig | RecurrentLMConfig] = {
    "learned": LEARNED,
    "rotary_window": dataclasses.replace(LEARNED, positions=nn.Rotary(), window_len=4, activation="swiglu"),
    "linear": dataclasses.replace(
        LEARNED, positions=nn.Sinusoidal(), self_attention="linear", num_kv_heads=4
    ),
}
CONFIGS |= {
    cell: RecurrentLMConfig(cell=cell, embedding_dim=6, hidden_dim=8, num_layers=2)
    for cell in ("lstm", "min_gru")
}


def build(name: str) -> Any:
    return build_model(CONFIGS[name], Sizes(vocab_size=VOCAB), seed=0)


def whole_call(model: Any, *, length: int) -> Any:
    """From tokens to the logits after them, by teacher forcing in rows of one length."""
    graph, params = nnx.split(model)
    logits = jax.jit(lambda params, tokens: nnx.merge(graph, params)(tokens))

    def after(tokens: list[int]) -> np.ndarray:
        row = np.zeros((1, length), np.int32)
        row[0, : len(tokens)] = tokens
        return np.asarray(logits(params, row))[0, len(tokens) - 1]

    return after


@pytest.mark.parametrize("name", tiered(CONFIGS, {"learned", "rotary_window", "lstm"}))
def test_outputs_are_those_of_the_whole_call(name: str) -> None:
    """In the context, and beyond it where the last half is read anew."""
    model, config = build(name), GreedyConfig(max_len=14, forbidden_ids=(PAD, BOS, EOS))
    generator = TokenGenerator(
        model, config, IDS, context_len=CONTEXT, beyond="window", batch_size=3, chunk_len=4
    )
    after = whole_call(model, length=CONTEXT)
    for prompt, one in zip(PROMPTS, generator.generate(nnx.state(model), PROMPTS), strict=True):
        plan, text = generator._plan(0, prompt), list(prompt) or [BOS]
        memory, room = (text[:-1][-plan.kept :] if plan.kept else []), plan.room
        for _ in range(14):
            if room == 0:
                memory, room = text[:-1][-(CONTEXT // 2) :], CONTEXT - CONTEXT // 2
            memory, room = [*memory, text[-1]], room - 1
            logits = after(memory).copy()
            logits[[PAD, BOS, EOS]] = -np.inf
            text.append(int(logits.argmax()))
        assert one.tokens == tuple(text[-14:])


@pytest.mark.parametrize("name", tiered(CONFIGS, {"rotary_window", "linear", "min_gru"}))
def test_chunks_have_the_bits_of_one_search_and_no_neighbour_counts(name: str) -> None:
    model, config = build(name), SampleConfig(max_len=6, top_k=5, repetition_penalty=1.2)
    params, key = nnx.state(model), jax.random.key(3)
    inputs = TokenInputs(np.array([[4, 5, 6], [7, 8, 0], [0, 0, 0]], np.int32), np.array([3, 2, 0]))
    wanted = make_searcher(model, config, IDS)(params, inputs, rng_key=key)
    search = ResumableSearch(model, config, IDS)
    for size in (1, 4):
        progress = search.start(params, inputs, rng_key=key)
        while progress.running.any():
            progress = search.advance(params, progress, size)
        jax.tree.map(np.testing.assert_array_equal, progress.output, wanted)

    generator = TokenGenerator(
        model, config, IDS, context_len=CONTEXT, beyond="window", batch_size=3, chunk_len=2
    )
    together = generator.generate(params, PROMPTS, seed=1)
    for index, prompt in enumerate(PROMPTS):
        assert generator.generate(params, [prompt], seed=1, row_ids=[index]) == [together[index]]


@pytest.mark.parametrize("name", ["learned", "linear", "lstm"])
def test_scores_are_those_of_the_whole_call(name: str) -> None:
    model, text = build(name), np.random.default_rng(0).integers(4, VOCAB, 29)
    scores = TokenScorer(model, context_len=CONTEXT, stride=5, batch_size=2)(nnx.state(model), text)
    after = whole_call(model, length=CONTEXT)
    for place in range(1, len(text)):
        window = max(0, -(-(place - CONTEXT) // 5)) * 5
        log_probs = jax.nn.log_softmax(jnp.asarray(after(text[window:place].tolist())))
        assert scores.log_probs[place] == pytest.approx(float(log_probs[text[place]]), abs=1e-5)
