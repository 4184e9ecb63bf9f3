"""Labelled texts: named sets and their traps, files of one's own and what may be wrong with them, held-out parts."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.classes_config import ClassesConfig, ClassFiles, NamedClasses
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.labelled_texts import LabelledText, hold_out
from transformer_jax.data.prepare_classes import prepare_classes
from transformer_jax.data.sources import sentences
from transformer_jax.data.sources.class_files import read_labelled_file
from transformer_jax.data.sources.sentences import mr_fold, parse_labelled_lines, read_sentences
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.text_cleaning import clean_text
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizer_config import Characters, Subwords, Words
from transformer_jax.data.tokenizers import train_subword_tokenizer
from transformer_jax.errors import ConfigError, DataError

TRAIN = "".join(f"LOC\twhere is city {n} ?\nHUM\twho is person {n} ?\n" for n in range(10))


def write(folder: Path, text: str, name: str = "train.tsv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def stored(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, bytes]) -> None:
    """Files of the set as if they were the published ones."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(sentences, "locate_file", lambda dataset, name: folder / name)


def test_test_questions_are_left_out_of_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train = b"".join(b"0 what is word %d ?\n3 who is person %d ?\n" % (n, n) for n in range(20))
    test = b"0 what is word 7 ?\n3 who is caf\xe9 ?\n"
    stored(monkeypatch, tmp_path, {"TREC.train.all": train, "TREC.test.all": test})
    splits = read_sentences("trec-6")
    assert [(one.text, one.label) for one in splits.test] == [
        ("what is word 7 ?", "DESC"),
        ("who is café ?", "HUM"),
    ]
    seen = [one.text for one in (*splits.train, *splits.development)]
    assert len(seen) == 39
    assert "what is word 7 ?" not in seen
    assert splits.notes[0] == "left out 1 training questions that stand in the test set"
    assert {one.label for one in splits.development} == {"DESC", "HUM"}
    assert len(splits.development) == 4


def test_folds_of_mr_part_the_sentences_and_nel_ends_no_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [b"%d sentence %d \x85 goes on" % (n % 2, n) for n in range(300)]
    stored(monkeypatch, tmp_path, {"rt-polarity.all": b"\n".join(lines) + b"\n"})
    folds = [read_sentences("mr", fold) for fold in range(10)]
    texts = [one.text for splits in folds for one in splits.test]
    assert len(texts) == len(set(texts)) == 300
    assert all("\x85" in text for text in texts)
    for number, splits in enumerate(folds):
        assert all(mr_fold(one.text) == number for one in splits.test)
        assert not {one.text for one in splits.test} & {
            one.text for one in (*splits.train, *splits.development)
        }
        assert len(splits.train) + len(splits.development) + len(splits.test) == 300


@pytest.mark.skipif(not is_at_hand("sentences"), reason="the set is not at hand")
def test_published_sets_have_their_sizes() -> None:
    config = NamedClasses(subset="trec-6")
    splits = config.load()
    assert (len(splits.train) + len(splits.development), len(splits.test)) == (5442, 500)
    assert len(LabelSet.of(one.label for one in splits.train)) == config.num_classes
    fine = NamedClasses(subset="trec-50")
    found = fine.load()
    assert len(LabelSet.of(one.label for one in found.train)) == fine.num_classes
    assert [one.text for one in found.test] == [one.text for one in splits.test]
    polarity = NamedClasses(subset="sst-2").load()
    assert (len(polarity.train), len(polarity.development), len(polarity.test)) == (6917, 872, 1821)
    assert any("crème brûlée" in one.text for one in polarity.test)
    sizes = [len(read_sentences("mr", fold).test) for fold in range(10)]
    assert sum(sizes) == 10662
    assert min(sizes) > 950


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"0 fine\n0\n", "line 2: wanted a label"), (b"7 what\n", "line 1: label '7' is none of 0, 1")],
)
def test_damaged_lines_are_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_labelled_lines(content, "set", encoding="utf-8", names={"0": "no", "1": "yes"})


