"""CTC: loss, best path and prefix scores against the sum over all paths; padding counts for nothing."""

import collections
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.functional.ctc import ctc_best_path, ctc_frames_needed, ctc_loss, ctc_prefixes

FRAMES, VOCAB, EOS = 4, 4, 3


@functools.cache
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(FRAMES, VOCAB)).astype(np.float32) * 2


def merged(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def text_probabilities(scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """Probability of every text: the sum over all sequences of frames."""
    probabilities = np.exp(scores.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found: dict[tuple[int, ...], float] = collections.defaultdict(float)
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        found[merged(path)] += math.prod(probabilities[time, token] for time, token in enumerate(path))
    return found


def test_loss_is_the_sum_over_all_paths() -> None:
    texts = [text for text in text_probabilities(logits()) if len(text) <= 3]
    labels = np.zeros((len(texts) + 1, 3), np.int32)
    for row, text in enumerate(texts):
        labels[row, : len(text)] = text
    lengths = np.array([len(text) for text in texts] + [3], np.int32)
    labels[-1] = (1, 1, 1)  # needs five frames
    rows = jnp.broadcast_to(jnp.asarray(logits()), (len(labels), FRAMES, VOCAB))
    longer = jnp.pad(rows, ((0, 0), (0, 2), (0, 0)), constant_values=jnp.nan)
    frames = jnp.full(len(labels), FRAMES)
    losses, possible = jax.jit(ctc_loss)(longer, frames, labels, lengths)
    wanted = text_probabilities(logits())
    np.testing.assert_allclose(np.exp(-losses[:-1]), [wanted[text] for text in texts], rtol=1e-4)
    assert possible.tolist() == [True] * len(texts) + [False]
    assert losses[-1] == 0
    assert ctc_frames_needed(jnp.asarray(labels[-1:]), jnp.asarray(lengths[-1:])).tolist() == [5]


def test_gradient_is_of_what_counts_alone() -> None:
    rows = jnp.stack([jnp.asarray(logits())] * 4)
    rows = rows.at[1].set(jnp.nan).at[2, 2:].set(jnp.inf)
    frames = jnp.array([4, 2, 2, 0])  # the second text has no alignment within two frames
    labels, lengths = jnp.array([[1, 2], [1, 1], [2, 0], [0, 0]]), jnp.array([2, 2, 1, 0])
    gradient = jax.jit(jax.grad(lambda rows: ctc_loss(rows, frames, labels, lengths)[0].sum()))(rows)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient[1]).any()
    assert not np.asarray(gradient[2, 2:]).any()
    assert not np.asarray(gradient[3]).any()
    eps, direction = 1e-2, np.random.default_rng(1).normal(size=logits().shape)
    plus, minus = (
        math.log(text_probabilities(logits() + sign * eps * direction)[(1, 2)]) for sign in (1, -1)
    )
    slope = -float(np.vdot(gradient[0], direction))
    assert slope == pytest.approx((plus - minus) / (2 * eps), rel=1e-2)


def test_best_path() -> None:
    paths = np.array([[1, 1, 0, 1, 2, 2], [0, 0, 0, 0, 0, 0], [2, 1, 1, 1, 1, 1]])
    scores = jax.nn.one_hot(paths, VOCAB) * 5.0
    scores = scores.at[2, 3:].set(jnp.nan)
    found = jax.jit(ctc_best_path)(scores, jnp.array([6, 6, 3]))
    assert [tuple(found.tokens[row, : found.lengths[row]].tolist()) for row in range(3)] == [
        merged(tuple(paths[0].tolist())), (), (2, 1)
    ]  # fmt: skip
    assert [found.frames[row, : found.lengths[row]].tolist() for row in range(3)] == [[0, 3, 4], [], [0, 1]]
    one = 5.0 - math.log(math.exp(5.0) + VOCAB - 1)
    np.testing.assert_allclose(found.log_probs, [6 * one, 6 * one, 3 * one], rtol=1e-5)


@pytest.mark.parametrize("num_frames", [FRAMES, 2])
def test_prefix_scores_are_the_sum_over_all_texts(num_frames: int) -> None:
    scores = logits()[:num_frames, :EOS]
    wanted = text_probabilities(scores)
    rows = jnp.full((1, FRAMES + 1, VOCAB), jnp.nan).at[0, :num_frames].set(logits()[:num_frames])
    start = ctc_prefixes(rows, jnp.array([num_frames]), forbidden_ids=(EOS,))
    following = jax.jit(lambda one: one.next_log_probs(blank_id=0, eos_id=EOS))
    extend = jax.jit(lambda one, token: one.extended(token, blank_id=0))
    for prefix in [(), (1,), (2, 1), (1, 1), (2, 2), (1, 2, 1)]:
        state, begins = start, sum(p for text, p in wanted.items() if text[: len(prefix)] == prefix)
        for token in prefix:
            state = extend(state, jnp.array([token]))
        if not begins:  # too long for so few frames
            assert float(state.score[0]) < -1e20
            continue
        assert float(state.score[0]) == pytest.approx(math.log(begins), abs=1e-4)
        found = np.exp(np.asarray(following(state))[0])
        longer = [
            sum(p for text, p in wanted.items() if text[: len(prefix) + 1] == (*prefix, token))
            for token in (1, 2)
        ]
        np.testing.assert_allclose(found, np.array([0, *longer, wanted[prefix]]) / begins, atol=1e-4)
        assert found.sum() == pytest.approx(1.0, abs=1e-4)
