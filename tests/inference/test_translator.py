"""A translator's lists in and out: the same outputs as its parts give, in order, and refusals in one line."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.data.tokenizers import train_character_tokenizer, train_word_tokenizer
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.inference.requested_search import BeamSearch, GreedySearch, Sampling
from transformer_jax.inference.scored_lines import ScoredLines
from transformer_jax.inference.translator import Translator
from transformer_jax.models.build import build_model
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.notes import listening

SOURCE = train_character_tokenizer(["abcdef"])
TARGET = train_word_tokenizer(["A B C D E F"])
CONFIG = RecurrentSeq2SeqConfig(
    embedding_dim=6,
    hidden_dim=8,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=True,
    attention=Bahdanau(attention_dim=8),
    dropout_rate=0.0,
    residual=False,
)
LINES = ["abc", "", "fedcba", "a", "xyz"]


@pytest.fixture(scope="module")
def shared() -> Translator:
    """An untrained model; its compiled searches are shared by the tests of this file."""
    return Translator(
        name="tiny",
        model=build_model(CONFIG, Sizes.of_pairs(SOURCE.vocab_size, TARGET.vocab_size), seed=1),
        source_tokenizer=SOURCE,
        target_tokenizer=TARGET,
        data=PairsConfig(max_source_len=6, max_target_len=7),
        search=BeamConfig(max_len=7, num_beams=3, length_penalty=0.6),
        source_limit=None,
        target_limit=None,
    )


def log_prob(translator: Any, source: str, target: str) -> float:
    """Of a pair, from the model's whole call."""
    ids, wanted = SOURCE.encode(source), [*TARGET.encode(target), EOS_ID]
    logits = translator.model(jnp.array([ids]), jnp.array([len(ids)]), jnp.array([[BOS_ID, *wanted[:-1]]]))[0]
    return float(jax.nn.log_softmax(logits)[jnp.arange(len(wanted)), jnp.array(wanted)].sum())


def test_one_output_for_each_line_in_order(shared: Translator) -> None:
    found = shared.translate(LINES, search=BeamSearch(num_beams=3, num_best=2))
    assert len(found) == len(LINES)
    assert found[1].text == ""
    for line, one in zip(LINES, found, strict=True):
        if not line:
            continue
        assert one.tokens == tuple(one.text.split())
        assert len(one.alternatives) == 1
        assert one.score >= one.alternatives[0].score
        assert one.text != one.alternatives[0].text
    alone = [shared.translate([line], search=BeamSearch(num_beams=3, num_best=2))[0] for line in LINES]
    assert [one.text for one in alone] == [one.text for one in found]
    np.testing.assert_allclose([one.score for one in alone], [one.score for one in found], atol=1e-4)


def test_own_search_is_that_of_the_run(shared: Translator) -> None:
    found = shared.translate(["abc", "fed", "cab"])
    asked = shared.translate(["abc", "fed", "cab"], search=BeamSearch(num_beams=3))
    assert [one.text for one in found] == [one.text for one in asked]
    assert all(one.alternatives == () for one in found)


def test_lines_without_an_output_are_remarked(shared: Translator) -> None:
    barred = dataclasses.replace(
        shared, search=GreedyConfig(max_len=3, forbidden_ids=tuple(range(TARGET.vocab_size)))
    )
    heard: list[str] = []
    with listening(heard.append):
        found = barred.translate(["abc", "fed"])
    assert [(one.text, one.score, one.found) for one in found] == [("", -math.inf, False)] * 2
    assert [
        one for one in heard if "2 lines have no output that keeps the rules of the search: line 1" in one
    ]


def test_scores_of_outputs_are_those_of_the_search(shared: Translator) -> None:
    lines = ["abc", "fedcba"]
    outputs = shared.translate(lines, search=GreedySearch())
    scores = shared.score(lines, [one.text for one in outputs])
    for line, one, score in zip(lines, outputs, scores, strict=True):
        assert score.log_prob == pytest.approx(log_prob(shared, line, one.text), abs=1e-4)
        assert score.num_tokens == len(one.tokens) + 1
        if one.finished:
            assert one.score == pytest.approx(score.log_prob, abs=1e-4)


def test_pairs_that_are_left_out_have_no_score(shared: Translator) -> None:
    long = "a" * 7
    found = shared.score([long, "ab"], ["A", "B"], too_long="skip")
    assert math.isnan(found[0].log_prob)
    assert found[0].num_tokens == 0
    assert found[1].log_prob == pytest.approx(log_prob(shared, "ab", "B"), abs=1e-4)
    with pytest.raises(DataError, match=r"7 tokens.*`too_long=whole`"):
        shared.score([long], ["A"], too_long="fail")
    with pytest.raises(DataError, match="2"):
        shared.score(["a", "b"], ["A"])


