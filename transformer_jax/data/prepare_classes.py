"""From a `ClassesConfig` to everything that training and evaluating a classifier read."""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.classes_config import ClassesConfig
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.labelled_texts import ClassSplits, LabelledText
from transformer_jax.data.limited_parts import limited_parts
from transformer_jax.data.padding import pad_rows
from transformer_jax.data.prepare_text import check_token_ids
from transformer_jax.data.sequence_pipeline import SequenceBatches
from transformer_jax.data.text_batches import ClassBatch, row_values
from transformer_jax.data.text_cleaning import clean_text
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError, shortened


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassPart:
    """One part of the data as token ids and classes.

    Attributes:
      examples: The texts with their classes.
      sequences: Token ids of each text, cut where it was too long.
      classes: Number of each text's class.
      num_too_long: Texts over the limit.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    examples: list[LabelledText]
    sequences: list[list[int]]
    classes: npt.NDArray[np.int32]
    num_too_long: int
    num_unknown: int

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text."""
        return np.array([len(ids) for ids in self.sequences], np.int64)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any text's tokens or class, or their order, do."""
        digest = hashlib.sha256(np.ascontiguousarray(self.classes).tobytes())
        for ids in self.sequences:
            digest.update(np.array([len(ids), *ids], np.int32).tobytes())
        return digest.hexdigest()[:12]

    def collate(self, indices: npt.NDArray[np.int64], num_rows: int, length: int) -> ClassBatch:
        """Some of the texts as the first rows of a batch."""
        tokens, lengths = pad_rows([self.sequences[i] for i in indices], num_rows=num_rows, length=length)
        classes = row_values(self.classes[indices], num_rows)
        return ClassBatch(tokens, lengths, classes, row_values(indices, num_rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassesReport:
    """Sizes, classes, unknown tokens and remarks of prepared data.

    Attributes:
      num_texts: Texts of each part, by its name.
      vocab_size: Ids, special ones included.
      class_counts: Training texts of each class.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      notes: Remarks, for reports.
    """

    num_texts: dict[str, int]
    vocab_size: int
    class_counts: dict[str, int]
    batches: str
    batches_per_epoch: int
    padding_share: float
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = " and ".join(f"{count:,} {name}" for name, count in self.num_texts.items())
        shown = sorted(self.class_counts.items(), key=lambda one: -one[1])[:12]
        classes = ", ".join(f"{shortened(name, 30)} {count:,}" for name, count in shown)
        more = (
            f", and {len(self.class_counts) - len(shown)} more" if len(shown) < len(self.class_counts) else ""
        )
        return [
            f"data: {parts} texts; vocabulary: {self.vocab_size:,} ids",
            f"{len(self.class_counts)} classes: {classes}{more}",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
            *(f"note: {note}" for note in self.notes),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedClasses:
    """Everything that training and evaluating a classifier read.

    Attributes:
      config: What it was prepared from.
      encoding: How texts become token ids.
      class_set: The classes.
      train: Training batches.
      development: The development texts.
      test: The test texts.
      report: Sizes and remarks.
    """

    config: ClassesConfig
    encoding: TextEncoding
    class_set: LabelSet
    train: SequenceBatches[ClassBatch]
    development: ClassPart
    test: ClassPart
    report: ClassesReport


def prepare_classes(
    config: ClassesConfig, *, tokenizer: Tokenizer | None = None, class_set: LabelSet | None = None
) -> PreparedClasses:
    """Read, tokenise and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one on the training texts.
      class_set: The classes to use; None takes those of the training texts.

    Raises:
      DataError: If a file is missing or bad, there are fewer than two classes, a text is of a class that training never
        sees, or a text is too long and ``config.too_long`` is ``"fail"``.
    """
    splits = limited_classes(config.dataset.load(), config)
    if tokenizer is None:
        style = {"lowercase": config.lowercase, "splits_punctuation": config.splits_punctuation}
        tokenizer = train_tokenizer(config.tokenizer, [clean_text(one.text, **style) for one in splits.train])
    class_set = _checked_classes(splits.train, class_set)
    encoding = text_encoding(config, tokenizer)
    train, *others = (
        encode_part(getattr(splits, name), encoding, class_set, config, name=name)
        for name in ("train", "development", "test")
    )
    if not len(train):
        raise DataError(
            "no training text is left: all are longer than max_len; raise it or choose too_long 'truncate'"
        )
    batches = SequenceBatches(
        train.lengths,
        train.collate,
        batch_tokens=config.batch_tokens,
        rows=config.batch_size if config.batch_tokens is None else None,
        num_buckets=config.num_buckets,
        seed=config.seed,
    )
    counts = collections.Counter(one.label for one in train.examples)
    parts = dict(zip(("training", "development", "test"), (train, *others), strict=True))
    report = ClassesReport(
        num_texts={name: len(part) for name, part in parts.items()},
        vocab_size=tokenizer.vocab_size,
        class_counts={name: counts[name] for name in class_set.labels},
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=(*splits.notes, *_part_notes(parts), *_class_notes(counts)),
    )
    return PreparedClasses(
        config=config,
        encoding=encoding,
        class_set=class_set,
        train=batches,
        development=others[0],
        test=others[1],
        report=report,
    )


def text_encoding(config: ClassesConfig, tokenizer: Tokenizer) -> TextEncoding:
    """How a config's texts become token ids."""
    return TextEncoding(
        tokenizer=tokenizer,
        lowercase=config.lowercase,
        splits_punctuation=config.splits_punctuation,
        marks_ends=config.marks_ends,
    )


def limited_classes(splits: ClassSplits, config: ClassesConfig) -> ClassSplits:
    """The parts of a set, cut to the numbers of texts that a config allows: of training texts a fixed random choice."""
    return limited_parts(
        splits,
        train=config.max_train_texts,
        development=config.max_development_texts,
        test=config.max_test_texts,
    )


def encode_part(
    examples: Sequence[LabelledText],
    encoding: TextEncoding,
    class_set: LabelSet,
    config: ClassesConfig,
    *,
    name: str,
) -> ClassPart:
    """Labelled texts as token ids and classes.

    Args:
      examples: The texts.
      encoding: How they become ids.
      class_set: The classes.
      config: Limits; only texts of ``"train"`` are ever left out.
      name: Of the part, such as ``"train"``, or of a file.

    Raises:
      DataError: If a class is unknown, or a text is too long and must not be.
    """
    kept: list[LabelledText] = []
    sequences: list[list[int]] = []
    numbers: list[int] = []
    num_too_long = 0
    for example, ids in zip(examples, encoding.encode([one.text for one in examples]), strict=True):
        where = f"{name}, line {example.line}" if example.line else name
        try:
            number = class_set.index(example.label)
        except DataError as error:
            raise DataError(f"{where}: never seen in training: {error}") from None
        if len(ids) > config.max_len:
            num_too_long += 1
            if config.too_long == "fail":
                raise DataError(
                    f"{where}: {len(ids)} tokens, max_len is {config.max_len}; raise it, or choose too_long 'skip' or "
                    "'truncate'"
                )
            if config.too_long == "skip" and name == "train":
                continue
            ids = encoding.cut(ids, config.max_len)
        kept.append(example)
        sequences.append(ids)
        numbers.append(number)
    flat = np.array([token for ids in sequences for token in ids], np.int32)
    check_token_ids(flat, encoding.tokenizer.vocab_size, name=name)
    return ClassPart(
        examples=kept,
        sequences=sequences,
        classes=np.array(numbers, np.int32),
        num_too_long=num_too_long,
        num_unknown=encoding.tokenizer.count_unknown(flat),
    )


def _checked_classes(train: Sequence[LabelledText], class_set: LabelSet | None) -> LabelSet:
    if not train:
        raise DataError("the data set has no training text")
    found = LabelSet.of(one.label for one in train)
    if len(found) < 2:
        raise DataError(
            f"all {len(train):,} training texts are of one class, {found.labels[0]!r}: nothing to tell apart"
        )
    return found if class_set is None else class_set


def _part_notes(parts: dict[str, ClassPart]) -> list[str]:
    notes = []
    for name, part in parts.items():
        if part.num_unknown:
            notes.append(f"{name}: {part.num_unknown:,} of {int(part.lengths.sum()):,} tokens are unknown")
        if part.num_too_long:
            notes.append(f"{name}: {part.num_too_long:,} texts are longer than max_len")
    return notes


def _class_notes(counts: dict[str, int]) -> list[str]:
    single = [shortened(name, 30) for name, count in sorted(counts.items()) if count == 1]
    if not single:
        return []
    return [
        f"{len(single)} class(es) with one training text, of which nothing can be held out: {', '.join(single[:8])}"
    ]
