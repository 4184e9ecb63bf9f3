"""From files of words with labels to batches: words, letters, labels, repairs and remarks."""

from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.prepare_tags import prepare_tags
from transformer_jax.data.tag_config import SavedTokenizer, TagConfig, TagFiles, WordPieces, Words
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.tagged_text import TaggedSentence
from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer
from transformer_jax.data.word_encoding import PieceEncoder, WordEncoder, vocabulary_form
from transformer_jax.errors import ConfigError, DataError

TRAIN = """# class = Go
to\tO
Paris\tI-city
now\tB-day

# class = Go
To\tO
new\tB-city
York\tI-city

# class = Stay
stay\tO
"""
DEVELOPMENT = "# class = Fly\nParis\tB-town\nto\tO\n\n# class = Go\nto\tO\n"


@pytest.fixture
def files(tmp_path: Path) -> TagFiles:
    (tmp_path / "train.tsv").write_text(TRAIN)
    (tmp_path / "dev.tsv").write_text(DEVELOPMENT)
    return TagFiles(train=str(tmp_path / "train.tsv"), development=str(tmp_path / "dev.tsv"))


def test_batches_hold_each_sentence_once(files: TagFiles) -> None:
    prepared = prepare_tags(
        TagConfig(dataset=files, tokenizer=Words(), word_len=6, batch_size=2, num_buckets=2)
    )
    assert prepared.tags == TagSet(LabelSet(("B-city", "B-day", "I-city", "O")), LabelSet(("Go", "Stay")))
    encoder = WordEncoder(prepared.tokenizer, lowercase=True, word_len=6)
    seen = {}
    for step in range(prepared.train.batches_per_epoch):
        batch = prepared.train.batch_at(step)
        for row, index in enumerate(batch.example_ids.tolist()):
            length = batch.lengths[row]
            if index < 0:
                assert length == 0
                continue
            one = prepared.splits.train[index]
            assert batch.tokens[row, :length].tolist() == encoder.ids(one.words).tolist()
            np.testing.assert_array_equal(batch.letters[row, :length], encoder.letters(one.words))
            assert batch.labels[row, :length].tolist() == [prepared.tags.labels.index(x) for x in one.labels]
            assert prepared.tags.classes.labels[batch.classes[row]] == one.label
            assert not batch.tokens[row, length:].any()
            assert not batch.letters[row, length:].any()
            assert (batch.labels[row, length:] == -1).all()
            seen[index] = one
    assert set(seen) == {0, 1, 2}


def test_batches_of_pieces_say_where_words_begin(files: TagFiles) -> None:
    config = TagConfig(
        dataset=files, tokenizer=WordPieces(vocab_size=30), word_len=None, batch_size=3, num_buckets=1
    )
    prepared = prepare_tags(config)
    encoder = PieceEncoder(prepared.tokenizer, lowercase=True)
    batch = prepared.train.batch_at(0)
    assert batch.letters is None
    for row, index in enumerate(batch.example_ids.tolist()):
        words = prepared.splits.train[index].words
        pieces = encoder.ids(words)
        assert max(map(len, pieces)) > 1
        length = batch.lengths[row]
        assert batch.tokens[row, :length].tolist() == [BOS_ID, *np.concatenate(pieces), EOS_ID]
        assert not batch.tokens[row, length:].any()
        firsts = batch.first_pieces[row]
        assert batch.tokens[row, firsts[: len(words)]].tolist() == [one[0] for one in pieces]
        assert (firsts[len(words) :] == -1).all()
        labels = [prepared.tags.labels.index(label) for label in prepared.splits.train[index].labels]
        assert batch.labels[row, : len(words)].tolist() == labels
        assert (batch.labels[row, len(words) :] == -1).all()
    assert batch.word_lengths().tolist() == [len(prepared.splits.train[i].words) for i in batch.example_ids]


def test_long_sentences_in_pieces_are_left_out_of_training_alone(files: TagFiles) -> None:
    options = {"dataset": files, "tokenizer": WordPieces(vocab_size=30), "word_len": None}
    longest = prepare_tags(TagConfig(**options)).train.shapes()[-1][1]
    prepared = prepare_tags(TagConfig(**options, max_len=longest - 1))
    assert len(prepared.splits.train) == 2
    assert len(prepared.development) == 2
    assert f"left out 1 training sentences of more than {longest - 1} tokens" in prepared.report.notes
    with pytest.raises(DataError, match="no training sentence is left: raise max_len"):
        prepare_tags(TagConfig(**options, max_len=2))


def test_words_and_pieces_do_not_mix(files: TagFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="letters go with whole words"):
        TagConfig(dataset=files, tokenizer=WordPieces())
    with pytest.raises(ConfigError, match="more_words are whole words"):
        TagConfig(dataset=files, tokenizer=WordPieces(), word_len=None, more_words="vectors.txt")
    config = TagConfig(dataset=files, tokenizer=WordPieces(vocab_size=30), word_len=None)
    with pytest.raises(DataError, match="one of pieces, got one of words"):
        prepare_tags(config, tokenizer=Tokenizer("words", ["to"]))
    prepare_tags(config).tokenizer.save(tmp_path / "saved.json")
    saved = SavedTokenizer(path=str(tmp_path / "saved.json"))
    assert TagConfig(dataset=files, tokenizer=saved, word_len=None).reads_pieces
    with pytest.raises(DataError, match="let word_len be null"):
        prepare_tags(TagConfig(dataset=files, tokenizer=saved))