def test_lines_that_are_too_long(shared: Translator) -> None:
    long = "abcdefab"
    search = BeamSearch(num_beams=3, min_len=4)
    whole, cut, gone = (
        shared.translate([long], search=search, too_long=kind)[0] for kind in ("whole", "truncate", "skip")
    )
    begun = shared.translate([long[:6]], search=search)[0]
    assert (cut.text, cut.score) == (begun.text, begun.score)
    assert whole.score != cut.score
    assert len(whole.tokens) >= 4
    assert gone.text == ""
    with pytest.raises(DataError, match="lines: line 1: 8 tokens"):
        shared.translate([long], too_long="fail")


def test_prefixes_begin_the_outputs(shared: Translator) -> None:
    found = shared.translate(["abc", "abc", "def"], prefixes=["F E", "", "A"])
    assert found[0].text.startswith("F E")
    assert found[2].text.startswith("A")
    assert found[1].text == shared.translate(["abc", "abc", "abc"])[1].text
    with pytest.raises(DataError, match="prefixes: line 1: 'Z' was never seen in training"):
        shared.translate(["abc"], prefixes=["Z"])


def test_alignments_have_a_row_for_each_output_token(shared: Translator) -> None:
    one, other = shared.align(["abc", "f"], ["A B C", "F"])
    assert (one.source, one.target) == (["a", "b", "c"], ["A", "B", "C", "<end>"])
    maps = [np.asarray(weights) for weights in one.maps.values()]
    assert maps
    for weights in maps:
        assert weights.shape[-2:] == (4, 3)
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    assert other.target == ["F", "<end>"]


def test_unknown_pieces_are_reported(shared: Translator) -> None:
    fresh = dataclasses.replace(shared, report=type(shared.report)())
    fresh.translate(["axa", "yx", "a"], search=GreedyConfig(max_len=7))
    assert any("3 characters never seen in training" in line for line in fresh.report.lines())


@pytest.mark.parametrize("call", ["translate", "score", "align"])
def test_one_text_is_no_list(shared: Translator, call: str) -> None:
    words = ("abc",) if call == "translate" else ("abc", "A")
    with pytest.raises(TypeError, match=r"write \['abc'\]"):
        getattr(shared, call)(*words)


def test_no_lines_give_no_outputs(shared: Translator) -> None:
    assert shared.translate([]) == []
    assert shared.score([], []) == []


def test_scores_of_a_corpus_in_groups_are_those_of_a_list(shared: Translator) -> None:
    pairs = list(zip(["abc", "fedcba", "abcdefa", "a"], ["A B", "F E D C B A", "A", "A Z"], strict=True))
    wanted = shared.score(*map(list, zip(*pairs, strict=True)), too_long="skip")
    scored = ScoredLines(shared, source_name="in.txt", target_name="out.txt", too_long="skip")
    found = [*scored.score(pairs[:3]), *scored.score(pairs[3:])]
    assert str(found) == str(wanted), "NaN of the third, which is too long"
    assert math.isnan(found[2].log_prob)
    assert (scored.num_lines, scored.num_left_out, scored.num_tokens, scored.num_unknown) == (4, 1, 13, 1)
    assert scored.log_prob == pytest.approx(sum(one.log_prob for one in wanted if one.num_tokens))
    assert scored.perplexity == pytest.approx(math.exp(-scored.log_prob / 13))
    with pytest.raises(DataError, match=r"in\.txt: line 5: 7 tokens"):
        _after(shared, 4).score([("abcdefa", "A")])
    assert math.isnan(ScoredLines(shared, source_name="a", target_name="b").perplexity)


def _after(translator: Translator, num_lines: int) -> ScoredLines:
    """What refuses long lines, after so many."""
    scored = ScoredLines(translator, source_name="in.txt", target_name="out.txt", too_long="fail")
    scored.num_lines = num_lines
    return scored


def test_several_draws_of_a_line_are_its_alternatives(shared: Translator) -> None:
    drawn = Sampling(temperature=2.0)
    one, three = (shared.translate(LINES, search=drawn, seed=5, num_samples=count) for count in (1, 3))
    assert [(found.text, found.score) for found in three] == [(found.text, found.score) for found in one]
    assert [len(found.alternatives) for found in three] == [2] * len(LINES)
    assert len({found.text for found in (three[0], *three[0].alternatives)}) > 1
    assert three[1].text == three[1].alternatives[1].text == ""
    # A draw has its own number: neither the other lines nor the number of draws matter.
    assert shared.translate(LINES[:3], search=drawn, seed=5, num_samples=2)[2].alternatives[0].text == (
        three[2].alternatives[0].text
    )
    with pytest.raises(
        ConfigError, match="`num_samples=2` is for searches that draw, and this one is 'beam'"
    ):
        shared.translate(LINES, num_samples=2)
