"""Texts of language models that are tables: prompts, stop texts, samples, streams and scores by hand."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as hf
from flax import nnx

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.foreign_tokenizer import ForeignTokenizer
from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig
from transformer_jax.errors import ConfigError, DataError, ShapeError
from transformer_jax.inference.growing_text import GrowingText
from transformer_jax.inference.requested_search import BeamSearch, GreedySearch, Sampling
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.inference.token_generator import TokenGenerator
from transformer_jax.inference.token_scores import non_finite_note
from transformer_jax.models import nanogpt_cpu
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.notes import listening
from transformer_jax.testing.tiny_models import TableLanguageModel

LETTERS = train_character_tokenizer(["abcd\n"])


def generator(tokenizer: Tokenizer = LETTERS, **changes: object) -> TextGenerator:
    """Of a table over the tokenizer's vocabulary, without an end to its context unless one is given."""
    model = TableLanguageModel.random(
        3, vocab_size=tokenizer.vocab_size, context_len=changes.get("context_len")
    )
    fields = {
        "name": "table",
        "model": model,
        "tokenizer": tokenizer,
        "search": SampleConfig(max_len=12),
        "window_len": 6,
    }
    return TextGenerator(**fields | changes)


def log_probs(model: TableLanguageModel, ids: list[int]) -> list[float]:
    """Log-probability of each token but the first, by NumPy."""
    found = []
    for place in range(1, len(ids)):
        logits = model.logits_after(ids[:place])
        found.append(logits[ids[place]] - logits.max() - math.log(np.exp(logits - logits.max()).sum()))
    return found


def test_greedy_text_is_that_of_the_table() -> None:
    one = generator()
    ids = LETTERS.encode("ab")
    for _ in range(5):
        logits = one.model.logits_after(ids)
        logits[[0, 1, BOS_ID, EOS_ID]] = -np.inf  # text without documents has no such tokens
        ids.append(int(logits.argmax()))
    (found,) = one.generate("ab", search=GreedySearch(), max_tokens=5)
    assert found.text == LETTERS.decode(ids[2:])
    assert found.tokens == tuple(found.text)
    assert found.log_prob == pytest.approx(sum(log_probs(one.model, ids)[1:]), rel=1e-4)
    assert not found.finished


@pytest.mark.parametrize("stop", ["", "a", ("bc", "dd")])
def test_stream_is_the_same_text_in_pieces(stop: str | tuple[str, ...]) -> None:
    one = generator()
    for seed in range(4):
        samples = one.generate("b", seed=seed, num_samples=3, stop=stop, max_tokens=30)
        for number, sample in enumerate(samples):
            pieces = list(one.stream("b", seed=seed, sample=number, stop=stop, max_tokens=30))
            assert "".join(pieces) == sample.text
            assert all(
                text not in sample.text for text in ([stop] if isinstance(stop, str) else stop) if text
            )
            assert sample.finished or len(sample.text) == 30


def test_samples_do_not_depend_on_the_prompts_beside_them() -> None:
    one = generator()
    alone = one.generate(["ab"], seed=2, num_samples=2)
    among = one.generate(["ab", "dddd", "", "c"], seed=2, num_samples=2)
    assert among[:2] == alone
    assert alone[0].text != alone[1].text
    assert [item.prompt for item in among] == ["ab", "ab", "dddd", "dddd", "", "", "c", "c"]


def test_empty_prompt_begins_a_line_or_is_refused() -> None:
    one = generator()
    assert one.generate("", seed=1)[0].text == one.generate("\n", seed=1)[0].text
    without = generator(train_character_tokenizer(["abcd"]))
    with pytest.raises(DataError, match=r"an empty prompt: .* without line breaks"):
        without.generate("")
    with pytest.raises(DataError, match="an empty prompt"):
        next(without.stream(""))
    assert generator(marks_documents=True, tokenizer=train_character_tokenizer(["abcd"])).generate("")


def test_documents_end_only_where_training_had_documents() -> None:
    assert not any(one.finished for one in generator().generate("a", num_samples=20, max_tokens=30))
    found = generator(marks_documents=True).generate("a", num_samples=20, max_tokens=30)
    assert any(one.finished for one in found)
    assert all(one.finished or len(one.text) == 30 for one in found)


def test_context_is_slid_over_or_refused() -> None:
    one = generator(context_len=8)
    (found,) = one.generate("abcdabcdabcd", max_tokens=20)
    assert len(found.text) == 20
    with pytest.raises(ShapeError, match="context"):
        one.generate("abcdabcd", max_tokens=20, beyond="refuse")
    assert len(one.generate("ab", max_tokens=6, beyond="refuse")[0].text) == 6