def test_repairs_strange_and_rare_labels_are_reported(files: TagFiles) -> None:
    prepared = prepare_tags(TagConfig(dataset=files, tokenizer=Words()))
    lines = "\n".join(prepared.report.lines())
    assert "3 training, 2 development and 0 test sentences of 7, 3 and 0 words" in lines
    assert "train: 1 labels broke the IOB scheme and were repaired" in lines
    assert "development: 2 labels that training never saw count as errors: B-town 1, Fly 1" in lines
    assert "2 labels with one training example: B-day, I-city" in lines
    assert "1 classes with one training example: Stay" in lines
    assert prepared.splits.train[0].labels == ("O", "B-city", "B-day")
    assert (prepared.development.labels == -1).sum() == 1


def test_broken_labels_can_be_refused(files: TagFiles) -> None:
    with pytest.raises(DataError, match="training set, line 2: 'I-city' of word 2 continues no piece"):
        prepare_tags(TagConfig(dataset=files, broken_iob="refuse"))


def test_limits(files: TagFiles) -> None:
    prepared = prepare_tags(
        TagConfig(dataset=files, tokenizer=Words(), max_words=2, max_development_sentences=1)
    )
    assert len(prepared.splits.train) == 1
    assert len(prepared.splits.development) == 1
    assert "left out 2 training sentences of more than 2 words" in prepared.report.notes
    with pytest.raises(DataError, match="no training sentence is left: raise max_words"):
        prepare_tags(TagConfig(dataset=files, max_words=1, max_train_sentences=2))


def test_given_labels_must_know_those_of_training(files: TagFiles) -> None:
    config = TagConfig(dataset=files, tokenizer=Words())
    given = TagSet(LabelSet(("B-city", "B-dax", "I-city", "O")), LabelSet(("Go", "Stay")))
    with pytest.raises(DataError, match="no label 'B-day'; did you mean 'B-dax'"):
        prepare_tags(config, tags=given)
    with pytest.raises(DataError, match="have a label of the whole"):
        prepare_tags(config, tags=TagSet(LabelSet(("B-city", "B-day", "I-city", "O"))))


def test_words_of_a_vector_file_join_the_vocabulary(files: TagFiles, tmp_path: Path) -> None:
    path = tmp_path / "some.vec"
    path.write_text("3 2\nParis 1 0\nto 0 1\nlondon 1 1\n")
    config = TagConfig(dataset=files, tokenizer=Words(min_count=2), more_words=str(path))
    assert prepare_tags(config).tokenizer.symbols == ("to", "paris", "london")
    config = TagConfig(dataset=files, tokenizer=Words(min_count=2), more_words=str(path), max_more_words=1)
    assert prepare_tags(config).tokenizer.symbols == ("to", "paris")
    with pytest.raises(DataError, match="no such file"):
        prepare_tags(TagConfig(dataset=files, more_words=str(tmp_path / "none.vec")))


def test_words_seen_once_become_unknown(files: TagFiles) -> None:
    prepared = prepare_tags(TagConfig(dataset=files, tokenizer=Words(min_count=2)))
    assert prepared.tokenizer.symbols == ("to",)
    assert prepared.report.train.num_unknown == 5


def test_letters_of_long_words_are_those_of_both_ends() -> None:
    encoder = WordEncoder(Tokenizer("words", []), word_len=5)
    letters = encoder.letters(["abcdefgh", "é"])
    assert bytes((letters[0] - 1).tolist()) == b"abcgh"
    assert letters[1].tolist() == [0xC3 + 1, 0xA9 + 1, 0, 0, 0]
    with pytest.raises(DataError, match="word_len is None"):
        WordEncoder(Tokenizer("words", [])).letters(["a"])


def test_a_vocabulary_of_characters_is_refused() -> None:
    with pytest.raises(DataError, match="tokenizer of words, got one of characters"):
        WordEncoder(train_character_tokenizer(["ab"]))


@pytest.mark.parametrize(
    ("word", "form"), [("A\u2028b", "a_b"), ("\x1c", "_"), ("\ud800", "\ufffd"), ("Straße", "straße")]
)
def test_forms_of_odd_words_are_one_word(word: str, form: str) -> None:
    assert vocabulary_form(word, lowercase=True) == form
    Tokenizer("words", [form])


def test_tag_sets_are_written_and_read(tmp_path: Path) -> None:
    for tags in (
        TagSet(LabelSet(("a", "ü"))),
        TagSet(LabelSet(("a",)), LabelSet(("x", "y"))),
    ):
        tags.save(tmp_path / "tags.json")
        found = TagSet.load(tmp_path / "tags.json")
        assert found == tags
        assert found.fingerprint() == tags.fingerprint()
    assert TagSet(LabelSet(("a",))).fingerprint() != TagSet(LabelSet(("a",)), LabelSet(("a",))).fingerprint()


@pytest.mark.parametrize("text", ["", "[]", '{"labels": ["a"]}', '{"labels": "a", "classes": null}', "{"])
def test_damaged_tag_sets(tmp_path: Path, text: str) -> None:
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(DataError, match="damaged"):
        TagSet.load(tmp_path / "tags.json")


def test_classes_of_some_sentences_only() -> None:
    sentences = [TaggedSentence(("a",), ("X",), "c"), TaggedSentence(("a",), ("X",))]
    with pytest.raises(DataError, match="give it to all or none"):
        TagSet.of(sentences)


@pytest.mark.parametrize(
    "fields",
    [{"batch_size": 0}, {"word_len": 1}, {"broken_iob": "keep"}, {"max_words": 0}, {"max_test_sentences": 0}],
)
def test_configs_that_cannot_be(fields: dict) -> None:
    with pytest.raises(ConfigError):
        TagConfig(**fields)
