"""From a `TagConfig` to everything that training and evaluating a tagger read."""

import collections
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.data.iob import broken_places, is_iob, repaired, require_whole
from transformer_jax.data.sequence_pipeline import SequenceBatches
from transformer_jax.data.tag_config import TagConfig
from transformer_jax.data.tag_examples import TagExamples, encode_sentences, sentences_fingerprint
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.tagged_text import TaggedSentence, TagSplits
from transformer_jax.data.text_batches import TagBatch
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.vector_files import read_vectors
from transformer_jax.data.word_encoding import PieceEncoder, WordEncoder, vocabulary_form, vocabulary_lines
from transformer_jax.errors import DataError, shortened

PARTS = ("train", "development", "test")
_NAMES = {"train": "training set", "development": "development set", "test": "test set"}
_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagPartReport:
    """Sizes of one part of the sentences.

    Attributes:
      num_sentences: Sentences.
      num_words: Their words.
      num_unknown: Words that are not in the vocabulary.
      num_repaired: Labels that broke the IOB scheme and were repaired.
      strange_labels: Labels that training never saw, with their counts.
    """

    num_sentences: int
    num_words: int
    num_unknown: int
    num_repaired: int
    strange_labels: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagReport:
    """Sizes, unknown words and repairs of prepared sentences.

    Attributes:
      vocab_size: Word ids, special ones included.
      num_labels: Labels of words.
      num_classes: Labels of whole sentences, 0 where they have none.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      train: Sizes of the training set.
      development: The same of the development set.
      test: The same of the test set.
      notes: Remarks, for reports.
    """

    vocab_size: int
    num_labels: int
    num_classes: int
    batches: str
    batches_per_epoch: int
    padding_share: float
    train: TagPartReport
    development: TagPartReport
    test: TagPartReport
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = [getattr(self, name) for name in PARTS]
        classes = f", {self.num_classes:,} classes of sentences" if self.num_classes else ""
        lines = [
            f"data: {parts[0].num_sentences:,} training, {parts[1].num_sentences:,} development and "
            f"{parts[2].num_sentences:,} test sentences of {parts[0].num_words:,}, {parts[1].num_words:,} and "
            f"{parts[2].num_words:,} words",
            f"vocabulary: {self.vocab_size:,} ids, {self.num_labels:,} labels{classes}",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
        ]
        for name, part in zip(PARTS, parts, strict=True):
            if part.num_unknown:
                lines.append(f"{name}: {part.num_unknown:,} of {part.num_words:,} words are unknown")
            if part.num_repaired:
                lines.append(f"{name}: {part.num_repaired:,} labels broke the IOB scheme and were repaired")
            if part.strange_labels:
                shown = ", ".join(
                    f"{label} {count}" for label, count in list(part.strange_labels.items())[:_SHOWN]
                )
                lines.append(
                    f"{name}: {sum(part.strange_labels.values()):,} labels that training never saw count as errors: "
                    f"{shown}"
                )
        return [*lines, *(f"note: {note}" for note in self.notes)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedTags:
    """Everything that training and evaluating a tagger read.

    Attributes:
      config: What it was prepared from.
      tokenizer: Vocabulary of words.
      tags: Labels.
      train: Training batches.
      splits: The sentences, with repaired labels.
      development: The development sentences as arrays.
      report: Sizes, unknown words and repairs.
    """

    config: TagConfig
    tokenizer: Tokenizer
    tags: TagSet
    train: SequenceBatches[TagBatch]
    splits: TagSplits
    development: TagExamples
    report: TagReport

    @property
    def artifacts(self) -> dict[str, Any]:
        """The vocabulary and the labels."""
        return {"tokenizer": self.tokenizer, "tags": self.tags}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development sentences."""
        return {
            "training data": sentences_fingerprint(self.splits.train),
            "development data": sentences_fingerprint(self.splits.development),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development set."""
        return bool(self.splits.development)


def prepare_tags(
    config: TagConfig, *, tokenizer: Tokenizer | None = None, tags: TagSet | None = None
) -> PreparedTags:
    """Read, encode and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained vocabulary to use, as of a run to resume; None trains one.
      tags: Labels to use; None takes those of the training sentences.

    Raises:
      DataError: If a file is missing or bad, labels break the IOB scheme and are to be refused, a training label is not
        one of ``tags``, or no sentence is left.
    """
    splits, num_repaired = load_tags(config)
    notes = list(splits.notes)
    train = splits.train
    if config.max_words is not None:
        train = [one for one in train if len(one.words) <= config.max_words]
        if len(train) < len(splits.train):
            notes.append(
                f"left out {len(splits.train) - len(train):,} training sentences of more than {config.max_words} words"
            )
    if not train:
        raise DataError(
            "no training sentence is left: raise max_words" if splits.train else "no training sentence"
        )
    splits = dataclasses.replace(splits, train=train)
    if tokenizer is None:
        lines = vocabulary_lines([one.words for one in train], lowercase=config.lowercase)
        tokenizer = _with_more_words(train_tokenizer(config.tokenizer, lines), config)
    if tags is None:
        tags = TagSet.of(train)
    else:
        _require_known(train, tags)
    notes += _rare_labels(train)
    encoder = word_encoder(config, tokenizer)
    examples = {
        name: encode_sentences([one.words for one in part], encoder, tags=tags, labelled=part)
        for name in PARTS
        for part in [getattr(splits, name)]
    }
    if config.max_len is not None:
        fitting = np.flatnonzero(examples["train"].lengths <= config.max_len).tolist()
        if not fitting:
            raise DataError("no training sentence is left: raise max_len")
        if len(fitting) < len(train):
            notes.append(
                f"left out {len(train) - len(fitting):,} training sentences of more than {config.max_len} tokens"
            )
            train = [train[place] for place in fitting]
            splits = dataclasses.replace(splits, train=train)
            words = [one.words for one in train]
            examples["train"] = encode_sentences(words, encoder, tags=tags, labelled=train)
    batches = SequenceBatches(
        examples["train"].lengths,
        examples["train"].batch,
        batch_tokens=config.batch_tokens,
        rows=config.batch_size if config.batch_tokens is None else None,
        num_buckets=config.num_buckets,
        seed=config.seed,
    )
    reports = {
        name: TagPartReport(
            num_sentences=len(examples[name]),
            num_words=len(examples[name].ids),
            num_unknown=examples[name].num_unknown,
            num_repaired=num_repaired[name],
            strange_labels=_strange_labels(getattr(splits, name), tags),
        )
        for name in PARTS
    }
    report = TagReport(
        vocab_size=tokenizer.vocab_size,
        num_labels=len(tags.labels),
        num_classes=0 if tags.classes is None else len(tags.classes),
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=tuple(notes),
        **reports,
    )
    return PreparedTags(
        config=config,
        tokenizer=tokenizer,
        tags=tags,
        train=batches,
        splits=splits,
        development=examples["development"],
        report=report,
    )


def load_tags(config: TagConfig) -> tuple[TagSplits, dict[str, int]]:
    """The parts of a set as a config limits them, their labels in the strict IOB form where they are of that scheme.

    Returns:
      The parts, and how many labels of each were repaired.

    Raises:
      DataError: If a file is missing or bad, or labels break the scheme and are to be refused.
    """
    splits = config.dataset.load()
    limited = {name: getattr(splits, name)[: getattr(config, f"max_{name}_sentences")] for name in PARTS}
    labels = {label for one in limited["train"] for label in one.labels}
    num_repaired = dict.fromkeys(PARTS, 0)
    if is_iob(labels):
        for name, part in limited.items():
            limited[name], num_repaired[name] = strict_sentences(part, config, _NAMES[name])
    return dataclasses.replace(splits, **limited), num_repaired


def strict_sentences(
    sentences: Sequence[TaggedSentence], config: TagConfig, name: str
) -> tuple[list[TaggedSentence], int]:
    """Sentences in the strict IOB form, and how many labels were repaired.

    Args:
      sentences: Sentences with labels of the scheme.
      config: Says whether broken sequences are repaired or refused.
      name: Of the set, for messages.

    Raises:
      DataError: If a sequence is broken and to be refused; names the line.
    """
    found, num_repaired = [], 0
    for number, one in enumerate(sentences, start=1):
        places = broken_places(one.labels)
        if places and config.broken_iob == "refuse":
            require_whole(one.labels, f"{name}, {f'line {one.line}' if one.line else f'sentence {number}'}")
        num_repaired += len(places)
        found.append(dataclasses.replace(one, labels=repaired(one.labels)) if places else one)
    return found, num_repaired


def word_encoder(config: TagConfig, tokenizer: Tokenizer) -> WordEncoder | PieceEncoder:
    """What turns words into numbers, as a config says.

    Raises:
      DataError: If the config's tokenizer is of words and the other of pieces or the reverse, or its tokens do not say
        where words begin.
    """
    if not config.reads_pieces:
        return WordEncoder(tokenizer, lowercase=config.lowercase, word_len=config.word_len)
    if tokenizer.unit == "words":
        raise DataError("the config's tokenizer is one of pieces, got one of words: choose kind 'words'")
    if config.word_len is not None:
        raise DataError("letters go with whole words: with a tokenizer of pieces let word_len be null")
    return PieceEncoder(tokenizer, lowercase=config.lowercase)


def _with_more_words(tokenizer: Tokenizer, config: TagConfig) -> Tokenizer:
    """The vocabulary with the words of a file behind its own."""
    if config.more_words is None:
        return tokenizer
    words = read_vectors(Path(os.path.expanduser(config.more_words))).words[: config.max_more_words]
    forms = [vocabulary_form(word, lowercase=config.lowercase) for word in words]
    return Tokenizer("words", list(dict.fromkeys([*tokenizer.symbols, *forms])))


def _require_known(train: Sequence[TaggedSentence], tags: TagSet) -> None:
    """Raise ``DataError`` if a training label is not one of a model's."""
    for one in train:
        for label in one.labels:
            tags.labels.index(label)
        if (one.label is None) != (tags.classes is None):
            raise DataError(
                "the model's sentences have a label of the whole and the data's have none, or the reverse"
            )
        if tags.classes is not None and one.label is not None:
            tags.classes.index(one.label)


def _rare_labels(train: Sequence[TaggedSentence]) -> list[str]:
    """A remark on labels and classes with a single example."""
    found = []
    counts = {
        "labels": collections.Counter(label for one in train for label in one.labels),
        "classes": collections.Counter(one.label for one in train if one.label is not None),
    }
    for name, counted in counts.items():
        once = sorted(label for label, count in counted.items() if count == 1)
        if once:
            shown = ", ".join(shortened(label, 30) for label in once[:_SHOWN])
            more = ", ..." if len(once) > _SHOWN else ""
            found.append(f"{len(once):,} {name} with one training example: {shown}{more}")
    return found


def _strange_labels(sentences: Sequence[TaggedSentence], tags: TagSet) -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter(
        label for one in sentences for label in one.labels if label not in tags.labels
    )
    if tags.classes is not None:
        counts.update(
            one.label for one in sentences if one.label is not None and one.label not in tags.classes
        )
    return dict(counts.most_common())