def test_scores_are_those_of_the_table() -> None:
    one = generator(window_len=100)
    text = "abcd\nabba"
    (found,) = one.score([text])
    assert found.pieces == tuple(text)
    assert math.isnan(found.log_probs[0])
    wanted = log_probs(one.model, LETTERS.encode(text))
    np.testing.assert_allclose(found.log_probs[1:], wanted, rtol=1e-5)
    assert (found.num_tokens, found.num_characters) == (8, 8)
    assert found.log_prob == pytest.approx(sum(wanted), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(-sum(wanted) / 8), rel=1e-5)
    assert found.bits_per_character == pytest.approx(-sum(wanted) / 8 / math.log(2), rel=1e-5)


def test_scores_of_documents_begin_with_their_starts_and_count_their_ends() -> None:
    one = generator(window_len=100, marks_documents=True, document_separator="\n")
    (found,) = one.score(["ab\ncd\n"])
    wanted = [
        value
        for text in ("ab", "cd")
        for value in log_probs(one.model, [BOS_ID, *LETTERS.encode(text), EOS_ID])
    ]
    np.testing.assert_allclose(found.log_probs, wanted, rtol=1e-5)
    assert found.pieces == ("a", "b", "", "c", "d", "")
    assert (found.num_tokens, found.num_characters) == (6, 4)


def test_what_the_model_cannot_score_is_not_left_out() -> None:
    one = generator(window_len=100)
    table = np.asarray(one.model.table[...]).copy()
    read = 0
    for token in LETTERS.encode("aab"):
        read = (read * LETTERS.vocab_size + token + 1) % len(table)
    table[read] = np.nan
    one.model.table[...] = table
    (found,) = one.score(["aabaa"])
    assert found.num_tokens == 4
    assert math.isnan(found.log_prob)
    assert math.isnan(found.perplexity)
    assert math.isnan(found.bits_per_character)
    remark = non_finite_note(found.scores)
    assert remark is not None
    assert "token 4" in remark


def test_a_model_trained_on_a_carried_state_is_scored_with_it() -> None:
    config = RecurrentLMConfig(cell="gru", embedding_dim=4, hidden_dim=6, num_layers=2)
    model = config.build(Sizes(vocab_size=LETTERS.vocab_size), rngs=nnx.Rngs(1))
    one = generator(model=model, carries_state=True, window_len=4)
    text = "abcd\nabba" * 3
    ids = LETTERS.encode(text)
    logits = np.asarray(model(jnp.array([ids])))[0, :-1]
    wanted = logits[np.arange(len(ids) - 1), ids[1:]] - np.log(np.exp(logits).sum(-1))
    (found,) = one.score([text])
    np.testing.assert_allclose(found.log_probs[1:], wanted, rtol=1e-4)
    assert not np.allclose(one.score([text], stride=4)[0].log_probs[1:], wanted, rtol=1e-4)
    assert one.score(["a"])[0].num_tokens == 0


def test_a_model_without_state_is_scored_by_windows_however_it_was_trained() -> None:
    config = nanogpt_cpu()
    sizes = dataclasses.replace(
        config, model_dim=8, num_heads=1, num_kv_heads=1, feed_forward_dim=8, num_layers=1
    )
    model = sizes.build(Sizes(vocab_size=LETTERS.vocab_size), rngs=nnx.Rngs(1))
    text = "abcd\nabba" * 3
    found, wanted = (
        generator(model=model, carries_state=carries, window_len=4).score([text])[0]
        for carries in (True, False)
    )
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)


def test_empty_text_has_no_score() -> None:
    (found,) = generator().score([""])
    assert found.num_tokens == 0
    assert found.pieces == ()
    assert math.isnan(found.perplexity)
    assert math.isnan(found.bits_per_character)


def test_unknown_characters_are_reported() -> None:
    one = generator()
    one.generate("axby")
    assert one.report.lines() == ["2 characters never seen in training became <unk>: 'x' 1, 'y' 1"]
    one.score(["xx"])
    assert one.report.lines() == ["2 characters never seen in training became <unk>: 'x' 2"]


