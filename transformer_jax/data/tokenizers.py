"""Character, word and subword tokenizers on Hugging Face ``tokenizers``, saved as its JSON.

Ids 0 to 3 are padding, unknown, start and end. They are never registered as special tokens of the
underlying library, which would look for their spelling inside texts; their names hold a space, so that no
piece of a text, a character or a word without spaces, can spell one of them.
"""

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tokenizers as hf

from transformer_jax.bounds import Vocabulary, bound_of
from transformer_jax.data.batches import BOS_ID, EOS_ID, NUM_SPECIAL_IDS, PAD_ID, UNK_ID
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.files import write_whole

Unit = Literal["characters", "words", "subwords", "bytes", "pieces"]
Algorithm = Literal["bpe", "unigram"]

SPECIAL_NAMES = ("special: pad", "special: unk", "special: bos", "special: eos")
UNKNOWN_TEXT = "<unk>"
"""Text that `Tokenizer.decode` writes for an unknown piece."""

MAX_FILE_BYTES = 64_000_000

SPACE_MARK = "\u2581"
"""Prefix of a subword at the start of a word. In a text it is read as ``_``, so that decoding is unambiguous."""

# The characters with Unicode's White_Space property, where the underlying library splits words;
# `str.split` also splits at the four control characters U+001C to U+001F.
_WORD = re.compile("[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """Maps text to ids and back, by single characters or by words between white space.

    Characters keep every text exactly, line breaks and white space included; see also `SubwordTokenizer` and
    `ByteTokenizer`.

    Example:
      >>> tokenizer = train_character_tokenizer(["cab"])
      >>> tokenizer.encode("abc")
      [4, 5, 6]
      >>> tokenizer.decode([4, 5, 6])
      'abc'
    """

    def __init__(self, unit: Unit, symbols: Sequence[str]) -> None:
        """Build from the vocabulary.

        Args:
          unit: What a token is.
          symbols: The characters or words; symbol ``i`` gets id ``i + 4``.

        Raises:
          DataError: If a symbol is given twice, or is not one character or one word.
        """
        self.unit: Unit = unit
        self._symbols = (*SPECIAL_NAMES, *symbols)
        vocabulary = {symbol: index for index, symbol in enumerate(self._symbols)}
        if len(vocabulary) != len(self._symbols):
            repeated = next(symbol for symbol, count in Counter(self._symbols).items() if count > 1)
            raise DataError(f"tokenizer: symbol {repeated!r} is in the vocabulary twice")
        for symbol in symbols:
            if (len(symbol) != 1) if unit == "characters" else not _WORD.fullmatch(symbol):
                raise DataError(f"tokenizer: {symbol!r} is not a single one of {unit}")
        self._hf = hf.Tokenizer(hf.models.WordLevel(vocabulary, unk_token=SPECIAL_NAMES[UNK_ID]))
        self._hf.pre_tokenizer = (
            hf.pre_tokenizers.Split(hf.Regex(r"[\s\S]"), "isolated")
            if unit == "characters"
            else hf.pre_tokenizers.WhitespaceSplit()
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids, the four special ones included."""
        return len(self._symbols)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any id would mean something else."""
        model = json.loads(self._hf.to_str())["model"]
        rules = (
            model["merges"]
            if model["type"] == "BPE"
            else []
            if model["type"] == "WordLevel"
            else model["vocab"]
        )
        content = json.dumps([self.unit, self._symbols, rules])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The vocabulary in order of ids, without the four special ones."""
        return self._symbols[NUM_SPECIAL_IDS:]

    @property
    def mask_id(self) -> int:
        """Id that stands for a hidden token; the unknown one where the vocabulary has no token for it."""
        return UNK_ID

    def continuations(self) -> npt.NDArray[np.bool_]:
        """``[vocab]``, whether a token continues the word of the token before it.

        Raises:
          DataError: If tokens do not say where words begin, as characters and bytes do not.

        Example:
          >>> Tokenizer("words", ["to"]).continuations().tolist()
          [False, False, False, False, False]
        """
        if self.unit != "words":
            raise DataError(f"tokenizer: its {self.unit} do not say where words begin; choose 'word_pieces'")
        return np.zeros(self.vocab_size, bool)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without start and end; pieces outside of the vocabulary become the unknown id."""
        return list(self._hf.encode(encodable(text), add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, faster than one by one."""
        safe = [encodable(text) for text in texts]
        return [encoding.ids for encoding in self._hf.encode_batch_fast(safe, add_special_tokens=False)]

    def encode_array(self, text: str) -> npt.NDArray[np.int32]:
        """Ids of a text of any length, as an array: `encode` without a Python object for each token.

        Example:
          >>> train_character_tokenizer(["cab"]).encode_array("abcd")
          array([4, 5, 6, 1], dtype=int32)
        """
        if self.unit != "characters":
            return np.asarray(self.encode_batch([text])[0], np.int32)
        points, places = np.unique(_code_points(text), return_inverse=True)
        known = {ord(symbol): token for token, symbol in enumerate(self.symbols, NUM_SPECIAL_IDS)}
        ids = np.array([known.get(point, UNK_ID) for point in points.tolist()], np.int32)
        return ids[places] if len(ids) else ids

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids; padding, start and end are left out, unknown becomes `UNKNOWN_TEXT`.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return ("" if self.unit == "characters" else " ").join(self.pieces(ids))

    def decode_text(
        self,
        ids: Sequence[int] | npt.NDArray[np.integer],
        *,
        before: Sequence[int] | npt.NDArray[np.integer] = (),
    ) -> str:
        """Text of the ids where they stand in a text: white space and line breaks at both ends are kept.

        Args:
          ids: The ids.
          before: Ids that stand before them, of which the last few are looked at; none at the start of a text.

        Raises:
          DataError: If an id is not in the vocabulary.

        Example:
          >>> Tokenizer("words", ["to", "be"]).decode_text([5], before=[4])
          ' be'
        """
        text = self.decode(ids)
        return f" {text}" if self.unit == "words" and text and len(before) else text

    def decode_line(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids on one line: line breaks in it are written as escapes, see `escape_line_breaks`.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return escape_line_breaks(self.decode(ids))

    def pieces(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """One text for each id that is not padding, start or end.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        pieces = []
        for token in self.checked(ids):
            if token == UNK_ID:
                pieces.append(UNKNOWN_TEXT)
            elif token not in (PAD_ID, BOS_ID, EOS_ID):
                pieces.append(self._symbols[token])
        return pieces

    def checked(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[int]:
        """The ids as a list.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        tokens = list(map(int, ids))
        for token in tokens:
            if not 0 <= token < self.vocab_size:
                raise DataError(f"tokenizer: id {token} is not between 0 and {self.vocab_size - 1}")
        return tokens

    def count_unknown(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> int:
        """Number of ids that are the unknown id."""
        return int(np.count_nonzero(np.asarray(ids) == UNK_ID))

    def unknown_pieces(self, text: str) -> list[str]:
        """Pieces of the text that are not in the vocabulary, in order."""
        if self.unit == "characters":
            safe = encodable(text)
            return [safe[place] for place in np.flatnonzero(self.encode_array(safe) == UNK_ID).tolist()]
        return [
            encodable(text)[start:stop]
            for token, (start, stop) in zip(self.encode(text), self.spans(text))
            if token == UNK_ID
        ]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each token in the text, in characters."""
        return list(self._hf.encode(encodable(text), add_special_tokens=False).offsets)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON of the underlying library, which other programs can read."""
        write_whole(Path(path), self._hf.to_str(pretty=True) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Read a file that `save` wrote, or the ``tokenizer.json`` of another program (see `ForeignTokenizer`).

        Raises:
          DataError: If the file is missing, damaged, or no tokenizer.
        """
        try:
            if os.path.getsize(path) > MAX_FILE_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes; not a tokenizer")
            text = Path(path).read_bytes()
            document = json.loads(text)
        except OSError as error:
            raise DataError(f"{path}: cannot read the tokenizer: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: the tokenizer file is damaged: not JSON") from None
        if not _is_own(document):
            from transformer_jax.data.foreign_tokenizer import ForeignTokenizer  # which imports this module

            try:
                return ForeignTokenizer(text.decode())
            except (DataError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: {error}") from None
        try:
            if document["pre_tokenizer"]["type"] == "ByteLevel":
                from transformer_jax.data.byte_tokenizer import ByteTokenizer  # which imports this module

                return ByteTokenizer(document["model"])
            if document["model"]["type"] == "WordPiece":
                from transformer_jax.data.word_piece_tokenizer import (
                    WordPieceTokenizer,  # which imports this module
                )

                return WordPieceTokenizer.from_document(document)
            if document["model"]["type"] in ("BPE", "Unigram"):
                return SubwordTokenizer(document["model"])
            unit: Unit = {"Split": "characters", "WhitespaceSplit": "words"}[
                document["pre_tokenizer"]["type"]
            ]  # type: ignore[assignment]
            vocabulary = document["model"]["vocab"]
            symbols = sorted(vocabulary, key=vocabulary.__getitem__)
            if document["model"]["type"] != "WordLevel" or [vocabulary[symbol] for symbol in symbols] != list(
                range(len(symbols))
            ):
                raise ValueError
            if tuple(symbols[:NUM_SPECIAL_IDS]) != SPECIAL_NAMES:
                raise ValueError
            return cls(unit, symbols[NUM_SPECIAL_IDS:])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise DataError(
                f"{path}: not a tokenizer that this library saved, or damaged; take a copy that is whole, or "
                "train again"
            ) from None


def _is_own(document: Any) -> bool:
    """True if a tokenizer's JSON has one of this library's special tokens, or no known form at all."""
    try:
        vocabulary = document["model"]["vocab"]
        names = vocabulary if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]
        return not set(names).isdisjoint(SPECIAL_NAMES)
    except (KeyError, TypeError, ValueError):
        return True  # the reader of our own files says what is wrong


class SubwordTokenizer(Tokenizer):
    """Pieces of words, by byte pair encoding or by a unigram model; white space counts as single spaces.

    Example:
      >>> tokenizer = train_subword_tokenizer(["low lower lowest"] * 9, algorithm="bpe", vocab_size=16)
      >>> tokenizer.pieces(tokenizer.encode("lower low"))
      ['▁lowe', 'r', '▁low']
      >>> tokenizer.decode(tokenizer.encode(" lower   low "))
      'lower low'
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        """Build from the ``model`` part of a Hugging Face tokenizer's JSON.

        Raises:
          DataError: If its ids are not 0, 1, 2, ..., or the first four are not the special ones.
        """
        self.unit = "subwords"
        if model["type"] == "BPE":
            vocabulary: dict[str, int] = model["vocab"]
            symbols = sorted(vocabulary, key=vocabulary.__getitem__)
            is_whole = [vocabulary[symbol] for symbol in symbols] == list(range(len(symbols)))
        else:
            symbols = [str(piece) for piece, _ in model["vocab"]]
            is_whole = len(set(symbols)) == len(symbols)
        if not is_whole or tuple(symbols[:NUM_SPECIAL_IDS]) != SPECIAL_NAMES:
            raise DataError("tokenizer: its ids are not 0, 1, 2, ... with the four special ones first")
        self._symbols = tuple(symbols)
        self._hf = hf.Tokenizer(_backend(model))
        _cut_into_words(self._hf)

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids; padding, start and end are left out, unknown becomes `UNKNOWN_TEXT`.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return "".join(self.pieces(ids)).replace(SPACE_MARK, " ").strip(" ")

    def decode_text(
        self,
        ids: Sequence[int] | npt.NDArray[np.integer],
        *,
        before: Sequence[int] | npt.NDArray[np.integer] = (),
    ) -> str:
        """Text of the ids where they stand in a text, see `Tokenizer.decode_text`."""
        text = "".join(self.pieces(ids)).replace(SPACE_MARK, " ")
        return text if len(before) else text.removeprefix(" ")

    def continuations(self) -> npt.NDArray[np.bool_]:
        """``[vocab]``, whether a token continues the word of the token before it."""
        starts = np.array([symbol.startswith(SPACE_MARK) for symbol in self._symbols])
        starts[:NUM_SPECIAL_IDS] = True
        return ~starts


def _backend(model: Mapping[str, Any]) -> Any:
    try:
        if model["type"] == "BPE":
            merges = [
                tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]
            ]
            return hf.models.BPE(vocab=model["vocab"], merges=merges, unk_token=SPECIAL_NAMES[UNK_ID])
        pieces = [(piece, float(score)) for piece, score in model["vocab"]]
        return hf.models.Unigram(pieces, unk_id=UNK_ID)
    except Exception as error:  # what the underlying library raises has no type of its own
        raise DataError(f"tokenizer: its subwords do not fit together: {error}") from None


def _cut_into_words(tokenizer: hf.Tokenizer) -> None:
    """White space becomes single spaces, and each word begins with the mark."""
    tokenizer.normalizer = hf.normalizers.Sequence(
        [
            hf.normalizers.Replace(SPACE_MARK, "_"),
            hf.normalizers.Replace(hf.Regex(r"\s+"), " "),
            hf.normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    tokenizer.decoder = hf.decoders.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")


def train_subword_tokenizer(
    lines: Iterable[str], *, algorithm: Algorithm, vocab_size: int
) -> SubwordTokenizer:
    """Tokenizer over pieces of words.

    Args:
      lines: Training text.
      algorithm: ``"bpe"``, which joins the most frequent pairs, or ``"unigram"``, which drops the pieces that the
        text's likelihood misses least.
      vocab_size: Most ids, special ones included; a small text gives fewer.

    The same lines give the same tokenizer, in any process: what the underlying trainer leaves to the order of its hash
    tables is put in order afterwards.

    Raises:
      ConfigError: If ``vocab_size`` is larger than a vocabulary may be: the trainer would take memory for all of it.
      DataError: If the text has no character, or more different ones than ``vocab_size`` has room for.

    Source: Sennrich et al. 2016, https://aclanthology.org/P16-1162; Kudo 2018, https://aclanthology.org/P18-1007.
    """
    most = bound_of(Vocabulary)
    if most is not None and vocab_size > most:
        raise ConfigError(f"tokenizer: vocab_size must be at most {most:,}, got {vocab_size:,}")
    safe = [encodable(line) for line in lines]
    characters = {one for one in set("".join(safe).replace(SPACE_MARK, "_")) if not one.isspace()}
    if not characters:
        raise DataError("tokenizer: the text holds no character but white space")
    if len(characters) + NUM_SPECIAL_IDS + 1 > vocab_size:
        raise DataError(
            f"tokenizer: vocab_size {vocab_size} must be at least {len(characters) + NUM_SPECIAL_IDS + 1} for text of "
            f"{len(characters)} different characters"
        )
    names = list(SPECIAL_NAMES)
    if algorithm == "bpe":
        backend: Any = hf.models.BPE(unk_token=SPECIAL_NAMES[UNK_ID])
        trainer: Any = hf.trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=names, show_progress=False
        )
    else:
        backend = hf.models.Unigram()
        trainer = hf.trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=names, unk_token=SPECIAL_NAMES[UNK_ID], show_progress=False
        )
    trained = hf.Tokenizer(backend)
    _cut_into_words(trained)
    trained.train_from_iterator(safe, trainer=trainer)
    model = json.loads(trained.to_str())["model"]
    if algorithm == "unigram":
        special, pieces = model["vocab"][:NUM_SPECIAL_IDS], model["vocab"][NUM_SPECIAL_IDS:]
        model["vocab"] = [*special, *_without_hash_order(pieces)]
    return SubwordTokenizer(model)


# What the trainer adds to the score of each further character that no piece of its own was left for.
_CHARACTER_STEP = 0.0001
_SCORE_DIGITS = 3


def _without_hash_order(pieces: Sequence[Sequence[Any]]) -> list[tuple[str, float]]:
    """The pieces of a trained unigram model with scores and an order that do not change from run to run.

    Its trainer walks through hash tables whose order is drawn anew each time, which shows in three ways: characters
    that no piece was left for get rising scores, from the lowest one on, in that order; sums of counts differ in their
    last digits; and equal scores stand in any order. Here such characters get these scores in the order of code
    points, scores have three decimals, and equal ones are sorted by their text.

    Example:
      >>> for drawn in ("abcdefg", "gbdacfe"):
      ...     pieces = [["ab", -2.00000001], *([one, -9.0 + 0.0001 * place] for place, one in enumerate(drawn))]
      ...     print(_without_hash_order(pieces)[:4])
      [('ab', -2.0), ('f', -8.999), ('g', -8.999), ('a', -9.0)]
      [('ab', -2.0), ('f', -8.999), ('g', -8.999), ('a', -9.0)]
    """
    scores = {str(piece): float(score) for piece, score in pieces}
    lowest = min(scores.values())
    by_step: dict[int, list[str]] = {}
    for piece, score in scores.items():
        step = round((score - lowest) / _CHARACTER_STEP)
        if len(piece) == 1 and abs(score - lowest - step * _CHARACTER_STEP) < 1e-7:
            by_step.setdefault(step, []).append(piece)
    num_steps = next(step for step in itertools.count() if step not in by_step)
    left_over = sorted(itertools.chain.from_iterable(by_step[step] for step in range(num_steps)))
    rising = sorted(scores[piece] for piece in left_over)
    scores |= dict(zip(left_over, rising, strict=True))
    rounded = ((piece, round(score, _SCORE_DIGITS)) for piece, score in scores.items())
    return sorted(rounded, key=lambda one: (-one[1], one[0]))


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(encodable(text).encode("utf-32-le"), np.uint32)


def encodable(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 has no form for, replaced by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def train_character_tokenizer(lines: Iterable[str], *, max_size: int | None = None) -> Tokenizer:
    """Tokenizer over the characters of the lines, in order of code points.

    Args:
      lines: Training text.
      max_size: Keep the most frequent ones so that `Tokenizer.vocab_size` is at most this.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(encodable(line))
    return Tokenizer("characters", sorted(_most_frequent(counts, max_size, 1)))


def train_word_tokenizer(
    lines: Iterable[str], *, max_size: int | None = None, min_count: int = 1
) -> Tokenizer:
    """Tokenizer over the words of the lines, most frequent first, then in order of code points.

    Args:
      lines: Training text; words stand between white space.
      max_size: Keep the most frequent words so that `Tokenizer.vocab_size` is at most this.
      min_count: Leave out words seen less often.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(_WORD.findall(encodable(line)))
    return Tokenizer("words", _most_frequent(counts, max_size, min_count))


def _most_frequent(counts: Counter[str], max_size: int | None, min_count: int) -> list[str]:
    kept = [symbol for symbol, count in counts.items() if count >= min_count]
    kept.sort(key=lambda symbol: (-counts[symbol], symbol))
    return kept if max_size is None else kept[: max(0, max_size - NUM_SPECIAL_IDS)]
