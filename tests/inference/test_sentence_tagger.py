"""A sentence has the same labels and the same bits alone, among others, in any order; bad input is one clear line."""

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from transformer_jax.data.iob import broken_places
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.word_encoding import WordEncoder
from transformer_jax.errors import DataError
from transformer_jax.inference.sentence_tagger import SentenceTagger, Tagged, TaggedPiece
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_encoders import RecurrentTextEncoder, TransformerTextEncoder
from transformer_jax.nn import Learned
from transformer_jax.nn.word_letters import LetterConvolution

VOCABULARY = ("play", "some", "jazz", "by", "miles", "davis", "in", "paris")
TAGS = TagSet(LabelSet(("B-genre", "B-who", "I-genre", "I-who", "O")), LabelSet(("Play", "Stop")))
MODELS = {
    "recurrent": TaggerConfig(
        encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=6, hidden_dim=5, num_layers=1),
        letters=LetterConvolution(embedding_dim=4, num_filters=5),
        crf=True,
    ),
    "transformer": TaggerConfig(
        encoder=TransformerTextEncoder(
            model_dim=8,
            num_heads=2,
            num_kv_heads=2,
            feed_forward_dim=16,
            num_layers=1,
            positions=Learned(max_len=24),
        ),
        letters=LetterConvolution(embedding_dim=4, num_filters=5),
    ),
}


def tagger_of(name: str) -> SentenceTagger:
    config = MODELS[name]
    tokenizer = Tokenizer("words", VOCABULARY)
    sizes = Sizes(vocab_size=tokenizer.vocab_size, num_labels=5, num_classes=2)
    return SentenceTagger(
        name="tiny",
        model=build_model(config, sizes, seed=3),
        encoder=WordEncoder(tokenizer, lowercase=True, word_len=8),
        tags=TAGS,
        source_limit=config.source_limit,
    )


@pytest.fixture(scope="module", params=MODELS)
def tagger(request: pytest.FixtureRequest) -> SentenceTagger:
    return tagger_of(request.param)


SENTENCES = st.lists(
    st.lists(st.sampled_from([*VOCABULARY, "Zebra", "x" * 40, "é"]), max_size=24), min_size=1, max_size=40
)


@hypothesis.settings(max_examples=12, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(sentences=SENTENCES, data=st.data())
def test_no_result_depends_on_the_batch(tagger: SentenceTagger, sentences, data) -> None:
    found = tagger.tag(sentences)
    order = data.draw(st.permutations(range(len(sentences))))
    again = tagger.tag([sentences[place] for place in order])
    place = data.draw(st.integers(0, len(sentences) - 1))
    (alone,) = tagger.tag([sentences[place]])
    longer = tagger.tag([VOCABULARY * 3, sentences[place], VOCABULARY * 2])[1]
    for other in (again[order.index(place)], alone, longer):
        assert str(other) == str(found[place])  # to the last bit: probabilities are written whole
    for one, words in zip(found, sentences, strict=True):
        assert one.words == tuple(words)
        assert len(one.labels) == len(one.probabilities) == len(words)
        assert not broken_places(one.labels)
        assert all(0 < probability <= 1.0001 for probability in one.probabilities)
        assert (one.label is None) == (not words)


def test_texts_are_split_at_white_space(tagger: SentenceTagger) -> None:
    one, two = tagger.tag(["  play\tsome jazz ", ["play", "some", "jazz"]])
    assert str(one) == str(two)
    assert one.unknown == (False, False, False)
    assert tagger.tag(["Play zebra"])[0].unknown == (False, True)


def test_empty_sentences_have_no_labels(tagger: SentenceTagger) -> None:
    for one in tagger.tag(["", [], "  "]):
        assert (one.words, one.labels, one.label, one.text, one.pieces) == ((), (), None, "", ())
        assert math.isnan(one.label_probability)
    assert tagger.tag([]) == []


def test_pieces_and_text() -> None:
    one = Tagged(
        words=("play", "free", "jazz", "by", "Sun/Ra"),
        labels=("O", "B-genre", "I-genre", "O", "B-who"),
        probabilities=(1.0,) * 5,
        unknown=(False,) * 5,
        label="Play",
        label_probability=0.5,
    )
    assert one.text == "Play\tplay/O free/B-genre jazz/I-genre by/O Sun/Ra/B-who"
    assert one.pieces == (
        TaggedPiece(label="genre", start=1, stop=3, text="free jazz"),
        TaggedPiece(label="who", start=4, stop=5, text="Sun/Ra"),
    )


def test_what_is_refused(tagger: SentenceTagger) -> None:
    with pytest.raises(TypeError, match="got one text: write"):
        tagger.tag("play jazz")
    with pytest.raises(TypeError, match="sentence 2 must be a text or a list of words, got 3"):
        tagger.tag(["play", 3])
    with pytest.raises(DataError, match="sentence 1: word 2 is empty"):
        tagger.tag([["play", " "]])


def test_more_words_than_positions() -> None:
    tagger = tagger_of("transformer")
    assert len(tagger.tag(["play " * 24])[0].labels) == 24
    with pytest.raises(DataError, match="sentence 2 has 25 words, the model takes at most 24"):
        tagger.tag(["play", "play " * 25])


def test_long_sentences_of_a_model_without_positions() -> None:
    tagger = tagger_of("recurrent")
    assert len(tagger.tag(["play " * 300])[0].labels) == 300


def test_progress_counts_sentences(tagger: SentenceTagger) -> None:
    seen: list[int] = []
    tagger.tag(["", "play", "jazz " * 20], on_progress=seen.append)
    assert seen[-1] == 3
    assert seen == sorted(seen)
