"""Classifiers of text: nothing depends on the batch, weights belong to words, odd texts, refusals."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizers import train_subword_tokenizer, train_word_tokenizer
from transformer_jax.inference.text_classifier import Classified, TextClassifier
from transformer_jax.models import (
    ClassifierConfig,
    FirstTokenPool,
    MaxPool,
    RecurrentTextEncoder,
    Sizes,
    StructuredPool,
    TokenVectors,
    TransformerTextEncoder,
    build_model,
)
from transformer_jax.nn import Learned

LINES = ["who is the king of rome ?", "where is rome ?", "how many kings are there ?"] * 3
CLASSES = LabelSet(("HUM", "LOC", "NUM"))
MODELS: dict[str, ClassifierConfig] = {
    "structured lstm": ClassifierConfig(
        encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=8, hidden_dim=8, num_layers=1),
        pooling=StructuredPool(attention_dim=6, num_hops=3),
        hidden_dim=8,
    ),
    "bert": ClassifierConfig(
        encoder=TransformerTextEncoder(
            model_dim=16,
            num_heads=2,
            num_kv_heads=2,
            feed_forward_dim=16,
            num_layers=2,
            positions=Learned(max_len=12),
            weight_deviation=0.3,
        ),
        pooling=FirstTokenPool(),
    ),
    "max of vectors": ClassifierConfig(encoder=TokenVectors(embedding_dim=8), pooling=MaxPool()),
}


def classifier(name: str, *, subwords: bool = False) -> TextClassifier:
    config = MODELS[name]
    tokenizer = (
        train_subword_tokenizer(LINES, algorithm="bpe", vocab_size=40)
        if subwords
        else train_word_tokenizer(LINES)
    )
    model = build_model(config, Sizes(vocab_size=tokenizer.vocab_size, num_classes=3), seed=0)
    return TextClassifier(
        name="tiny",
        model=model,
        encoding=TextEncoding(
            tokenizer=tokenizer,
            lowercase=True,
            splits_punctuation=True,
            marks_ends=config.source_limit is not None,
        ),
        class_set=CLASSES,
        usual_len=8 if config.source_limit is None else 12,
        source_limit=config.source_limit,
    )


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> TextClassifier:
    return classifier(request.param)


def numbers(found: list[Classified]) -> list[Any]:
    return [(one.label, dict(one.probabilities), one.words, one.weights.tolist()) for one in found]


WORDS = st.sampled_from(["who", "is", "the", "king", "rome", "?", "Where", "zebra", "1,000", "—"])
TEXTS = st.lists(st.lists(WORDS, max_size=20).map(" ".join), min_size=1, max_size=40)


@hypothesis.settings(max_examples=8)
@hypothesis.given(texts=TEXTS, seed=st.integers(0, 2**32 - 1))
def test_no_bit_depends_on_the_neighbours(trained: TextClassifier, texts: list[str], seed: int) -> None:
    found = numbers(trained.classify(texts))
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    shuffled = numbers(trained.classify([texts[place] for place in order] + ["who " * 11]))
    assert shuffled[:-1] == [found[place] for place in order]
    assert numbers(trained.classify(texts[:1])) == found[:1]


def test_probabilities_and_weights_are_such(trained: TextClassifier) -> None:
    for one in trained.classify(["Who is the king?", "", "zebra zebra", "where " * 30, " \t "]):
        assert sum(one.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert list(one.probabilities) == list(CLASSES.labels)
        assert one.probability == max(one.probabilities.values())
        assert one.weights.shape[1] == len(one.words)
        assert (one.weights >= 0).all()
        assert (one.weights.sum(axis=1) <= 1 + 1e-5).all()
        assert one.as_dict()["label"] == one.label
    assert trained.log_probs([]).shape == (0, 3)


def test_weights_of_words_add_up_those_of_their_pieces() -> None:
    trained = classifier("structured lstm", subwords=True)
    (found,) = trained.classify(["who is zebra ?"])
    assert found.words == ("who", "is", "zebra", "?")
    assert found.num_tokens > len(found.words)
    np.testing.assert_allclose(found.weights.sum(axis=1), np.ones(3), atol=1e-5)
    assert sum(found.word_weights().values()) == pytest.approx(1.0, abs=1e-5)


def test_odd_texts_are_told_of() -> None:
    trained = classifier("bert")
    found = trained.classify(["", "zebra quux", "who " * 30])
    assert [one.num_unknown for one in found] == [0, 2, 0]
    assert [one.is_cut for one in found] == [False, False, True]
    assert found[2].num_tokens == 12
    assert found[2].weights[:, 10:].sum() == 0.0, "words behind the cut were not read"
    (remark,) = trained.report.take_remarks()
    assert "32 tokens was cut to 12" in remark
    assert trained.report.lines()[0].startswith("2 words never seen in training")


def test_longer_texts_than_in_training_are_read_whole() -> None:
    trained = classifier("structured lstm")
    text = " ".join(["who"] * 50 + ["rome"])
    (found,) = trained.classify([text])
    assert (found.num_tokens, found.is_cut) == (51, False)
    assert found.weights[:, 50].min() > 0


def test_what_is_no_list_of_texts_is_refused(trained: TextClassifier) -> None:
    with pytest.raises(TypeError, match=r"write \['who is"):
        trained.classify("who is")
    with pytest.raises(TypeError, match=r"texts\[1\] must be a text, got int"):
        trained.classify(["a", 3])
    assert trained.classify([]) == []
