"""Generation from prompts: against a loop in Python, whatever the batch, beyond the context too."""

import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode import GreedyConfig, SampleConfig, SearchIds
from transformer_jax.errors import ConfigError, DataError, ShapeError
from transformer_jax.inference.token_generator import TokenGenerator
from transformer_jax.testing.tiny_models import TableLanguageModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
PROMPTS = [[5], [], [4, 5, 6, 7, 1], [1, 1, 4], [6, 5, 4, 6, 5, 4, 6, 5, 4, 7], [7, 7], [5, 1, 4]]


def greedy_by_hand(model, prompt, max_len, forbidden=()):
    """Tokens and their log-probability, from all that was said before."""
    fed, said, total = list(prompt) or [BOS], [], 0.0
    while len(said) < max_len:
        logits = model.logits_after(fed)
        total -= np.logaddexp.reduce(logits)
        allowed = logits.copy()
        allowed[list(forbidden)] = -np.inf
        token = int(allowed.argmax())
        total += logits[token]
        if token == EOS:
            return tuple(said), total, True
        said.append(token)
        fed.append(token)
    return tuple(said), total, False


@pytest.mark.parametrize("context_len", [None, 24])
@pytest.mark.parametrize("chunk_len", [1, 5])
def test_outputs_are_those_of_a_loop(context_len, chunk_len):
    model = TableLanguageModel.random(seed=3, context_len=context_len)
    generator = TokenGenerator(
        model, GreedyConfig(max_len=14), IDS, context_len=context_len, batch_size=3, chunk_len=chunk_len
    )
    found = generator.generate(nnx.state(model), PROMPTS)
    for prompt, one in zip(PROMPTS, found, strict=True):
        tokens, log_prob, finished = greedy_by_hand(model, prompt, 14)
        assert (one.tokens, one.finished, one.stopped, one.found) == (tokens, finished, False, True)
        assert one.log_prob == pytest.approx(log_prob, rel=1e-5)
    assert {one.finished for one in found} == {True, False}, "the seed must give both"


@pytest.mark.parametrize("options", [{"min_p": 0.05, "top_k": 6}, {"repetition_penalty": 1.3}])
@pytest.mark.parametrize(("context_len", "beyond"), [(None, "refuse"), (12, "window")])
def test_a_prompts_output_does_not_depend_on_its_neighbours(options, context_len, beyond):
    model = TableLanguageModel.random(seed=3, context_len=context_len)
    config = SampleConfig(max_len=20, forbidden_ids=(PAD, EOS), **options)
    generator = TokenGenerator(
        model, config, IDS, context_len=context_len, beyond=beyond, batch_size=3, chunk_len=4
    )
    params = nnx.state(model)
    together = generator.generate(params, PROMPTS, seed=5)
    assert {len(one.tokens) for one in together} == {20}
    for places in ([3], [6, 0], [5, 4, 3, 2, 1, 0]):
        some = generator.generate(params, [PROMPTS[i] for i in places], seed=5, row_ids=places)
        assert some == [together[i] for i in places]
    assert generator.generate(params, PROMPTS, seed=6) != together
    same = generator.generate(params, [PROMPTS[0]] * 4, seed=5)
    assert same[0] == together[0]
    assert len({one.tokens for one in same}) == 4, "each number draws for itself"


