"""A translator whose model copies, on all that can come: its outputs have words that no vocabulary has."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.data.copied_words import CopiedWords
from transformer_jax.data.cut_text import JOINED, cut_text
from transformer_jax.data.pairs_config import CutText, PairsConfig, Words
from transformer_jax.data.tokenizers import train_word_tokenizer
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.inference.batch_search import Hypothesis
from transformer_jax.inference.copied_outputs import hypothesis_text, with_copied_words
from transformer_jax.inference.translator import Translator
from transformer_jax.models import build_model
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.tasks.rewriting import Rewriting

DATA = PairsConfig(
    source_tokenizer=Words(),
    target_tokenizer=Words(),
    share_vocabulary=True,
    cut=CutText(),
    copies_unknown=True,
    max_source_len=16,
    max_target_len=16,
)
MODEL = RecurrentSeq2SeqConfig(
    embedding_dim=4,
    hidden_dim=6,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=False,
    attention=Bahdanau(attention_dim=4),
    dropout_rate=0.0,
    residual=False,
    pointer=Pointer(extended=True),
)
LINES = [
    "x_1 = 'a\tb  c'",
    'print ( "%s\\n" % name )',
    "",
    "   ",
    "unheard of words\u2423 and \u5b57 !",
    "word " * 10_000,
]


@pytest.fixture(scope="module")
def copier() -> Translator:
    """Not trained, but its gate always copies: it writes what its attention points at."""
    tokenizer = train_word_tokenizer([cut_text("set to = ( ) ' , .")])
    model: Any = build_model(MODEL, Sizes.of_pairs(tokenizer.vocab_size), seed=0)
    model.pointer.gate.bias[...] = jnp.array([-30.0])
    return Translator(
        name="copier",
        model=model,
        source_tokenizer=tokenizer,
        target_tokenizer=tokenizer,
        data=DATA,
        search=BeamConfig(max_len=4, num_beams=2),
    )


def test_outputs_have_the_words_of_their_own_source(copier: Translator) -> None:
    found = copier.translate(LINES, too_long="truncate", invariant=True)
    assert len(found) == len(LINES)
    for line, one in zip(LINES, found):
        written = set(cut_text(one.text).split()) - {JOINED, "\u2423", "\u241b0009"}
        assert written <= set(cut_text(line).split()), one.text
        assert bool(one.tokens) == bool(line.strip()), "spaces can be copied, too"
    assert "word" in found[-1].text
    assert copier.report.num_too_long == 1


def test_neighbours_change_no_bit(copier: Translator) -> None:
    chosen = [LINES[4], LINES[0]]
    apart = [copier.translate([line], invariant=True)[0] for line in chosen]
    assert copier.translate(chosen[::-1], invariant=True)[::-1] == apart


def test_text_too_long_for_the_model_is_left_out_and_named(copier: Translator) -> None:
    (found,) = copier.translate(LINES[-1:])
    assert (found.text, copier.report.num_left_out) == ("", 1)


def test_scores_of_targets_know_the_words_of_the_source(copier: Translator) -> None:
    own, other, nothing = copier.score(["set foo to bar", "set foo to bar", ""], ["foo", "baz", "("])
    assert math.isfinite(own.log_prob)
    assert own.log_prob > other.log_prob + 20.0, "what the source does not have is left to the vocabulary"
    assert math.isfinite(nothing.log_prob), "nothing can be copied from an empty source"


def test_alignments_are_of_the_copied_words(copier: Translator) -> None:
    (found,) = copier.align(["set foo to bar"])
    (weights,) = found.maps.values()
    assert found.source == ["set", "foo", "to", "bar"]
    assert set(found.target) <= {*found.source, "<end>"}
    assert weights.shape == (1, len(found.target), 4)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)


def test_unknown_words_are_not_replaced_twice(copier: Translator) -> None:
    with pytest.raises(RunError, match="copies unknown words itself"):
        copier.translate(["set foo"], replace_unknown=True)


def test_words_take_the_place_of_their_ids() -> None:
    tokenizer = train_word_tokenizer(["set to"])
    size, text = tokenizer.vocab_size, "set foo to <unk>"
    source = CopiedWords(tokenizer).source(tokenizer.encode(text), text)
    ids = (size + 1, *tokenizer.encode("to"), size + 3)
    ((one,),) = with_copied_words(tokenizer, [text], [source], [[Hypothesis(ids, -1.0, True)]])
    assert one.copied == ("foo", "<unk>")
    assert hypothesis_text(tokenizer, one) == "foo to <unk>"


@pytest.mark.parametrize(
    ("data", "pointer", "part"),
    [
        (
            {},
            None,
            "data.copies_unknown is True, which wants a model with pointer.extended True; got pointer None",
        ),
        ({"copies_unknown": False}, Pointer(extended=True), "data.copies_unknown is False"),
        ({"copies_unknown": False, "share_vocabulary": False}, Pointer(), "set data.share_vocabulary"),
        ({}, Pointer(extended=True, unknown_id=3), "unknown_id must be 1"),
    ],
)
def test_models_and_data_that_do_not_go_together(data: dict[str, Any], pointer: Any, part: str) -> None:
    task = Rewriting(data=dataclasses.replace(DATA, **data))
    with pytest.raises(ConfigError, match=part):
        task.check(dataclasses.replace(MODEL, pointer=pointer))
