"""Dynamic masking: shares, whole words, and draws that follow from seed, visit, example and place alone."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from transformer_jax.data.masking import (
    Masked,
    MaskedVocabulary,
    Masking,
    draw_numbers,
    mask_tokens,
    mixed,
    unit_interval,
)
from transformer_jax.data.tokenizers import train_character_tokenizer, train_word_tokenizer
from transformer_jax.data.word_piece_tokenizer import train_word_piece_tokenizer
from transformer_jax.errors import ConfigError, DataError

SIZE, FIRST = 1000, 5
CONTINUES = np.arange(SIZE) >= 600  # two fifths of the tokens continue a word
PLAIN = MaskedVocabulary(mask_id=4, size=SIZE, first_ordinary=FIRST)
WORDS = MaskedVocabulary(mask_id=4, size=SIZE, first_ordinary=FIRST, continuations=CONTINUES)


def texts(rows: int, length: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full rows between start and end token."""
    tokens = np.random.default_rng(seed).integers(FIRST, SIZE, (rows, length)).astype(np.int32)
    tokens[:, 0], tokens[:, -1] = 2, 3
    return tokens, np.full(rows, length, np.int32), np.arange(rows, dtype=np.int32)


def masked_of(
    *arrays: np.ndarray, masking: Masking | None = None, visit: int = 0, words: bool = False
) -> Masked:
    return mask_tokens(
        *arrays,
        masking=masking or Masking(whole_words=words),
        vocabulary=WORDS if words else PLAIN,
        seed=7,
        visit=visit,
    )


def hidden_mask(masked: Masked) -> np.ndarray:
    """``[batch, len]``, whether each place is hidden."""
    found = np.zeros(masked.tokens.shape, bool)
    rows, columns = np.nonzero(masked.places >= 0)
    found[rows, masked.places[rows, columns]] = True
    return found


def test_mixing_is_splitmix64() -> None:
    """Outputs of the generator's reference implementation from the seed 1234567 on."""
    state = np.uint64(1234567)
    found = []
    with np.errstate(over="ignore"):
        for _ in range(3):
            found.append(int(mixed(np.array([state]))[0]))
            state += np.uint64(0x9E3779B97F4A7C15)
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_uniform_and_independent_of_neighbours() -> None:
    numbers = unit_interval(draw_numbers(0, 3, np.arange(100_000), 1))
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
    chi = ((counts - 2000) ** 2 / 2000).sum()
    assert 23 < chi < 90, "49 degrees of freedom: outside with a chance below 1 in 1,000"
    for other in (draw_numbers(0, 3, np.arange(100_000), 2), draw_numbers(1, 3, np.arange(100_000), 1)):
        assert abs(np.corrcoef(numbers, unit_interval(other))[0, 1]) < 0.013
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.013


@pytest.mark.parametrize("words", [False, True])
def test_shares(words: bool) -> None:
    arrays = texts(600, 130)
    masked = masked_of(*arrays, words=words)
    hidden, tokens = hidden_mask(masked), arrays[0]
    count = hidden.sum()
    assert hidden.sum(axis=1).max() == 19 == Masking().num_places(128)
    assert count / tokens[:, 1:-1].size == pytest.approx(19 / 128, rel=0.01 if words else 1e-9)
    seen = masked.tokens[hidden]
    is_mask, is_same = seen == 4, seen == tokens[hidden]
    assert is_mask.mean() == pytest.approx(0.8, abs=0.02)
    assert is_same.mean() == pytest.approx(0.1 + 0.1 / (SIZE - FIRST), abs=0.015)
    others = seen[~is_mask & ~is_same]
    assert others.min() >= FIRST
    assert abs(others.mean() - (SIZE + FIRST) / 2) < 40
    assert (masked.tokens[~hidden] == tokens[~hidden]).all()
    if not words:
        per_place = hidden[:, 1:-1].sum(axis=0)
        expected = 600 * 19 / 128
        chi = ((per_place - expected) ** 2 / (expected * (1 - 19 / 128))).sum()
        assert 80 < chi < 185, "127 degrees of freedom: outside with a chance below 1 in 1,000"


def test_targets_are_the_tokens_at_the_places() -> None:
    arrays = texts(50, 40)
    masked = masked_of(*arrays)
    for row in range(50):
        places = masked.places[row][masked.places[row] >= 0]
        assert (np.diff(places) > 0).all()
        assert masked.targets[row][masked.places[row] >= 0].tolist() == arrays[0][row, places].tolist()
        assert (masked.targets[row][masked.places[row] < 0] == -1).all()