@pytest.mark.parametrize("context_len", [2, 7, 12])
def test_beyond_the_context_the_last_half_is_read_anew(context_len):
    """The oracle reads what the documentation says: all that fits, then the last half whenever it is full."""
    model = TableLanguageModel.random(seed=4, context_len=context_len)
    config = GreedyConfig(max_len=30, forbidden_ids=(EOS,))
    generator = TokenGenerator(model, config, IDS, context_len=context_len, beyond="window", chunk_len=4)
    for prompt, one in zip(PROMPTS, generator.generate(nnx.state(model), PROMPTS), strict=True):
        plan = generator._plan(0, prompt)
        text = list(prompt) or [BOS]
        memory, room = (text[:-1][-plan.kept :] if plan.kept else []), plan.room
        assert plan.padded + plan.room <= context_len
        for _ in range(30):
            if room == 0:
                memory, room = text[:-1][-(context_len // 2) :], context_len - context_len // 2
            memory = [*memory, text[-1]]
            logits = model.logits_after(memory)
            logits[EOS] = -np.inf
            text.append(int(logits.argmax()))
            room -= 1
            assert len(memory) <= context_len
        assert one.tokens == tuple(text[-30:])


def test_a_prompt_that_fits_is_the_same_with_a_window():
    model = TableLanguageModel.random(seed=3, context_len=24)
    params, found = nnx.state(model), []
    for beyond in ("refuse", "window"):
        generator = TokenGenerator(model, GreedyConfig(max_len=14), IDS, context_len=24, beyond=beyond)
        found.append(generator.generate(params, PROMPTS))
    assert found[0] == found[1]
    # The last token that fits.
    assert generator._plan(0, [4] * 11).kept == 10
    full = TokenGenerator(model, GreedyConfig(max_len=24), IDS, context_len=24)
    assert len(full.generate(params, [[], [5]])) == 2


def test_streamed_chunks_make_up_the_outputs_and_a_caller_may_stop():
    model = TableLanguageModel.random(seed=3)
    params, config = nnx.state(model), GreedyConfig(max_len=14, forbidden_ids=(EOS,))
    generator = TokenGenerator(model, config, IDS, batch_size=4, chunk_len=3)
    whole = generator.generate(params, PROMPTS)
    seen: dict[int, tuple[int, ...]] = {}
    ends = []
    for chunk in generator.stream(params, PROMPTS):
        assert 1 <= len(chunk.tokens) <= 3
        seen[chunk.index] = seen.get(chunk.index, ()) + chunk.tokens
        ends += [chunk.index] * chunk.ended
    assert [seen[index] for index in range(len(PROMPTS))] == [one.tokens for one in whole]
    assert sorted(ends) == list(range(len(PROMPTS)))

    calls = []

    def stops_the_second_and_fourth(index, tokens):
        calls.append(index)
        return index in (1, 3) and calls.count(index) == 2

    cut = generator.generate(params, PROMPTS, on_tokens=stops_the_second_and_fourth)
    for index, (short, long) in enumerate(zip(cut, whole, strict=True)):
        if index in (1, 3):
            assert (short.tokens, short.stopped, short.finished) == (long.tokens[:6], True, False)
            assert 0 > short.log_prob > long.log_prob
            assert calls.count(index) == 2
        else:
            assert short == long


def test_what_cannot_be_is_refused_in_one_line():
    model = TableLanguageModel.random(context_len=8)
    params, config = nnx.state(model), GreedyConfig(max_len=5)
    generator = TokenGenerator(model, config, IDS, context_len=8)
    assert len(generator.generate(params, [[4] * 4])) == 1
    with pytest.raises(
        ShapeError, match=r"prompt 1 has 5 tokens, and an output of up to 5 .* context of 8: shorten"
    ):
        generator.generate(params, [[4], [4] * 5])
    with pytest.raises(
        DataError, match="prompt 1: token 2 is id 8, and the ids of the vocabulary are 0 to 7"
    ):
        generator.generate(params, [[4], [4, 5, 8]])
    with pytest.raises(ShapeError, match="row_ids must have a number for each of 2 prompts; got 1"):
        generator.generate(params, [[4], [5]], row_ids=[0])
    with pytest.raises(ConfigError, match="chunk_len must be at least 1; got 0"):
        TokenGenerator(model, config, IDS, chunk_len=0)
    with pytest.raises(ConfigError, match="context_len must be at least 2, or None for no end; got 1"):
        TokenGenerator(model, config, IDS, context_len=1)
    assert generator.generate(params, []) == []


def test_a_row_without_a_possible_token_is_told():
    table = np.full((4, 6), -np.inf)
    model = TableLanguageModel(table)
    found = TokenGenerator(model, GreedyConfig(max_len=5), IDS).generate(nnx.state(model), [[4]])
    assert (found[0].tokens, found[0].found, found[0].finished) == ((), False, False)
