"""Tokenizers over the bytes of UTF-8 text, which lose nothing: single bytes, and pieces by byte pair encoding."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers as hf

from transformer_jax.bounds import Vocabulary, bound_of
from transformer_jax.data.batches import NUM_SPECIAL_IDS, UNK_ID
from transformer_jax.data.tokenizers import SPECIAL_NAMES, UNKNOWN_TEXT, Tokenizer, encodable
from transformer_jax.errors import ConfigError, DataError

NUM_BYTES = 256


def _byte_letters() -> tuple[str, ...]:
    """The letter that the underlying library writes for each byte: itself where visible, else one from U+0100 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = itertools.count(NUM_BYTES)
    return tuple(chr(byte) if byte in seen else chr(next(unseen)) for byte in range(NUM_BYTES))


BYTE_LETTERS = _byte_letters()
_BYTE_OF = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


class ByteTokenizer(Tokenizer):
    r"""Tokens are sequences of bytes; byte ``b`` alone has id ``b + 4``, and every text is decoded exactly.

    Example:
      >>> tokenizer = single_byte_tokenizer()
      >>> tokenizer.encode("a\n\u00e9"), tokenizer.vocab_size
      ([101, 14, 199, 173], 260)
      >>> tokenizer.decode([101, 14, 199, 173])
      'a\né'
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        """Build from the ``model`` part of a Hugging Face tokenizer's JSON, of type BPE over `BYTE_LETTERS`.

        Raises:
          DataError: If its ids are not the special ones, the bytes in order, and one for each merge.
        """
        vocabulary: Mapping[str, int] = model["vocab"]
        merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
        self._symbols = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
        if (
            [vocabulary[symbol] for symbol in self._symbols] != list(range(len(self._symbols)))
            or self._symbols[: NUM_SPECIAL_IDS + NUM_BYTES] != (*SPECIAL_NAMES, *BYTE_LETTERS)
            or not {letter for symbol in self.symbols for letter in symbol} <= _BYTE_OF.keys()
        ):
            raise DataError(
                "tokenizer: its ids are not the four special ones, the 256 bytes in order, and pieces"
            )
        self.unit = "pieces" if merges else "bytes"
        try:
            self._hf = hf.Tokenizer(hf.models.BPE(vocab=dict(vocabulary), merges=merges))
        except Exception as error:  # what the underlying library raises has no type of its own
            raise DataError(f"tokenizer: its pieces do not fit together: {error}") from None
        self._hf.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(merges))
        self._hf.decoder = hf.decoders.ByteLevel()

    def encode_array(self, text: str) -> npt.NDArray[np.int32]:
        """Ids of a text of any length, as an array."""
        if self.unit != "bytes":
            return super().encode_array(text)
        return np.frombuffer(encodable(text).encode(), np.uint8).astype(np.int32) + NUM_SPECIAL_IDS

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids; bytes that are no UTF-8 become U+FFFD, unknown becomes `UNKNOWN_TEXT`.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return b"".join(self._bytes(ids)).decode(errors="replace")

    def pieces(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        r"""One text for each id that is not padding, start or end; bytes that are no text of their own as ``\xe2``.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return [piece.decode(errors="backslashreplace") for piece in self._bytes(ids)]

    def _bytes(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[bytes]:
        tokens = [token for token in self.checked(ids) if token == UNK_ID or token >= NUM_SPECIAL_IDS]
        return [
            UNKNOWN_TEXT.encode() if token == UNK_ID else bytes(_BYTE_OF[one] for one in self._symbols[token])
            for token in tokens
        ]


def single_byte_tokenizer() -> ByteTokenizer:
    """Tokenizer whose tokens are single bytes: 260 ids, the four special ones included."""
    return ByteTokenizer({"vocab": _vocabulary(()), "merges": []})


def train_byte_pair_tokenizer(texts: Iterable[str], *, vocab_size: int) -> ByteTokenizer:
    r"""Tokenizer over pieces of words and of white space, by byte pair encoding on the bytes, as GPT-2 has it.

    Args:
      texts: Training text; white space and line breaks count.
      vocab_size: Most ids, the special ones and the 256 bytes included; a small text gives fewer.

    Raises:
      ConfigError: If ``vocab_size`` is larger than a vocabulary may be, or has no room for the bytes.

    Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2.

    Example:
      >>> tokenizer = train_byte_pair_tokenizer(["low lower lowest"] * 9, vocab_size=270)
      >>> tokenizer.pieces(tokenizer.encode(" lower\n"))
      [' lower', '\n']
    """
    most = bound_of(Vocabulary) or vocab_size
    least = NUM_SPECIAL_IDS + NUM_BYTES
    if not least <= vocab_size <= most:
        raise ConfigError(f"tokenizer: vocab_size must be {least} to {most:,}, got {vocab_size:,}")
    trained = hf.Tokenizer(hf.models.BPE())
    trained.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size - NUM_SPECIAL_IDS, initial_alphabet=list(BYTE_LETTERS), show_progress=False
    )
    trained.train_from_iterator((encodable(text) for text in texts), trainer=trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return ByteTokenizer(
        {"vocab": _vocabulary([one for one in pieces if len(one) > 1]), "merges": model["merges"]}
    )


def _vocabulary(pieces: Sequence[str]) -> dict[str, int]:
    return {symbol: token for token, symbol in enumerate((*SPECIAL_NAMES, *BYTE_LETTERS, *pieces))}
