"""Data of masked language models: cutting, parts in order or exchanged, resumable batches, notes and refusals."""

from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.masked_config import MaskedTextConfig, Masking, TextFiles, WordPieces, Words
from transformer_jax.data.masked_texts import MaskedTexts, cut_into_texts
from transformer_jax.data.prepare_masked import prepare_masked
from transformer_jax.data.text_config import Characters
from transformer_jax.errors import ConfigError, DataError

LINES = ["the cat sat on the mat", "a dog ran after cats", "unaffable cats sat and ran", "the end"] * 5


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "text.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def config_of(text: Path, **options: object) -> MaskedTextConfig:
    files = TextFiles(train=(str(text),), development=(str(text),))
    settings: dict[str, object] = {"tokenizer": WordPieces(vocab_size=60), "max_len": 12, "batch_size": 3}
    return MaskedTextConfig(datasets=(files,), **(settings | options))  # type: ignore[arg-type]


def texts_of(config: MaskedTextConfig) -> tuple[MaskedTexts, list[list[int]]]:
    found = prepare_masked(config).batches.texts
    pieces = [found.ids[start:stop].tolist() for start, stop in zip(found.offsets, found.offsets[1:])]
    return found, pieces


def test_texts_are_the_document_cut_at_words(text: Path) -> None:
    prepared = prepare_masked(config_of(text))
    texts, tokenizer = prepared.batches.texts, prepared.encoding.tokenizer
    assert texts.ids.tolist() == tokenizer.encode(" ".join(LINES))
    lengths = np.diff(texts.offsets)
    assert lengths.max() <= 10
    assert lengths.min() >= 1
    continues = tokenizer.continuations()
    assert not continues[texts.ids[texts.offsets[:-1]]].any()
    for start, stop in zip(texts.offsets, texts.offsets[1:-1]):
        following = texts.ids[stop:]
        starts = np.flatnonzero(~continues[following[1:]])
        word = 1 + int(starts[0]) if len(starts) else len(following)
        assert stop - start + word > 10, "the next word would have fitted"


def test_a_word_longer_than_a_text_is_cut() -> None:
    starts = np.array([True, False])
    ids, offsets = cut_into_texts([np.array([0, 1, 1, 1, 1, 1, 0])], 3, starts)
    assert ids.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert offsets.tolist() == [0, 3, 6, 7]


def test_lines_stay_apart(text: Path) -> None:
    prepared = prepare_masked(config_of(text, unit="line", num_buckets=3))
    texts, tokenizer = prepared.batches.texts, prepared.encoding.tokenizer
    assert len(texts) >= len(LINES)
    found = [tokenizer.decode(texts.ids[start:stop]) for start, stop in zip(texts.offsets, texts.offsets[1:])]
    assert " ".join(found).split() == " ".join(LINES).split()
    assert all(any(one in line for line in LINES) for one in found)
    assert len(prepared.batches.shapes()) > 1


def test_batches_are_a_function_of_the_step(text: Path) -> None:
    batches = prepare_masked(config_of(text)).batches
    again = prepare_masked(config_of(text)).batches
    steps = range(2 * batches.batches_per_epoch + 1)
    whole = [next(iter(batches.iterate(step))) for step in steps]
    from_start = batches.iterate(0)
    for step in steps:
        one = next(from_start)
        for array, other, third in zip(one, whole[step], again.batch_at(step)):
            np.testing.assert_array_equal(array, other)
            np.testing.assert_array_equal(array, third)
    ids = [batch.example_ids for batch in whole[: batches.batches_per_epoch]]
    kept = np.concatenate(ids)
    assert sorted(kept[kept >= 0].tolist()) == list(range(len(batches.texts)))


def test_an_example_has_other_places_at_each_epoch_and_the_same_at_any_batch_size(text: Path) -> None:
    small, large = (prepare_masked(config_of(text, batch_size=size)).batches for size in (2, 5))

    def places(batches, epoch):  # type: ignore[no-untyped-def]
        found = {}
        for step in range(epoch * batches.batches_per_epoch, (epoch + 1) * batches.batches_per_epoch):
            batch = batches.batch_at(step)
            for row, example in enumerate(batch.example_ids.tolist()):
                if example >= 0:
                    found[example] = (batch.tokens[row].tolist(), batch.places[row].tolist())
        return found

    assert places(small, 0) == places(large, 0)
    assert places(small, 3) == places(large, 3)
    assert places(small, 0) != places(small, 1)


