"""Masked language models as predictors: nothing depends on the batch, long texts, vectors, pseudo-likelihood."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizers import train_word_tokenizer
from transformer_jax.data.word_piece_tokenizer import train_word_piece_tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.inference.mask_filler import Filled, MaskFiller
from transformer_jax.models import (
    EncoderOnlyConfig,
    RecurrentTextEncoder,
    Sizes,
    TransformerTextEncoder,
    build_model,
)
from transformer_jax.nn import Learned

LINES = ["who is the king of rome ?", "where is rome ?", "how many kings are there ?"] * 3
MODELS: dict[str, Any] = {
    "bert": TransformerTextEncoder(
        model_dim=16,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=16,
        num_layers=2,
        positions=Learned(max_len=12),
        weight_deviation=0.3,
    ),
    "lstm over words": RecurrentTextEncoder(cell="lstm", embedding_dim=8, hidden_dim=6, num_layers=1),
}


def filler(name: str) -> MaskFiller:
    encoder = MODELS[name]
    if name == "bert":
        encoding = TextEncoding(tokenizer=train_word_piece_tokenizer(LINES, vocab_size=120), marks_ends=True)
    else:
        encoding = TextEncoding(
            tokenizer=train_word_tokenizer(LINES), lowercase=True, splits_punctuation=True, marks_ends=True
        )
    sizes = Sizes(vocab_size=encoding.tokenizer.vocab_size)
    return MaskFiller(
        name="tiny",
        model=build_model(EncoderOnlyConfig(encoder=encoder), sizes, seed=0),
        encoding=encoding,
        usual_len=12,
        source_limit=encoder.source_limit,
    )


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> MaskFiller:
    return filler(request.param)


def numbers(trained: MaskFiller, texts: list[str]) -> list[Any]:
    embedded = trained.embed(texts)
    words = trained.embed_words(texts)
    scores = trained.score(texts)
    return [
        (
            one.as_dict(),
            two.vector.tolist(),
            two.num_known,
            three.words,
            three.vectors.tolist(),
            four.log_prob,
        )
        for one, two, three, four in zip(trained.fill(texts), embedded, words, scores, strict=True)
    ]


WORDS = st.sampled_from(["who", "is", "the", "king", "[MASK]", "?", "Where", "zebra", "1,000", "k[MASK]"])
TEXTS = st.lists(st.lists(WORDS, max_size=18).map(" ".join), min_size=1, max_size=30)


@hypothesis.settings(max_examples=6)
@hypothesis.given(texts=TEXTS, seed=st.integers(0, 2**32 - 1))
def test_no_bit_depends_on_the_neighbours(trained: MaskFiller, texts: list[str], seed: int) -> None:
    found = numbers(trained, texts)
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    shuffled = numbers(trained, [texts[place] for place in order] + ["who [MASK] " * 6])
    assert shuffled[:-1] == [found[place] for place in order]
    assert numbers(trained, texts[:1]) == found[:1]


def test_candidates_are_the_models_probabilities() -> None:
    trained = filler("bert")
    (found,) = trained.fill(["Who is the [MASK] of [MASK]?"], num_best=4)
    tokenizer = trained.encoding.tokenizer
    ids = [2, *tokenizer.encode("who is the"), 4, *tokenizer.encode("of"), 4, *tokenizer.encode("?"), 3]
    logits = trained.model(jnp.array([ids]), lengths=jnp.array([len(ids)]))
    log_probs = np.asarray(jax.nn.log_softmax(logits, axis=-1))[0]
    places = [place for place, token in enumerate(ids) if token == 4]
    assert len(found.masks) == len(places) == 2
    for candidates, place in zip(found.masks, places, strict=True):
        order = 5 + np.argsort(-log_probs[place, 5:], kind="stable")[:4]
        assert [one.token for one in candidates] == tokenizer.pieces(order)
        np.testing.assert_allclose(
            [one.probability for one in candidates], np.exp(log_probs[place, order]), rtol=1e-4
        )
    fewer = trained.fill(["Who is the [MASK] of [MASK]?"], num_best=3)[0]
    assert [candidates[:3] for candidates in found.masks] == list(fewer.masks)


def test_filled_texts() -> None:
    trained = filler("bert")
    texts = ["the [MASK].", "no mask", "", "[MASK]", "[MASK] [MASK][MASK]"]
    found = trained.fill(texts, num_best=1)
    assert [len(one.masks) for one in found] == [1, 0, 0, 1, 3]
    assert [one.best for one in found[1:3]] == ["no mask", ""]
    for one in found:
        assert "[MASK]" not in one.best
    token = found[0].masks[0][0].token
    assert found[0].best == ("the" + token[2:] if token.startswith("##") else f"the {token}") + "."
    everything = trained.fill(["[MASK]"], num_best=10**6)[0].masks[0]
    assert len(everything) == trained.encoding.tokenizer.vocab_size - 5
    assert sum(one.probability for one in everything) < 1.0 + 1e-5


def test_of_a_long_text_a_stretch_around_each_mask_is_read() -> None:
    trained = filler("bert")
    front, back = "who " * 30, " is" * 30
    middle = trained.fill([f"{front}[MASK]{back}"])[0].masks
    assert middle == trained.fill([f"{'who ' * 5}[MASK]{' is' * 4}"])[0].masks
    start, end = trained.fill([f"[MASK]{back}", f"{front}[MASK]"])
    assert start.masks == trained.fill([f"[MASK]{' is' * 9}"])[0].masks
    assert end.masks == trained.fill([f"{'who ' * 9}[MASK]"])[0].masks
    assert len(trained.fill([f"[MASK]{back}[MASK]"])[0].masks) == 2


def test_vectors() -> None:
    trained = filler("bert")
    text = "Who is whoking king?"
    (of_words,) = trained.embed_words([text])
    assert of_words.words == ("Who", "is", "whoking", "king?")
    encoding = trained.encoding
    (ids,) = encoding.encode([text])
    vectors = np.asarray(trained.model.encoder(jnp.array([ids]), lengths=jnp.array([len(ids)])))[0]
    groups = encoding.word_of_token(text)
    for word in range(4):
        tokens = [place for place, one in enumerate(groups) if one == word]
        np.testing.assert_allclose(of_words.vectors[word], vectors[tokens].mean(axis=0), atol=1e-5)
    mean, first = trained.embed([text])[0], trained.embed([text], pooling="first")[0]
    np.testing.assert_allclose(mean.vector, vectors[1:-1].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(first.vector, vectors[0], atol=1e-5)
    assert (mean.num_words, mean.num_known) == (4, 4)
    empty, unknown = trained.embed(["", "zebra"])
    assert not empty.vector.any()
    assert (unknown.num_words, unknown.num_known) == (1, 0)
    assert trained.embed_words([""])[0].vectors.shape == (0, 16)
    with pytest.raises(ConfigError, match="pooling must be one of"):
        trained.embed([text], pooling="max")  # type: ignore[arg-type]


def test_a_text_that_is_cut_is_told_of() -> None:
    trained = filler("bert")
    found = trained.embed_words(["who " * 30, "is"])
    assert [len(one.words) for one in found] == [10, 1]
    (remark,) = trained.report.take_remarks()
    assert "32 tokens was cut to 12" in remark


def test_pseudo_likelihood_by_a_loop() -> None:
    trained = filler("bert")
    text = "who is the king zebra"
    (found,) = trained.score([text])
    (ids,) = trained.encoding.encode([text])
    total, count = 0.0, 0
    for place, token in enumerate(ids):
        if token < 5:
            continue
        hidden = [*ids[:place], 4, *ids[place + 1 :]]
        logits = trained.model(jnp.array([hidden]), lengths=jnp.array([len(ids)]))
        total += float(jax.nn.log_softmax(logits[0, place])[token])
        count += 1
    assert found.num_tokens == count
    assert found.log_prob == pytest.approx(total, rel=1e-4)
    assert trained.score([""])[0].log_prob == 0.0


def test_words_hide_behind_the_unknown_token() -> None:
    trained = filler("lstm over words")
    (found,) = trained.fill(["who is the [MASK] ?"], num_best=2)
    assert isinstance(found, Filled)
    assert len(found.masks) == 1
    assert found.num_unknown == 0
    assert {one.token for one in found.masks[0]} <= set(trained.encoding.tokenizer.symbols)


def test_what_is_no_list_of_texts_is_refused(trained: MaskFiller) -> None:
    for verb in (trained.fill, trained.embed, trained.embed_words, trained.score):
        with pytest.raises(TypeError, match=r"write \['who is"):
            verb("who is")  # type: ignore[operator]
        with pytest.raises(TypeError, match=r"texts\[1\] must be a text, got int"):
            verb(["a", 3])  # type: ignore[operator]
        assert verb([]) == []  # type: ignore[operator]
    with pytest.raises(ConfigError, match="num_best must be at least 1"):
        trained.fill(["a"], num_best=0)
