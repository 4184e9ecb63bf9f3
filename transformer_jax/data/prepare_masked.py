"""From a `MaskedTextConfig` to everything that training and evaluating a masked language model read."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.documents import Document, first_characters
from transformer_jax.data.masked_config import MaskedTextConfig
from transformer_jax.data.masked_texts import MaskedBatches, MaskedTexts, cut_into_texts
from transformer_jax.data.masking import MaskedVocabulary
from transformer_jax.data.prepare_text import check_token_ids
from transformer_jax.data.sources.text_sources import load_texts
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError

PARTS = ("train", "development", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedPartReport:
    """Sizes of one part of the text.

    Attributes:
      num_documents: Documents, or lines where each is by itself.
      num_characters: Their characters.
      num_texts: Texts that they were cut into.
      num_tokens: Tokens of the texts, without marks.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    num_documents: int
    num_characters: int
    num_texts: int
    num_tokens: int
    num_unknown: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedReport:
    """Sizes and unknown tokens of prepared text.

    Attributes:
      vocab_size: Ids, special ones included.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      train: Sizes of the training text.
      development: The same of the development text.
      test: The same of the test text.
      notes: Remarks, for reports.
    """

    vocab_size: int
    batches: str
    batches_per_epoch: int
    padding_share: float
    train: MaskedPartReport
    development: MaskedPartReport
    test: MaskedPartReport
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = [getattr(self, name) for name in PARTS]
        lines = [
            f"data: {parts[0].num_texts:,} training, {parts[1].num_texts:,} development and {parts[2].num_texts:,} "
            f"test texts of {parts[0].num_tokens:,}, {parts[1].num_tokens:,} and {parts[2].num_tokens:,} tokens",
            f"vocabulary: {self.vocab_size:,} ids",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
        ]
        for name, part in zip(PARTS, parts, strict=True):
            if part.num_unknown:
                lines.append(f"{name}: {part.num_unknown:,} of {part.num_tokens:,} tokens are unknown")
        return [*lines, *(f"note: {note}" for note in self.notes)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedMasked:
    """Everything that training and evaluating a masked language model read.

    Attributes:
      config: What it was prepared from.
      encoding: How text becomes token ids.
      batches: Training batches.
      development: The development texts.
      report: Sizes and unknown tokens.
    """

    config: MaskedTextConfig
    encoding: TextEncoding
    batches: MaskedBatches
    development: MaskedTexts
    report: MaskedReport


def prepare_masked(config: MaskedTextConfig, *, tokenizer: Tokenizer | None = None) -> PreparedMasked:
    """Read, tokenise, cut and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one.

    Raises:
      DataError: If a file is missing or bad, the text has one distinct token, the tokenizer does not know it, or words
        are to be hidden as wholes and tokens do not say where they begin.
    """
    splits = load_texts(config.datasets)
    parts = {
        name: split_units(first_characters(getattr(splits, name), _limit(config, name)), config)
        for name in PARTS
    }
    if tokenizer is None:
        plain = masked_encoding(config, Tokenizer("words", ()))
        tokenizer = train_tokenizer(config.tokenizer, [plain.clean(one.text) for one in parts["train"]])
    texts = {name: encode_masked(part, config, tokenizer, name=name) for name, part in parts.items()}
    _check_fit(texts["train"], tokenizer)
    batches = MaskedBatches(
        texts["train"], rows=config.batch_size, num_buckets=config.num_buckets, seed=config.seed
    )
    report = MaskedReport(
        vocab_size=tokenizer.vocab_size,
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=splits.notes,
        **{name: _part_report(parts[name], texts[name], tokenizer) for name in PARTS},
    )
    return PreparedMasked(
        config=config,
        encoding=masked_encoding(config, tokenizer),
        batches=batches,
        development=texts["development"],
        report=report,
    )


def masked_encoding(config: MaskedTextConfig, tokenizer: Tokenizer) -> TextEncoding:
    """How a config's text becomes token ids."""
    return TextEncoding(
        tokenizer=tokenizer,
        lowercase=config.lowercase,
        splits_punctuation=config.splits_punctuation,
        marks_ends=True,
    )


def _limit(config: MaskedTextConfig, name: str) -> int | None:
    limit: int | None = getattr(config, f"max_{name}_characters")
    return limit


def split_units(documents: Sequence[Document], config: MaskedTextConfig) -> list[Document]:
    """Documents, or the lines of them that are not empty."""
    if config.unit == "document":
        return list(documents)
    return [
        Document(f"{document.name}, line {number}", line)
        for document in documents
        for number, line in enumerate(document.text.split("\n"), 1)
        if line.strip()
    ]


def encode_masked(
    documents: Sequence[Document], config: MaskedTextConfig, tokenizer: Tokenizer, *, name: str
) -> MaskedTexts:
    """Documents as texts of token ids.

    Raises:
      DataError: If an id is not in the tokenizer's vocabulary, or words are to be hidden as wholes and tokens do not
        say where they begin.
    """
    encoding = masked_encoding(config, tokenizer)
    found = [
        np.asarray(ids, np.int32)
        for ids in tokenizer.encode_batch([encoding.clean(one.text) for one in documents])
    ]
    for document, ids in zip(documents, found, strict=True):
        check_token_ids(ids, tokenizer.vocab_size, name=f"{name}, {document.name}")
    starts_word = word_starts(tokenizer)
    ids, offsets = cut_into_texts(found, config.max_len - config.num_marks, starts_word)
    return MaskedTexts(
        ids=ids,
        offsets=offsets,
        masking=config.masking,
        vocabulary=MaskedVocabulary.of(tokenizer, whole_words=config.masking.whole_words),
        sentence_order=config.sentence_order,
        starts_word=starts_word,
        seed=config.seed,
    )


def word_starts(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """``[vocab]``, whether a token begins a word; all of them where tokens do not say so."""
    try:
        return ~tokenizer.continuations()
    except DataError:
        return np.ones(tokenizer.vocab_size, bool)


def _part_report(documents: Sequence[Document], texts: MaskedTexts, tokenizer: Tokenizer) -> MaskedPartReport:
    return MaskedPartReport(
        num_documents=len(documents),
        num_characters=sum(len(one.text) for one in documents),
        num_texts=len(texts),
        num_tokens=len(texts.ids),
        num_unknown=tokenizer.count_unknown(texts.ids),
    )


def _check_fit(texts: MaskedTexts, tokenizer: Tokenizer) -> None:
    """Check that there is something to predict, and that the tokenizer is one for this text."""
    if not len(texts):
        raise DataError(
            "the training text has no token: there is nothing to predict; take another text or tokenizer"
        )
    num_unknown = tokenizer.count_unknown(texts.ids)
    if 2 * num_unknown > len(texts.ids):
        raise DataError(
            f"the tokenizer knows less than half of the training text ({num_unknown:,} of {len(texts.ids):,} tokens "
            "are unknown): it was made for another text or model"
        )
    known = np.unique(texts.ids[texts.ids >= texts.vocabulary.first_ordinary])
    if len(known) < 2:
        raise DataError(
            f"the training text has one distinct token, {tokenizer.decode(known)!r}: there is nothing to predict; take "
            "another text or tokenizer"
        )
