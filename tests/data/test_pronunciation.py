"""Pronouncing dictionaries: the format's corners, and a split that does not change."""

import hashlib
import os

import pytest

from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.pairs_config import NamedDataset
from transformer_jax.data.sources import cmudict_g2p
from transformer_jax.data.sources.cmudict import cmudict_split, parse_cmudict
from transformer_jax.data.sources.cmudict_g2p import parse_g2p
from transformer_jax.errors import DataError

# The 39 phonemes of the dictionary, without stress.
PHONEMES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
)


def test_cmudict_format():
    lines = [
        ";;; a comment",
        "'bout B AW1 T",
        "aalborg AO1 L B AO0 R G # place, danish",
        "aalborg(2) AA1 L B AO0 R G",
        "Record R IH0 K AO1 R D",
        "record(2) R EH1 K ER0 D",
        "record(3) R IH2 K AO1 R D",
        "a.m. EY2 EH1 M",
        "ad-lib AE1 D L IH1 B",
        "' AH0",
        "",
    ]
    assert parse_cmudict(lines) == {
        "'bout": ("B AW T",),
        "aalborg": ("AO L B AO R G", "AA L B AO R G"),
        "record": ("R IH K AO R D", "R EH K ER D"),
    }


def test_g2p_format():
    assert parse_g2p(["AB\tAE B", "AB\tEY B", "AB\tAE B"]) == {"ab": ("AE B", "EY B")}


@pytest.mark.parametrize(
    ("parse", "line", "message"),
    [
        (parse_cmudict, "word", "line 2: a word without phonemes"),
        (parse_cmudict, "word W 3R D", "line 2: '3R' is not a phoneme"),
        (parse_g2p, "WORD W ER D", "line 2: wanted word, tab, phonemes; got 1 field"),
        (parse_g2p, "WORD\t", "line 2: a word without phonemes"),
    ],
)
def test_bad_lines_are_named(parse, line, message):
    good = "a AH0" if parse is parse_cmudict else "A\tAH"
    with pytest.raises(DataError, match=message):
        parse([good, line], "here")


def test_split_is_the_hash_of_the_word():
    for word in ("hello", "world", "it's", "zebra"):
        digest = hashlib.sha256(word.encode()).hexdigest()
        fraction = int(digest[:16], 16) / 16**16
        assert hash_fraction(word) == fraction
        wanted = "test" if fraction < 0.05 else "development" if fraction < 0.1 else "train"
        assert cmudict_split(word) == wanted


def test_cmudict_split_holds_what_it_should():
    splits = NamedDataset(name="cmudict").load()
    train = {pair.source for pair in splits.train}
    development = {item.source for item in splits.development}
    test = {item.source for item in splits.test}
    assert not train & development
    assert not (train | development) & test
    total = len(train) + len(development) + len(test)
    assert total > 120_000
    assert len(development) / total == pytest.approx(0.05, abs=0.005)
    assert len(test) / total == pytest.approx(0.05, abs=0.005)
    assert len(splits.development) == len(development), "one item for each word"
    assert {phoneme for pair in splits.train for phoneme in pair.target.split(" ")} == set(
        PHONEMES.split(" ")
    )
    assert set("".join(train)) == set("abcdefghijklmnopqrstuvwxyz'")
    assert len({(pair.source, pair.target) for pair in splits.train}) == len(splits.train)
    # The items stand in the order of their hashes, so that a first part of them is a random sample.
    assert len({item.source[0] for item in splits.test[:200]}) > 15
    assert sum(len(item.references) for item in splits.test) > len(splits.test), "several for some words"


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("TRANSFORMER_JAX_DATA", ""), "cmudict-g2p")),
    reason="the set cmudict-g2p is not in $TRANSFORMER_JAX_DATA",
)
def test_standard_split_counts():
    splits = NamedDataset(name="cmudict-g2p").load()
    development = {item.source for item in splits.development}
    train = {pair.source for pair in splits.train}
    assert len(splits.test) == 12_000
    assert sum(len(item.references) for item in splits.test) == 12_753
    assert len(train) + len(development) == 106_837
    assert len(splits.train) + sum(len(item.references) for item in splits.development) == 113_438
    assert not train & development
    assert len(development) / 106_837 == pytest.approx(cmudict_g2p.DEVELOPMENT_SHARE, abs=0.003)
    assert not {item.source for item in splits.test} & (train | development)