def test_config_of_named_sets_refuses_what_there_is_not() -> None:
    for options, message in (
        ({"subset": "trec6"}, "did you mean 'trec-6'"),
        ({"subset": "mr"}, "choose a fold from 0 to 9, got None"),
        ({"subset": "mr", "fold": 10}, "choose a fold from 0 to 9, got 10"),
        ({"subset": "sst-2", "fold": 1}, "has no folds"),
        ({"name": "cmudict"}, "name must be one of"),
    ):
        with pytest.raises(ConfigError, match=message):
            NamedClasses(**options)


def test_columns_follow_a_header(tmp_path: Path) -> None:
    rows = [LabelledText("a fine film", "good", 2), LabelledText("a dull film", "bad", 3)]
    for text in (
        "label\ttext\ngood\ta fine film\nbad\ta dull film\n",
        "Sentence\tid\tLabel\na fine film\t1\tgood\na dull film\t2\tbad\n",
    ):
        assert read_labelled_file(write(tmp_path, text)) == (rows, ())
    plain = write(tmp_path, "good\ta fine film\nbad\ta dull film\n")
    assert [one.label for one in read_labelled_file(plain)[0]] == ["good", "bad"]
    turned = write(tmp_path, "a fine film\tgood\n")
    assert read_labelled_file(turned, label_column=1)[0][0].text == "a fine film"
    with gzip.open(tmp_path / "train.tsv.gz", "wt") as file:
        file.write("good\ta fine film\n")
    assert read_labelled_file(tmp_path / "train.tsv.gz")[0][0].label == "good"


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tone\n\nb\t \n \na\ttwo\n")
    kept, notes = read_labelled_file(path, keeps_empty=False)
    assert [one.line for one in kept] == [1, 5]
    assert notes == (f"{path}: left out 2 empty line(s)", f"{path}: left out 1 row(s) without text")
    assert [one.text for one in read_labelled_file(path)[0]] == ["one", "", "two"], (
        "nothing of a test set is lost"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\tone\nno tab here\n",
            r"line 2: wanted label and text separated by a tab .* got 1 field\(s\): 'no tab",
        ),
        ("a\tone\n\ttwo\n", "line 2: the label is empty"),
        ("label\ttext\n", "no row with a label and a text"),
        ("", "the file is empty"),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ClassFiles(train=write(tmp_path, text)).load()
    assert "\n" not in str(caught.value)


def test_labels_never_seen_and_single_classes(tmp_path: Path) -> None:
    train = write(tmp_path, TRAIN + "NUM\thow many are 3 ?\n")
    unseen = write(tmp_path, "LOCC\twhere is it ?\n", "dev.tsv")
    config = ClassesConfig(dataset=ClassFiles(train=train, development=unseen))
    with pytest.raises(
        DataError, match=r"development, line 1: never seen in training: no label 'LOCC'; did you mean 'LOC'"
    ):
        prepare_classes(config)
    prepared = prepare_classes(ClassesConfig(dataset=ClassFiles(train=train)))
    assert prepared.class_set.labels == ("HUM", "LOC", "NUM")
    assert "NUM" not in [one.label for one in prepared.development.examples]
    assert any(
        "1 class(es) with one training text" in line and "NUM" in line for line in prepared.report.lines()
    )
    one = write(tmp_path, "a\tone\na\ttwo\n", "one.tsv")
    with pytest.raises(DataError, match="all 1 training texts are of one class, 'a'"):
        prepare_classes(ClassesConfig(dataset=ClassFiles(train=one)))


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    share=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_holding_out_loses_nothing_and_no_class(labels: list[str], share: float) -> None:
    examples = [LabelledText(f"text {number % 40}", label) for number, label in enumerate(labels)]
    kept, held_out = hold_out(examples, share=share)
    assert sorted(map(repr, (*kept, *held_out))) == sorted(map(repr, examples))
    assert {one.label for one in kept} == set(labels)


