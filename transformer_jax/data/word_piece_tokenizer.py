"""WordPiece as BERT has it: words cut greedily into the longest known pieces, and a token that hides others."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers as hf

from transformer_jax.bounds import Vocabulary, bound_of
from transformer_jax.data.batches import NUM_SPECIAL_IDS, UNK_ID
from transformer_jax.data.tokenizers import SPACE_MARK, SPECIAL_NAMES, Tokenizer, encodable
from transformer_jax.errors import ConfigError, DataError

CONTINUATION = "##"
"""Prefix of a piece that continues a word."""

MASK_ID = NUM_SPECIAL_IDS
"""Id of the token that hides others; the start and the end token stand for [CLS] and [SEP]."""

_MASK_NAME = "special: mask"
_OWN_NAMES = (*SPECIAL_NAMES, _MASK_NAME)


class WordPieceTokenizer(Tokenizer):
    """Pieces of words; white space and case (where ``lowercase``) are lost, and punctuation stands alone.

    Example:
      >>> tokenizer = train_word_piece_tokenizer(["low lower lowest"] * 9, vocab_size=26)
      >>> tokenizer.pieces(tokenizer.encode("Lower, lows"))
      ['lower', '<unk>', 'low', '##s']
      >>> tokenizer.decode(tokenizer.encode("Lower low"))
      'lower low'

    Source: Schuster & Nakajima 2012, https://doi.org/10.1109/ICASSP.2012.6289079; Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805, section 3.
    """

    def __init__(self, symbols: Sequence[str], *, lowercase: bool) -> None:
        """Build from the vocabulary.

        Args:
          symbols: The pieces, those that continue a word with `CONTINUATION`; piece ``i`` gets id ``i + 5``.
          lowercase: Whether texts are written in lower case and without accents first.

        Raises:
          DataError: If a piece is given twice, or holds white space.
        """
        self.unit = "subwords"
        self.lowercase = lowercase
        self._symbols = (*_OWN_NAMES, *symbols)
        vocabulary = {symbol: token for token, symbol in enumerate(self._symbols)}
        if len(vocabulary) != len(self._symbols):
            raise DataError("tokenizer: a piece is in the vocabulary twice")
        for symbol in symbols:
            if not symbol.removeprefix(CONTINUATION) or len(symbol.split()) != 1:
                raise DataError(f"tokenizer: {symbol!r} is no piece of a word")
        model = hf.models.WordPiece(
            vocabulary, unk_token=SPECIAL_NAMES[UNK_ID], continuing_subword_prefix=CONTINUATION
        )
        self._hf = hf.Tokenizer(model)
        self._hf.normalizer = _normalizer(lowercase)
        self._hf.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
        self._hf.decoder = hf.decoders.WordPiece(prefix=CONTINUATION, cleanup=False)

    @classmethod
    def from_document(cls, document: Any) -> "WordPieceTokenizer":
        """Build from the parsed JSON of a file that ``save`` wrote.

        Raises:
          DataError: If its ids are not 0, 1, 2, ..., or the first five are not the special ones.
        """
        vocabulary: dict[str, int] = document["model"]["vocab"]
        symbols = sorted(vocabulary, key=vocabulary.__getitem__)
        is_whole = [vocabulary[symbol] for symbol in symbols] == list(range(len(symbols)))
        if not is_whole or tuple(symbols[: len(_OWN_NAMES)]) != _OWN_NAMES:
            raise DataError("tokenizer: its ids are not 0, 1, 2, ... with the five special ones first")
        return cls(symbols[len(_OWN_NAMES) :], lowercase=bool(document["normalizer"]["lowercase"]))

    @property
    def mask_id(self) -> int:
        """Id of the token that hides others."""
        return MASK_ID

    def continuations(self) -> npt.NDArray[np.bool_]:
        """``[vocab]``, whether a token continues the word of the token before it."""
        return np.array([symbol.startswith(CONTINUATION) for symbol in self._symbols])

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any id would mean something else."""
        content = json.dumps([self.unit, self.lowercase, self._symbols])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids; padding, start, end and mask are left out, unknown becomes ``<unk>``.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return " ".join(self.pieces(ids)).replace(f" {CONTINUATION}", "").removeprefix(CONTINUATION)

    def decode_text(
        self,
        ids: Sequence[int] | npt.NDArray[np.integer],
        *,
        before: Sequence[int] | npt.NDArray[np.integer] = (),
    ) -> str:
        """Text of the ids where they stand in a text, see `Tokenizer.decode_text`."""
        pieces = self.pieces(ids)
        is_apart = len(before) > 0 and bool(pieces) and not pieces[0].startswith(CONTINUATION)
        return f" {self.decode(ids)}" if is_apart else self.decode(ids)

    def pieces(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """One text for each id that is not padding, start, end or mask.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return super().pieces([token for token in self.checked(ids) if token != MASK_ID])


def train_word_piece_tokenizer(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = True
) -> WordPieceTokenizer:
    """Tokenizer over pieces of words, the most frequent by byte pair encoding, for greedy cutting.

    Every character of the text is a piece at the start of a word and inside of one, so only characters that the text
    does not have are unknown. The same texts give the same tokenizer, in any process: the trainer of the underlying
    library for WordPiece numbers the pieces inside of words in the order of a hash table, so its trainer for byte pairs
    is used, on words that begin with a mark.

    Args:
      texts: Training text.
      vocab_size: Most ids, the five special ones included; a small text gives fewer.
      lowercase: Whether to write texts in lower case and without accents.

    Raises:
      ConfigError: If ``vocab_size`` is larger than a vocabulary may be.
      DataError: If the text has no character, or more different ones than ``vocab_size`` has room for.
    """
    most = bound_of(Vocabulary)
    if most is not None and vocab_size > most:
        raise ConfigError(f"tokenizer: vocab_size must be at most {most:,}, got {vocab_size:,}")
    trained = hf.Tokenizer(hf.models.BPE())
    trained.normalizer = hf.normalizers.Sequence(
        [hf.normalizers.Replace(SPACE_MARK, "_"), _normalizer(lowercase)]
    )
    trained.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [
            hf.pre_tokenizers.BertPreTokenizer(),
            hf.pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always", split=False),
        ]
    )
    # Characters at the start of words and the mark take places that the vocabulary does not need.
    trainer = hf.trainers.BpeTrainer(vocab_size=2 * vocab_size, show_progress=False)
    trained.train_from_iterator((encodable(text) for text in texts), trainer=trainer)
    model = json.loads(trained.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    characters = [piece for piece in learned if len(piece) == 1 and piece != SPACE_MARK]
    if not characters:
        raise DataError("tokenizer: the text holds no character but white space")
    cut = hf.pre_tokenizers.BertPreTokenizer()
    inside = [one for one in characters if len(cut.pre_tokenize_str(f"a{one}")) == 1]
    needed = [*characters, *(CONTINUATION + one for one in inside)]
    least = len(_OWN_NAMES) + len(needed)
    if least > vocab_size:
        raise DataError(
            f"tokenizer: vocab_size {vocab_size} must be at least {least} for text of {len(characters)} different "
            "characters"
        )
    found = dict.fromkeys(needed)
    for piece in learned:
        if len(found) + len(_OWN_NAMES) == vocab_size:
            break
        if len(piece) > 1:  # of single characters all that is needed is there
            is_start = piece.startswith(SPACE_MARK)
            found[piece.removeprefix(SPACE_MARK) if is_start else CONTINUATION + piece] = None
    return WordPieceTokenizer(list(found), lowercase=lowercase)


def _normalizer(lowercase: bool) -> Any:
    return hf.normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
