"""Scores against closed forms and against a plain dynamic programme."""

import importlib.util
import math
import typing
from types import SimpleNamespace

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.pairs_config import BleuTokenizerName
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.evaluate import tokenization
from transformer_jax.evaluate.error_rates import (
    ErrorSum,
    character_errors,
    closest_reference,
    edit_distance,
    phoneme_errors,
    pronunciation_errors,
    word_errors,
)
from transformer_jax.evaluate.likelihood import bits_per_token, mean_loss, perplexity
from transformer_jax.evaluate.report import score_outputs
from transformer_jax.evaluate.text import bleu, chrf, paired_bootstrap
from transformer_jax.evaluate.tokenization import choose_bleu_tokenizer

TOKENS = st.lists(st.sampled_from(["AE", "K", "T", "S"]), max_size=7)


def levenshtein(left: list[str], right: list[str]) -> int:
    """The textbook table."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i, x in enumerate(left, 1):
        for j, y in enumerate(right, 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y))
    return table[-1][-1]


@given(TOKENS, TOKENS)
def test_edit_distance_is_the_tables(left: list[str], right: list[str]) -> None:
    assert edit_distance(left, right) == levenshtein(left, right)


def test_phonemes_are_counted_against_the_closest_reference() -> None:
    hypotheses = [["R", "IY", "D"], ["K"]]
    references = [[["R", "EH", "D", "Z"], ["R", "EH", "D"]], [["K", "AE", "T"]]]
    assert closest_reference(hypotheses[0], references[0]) == (1, ["R", "EH", "D"])
    assert phoneme_errors(hypotheses, references) == ErrorSum(1 + 2, 3 + 3)
    assert pronunciation_errors(hypotheses, references) == ErrorSum(2, 2)
    assert pronunciation_errors([["R", "EH", "D"]], references[:1]) == ErrorSum(0, 1)


def test_parts_of_a_set_add_up_to_the_whole() -> None:
    hypotheses, references = ["a b", "c", "d e f"], ["a x", "c", "d f"]
    whole = word_errors(hypotheses, references)
    parts = [word_errors([left], [right]) for left, right in zip(hypotheses, references)]
    assert whole == parts[0] + parts[1] + parts[2] == ErrorSum(2, 5)
    assert character_errors(["cat"], ["cut"]) == ErrorSum(1, 3)


def test_bad_counts_and_empty_references_are_refused() -> None:
    with pytest.raises(DataError, match="2"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(DataError, match="at least one"):
        phoneme_errors([["K"]], [[]])
    with pytest.raises(DataError, match="at least one reference token"):
        ErrorSum(0, 0).rate()


def test_perplexity_of_a_uniform_guess_is_the_vocabulary() -> None:
    loss = SimpleNamespace(sum=7 * math.log(43), count=7)
    assert perplexity(loss) == pytest.approx(43)
    assert bits_per_token(loss) == pytest.approx(math.log2(43))
    assert mean_loss(loss) == pytest.approx(math.log(43))
    with pytest.raises(DataError, match="at least one token"):
        perplexity(SimpleNamespace(sum=0.0, count=0))


def test_bleu_by_hand() -> None:
    """Precisions 5/6, 3/5, 1/4 and 0/3 smoothed to (1/2)/3; no brevity penalty."""
    found = bleu(["the cat sat on a mat"], ["the cat sat at a mat"], tokenize="none")
    by_hand = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25
    assert found.score == pytest.approx(by_hand, abs=1e-6)
    assert "tok:none" in found.signature
    assert chrf(["the cat"], ["the cat"]).score == pytest.approx(100)


def test_report_by_task() -> None:
    spoken = score_outputs("pronunciation", ["K AE T", "D"], ["K AE T", "D IY"]).to_json()
    assert (spoken["per"]["errors"], spoken["per"]["total"]) == (1, 5)
    assert spoken["wer"]["rate"] == 0.5
    translated = score_outputs("translation", ["a cat sat here"], ["a cat sat here"]).to_json()
    assert translated["bleu"]["score"] == pytest.approx(100)
    with pytest.raises(ConfigError, match="translation"):
        # The misspelt task is what is tested; the types would refuse it before.
        score_outputs("translatoin", ["a"], ["a"])  # type: ignore[arg-type]


CHINESE = (
    ["\u6211\u559c\u6b22\u559d\u8336\u3002", "\u4ed6\u660e\u5929\u8981\u53bb\u5317\u4eac\u5f00\u4f1a\u3002"],
    [
        "\u6211\u5f88\u559c\u6b22\u559d\u8336\u3002",
        "\u4ed6\u660e\u5929\u4f1a\u53bb\u5317\u4eac\u5f00\u4f1a\u3002",
    ],
)
JAPANESE = "\u4eca\u65e5\u306f\u3044\u3044\u5929\u6c17\u3067\u3059\u3002"
THAI = "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35"
KOREAN = "\uc624\ub298\uc740 \ub0a0\uc528\uac00 \uc88b\ub2e4"


def test_bleu_of_chinese_is_sacrebleus_with_its_tokenizer() -> None:
    outputs, references = CHINESE
    wanted = sacrebleu.corpus_bleu(outputs, [references], tokenize="zh").score
    assert wanted > 30.0
    for found in (bleu(outputs, references), bleu(outputs, references, language="zh")):
        assert found.score == pytest.approx(wanted)
        assert "tok:zh" in found.signature
    assert bleu(outputs, references, tokenize="13a").score < 1e-6  # a named one is taken
    report = score_outputs("translation", outputs, references, with_ter=True)
    assert report.text_scores[0].score == pytest.approx(wanted)
    # One word is missing and one is another, of 20; TER counts characters as words, too.
    assert report.error_rates["wer"] == ErrorSum(2, 17)
    assert report.text_scores[2].score == pytest.approx(100 * 2 / 17)
    assert "words by sacrebleu's 'zh' (script of the references: Han)" in report.lines()[-1]
    assert report.to_json()["tokenizer"]["name"] == "zh"
    assert paired_bootstrap(outputs, outputs, references, num_samples=5)[0].score == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "language", "name", "wanted"),
    [
        ("I like tea.", None, None, "13a"),
        ("\u042f \u043b\u044e\u0431\u043b\u044e \u0447\u0430\u0439.", None, None, "13a"),
        (f"I say {CHINESE[0][0]} to a friend who knows no Chinese", None, None, "13a"),
        (CHINESE[0][0] + " USB", "zh-CN", None, "zh"),
        (CHINESE[0][0], "en", None, "zh"),
        (CHINESE[0][0], None, "char", "char"),
        (JAPANESE, None, None, "char"),
        (JAPANESE, "ja", "flores200", "flores200"),
        ("", "jpn", None, "char"),
        (THAI, None, None, "char"),
        (KOREAN, None, None, "13a"),
        (KOREAN, "ko", None, "13a"),
    ],
)
def test_the_tokenizer_of_bleu(
    text: str, language: str | None, name: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "_is_installed", lambda module: False)
    found = choose_bleu_tokenizer([text], language=language, name=name)
    assert found.name == wanted
    assert found.reason
    monkeypatch.setattr(tokenization, "_is_installed", lambda module: True)
    words_of = {JAPANESE: "ja-mecab", "jpn": "ja-mecab", "ko": "ko-mecab"}
    installed = words_of.get(text) or words_of.get(language or "") or wanted
    found = choose_bleu_tokenizer([text], language=language, name=name)
    assert found.name == (installed if name is None else wanted)


def test_a_config_names_the_tokenizers_that_there_are() -> None:
    assert set(typing.get_args(BleuTokenizerName)) == set(tokenization.BLEU_TOKENIZERS)


def test_words_that_are_cut_already_are_not_cut_again() -> None:
    assert choose_bleu_tokenizer(["two dogs ."], is_cut=True).name == "none"
    assert choose_bleu_tokenizer(CHINESE[1], is_cut=True).name == "zh"  # no Moses script cuts Chinese
    assert "does not cut" in choose_bleu_tokenizer(CHINESE[1], name="13a").reason


def test_unknown_and_missing_tokenizers_are_named() -> None:
    with pytest.raises(ConfigError, match="got 'hz'"):
        bleu(["a"], ["a"], tokenize="hz")
    with pytest.raises(ConfigError, match="got 'chars'"):
        choose_bleu_tokenizer(["a"], name="chars")
    if importlib.util.find_spec("MeCab") is None:
        with pytest.raises(ConfigError, match=r"'ja-mecab' cannot be had here: .*install"):
            bleu(["a"], ["a"], tokenize="ja-mecab")