@pytest.mark.parametrize(
    "tokenizer", [Words(min_count=2), Subwords(vocab_size=60), Characters()], ids=lambda one: one.kind
)
def test_prepared_parts_are_those_of_the_files(tmp_path: Path, tokenizer: Any) -> None:
    test = write(tmp_path, "HUM\tWho is person 99?\nLOC\t\n", "test.tsv")
    config = ClassesConfig(
        dataset=ClassFiles(train=write(tmp_path, TRAIN), test=test),
        tokenizer=tokenizer,
        lowercase=True,
        marks_ends=True,
        max_len=8,
        batch_size=4,
    )
    prepared = prepare_classes(config)
    assert (len(prepared.train.lengths), len(prepared.development), len(prepared.test)) == (18, 2, 2)
    assert all(ids[0] == 2 and ids[-1] == 3 and len(ids) <= 8 for ids in prepared.test.sequences)
    assert prepared.test.sequences[1] == [2, 3]
    batch = prepared.train.batch_at(0)
    assert set(batch.classes.tolist()) <= {-1, 0, 1}
    for row, example in enumerate(batch.example_ids.tolist()):
        if example >= 0:
            truth = prepared.class_set.labels[batch.classes[row]]
            assert prepared.encoding.tokenizer.vocab_size > batch.tokens[row].max()
            assert truth in ("HUM", "LOC")
    again = prepare_classes(config, tokenizer=prepared.encoding.tokenizer, class_set=prepared.class_set)
    assert again.train.fingerprint() == prepared.train.fingerprint()
    assert again.development.fingerprint() == prepared.development.fingerprint()


def test_limits_of_length(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        TRAIN + "LOC\tone two three four five six seven\n" + "HUM\tone two three four five six seven\n",
    )

    short = write(tmp_path, "LOC\twhere is it ?\n", "dev.tsv")

    def config(too_long: Any) -> ClassesConfig:
        return ClassesConfig(dataset=ClassFiles(train=path, development=short), max_len=6, too_long=too_long)

    with pytest.raises(DataError, match=r"line 21: 7 tokens, max_len is 6"):
        prepare_classes(config("fail"))
    cut, skipped = (prepare_classes(config(name)) for name in ("truncate", "skip"))
    assert max(cut.train.lengths) == 6
    assert len(skipped.train.lengths) < len(cut.train.lengths)
    assert any("longer than max_len" in line for line in cut.report.lines())


def test_cleaning_is_idempotent_and_keeps_words() -> None:
    for text in ("Who's  in Rome?", "1,000.5 (or so), e-mail", "naïve — café", "a\x85b c", ""):
        once = clean_text(text, lowercase=True, splits_punctuation=True)
        assert clean_text(once, lowercase=True, splits_punctuation=True) == once
        assert "".join(once.split()) == "".join(text.lower().split())


@given(st.text(alphabet="ab ü?-', \n", max_size=30))
def test_each_token_has_its_word(text: str) -> None:
    lines = ["ab ba üb ? - ' , a b"] * 3
    for tokenizer in (train_subword_tokenizer(lines, algorithm="bpe", vocab_size=20),):
        encoding = TextEncoding(tokenizer=tokenizer, splits_punctuation=True)
        words, places = encoding.words(text), encoding.word_of_token(text)
        assert len(places) == len(encoding.encode([text])[0])
        assert places == sorted(places, key=lambda one: -1 if one is None else one)
        assert set(places) == set(range(len(words))), "each word has a token"


def test_batches_hold_what_the_collation_says(tmp_path: Path) -> None:
    prepared = prepare_classes(
        ClassesConfig(dataset=ClassFiles(train=write(tmp_path, TRAIN)), batch_tokens=256)
    )
    counted = np.concatenate(
        [prepared.train.batch_at(step).classes for step in range(prepared.train.batches_per_epoch)]
    )
    assert np.bincount(counted[counted >= 0]).tolist() == [9, 9]
