"""Scores of texts: against every token's window by hand, whatever the batch."""

import math

import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, DataError
from transformer_jax.inference.token_scores import TokenScorer, TokenScores
from transformer_jax.testing.tiny_models import TableLanguageModel

BOS = 2


@pytest.fixture(scope="module")
def model() -> TableLanguageModel:
    return TableLanguageModel.random(seed=6)


def by_hand(model, text, context_len, stride):
    """Each token's log-probability after the tokens of the window that counts it, one token after the other."""
    found = np.full(len(text), np.nan)
    for place in range(1, len(text)):
        window = 0  # where the first window begins that holds the place, and has at least context_len - stride before
        while place > window + context_len:
            window += stride
        logits = model.logits_after(text[window:place])
        found[place] = logits[text[place]] - np.logaddexp.reduce(logits)
    return found


@pytest.mark.parametrize(("context_len", "stride"), [(6, 6), (6, 2), (6, 1), (40, None)])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 23])
def test_every_token_is_scored_in_its_window(model, context_len, stride, length):
    text = np.random.default_rng(length).integers(4, 8, length).tolist()
    scores = TokenScorer(model, context_len=context_len, stride=stride, batch_size=3)(nnx.state(model), text)
    wanted = by_hand(model, text, context_len, stride or context_len)
    np.testing.assert_allclose(scores.log_probs, wanted, rtol=1e-4, atol=1e-5)
    assert scores.counted.tolist() == [False] + [True] * (length - 1)
    assert scores.count == length - 1
    assert scores.total == pytest.approx(np.nansum(wanted), rel=1e-4)
    if length > 1:
        assert scores.perplexity == pytest.approx(np.exp(-np.nanmean(wanted)), rel=1e-4)


def test_documents_do_not_see_each_other(model):
    texts = [[BOS, 5, 6, 7, 4, 4, 6, 3], [BOS, 3], [BOS, 7, 5, 3]]
    scorer, params = TokenScorer(model, context_len=4, stride=2, batch_size=2), nnx.state(model)
    together = scorer(params, [*texts[0], *texts[1], *texts[2]])
    apart = [scorer(params, text) for text in texts]
    np.testing.assert_array_equal(together.log_probs, np.concatenate([one.log_probs for one in apart]))
    np.testing.assert_array_equal(together.counted, np.concatenate([one.counted for one in apart]))
    assert together.count == 7 + 1 + 3


def test_a_score_does_not_depend_on_the_other_windows(model):
    scorer, params = TokenScorer(model, context_len=5, stride=5, batch_size=4), nnx.state(model)
    text = np.random.default_rng(0).integers(0, 8, 41)
    text[text == BOS] = 4
    whole = scorer(params, text).log_probs
    for start in (0, 5, 20, 35):
        np.testing.assert_array_equal(scorer(params, text[start:]).log_probs[1:], whole[start + 1 :])


def test_numbers_that_are_none_are_not_left_out(model):
    params = nnx.state(TableLanguageModel(np.full((1009, 8), np.nan)))
    scores = TokenScorer(model, context_len=5)(params, [4, 5, 6])
    assert (scores.count, math.isnan(scores.total), math.isnan(scores.perplexity)) == (2, True, True)
    impossible = TokenScores(np.array([np.nan, -np.inf], np.float32), np.array([False, True]))
    assert (impossible.total, impossible.perplexity) == (-math.inf, math.inf)


def test_what_is_no_text_is_refused(model):
    scorer, params = TokenScorer(model, context_len=5), nnx.state(model)
    empty = scorer(params, [])
    assert (empty.count, empty.total, math.isnan(empty.perplexity)) == (0, 0.0, True)
    with pytest.raises(
        DataError, match="the text: token 1 is id 8, and the ids of the vocabulary are 0 to 7"
    ):
        scorer(params, [4, 8])
    with pytest.raises(DataError, match="token 0 is id -1"):
        scorer(params, [-1, 4])
    with pytest.raises(DataError, match=r"one row of token ids; got float64 of shape \(2,\)"):
        scorer(params, [0.5, 1.0])
    with pytest.raises(ConfigError, match="stride must be 1 to context_len, which is 5; got 6"):
        TokenScorer(model, context_len=5, stride=6)(params, [4, 5])
