"""Readers of words with labels: CoNLL-U, columns, Snips' three files; what can be wrong is one clear line."""

import gzip
import lzma
from pathlib import Path

import pytest

from transformer_jax.data.sources.named_tags import NamedTags
from transformer_jax.data.sources.registry import names_with
from transformer_jax.data.sources.snips_slots import read_slot_lines
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.sources.tag_files import TagFiles
from transformer_jax.data.sources.tag_lines import read_columns, read_conllu, read_tag_file
from transformer_jax.data.tagged_text import TaggedSentence, with_held_out
from transformer_jax.errors import ConfigError, DataError

CONLLU = """# sent_id = one
# text = I don't know
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tknow\tknow\tVERB\tVB\t_\t0\troot\t_\t_
4.1\tit\tit\tPRON\tPRP\t_\t_\t_\t_\t_

# class = short
1\t#\t#\tSYM\tNFP\t_\t0\troot\t_\t_
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_conllu_without_multi_word_tokens_and_empty_nodes(tmp_path: Path) -> None:
    text = CONLLU.replace("# class = short\n", "")
    found = read_conllu(write(tmp_path / "a.conllu", text))
    assert found == [
        TaggedSentence(("I", "do", "n't", "know"), ("PRON", "AUX", "PART", "VERB")),
        TaggedSentence(("#",), ("SYM",)),
    ]
    assert [one.line for one in found] == [3, 10]
    assert read_conllu(tmp_path / "a.conllu", column="xpos")[0].labels == ("PRP", "VBP", "RB", "VB")


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_compressed_files_are_known_by_their_names(tmp_path: Path, suffix: str, pack) -> None:
    path = tmp_path / f"a.conllu{suffix}"
    path.write_bytes(pack(CONLLU.replace("# class = short\n", "").encode()))
    assert len(read_tag_file(path)) == 2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("1\tI\t", "1 I\t", "line 3: wanted the 10 fields of CoNLL-U separated by tabs, got 9"),
        ("3\tn't", "5\tn't", "line 6: wanted word 3, got number '5'"),
        ("\tVERB\tVB", "\t_\tVB", "line 7: word 'know' has no upos"),
        ("# class = short\n", "# class = short\n", "line 3: this sentence has no comment '# class = NAME'"),
    ],
)
def test_conllu_that_is_wrong(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = write(tmp_path / "a.conllu", CONLLU.replace(before, after))
    with pytest.raises(DataError, match=message):
        read_conllu(path)


def test_columns_by_tabs_and_by_blanks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tsv",
        "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nNew York\tB-LOC\r\n#\tO\n",
    )
    assert read_columns(path) == [
        TaggedSentence(("EU", "rejects"), ("B-ORG", "O")),
        TaggedSentence(("New York", "#"), ("B-LOC", "O")),
    ]
    path = write(tmp_path / "b.txt", "a b c\n")
    assert read_columns(path, word_column=2, label_column=0) == [TaggedSentence(("c",), ("a",))]


def test_a_line_of_headings_is_no_word(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "Word\tTag\nword\tNOUN\ntag\ttag\n\nword\ttag\n")
    assert read_columns(path) == [
        TaggedSentence(("word", "tag"), ("NOUN", "tag")),
        TaggedSentence(("word",), ("tag",)),
    ]


def test_classes_of_sentences(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tsv", "# class = PlayMusic\nplay\tO\njazz\tB-genre\n\n# class = GetWeather\nrain\tO\n"
    )
    assert [one.label for one in read_columns(path)] == ["PlayMusic", "GetWeather"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alone\n", "line 1: wanted a word and its label, separated by a tab or a blank, got 'alone'"),
        ("a\tX\nb\t\n", "line 2: the label is empty"),
        ("\n\n", "no sentence"),
        ("", "the file is empty"),
        ("a\tX\0\n", "binary file"),
    ],
)
def test_columns_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_columns(write(tmp_path / "a.tsv", text))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: wanted columns 0 and 3, got 2 fields"):
        read_columns(write(tmp_path / "a.tsv", "a\tX\n"), label_column=3)


def test_files_of_ones_own(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", "".join(f"w{i}\tX\n\n" for i in range(20)) * 2)
    splits = TagFiles(train=str(train)).load()
    assert len(splits.train) == 36
    assert len(splits.development) == 4
    assert not {one.words for one in splits.train} & {one.words for one in splits.development}
    assert splits.notes == ("development set: 10% of the sentences, held out of the training set",)
    given = TagFiles(train=str(train), development=str(train), test=str(train)).load()
    assert len(given.train) == len(given.development) == len(given.test) == 40


def test_one_sentence_leaves_none_to_hold_out() -> None:
    splits = with_held_out([TaggedSentence(("a",), ("X",))], None, None)
    assert len(splits.train) == 1
    assert "too few different sentences" in splits.notes[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": ""}, "the path of train is empty"),
        ({"train": "a", "label_column": 0}, "are the same"),
        ({"train": "a", "format": "csv"}, "format must be one of"),
        ({"train": "a", "conllu_column": "pos"}, "conllu_column must be one of 'upos', 'xpos'"),
    ],
)
def test_configs_of_files_that_cannot_be(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TagFiles(**fields)


def test_a_sentence_has_a_label_for_each_word() -> None:
    with pytest.raises(DataError, match="got 2 words and 1 labels"):
        TaggedSentence(("a", "b"), ("X",))


def test_snips_lines_that_do_not_belong_together() -> None:
    assert read_slot_lines(["a\u00a0b  c "], [" O O"], ["X"], "here")[0].words == ("a\u00a0b", "c")
    with pytest.raises(DataError, match="here, line 2: 1 words, 2 slots"):
        read_slot_lines(["a", "b"], ["O", "O O"], ["X", "X"], "here")
    with pytest.raises(DataError, match="wanted as many"):
        read_slot_lines(["a"], ["O"], [], "here")


def test_named_sets() -> None:
    assert names_with("tags") == ["snips-slots", "ud-english-ewt"]
    with pytest.raises(ConfigError, match="did you mean 'snips-slots'"):
        NamedTags(name="snips-slot")


@pytest.mark.skipif(not is_at_hand("ud-english-ewt"), reason="the treebank is not at hand")
def test_the_treebank_has_its_published_sizes() -> None:
    splits = NamedTags(name="ud-english-ewt").load()
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [12544, 2001, 2077]
    assert sum(len(one.words) for one in splits.train) == 204577
    assert len({label for one in splits.train for label in one.labels}) == 17
    with pytest.raises(DataError, match="no annotation 'lemma'; it has upos, xpos"):
        NamedTags(name="ud-english-ewt", annotation="lemma").load()


@pytest.mark.skipif(not is_at_hand("snips-slots"), reason="the set is not at hand")
def test_snips_has_its_published_sizes() -> None:
    splits = NamedTags(name="snips-slots").load()
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [13084, 700, 700]
    assert len({one.label for one in splits.train}) == 7
    assert len({label[2:] for one in splits.train for label in one.labels if label != "O"}) == 39
