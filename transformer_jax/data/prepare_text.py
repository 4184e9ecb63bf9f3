"""From a `TextConfig` to everything that training and evaluating a language model read."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.documents import Document, first_characters
from transformer_jax.data.text_config import TextConfig
from transformer_jax.data.token_windows import TokenIds, TokenSource, make_source
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError, shortened

_NAMES = {"train": "training text", "development": "development text", "test": "test text"}

_CHECKED_CHARACTERS = 2_000
"""Characters of the training text that must come back from their tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPartReport:
    """Sizes of one part of the text.

    Attributes:
      num_documents: Documents.
      num_characters: Their characters.
      num_predicted: Characters that a model has a probability for, see `predicted_characters`.
      num_bytes: Their bytes in UTF-8.
      num_tokens: Their tokens, start and end tokens included.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    num_documents: int
    num_characters: int
    num_predicted: int
    num_bytes: int
    num_tokens: int
    num_unknown: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextReport:
    """Sizes and unknown tokens of prepared text.

    Attributes:
      vocab_size: Ids, special ones included.
      batches: Shape and content of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      tokens_per_epoch: Targets of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      train: Sizes of the training text.
      development: The same of the development text.
      test: The same of the test text.
      notes: Remarks on how the parts were made, for reports.
    """

    vocab_size: int
    batches: str
    batches_per_epoch: int
    tokens_per_epoch: int
    padding_share: float
    train: TextPartReport
    development: TextPartReport
    test: TextPartReport
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        lines = [
            f"data: {self.train.num_characters:,} training, {self.development.num_characters:,} development and "
            f"{self.test.num_characters:,} test characters",
            f"vocabulary: {self.vocab_size:,} ids; {self.train.num_tokens:,} training, "
            f"{self.development.num_tokens:,} development and {self.test.num_tokens:,} test tokens",
            f"batches: {self.batches_per_epoch:,} an epoch of {self.tokens_per_epoch:,} tokens, "
            f"{self.padding_share:.1%} padding; {self.batches}",
        ]
        for name in ("train", "development", "test"):
            part: TextPartReport = getattr(self, name)
            if part.num_unknown:
                lines.append(f"{name}: {part.num_unknown:,} of {part.num_tokens:,} tokens are unknown")
        return [*lines, *(f"note: {note}" for note in self.notes)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedText:
    """Everything that training and evaluating a language model read.

    Token ids of a part are its documents one after another; where ``config.marks_documents``, each from its start token
    to its end token.

    Attributes:
      config: The config that it was prepared from.
      tokenizer: Turns text into ids.
      train: Training batches.
      development: Token ids of the development text.
      test: Token ids of the test text.
      report: Sizes and unknown tokens.
    """

    config: TextConfig
    tokenizer: Tokenizer
    train: TokenSource
    development: TokenIds
    test: TokenIds
    report: TextReport


def prepare_text(config: TextConfig, *, tokenizer: Tokenizer | None = None) -> PreparedText:
    """Read, tokenise and plan.

    Args:
      config: Config of the data.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one.

    Raises:
      DataError: If a file is missing or bad, the text is shorter than a window or a batch or has one distinct token,
        or the tokenizer does not fit the text.
    """
    splits = config.dataset.load()
    limits = {name: getattr(config, f"max_{name}_characters") for name in ("train", "development", "test")}
    parts = {name: first_characters(getattr(splits, name), limit) for name, limit in limits.items()}
    if tokenizer is None:
        tokenizer = train_tokenizer(config.tokenizer, [document.text for document in parts["train"]])
    encoded = {
        name: encode_documents(part, tokenizer, marks_documents=config.marks_documents, name=_NAMES[name])
        for name, part in parts.items()
    }
    reports = {
        name: _part_report(part, encoded[name], tokenizer, marks_documents=config.marks_documents)
        for name, part in parts.items()
    }
    _check_fit(parts["train"], encoded["train"], tokenizer)
    source = make_source(config.windows, encoded["train"], batch_size=config.batch_size, seed=config.seed)
    report = TextReport(
        vocab_size=tokenizer.vocab_size,
        batches=source.describe(),
        batches_per_epoch=source.batches_per_epoch,
        tokens_per_epoch=source.num_tokens,
        padding_share=source.padding_share(),
        notes=splits.notes,
        **reports,
    )
    return PreparedText(
        config=config,
        tokenizer=tokenizer,
        train=source,
        development=encoded["development"],
        test=encoded["test"],
        report=report,
    )


def encode_documents(
    documents: Sequence[Document], tokenizer: Tokenizer, *, marks_documents: bool, name: str = "text"
) -> TokenIds:
    """Token ids of documents, one after another.

    Args:
      documents: The documents.
      tokenizer: Turns text into ids.
      marks_documents: Begin each document with the start token and end it with the end token.
      name: Name of the text in messages.

    Raises:
      DataError: If an id is not in the tokenizer's vocabulary.

    Example:
      >>> from transformer_jax.data.tokenizers import train_character_tokenizer
      >>> documents = [Document("one", "ab"), Document("two", "b")]
      >>> encode_documents(documents, train_character_tokenizer(["ab"]), marks_documents=True).tolist()
      [2, 4, 5, 3, 2, 5, 3]
    """
    parts: list[npt.ArrayLike] = []
    for document in documents:
        ids = tokenizer.encode_array(document.text)
        check_token_ids(ids, tokenizer.vocab_size, name=f"{name}, {document.name}")
        parts += [[BOS_ID], ids, [EOS_ID]] if marks_documents else [ids]
    return np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)


def check_token_ids(ids: TokenIds, vocab_size: int, *, name: str = "text") -> None:
    """Check that every id is in the vocabulary; a model has no row of an embedding for another one.

    Raises:
      DataError: If one is not; says which, and where.

    Example:
      >>> check_token_ids(np.array([4, 9], np.int32), 10)
    """
    wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if wrong.size:
        raise DataError(
            f"{name}: id {ids[wrong[0]]} of token {wrong[0] + 1:,} is not in the vocabulary, whose ids are 0 to "
            f"{vocab_size - 1}: the tokenizer is not the one that the model is made for, or is damaged"
        )


def predicted_characters(
    documents: Sequence[Document], tokenizer: Tokenizer, *, marks_documents: bool
) -> int:
    """Characters that a language model has a probability for, one document after another.

    All of them where documents begin with a start token, else all but those of the very first token, before which
    nothing stands.

    Example:
      >>> from transformer_jax.data.tokenizers import train_character_tokenizer
      >>> tokenizer = train_character_tokenizer(["ab"])
      >>> [predicted_characters([Document("one", "abba")], tokenizer, marks_documents=one) for one in (False, True)]
      [3, 4]
    """
    total = sum(len(document.text) for document in documents)
    if marks_documents:
        return total
    first = next((document.text for document in documents if document.text), "")[:_CHECKED_CHARACTERS]
    spans = tokenizer.spans(first)
    return total - spans[0][1] if spans else total


def _part_report(
    documents: Sequence[Document], ids: TokenIds, tokenizer: Tokenizer, *, marks_documents: bool
) -> TextPartReport:
    return TextPartReport(
        num_documents=len(documents),
        num_characters=sum(len(document.text) for document in documents),
        num_predicted=predicted_characters(documents, tokenizer, marks_documents=marks_documents),
        num_bytes=sum(len(document.text.encode()) for document in documents),
        num_tokens=len(ids),
        num_unknown=tokenizer.count_unknown(ids),
    )


def _check_fit(documents: Sequence[Document], ids: TokenIds, tokenizer: Tokenizer) -> None:
    """Check that there is something to predict, and that the tokenizer is one for this text."""
    distinct = np.unique(ids)
    distinct = distinct[~np.isin(distinct, (BOS_ID, EOS_ID))]
    if len(distinct) < 2:
        shown = "no token" if not len(distinct) else f"one distinct token, {tokenizer.decode(distinct)!r}"
        raise DataError(
            f"the training text has {shown}: there is nothing to predict; take another text or tokenizer"
        )
    num_unknown = tokenizer.count_unknown(ids)
    if 2 * num_unknown > len(ids):
        raise DataError(
            f"the tokenizer knows less than half of the training text ({num_unknown:,} of {len(ids):,} tokens are "
            "unknown): it was made for another text or model"
        )
    text = documents[0].text[:_CHECKED_CHARACTERS]
    tokens = tokenizer.encode(text)
    again = tokenizer.decode_text(tokens)
    if not tokenizer.count_unknown(tokens) and again != text:
        places = (place for place, (one, other) in enumerate(zip(text, again)) if one != other)
        start = max(0, next(places, 0) - 10)
        raise DataError(
            f"the tokenizer does not give text back as it was: {shortened(text[start : start + 40])!r} becomes "
            f"{shortened(again[start : start + 40])!r}; choose characters, bytes or byte pairs"
        )