def test_impossible_requests_are_refused() -> None:
    one = generator()
    with pytest.raises(ConfigError, match="sampling or greedily, not by 'beam'"):
        one.generate("a", search=BeamSearch())
    with pytest.raises(ConfigError, match="sampling or greedily"):
        one.generate("a", search=BeamConfig(max_len=4, num_beams=2))
    with pytest.raises(ConfigError, match="`num_samples` must be 1 to 2,047"):
        one.generate("a", num_samples=0)
    with pytest.raises(ConfigError, match="a stop text is empty"):
        one.generate("a", stop=("b", ""))
    with pytest.raises(TypeError, match=r"write \['abc'\]"):
        one.score("abc")
    with pytest.raises(TypeError, match=r"prompts\[1\] must be a text, got NoneType"):
        one.generate(["a", None])  # type: ignore[list-item]  # refused here
    with pytest.raises(TypeError, match=r"texts\[0\] must be a text, got NoneType"):
        one.score([None])  # type: ignore[list-item]  # refused here
    with pytest.raises(ConfigError, match="stride"):
        one.score(["abc"], stride=7)


def test_own_search_may_be_greedy() -> None:
    one = generator(search=GreedyConfig(max_len=5))
    assert one.generate("a")[0].text == one.generate("a", search=Sampling(temperature=0.0), seed=4)[0].text


def test_a_stop_text_cuts_tokens_and_their_probability_whatever_the_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for chunk_len in (1, 5, 8, 40):
        monkeypatch.setattr(
            "transformer_jax.inference.text_generator.TokenGenerator",
            functools.partial(TokenGenerator, chunk_len=chunk_len),
        )
        one = generator()
        found.append(one.generate(["b", "cc"], seed=4, num_samples=6, stop=("bc", "dd"), max_tokens=9))
    assert all(outputs == found[0] for outputs in found)
    assert {item.reason for item in found[0]} == {"stop", "length"}
    for item in found[0]:
        assert "".join(item.tokens) == item.text
        ids = LETTERS.encode(item.prompt + item.text)
        wanted = log_probs(one.model, ids)[len(item.prompt) - 1 :]
        assert item.log_prob == pytest.approx(sum(wanted), rel=1e-4, abs=1e-6)
        assert item.finished == (item.reason == "stop")


def test_reasons() -> None:
    outputs = generator(marks_documents=True).generate("a", num_samples=20, max_tokens=4)
    assert {one.reason for one in outputs} == {"end", "length"}
    one = generator()
    one.model.table[...] = jnp.full_like(one.model.table[...], jnp.nan)
    said: list[str] = []
    with listening(said.append):
        (found,) = one.generate("ab", max_tokens=3)
        assert list(one.stream("ab", max_tokens=3)) == []
    assert (found.reason, found.finished, found.log_prob, found.text) == ("impossible", False, -math.inf, "")
    assert [text.startswith("note: 1 of 1 texts ends where no token was possible") for text in said] == [
        True,
        True,
    ]


def test_one_prompt_is_one_row_with_the_same_tokens() -> None:
    config = dataclasses.replace(
        nanogpt_cpu(), model_dim=24, num_heads=3, num_kv_heads=3, feed_forward_dim=40, num_layers=2
    )
    model = config.build(Sizes(vocab_size=LETTERS.vocab_size), rngs=nnx.Rngs(1))
    one = generator(model=model, window_len=32, context_len=32)
    prompts = ["ab", "dddd", "a\nb", "c", "bb"]
    search = Sampling(temperature=1.2, top_k=5)
    among = one.generate(prompts, seed=7, max_tokens=40, search=search)
    alone, exact = (
        one.generate(prompts[0], seed=7, max_tokens=40, search=search, invariant=invariant)[0]
        for invariant in (False, True)
    )
    assert alone.tokens == among[0].tokens
    assert alone.log_prob == pytest.approx(among[0].log_prob, rel=1e-5)
    assert exact == among[0]
    assert {rows for *_, rows in one._programs} == {1, 8}


@pytest.mark.parametrize("stop", [(), ("\n\n", "d d"), ("d e",)])
def test_texts_of_other_programs_tokenizers_keep_their_white_space(stop: tuple[str, ...]) -> None:
    """Pieces that begin with a space, words of several pieces and bytes of one character, against the whole text."""
    lines = ["a b  c\n\nd d e é 😀 ab abc"] * 9
    theirs = hf.Tokenizer(hf.models.BPE())
    theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = hf.decoders.ByteLevel()
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        lines, trainer=hf.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = ForeignTokenizer(theirs.to_str())
    prompt, whole = "a b", " c\n\nd d e é 😀 ab\n"
    ids = tokenizer.encode(prompt + whole)
    num_prompt = len(tokenizer.encode(prompt))
    text = GrowingText(tokenizer, ids[:num_prompt], stops=stop)
    ready = []
    for token in ids[num_prompt:]:
        text.add(token)
        ready.append(text.between(0, text.num_ready))
    end = min((whole.find(one) for one in stop), default=None)
    assert text.text == whole[:end]
    assert all(whole.startswith(one) for one in ready)
    assert text.stopped == bool(stop)