def test_parts_in_order_or_exchanged(text: Path) -> None:
    texts, pieces = texts_of(config_of(text, sentence_order=True, max_len=16))
    counts = np.zeros(2, int)
    for visit in range(20):
        tokens, lengths, exchanged = texts.whole(np.arange(len(texts)), len(texts), 16, visit)
        for row, piece in enumerate(pieces):
            assert lengths[row] == len(piece) + 3
            inner = tokens[row, 1 : lengths[row] - 1].tolist()
            assert tokens[row, 0] == 2
            assert tokens[row, lengths[row] - 1] == 3
            cut = inner.index(3)
            first, second = inner[:cut], inner[cut + 1 :]
            assert (second + first if exchanged[row] else first + second) == piece
            if len(piece) > 1:
                counts[exchanged[row]] += 1
                assert first
                assert second
    assert abs(counts[0] - counts.sum() / 2) < 4 * np.sqrt(counts.sum()) / 2
    batch = texts.batch(np.arange(3), 4, 16, 0)
    assert batch.classes is not None
    assert batch.classes[3] == -1


def test_a_text_of_one_token_has_no_order() -> None:
    texts, _ = _one_token()
    _, lengths, exchanged = texts.whole(np.arange(1), 1, 8, 0)
    assert lengths.tolist() == [4]
    assert exchanged.tolist() == [-1]


def _one_token() -> tuple[MaskedTexts, None]:
    from transformer_jax.data.masking import MaskedVocabulary

    return MaskedTexts(
        ids=np.array([6], np.int32),
        offsets=np.array([0, 1]),
        masking=Masking(),
        vocabulary=MaskedVocabulary(mask_id=4, size=9, first_ordinary=5),
        sentence_order=True,
        starts_word=np.ones(9, bool),
        seed=0,
    ), None


def test_fingerprints_change_with_the_text_and_not_with_the_batches(text: Path, tmp_path: Path) -> None:
    first = prepare_masked(config_of(text)).batches.fingerprint()
    assert prepare_masked(config_of(text, batch_size=2, seed=4)).batches.fingerprint() == first
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().replace("dog", "cat"))
    assert prepare_masked(config_of(other)).batches.fingerprint() != first


def test_words_are_hidden_behind_the_unknown_token(text: Path) -> None:
    prepared = prepare_masked(
        config_of(
            text, tokenizer=Words(), masking=Masking(mask_share=1.0, random_share=0.0, whole_words=True)
        )
    )
    batch = prepared.batches.batch_at(0)
    hidden = batch.tokens[np.arange(len(batch.tokens))[:, None], batch.places][batch.places >= 0]
    assert (hidden == 1).all()
    assert prepared.report.lines()


def test_bad_input_is_refused(text: Path, tmp_path: Path) -> None:
    for content, message in (
        ("", "no (character|token)"),
        ("word word word\n", "one distinct token, 'word'"),
    ):
        bad = tmp_path / "bad.txt"
        bad.write_text(content or " \n")
        config: object = Words() if content else WordPieces(vocab_size=60)
        with pytest.raises(DataError, match=message):
            prepare_masked(config_of(bad, tokenizer=config))
    with pytest.raises(DataError, match="do not say where words begin"):
        prepare_masked(config_of(text, tokenizer=Characters(), masking=Masking(whole_words=True)))
    other = tmp_path / "greek.txt"
    other.write_text("αβγ δεζ\n" * 9)
    tokenizer = prepare_masked(config_of(text)).encoding.tokenizer
    with pytest.raises(DataError, match="less than half"):
        prepare_masked(config_of(other), tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="max_len must be at least 5"):
        config_of(text, max_len=4, sentence_order=True)
    with pytest.raises(ConfigError, match="unit must be one of"):
        config_of(text, unit="page")
