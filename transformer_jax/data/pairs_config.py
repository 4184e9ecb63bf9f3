"""Configs of pairs of lines: data set, tokenizers, limits and batches."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from transformer_jax.bounds import AtMost, Count, Length, Rows, Seed, Tokens, check_at_least, check_bounds
from transformer_jax.data.buckets import check_shapes
from transformer_jax.data.dataset_kinds import dataset_kinds, with_absolute_dataset_paths
from transformer_jax.data.sources.named_pairs import NamedDataset
from transformer_jax.data.sources.parallel_files import ParallelFiles
from transformer_jax.data.sources.registry import names_with
from transformer_jax.data.sources.synthetic_pairs import SyntheticDataset
from transformer_jax.data.sources.tsv_files import TsvFiles
from transformer_jax.data.tokenizer_config import (
    BytePairs,
    Bytes,
    Characters,
    SavedTokenizer,
    Subwords,
    TokenizerConfig,
    Words,
    with_absolute_path,
)
from transformer_jax.errors import ConfigError, ShapeError, require
from transformer_jax.kinds import Kinds

__all__ = [
    "PRONUNCIATION_DATASETS",
    "BleuTokenizerName",
    "BucketConfig",
    "BytePairs",
    "Bytes",
    "Characters",
    "ChosenBuckets",
    "CutText",
    "DatasetConfig",
    "GivenBuckets",
    "MosesText",
    "NamedDataset",
    "PackedRows",
    "PairsConfig",
    "ParallelFiles",
    "SavedTokenizer",
    "Subwords",
    "SyntheticDataset",
    "TokenizerConfig",
    "TooLong",
    "TsvFiles",
    "Words",
    "with_absolute_paths",
]

TooLong = Literal["skip", "truncate", "fail"]

BleuTokenizerName = Literal[
    "13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "spBLEU-1K", "spm", "zh"
]

PRONUNCIATION_DATASETS = tuple(names_with("pronunciations"))


BuiltInDatasetConfig = NamedDataset | ParallelFiles | TsvFiles | SyntheticDataset
DATASET_KINDS: Kinds[Any] = dataset_kinds("pairs", get_args(BuiltInDatasetConfig))

if TYPE_CHECKING:
    DatasetConfig = BuiltInDatasetConfig
else:
    DatasetConfig = Annotated[Any, DATASET_KINDS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MosesText:
    """Lines are normalised and cut into Moses-style tokens before anything else sees them, references too.

    Scores are then of tokenised text, as in many papers; ``translate`` writes plain text again.

    Attributes:
      source_language: Two letters; None takes the language of a named data set.
      target_language: The same.
      lowercase: Whether text is lower-cased first.
    """

    source_language: str | None = None
    target_language: str | None = None
    lowercase: bool = True

    def __post_init__(self) -> None:
        for name in ("source_language", "target_language"):
            value = getattr(self, name)
            good = value is None or (
                len(value) == 2 and value.isascii() and value.isalpha() and value.islower()
            )
            require(good, f"{name} must be two lower-case letters as in 'de', got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutText:
    """Lines are cut at white space and around punctuation marks before a tokenizer sees them, see `cut_text`.

    So ``self._lock`` of a text and ``self . _lock`` of code have the same words; nothing is lost, and scores are of the
    cut text.

    Attributes:
      lowercase: Whether lines are lower-cased first.
      source_marks: Whether sources have tokens that say where no space was, as targets do.
    """

    lowercase: bool = False
    source_marks: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenBuckets:
    """At most ``max_shapes`` batch shapes with the least padding, in lengths that ``multiple_of`` divides."""

    kind: Literal["chosen"] = "chosen"
    max_shapes: Annotated[int, AtMost(1_000)] = 4
    multiple_of: Length = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, max_shapes=self.max_shapes, multiple_of=self.multiple_of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenBuckets:
    """Batch shapes ``(source_len, target_len)`` from small to large; ``target_len`` counts the end token."""

    kind: Literal["given"] = "given"
    shapes: tuple[tuple[Length, Length], ...]

    def __post_init__(self) -> None:
        check_bounds(self)
        try:
            check_shapes(self.shapes)
        except ShapeError as error:
            raise ConfigError(str(error)) from None


BucketConfig = ChosenBuckets | GivenBuckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Training rows of ``source_len`` and ``target_len`` tokens, each filled with several pairs.

    Hardly any padding and one program; for models whose attention can keep the pairs of a row apart (Transformers with
    softmax attention).
    """

    source_len: Length
    target_len: Length

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, source_len=self.source_len)
        check_at_least(2, target_len=self.target_len)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Data of an experiment.

    Attributes:
      dataset: Where the pairs come from.
      source_tokenizer: How sources are cut into tokens.
      target_tokenizer: How targets are cut into tokens.
      share_vocabulary: Train one tokenizer on both sides, for models that share their embeddings.
      moses: Cut lines into Moses-style tokens first; None leaves them as they are.
      cut: Cut lines around punctuation marks first; None leaves them as they are.
      copies_unknown: Give words that the vocabulary does not have ids of their own in each row, for a model that copies
        them from the source (`transformer_jax.data.copied_words`); needs one vocabulary of words.
      batch_size: Rows of a batch; of a training batch only where ``batch_tokens`` is None.
      batch_tokens: Source and target tokens of a training batch, padding included, at most: the shorter the lines,
        the more rows.
      buckets: Lengths of a batch; of a training batch only where ``packing`` is None.
      packing: Train on rows that hold several pairs each, instead of buckets.
      max_source_len: Most source tokens of an example.
      max_target_len: Most target tokens of an example, the end token included.
      too_long: What to do with longer training pairs. Development and test items are never left out: theirs
        are cut unless this is ``"fail"``, and the references that scores compare with stay whole.
      seed: Seed of the order of batches.
      max_train_pairs: Take only the first so many training pairs, of a random but fixed order.
      max_development_items: Take only the first so many development items.
      max_test_items: Take only the first so many test items.
      bleu_tokenizer: What BLEU cuts words with, by sacrebleu's name; None takes that of the target language or script.
    """

    dataset: DatasetConfig = dataclasses.field(default_factory=NamedDataset)
    source_tokenizer: TokenizerConfig = dataclasses.field(default_factory=Characters)
    target_tokenizer: TokenizerConfig = dataclasses.field(default_factory=Words)
    share_vocabulary: bool = False
    moses: MosesText | None = None
    cut: CutText | None = None
    copies_unknown: bool = False
    batch_size: Rows = 256
    batch_tokens: Tokens | None = None
    buckets: BucketConfig = dataclasses.field(default_factory=ChosenBuckets)
    packing: PackedRows | None = None
    max_source_len: Length = 40
    max_target_len: Length = 40
    too_long: TooLong = "fail"
    seed: Seed = 0
    max_train_pairs: Count | None = None
    max_development_items: Count | None = None
    max_test_items: Count | None = None
    bleu_tokenizer: BleuTokenizerName | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.moses is not None:
            for side, language in zip(("source", "target"), self.moses_languages()):
                require(
                    language is not None,
                    f"moses.{side}_language must be two letters as in 'de': the data set does not say the language",
                )
        check_at_least(1, batch_size=self.batch_size, max_source_len=self.max_source_len)
        check_at_least(2, max_target_len=self.max_target_len)
        check_at_least(0, seed=self.seed)
        longest = (self.max_source_len, self.max_target_len)
        if self.packing is not None:
            longest = (self.packing.source_len, self.packing.target_len)
            require(
                longest[0] >= self.max_source_len and longest[1] >= self.max_target_len,
                f"a packed row holds {longest[0]} source and {longest[1]} target tokens, but max_source_len is "
                f"{self.max_source_len} and max_target_len is {self.max_target_len}",
            )
        elif isinstance(self.buckets, GivenBuckets):
            longest = self.buckets.shapes[-1]
        require(
            self.batch_tokens is None or self.batch_tokens >= sum(longest),
            f"batch_tokens must hold one row of {longest[0]} source and {longest[1]} target tokens, got "
            f"{self.batch_tokens}",
        )
        check_at_least(1, max_train_pairs=self.max_train_pairs)
        check_at_least(
            1, max_development_items=self.max_development_items, max_test_items=self.max_test_items
        )
        if self.share_vocabulary:
            require(
                self.source_tokenizer == self.target_tokenizer,
                f"share_vocabulary needs equal tokenizers, got source_tokenizer {self.source_tokenizer} and "
                f"target_tokenizer {self.target_tokenizer}",
            )
        require(
            self.moses is None or self.cut is None, "moses and cut both cut lines: set one of them to None"
        )
        if self.copies_unknown:
            require(
                self.share_vocabulary and isinstance(self.source_tokenizer, Words),
                "copies_unknown needs one vocabulary of words: set share_vocabulary, and both tokenizers to 'words', "
                f"got share_vocabulary {self.share_vocabulary} and source_tokenizer {self.source_tokenizer}",
            )
        if isinstance(self.buckets, GivenBuckets):
            source_len, target_len = self.buckets.shapes[-1]
            require(
                source_len >= self.max_source_len and target_len >= self.max_target_len,
                f"the largest bucket is {source_len} by {target_len}, but max_source_len is "
                f"{self.max_source_len} and max_target_len is {self.max_target_len}",
            )

    def moses_languages(self) -> tuple[str | None, str | None]:
        """Source and target language: those given for Moses-style tokens, else those that the data set says."""
        moses = MosesText() if self.moses is None else self.moses
        return (
            moses.source_language or getattr(self.dataset, "source_language", None),
            moses.target_language or getattr(self.dataset, "target_language", None),
        )


def with_absolute_paths(config: PairsConfig) -> PairsConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_paths(PairsConfig(dataset=TsvFiles(train="/data/../words.tsv"))).dataset.train
      '/words.tsv'
    """
    return dataclasses.replace(
        config,
        dataset=with_absolute_dataset_paths(config.dataset),
        source_tokenizer=with_absolute_path(config.source_tokenizer),
        target_tokenizer=with_absolute_path(config.target_tokenizer),
    )
