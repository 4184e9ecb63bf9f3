"""From a `PairsConfig` to everything that training and evaluation read."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from transformer_jax.data.buckets import BucketPlan, choose_shapes
from transformer_jax.data.examples import EncodedExamples, EncodingReport, encode_examples
from transformer_jax.data.limited_parts import limited_parts
from transformer_jax.data.line_pairs import EvaluationItem, LineForm, Pair, PairSplits
from transformer_jax.data.packing import PackedPipeline
from transformer_jax.data.pairs_config import GivenBuckets, PairsConfig, TooLong
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.data.text_forms import text_form
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataReport:
    """Sizes, padding and unknown tokens of prepared data.

    Attributes:
      num_train_sources: Different source lines of the training pairs.
      source_vocab_size: Source ids, special ones included.
      target_vocab_size: Target ids, special ones included.
      batches: What the training batches are like, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's tokens that is padding, dummy rows included.
      train: What encoding the training pairs found.
      development: The same of the development items.
      test: The same of the test items.
      notes: What else a reader of results should know.
    """

    num_train_sources: int
    source_vocab_size: int
    target_vocab_size: int
    batches: str
    batches_per_epoch: int
    padding_share: float
    train: EncodingReport
    development: EncodingReport
    test: EncodingReport
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        lines = [
            f"data: {self.train.num_examples:,} training pairs ({self.num_train_sources:,} sources), "
            f"{self.development.num_examples:,} development and {self.test.num_examples:,} test items",
            f"vocabulary: {self.source_vocab_size:,} source and {self.target_vocab_size:,} target ids",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
        ]
        for name in ("train", "development", "test"):
            part: EncodingReport = getattr(self, name)
            if part.num_source_unknown or part.num_target_unknown:
                lines.append(
                    f"{name}: {part.num_source_unknown:,} of {part.num_source_tokens:,} source and "
                    f"{part.num_target_unknown:,} of {part.num_target_tokens:,} target tokens are unknown"
                )
            if part.num_too_long:
                lines.append(
                    f"{name}: {part.num_too_long:,} too long (too_long {part.too_long}); the first: "
                    f"{part.first_too_long}"
                )
        return [*lines, *(f"note: {note}" for note in self.notes)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Everything that training and evaluation read.

    Attributes:
      config: What it was prepared from.
      source_tokenizer: Turns sources into ids.
      target_tokenizer: Turns targets into ids.
      plan: Static shapes of evaluation batches, and of training batches unless rows are packed.
      train: Training batches.
      development_items: Development sources with all references.
      test_items: Test sources with all references.
      development: The same, encoded with their first reference; example ``i`` is item ``i``.
      test: The same of the test items.
      report: Sizes, padding, unknown tokens.
    """

    config: PairsConfig
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    plan: BucketPlan
    train: BatchPipeline | PackedPipeline
    development_items: list[EvaluationItem]
    test_items: list[EvaluationItem]
    development: EncodedExamples
    test: EncodedExamples
    report: DataReport

    @property
    def artifacts(self) -> dict[str, Tokenizer]:
        """Both tokenizers by name."""
        return {"source_tokenizer": self.source_tokenizer, "target_tokenizer": self.target_tokenizer}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development data."""
        return {
            "training data": self.train.examples.fingerprint(),
            "development data": self.development.fingerprint(),
        }

    @property
    def has_development(self) -> bool:
        """True if there is a development set."""
        return bool(self.development_items)


def prepare(
    config: PairsConfig,
    *,
    source_tokenizer: Tokenizer | None = None,
    target_tokenizer: Tokenizer | None = None,
) -> PreparedData:
    """Read, tokenise and plan.

    Args:
      config: What to prepare.
      source_tokenizer: A trained tokenizer to use, as of a run to resume; None trains one.
      target_tokenizer: The same for targets.

    Raises:
      DataError: If a file is missing or bad, a line is too long and ``config.too_long`` is ``"fail"``, or no
        training pair is left.
    """
    splits = _tokenized(limited_splits(config.dataset.load(), config), text_form(config))
    if not splits.train:
        raise DataError("the data set has no training pair with both sides filled")
    if source_tokenizer is None or target_tokenizer is None:
        trained = _train_tokenizers(config, splits.train)
        source_tokenizer, target_tokenizer = source_tokenizer or trained[0], target_tokenizer or trained[1]
    tokenizers = (source_tokenizer, target_tokenizer)
    # Every development and test item counts in a score, so there a line too long is cut, never left out.
    kept: TooLong = "fail" if config.too_long == "fail" else "truncate"
    train, train_report = _encode(splits.train, tokenizers, config, config.too_long, "training set")
    if not len(train):
        raise DataError(_all_too_long(splits.train, tokenizers, config))
    development, development_report = _encode(splits.development, tokenizers, config, kept, "development set")
    test, test_report = _encode(splits.test, tokenizers, config, kept, "test set")
    plan = BucketPlan(_shapes(config, [train, development, test]))
    pipeline = _pipeline(config, train, plan)
    report = DataReport(
        num_train_sources=len({pair.source for pair in splits.train}),
        source_vocab_size=source_tokenizer.vocab_size,
        target_vocab_size=target_tokenizer.vocab_size,
        batches=pipeline.describe(),
        batches_per_epoch=pipeline.batches_per_epoch,
        padding_share=pipeline.padding_share(),
        train=train_report,
        development=development_report,
        test=test_report,
        notes=splits.notes,
    )
    return PreparedData(
        config=config,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        plan=plan,
        train=pipeline,
        development_items=splits.development,
        test_items=splits.test,
        development=development,
        test=test,
        report=report,
    )


def limited_splits(splits: PairSplits, config: PairsConfig) -> PairSplits:
    """The parts of a set, cut to the numbers of examples that a config allows."""
    return limited_parts(
        splits,
        train=config.max_train_pairs,
        development=config.max_development_items,
        test=config.max_test_items,
    )


def _tokenized(splits: PairSplits, form: LineForm | None) -> PairSplits:
    if form is None:
        return splits
    return dataclasses.replace(
        splits,
        train=form.pairs(splits.train),
        development=form.pairs(splits.development),
        test=form.pairs(splits.test),
    )


def _train_tokenizers(config: PairsConfig, train: Sequence[Pair]) -> tuple[Tokenizer, Tokenizer]:
    sources, targets = [pair.source for pair in train], [pair.target for pair in train]
    if config.share_vocabulary:
        shared = train_tokenizer(config.source_tokenizer, [*sources, *targets])
        return shared, shared
    return (
        train_tokenizer(config.source_tokenizer, sources),
        train_tokenizer(config.target_tokenizer, targets),
    )


def _encode(
    pairs: Sequence[Pair | EvaluationItem],
    tokenizers: tuple[Tokenizer, Tokenizer],
    config: PairsConfig,
    too_long: TooLong,
    name: str,
) -> tuple[EncodedExamples, EncodingReport]:
    return encode_examples(
        pairs,
        *tokenizers,
        max_source_len=config.max_source_len,
        max_target_len=config.max_target_len,
        too_long=too_long,
        name=name,
        copies_unknown=config.copies_unknown,
    )


def _all_too_long(pairs: Sequence[Pair], tokenizers: tuple[Tokenizer, Tokenizer], config: PairsConfig) -> str:
    """Advice where no training pair is left, with the limits that would keep half of them."""
    lengths = [
        sorted(len(ids) for ids in tokenizer.encode_batch([getattr(pair, side) for pair in pairs]))
        for side, tokenizer in zip(("source", "target"), tokenizers)
    ]
    source, target = (of_side[len(of_side) // 2] for of_side in lengths)
    return (
        f"training set: all {len(pairs):,} pairs are longer than max_source_len {config.max_source_len} or "
        f"max_target_len {config.max_target_len} (end token included), and too_long is 'skip': raise the limits (half "
        f"of the sources have up to {source} tokens, half of the targets up to {target + 1}), choose too_long "
        "'truncate', or a tokenizer of longer pieces"
    )


def _shapes(config: PairsConfig, parts: Sequence[EncodedExamples]) -> tuple[tuple[int, ...], ...]:
    """Shapes that hold every example of every part."""
    if isinstance(config.buckets, GivenBuckets):
        return config.buckets.shapes
    return choose_shapes(
        np.concatenate([part.source_lengths() for part in parts]),
        np.concatenate([part.target_lengths() for part in parts]),
        max_shapes=config.buckets.max_shapes,
        multiple_of=config.buckets.multiple_of,
    )


def _pipeline(
    config: PairsConfig, train: EncodedExamples, plan: BucketPlan
) -> BatchPipeline | PackedPipeline:
    size, tokens = config.batch_size, config.batch_tokens
    if config.packing is None:
        return BatchPipeline(train, plan, batch_size=size, seed=config.seed, batch_tokens=tokens)
    return PackedPipeline(
        train,
        source_len=config.packing.source_len,
        target_len=config.packing.target_len,
        batch_size=size,
        seed=config.seed,
        batch_tokens=tokens,
    )