def test_whole_words_are_hidden_together() -> None:
    arrays = texts(300, 60)
    hidden = hidden_mask(masked_of(*arrays, words=True))
    starts = ~CONTINUES[arrays[0]]
    starts[:, :2] = True
    starts[:, -1] = True
    word = np.cumsum(starts, axis=1)
    for row in range(300):
        for number in np.unique(word[row]):
            assert len(set(hidden[row, word[row] == number])) == 1
    assert hidden.sum(axis=1).max() <= Masking().num_places(58)


def test_special_tokens_and_padding_are_never_hidden() -> None:
    tokens, lengths, ids = texts(80, 30)
    tokens[:, 10], tokens[:, 11] = 1, 4
    lengths = np.random.default_rng(1).integers(0, 30, 80).astype(np.int32)
    hidden = hidden_mask(masked_of(tokens, lengths, ids, masking=Masking(rate=0.9)))
    assert not hidden[:, [0, 10, 11]].any()
    assert not hidden[np.arange(30) >= lengths[:, None]].any()
    assert (hidden.sum(axis=1)[lengths > 1] >= 1).all()
    assert not hidden[lengths <= 1].any()


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    visit=st.integers(0, 10**6),
    words=st.booleans(),
    rate=st.sampled_from([0.05, 0.15, 0.5]),
    padding=st.integers(0, 9),
)
def test_an_example_is_masked_alike_in_any_batch(
    seed: int, visit: int, words: bool, rate: float, padding: int
) -> None:
    tokens, lengths, ids = texts(6, 20, seed=seed)
    lengths = np.random.default_rng(seed).integers(0, 21, 6).astype(np.int32)
    order = np.random.default_rng(seed + 1).permutation(6)[:4]
    wider = np.pad(tokens, ((0, 0), (0, padding)), constant_values=9)
    settings = {
        "masking": Masking(rate=rate, whole_words=words),
        "vocabulary": WORDS if words else PLAIN,
        "seed": seed,
        "visit": visit,
    }
    whole = mask_tokens(tokens, lengths, ids, **settings)
    part = mask_tokens(wider[order], lengths[order], ids[order], **settings)
    for place, row in enumerate(order.tolist()):
        count = (whole.places[row] >= 0).sum()
        assert part.tokens[place, :20].tolist() == whole.tokens[row].tolist()
        assert part.places[place, :count].tolist() == whole.places[row, :count].tolist()
        assert part.targets[place, :count].tolist() == whole.targets[row, :count].tolist()
        assert (part.places[place, count:] == -1).all()


def test_each_visit_hides_other_tokens() -> None:
    arrays = texts(40, 60)
    hidden = [hidden_mask(masked_of(*arrays, visit=visit)) for visit in range(12)]
    assert (hidden_mask(masked_of(*arrays, visit=3)) == hidden[3]).all()
    for one, other in itertools.pairwise(hidden):
        assert (one & other).sum() / one.sum() == pytest.approx(9 / 58, abs=0.1)
    assert np.any(hidden, axis=0)[:, 1:-1].mean() > 0.75


def test_vocabularies() -> None:
    pieces = train_word_piece_tokenizer(["cats sat"] * 9, vocab_size=20)
    found = MaskedVocabulary.of(pieces, whole_words=True)
    assert (found.mask_id, found.first_ordinary, found.size) == (4, 5, pieces.vocab_size)
    words = MaskedVocabulary.of(train_word_tokenizer(["a b"]), whole_words=True)
    assert (words.mask_id, words.first_ordinary) == (1, 4)
    assert words.continuations is not None
    assert not words.continuations.any()
    with pytest.raises(DataError, match="do not say where words begin"):
        MaskedVocabulary.of(train_character_tokenizer(["ab"]), whole_words=True)


def test_what_is_out_of_range_is_refused() -> None:
    for options, message in (
        ({"rate": 0.0}, "rate"),
        ({"rate": 1.0}, "rate"),
        ({"mask_share": 1.1}, "mask_share"),
        ({"mask_share": 0.8, "random_share": 0.3}, "random_share"),
        ({"rate": float("nan")}, "rate"),
    ):
        with pytest.raises(ConfigError, match=message):
            Masking(**options)  # type: ignore[arg-type]
