"""Lines cut around punctuation and joined again, and ids of words that are copied."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from transformer_jax.data.batches import UNK_ID
from transformer_jax.data.copied_words import CopiedWords
from transformer_jax.data.cut_text import JOINED, cut_text, joined_text
from transformer_jax.data.examples import encode_examples
from transformer_jax.data.line_pairs import EvaluationItem, Pair
from transformer_jax.data.pairs_config import CutText, MosesText, PairsConfig, Words
from transformer_jax.data.tokenizers import train_word_tokenizer
from transformer_jax.errors import ConfigError

TEXTS = st.text(
    st.sampled_from("ab_1.'\"%{}\\ \t\u2423\u241b\uffed\u00a0\u0301\u4e2d"), max_size=30
) | st.text(max_size=30)


@given(TEXTS)
def test_nothing_is_lost(line: str) -> None:
    cut = cut_text(line)
    assert joined_text(cut) == line.strip()
    assert cut.split() == cut.split(" ") or not cut, "tokens are apart by single spaces"


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("define the method _cull.", f"define the method _cull {JOINED} ."),
        ("x = ' foo  bar'", "x = ' foo \u2423 \u2423 bar " + JOINED + " '"),
        ("\ta\tb ", "a \u241b0009 b"),
        ("", ""),
    ],
)
def test_form_of_cut_lines(line: str, cut: str) -> None:
    assert cut_text(line) == cut


def test_sources_may_leave_marks_out() -> None:
    assert cut_text("Dear all,  hi", marks=False) == "Dear all , hi"


def test_unknown_words_are_numbered_by_their_first_place() -> None:
    tokenizer = train_word_tokenizer(["set to ."])
    size = tokenizer.vocab_size
    copied = CopiedWords(tokenizer)
    text = "set foo to bar foo ."
    source = copied.source(tokenizer.encode(text), text)
    ids = {word: tokenizer.encode(word)[0] for word in ("set", "to", ".")}
    assert source == [ids["set"], size + 1, ids["to"], size + 3, size + 1, ids["."]]
    words = copied.words(source, text)
    assert words == {"foo": size + 1, "bar": size + 3}
    target = copied.target(tokenizer.encode("bar to baz foo"), "bar to baz foo", words)
    assert target == [size + 3, *tokenizer.encode("to"), UNK_ID, size + 1]
    assert copied.named([size + 3, 4, size + 1], words) == ([UNK_ID, 4, UNK_ID], ["bar", "foo"])


def test_words_that_were_cut_off_cannot_be_copied() -> None:
    tokenizer = train_word_tokenizer(["set to ."])
    size = tokenizer.vocab_size
    pairs = [Pair("set foo to bar", "bar foo"), EvaluationItem("foo bar", ("bar ?",))]
    examples, report = encode_examples(
        pairs,
        tokenizer,
        tokenizer,
        max_source_len=3,
        max_target_len=9,
        too_long="truncate",
        copies_unknown=True,
    )
    assert examples.source_ids.tolist() == [
        *tokenizer.encode("set"),
        size + 1,
        *tokenizer.encode("to"),
        size,
        size + 1,
    ]
    assert examples.target_ids.tolist() == [UNK_ID, size + 1, size + 1, UNK_ID]
    assert (report.num_source_unknown, report.num_target_unknown) == (0, 2)


def test_configs_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="copies_unknown needs one vocabulary of words"):
        PairsConfig(copies_unknown=True)
    with pytest.raises(ConfigError, match="moses and cut both cut lines"):
        PairsConfig(
            moses=MosesText(source_language="en", target_language="en"),
            cut=CutText(),
            source_tokenizer=Words(),
        )
