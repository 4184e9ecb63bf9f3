"""Any ``tokenizer.json`` of Hugging Face's ``tokenizers``, with this library's special ids before its own."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers as hf

from transformer_jax.data.batches import NUM_SPECIAL_IDS, UNK_ID
from transformer_jax.data.tokenizers import SPECIAL_NAMES, UNKNOWN_TEXT, Tokenizer
from transformer_jax.errors import DataError, shortened
from transformer_jax.files import write_whole

_CONTEXT = 8
"""Ids before a part of a text that its decoding looks at."""


class ForeignTokenizer(Tokenizer):
    """A tokenizer that another program made; its id ``i`` is ``i + 4`` here, and its unknown one is ours.

    It normalises, pre-tokenizes and decodes as its file says; its start, end and padding tokens, its truncation and its
    padding are not used. A text that spells one of them is text: ``<s>`` in a line is cut into pieces
    like any other word, and comes back.

    Example:
      >>> theirs = hf.Tokenizer(hf.models.WordLevel({"[UNK]": 0, "yes": 1, "no": 2}, unk_token="[UNK]"))
      >>> theirs.pre_tokenizer = hf.pre_tokenizers.Whitespace()
      >>> tokenizer = ForeignTokenizer(theirs.to_str())
      >>> tokenizer.encode("yes or no"), tokenizer.decode([5, 1, 6])
      ([5, 1, 6], 'yes <unk> no')
    """

    def __init__(self, document: str) -> None:
        """Build from the text of a ``tokenizer.json``.

        Raises:
          DataError: If the underlying library cannot read it, or it is a damaged one of this library.
        """
        self._hf = _parsed(document)
        self.unit = "pieces"
        vocabulary = self._hf.get_vocab(with_added_tokens=True)
        if not vocabulary or not vocabulary.keys().isdisjoint(SPECIAL_NAMES):
            raise DataError(
                "not a tokenizer of another program: it has no tokens, or the special ones of this library"
            )
        self._hf.no_truncation()
        self._hf.no_padding()
        self._hf.encode_special_tokens = True  # as text
        self._never_text = {
            token
            for token, added in self._hf.get_added_tokens_decoder().items()
            # A vocabulary of words or of unigram pieces may hold the spelling of a special token as one piece.
            if added.special and token not in self._hf.encode(added.content, add_special_tokens=False).ids
        }
        self._text = document
        self._unknown = _unknown_id(json.loads(document)["model"], vocabulary)
        self._num_ids = max(vocabulary.values()) + 1
        if self._num_ids > 2 * len(vocabulary):  # each id costs a row of an embedding
            raise DataError(
                f"not a tokenizer to train with: {len(vocabulary):,} tokens have ids up to {self._num_ids - 1:,}"
            )

    @property
    def vocab_size(self) -> int:
        """Number of ids, the four special ones included."""
        return self._num_ids + NUM_SPECIAL_IDS

    @property
    def symbols(self) -> tuple[str, ...]:
        """The tokens in order of ids, without the four special ones; empty where the file has a gap."""
        return tuple(self._hf.id_to_token(index) or "" for index in range(self._num_ids))

    @property
    def mask_id(self) -> int:
        """Id of the file's token ``[MASK]`` or ``<mask>``; the unknown one where it has none."""
        found = [self._hf.token_to_id(name) for name in ("[MASK]", "<mask>")]
        return next((token + NUM_SPECIAL_IDS for token in found if token is not None), UNK_ID)

    def continuations(self) -> npt.NDArray[np.bool_]:
        """``[vocab]``, whether a token continues the word of the token before it.

        Raises:
          DataError: If it is not WordPiece, whose tokens say so by their prefix.
        """
        model = json.loads(self._text)["model"]
        prefix = model.get("continuing_subword_prefix")
        if model.get("type") != "WordPiece" or not prefix:
            raise DataError("tokenizer: only those of type WordPiece say which of their tokens begin a word")
        return np.array([False] * NUM_SPECIAL_IDS + [symbol.startswith(prefix) for symbol in self.symbols])

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when the file does."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:12]

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without start and end; pieces outside of the vocabulary become the unknown id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, faster than one by one."""
        return [[self._own(token) for token in ids] for ids in super().encode_batch(texts)]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Text of the ids; special tokens that no text spells are left out, unknown becomes `UNKNOWN_TEXT`.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        parts = []
        for is_unknown, group in itertools.groupby(self.checked(ids), lambda token: token == UNK_ID):
            tokens = list(group)
            if is_unknown:
                parts += [UNKNOWN_TEXT] * len(tokens)
            else:
                parts.append(self._hf.decode(self._theirs(tokens), skip_special_tokens=False))
        return " ".join(part.strip() for part in parts if part.strip())

    def decode_text(
        self,
        ids: Sequence[int] | npt.NDArray[np.integer],
        *,
        before: Sequence[int] | npt.NDArray[np.integer] = (),
    ) -> str:
        """Text of the ids where they stand in a text, see `Tokenizer.decode_text`.

        Their decoders drop a space at the start of what they are given, so each part is decoded behind the ids before
        it.
        """
        known, parts = self._theirs(before[-_CONTEXT:]), []
        for is_unknown, group in itertools.groupby(self.checked(ids), lambda token: token == UNK_ID):
            tokens = list(group)
            if is_unknown:
                parts += [UNKNOWN_TEXT] * len(tokens)
                continue
            theirs = self._theirs(tokens)
            start = self._hf.decode(known, skip_special_tokens=False).removesuffix("\ufffd")
            text = self._hf.decode([*known, *theirs], skip_special_tokens=False)
            is_behind = bool(known) and text.startswith(start)
            parts.append(
                text[len(start) :] if is_behind else self._hf.decode(theirs, skip_special_tokens=False)
            )
            known = [*known, *theirs][-_CONTEXT:]
        return "".join(parts)

    def _theirs(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[int]:
        theirs = [token - NUM_SPECIAL_IDS for token in map(int, ids) if token >= NUM_SPECIAL_IDS]
        return [token for token in theirs if token not in self._never_text]

    def pieces(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """One text for each id that is not padding, start or end.

        Raises:
          DataError: If an id is not in the vocabulary.
        """
        return [
            UNKNOWN_TEXT if token == UNK_ID else self._hf.id_to_token(token - NUM_SPECIAL_IDS) or UNKNOWN_TEXT
            for token in self.checked(ids)
            if token == UNK_ID or token >= NUM_SPECIAL_IDS
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file as it was read."""
        write_whole(Path(path), self._text)

    def _own(self, token: int) -> int:
        return UNK_ID if token == self._unknown else token + NUM_SPECIAL_IDS


def _parsed(document: str) -> Any:
    try:
        with _muted_stderr():  # where it panics, it writes a trace of its own
            return hf.Tokenizer.from_str(document)
    except Exception as error:  # what the underlying library raises has no type of its own
        raise DataError(f"not a tokenizer: {shortened(str(error), 300)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DataError("not a tokenizer: damaged (the tokenizers library cannot get through it)") from None


@contextlib.contextmanager
def _muted_stderr() -> Iterator[None]:
    """Discard everything that this process writes to standard error inside the block."""
    try:
        kept = os.dup(2)
    except OSError:  # closed already
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _unknown_id(model: Any, vocabulary: dict[str, int]) -> int | None:
    """The id of the unknown token that a tokenizer's ``model`` names; None where it needs none."""
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    return vocabulary.get(str(model.get("unk_token")))
