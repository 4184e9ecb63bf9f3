"""What to train on, as values: the data set, the tokenizers, the limits and the batches."""

import dataclasses
import os
import re
from typing import Annotated, Any, ClassVar, Literal

from transformer_jax.bounds import AtMost, Count, Length, Rows, Seed, Tokens, Vocabulary, Width, check_bounds
from transformer_jax.data.buckets import check_shapes
from transformer_jax.data.registry import DATASETS
from transformer_jax.errors import ConfigError, ShapeError, nearest_hint

TooLong = Literal["skip", "truncate", "fail"]

BleuTokenizerName = Literal[
    "13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "spBLEU-1K", "spm", "zh"
]

PRONUNCIATION_DATASETS = ("cmudict", "cmudict-g2p")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _check_at_least(minimum: int, **values: int | None) -> None:
    for name, value in values.items():
        _check(value is None or value >= minimum, f"{name} must be at least {minimum}, got {value}")


def _check_languages(dataset: Any) -> None:
    for name in ("source_language", "target_language"):
        value = getattr(dataset, name)
        _check(
            value is None or re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", value) is not None,
            f"{name} must be the code of a language as in 'de' or 'pt-BR', got {value!r}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A set of `transformer_jax.data.registry` that holds pairs of lines.

    Attributes:
      name: ``cmudict``, ``cmudict-g2p``, ``multi30k`` or ``tatoeba-zh-en``.
      source_language: Of a set of translations, the language to read; None for pronunciations.
      target_language: Of a set of translations, the language to write; None for pronunciations.
    """

    kind: Literal["named"] = "named"
    name: str = "cmudict"
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        usable = [*PRONUNCIATION_DATASETS, *(name for name, one in DATASETS.items() if one.languages)]
        _check(
            self.name in usable,
            f"no data set '{self.name}' of pairs{nearest_hint(self.name, usable)}; known: "
            f"{', '.join(usable)}",
        )
        languages = DATASETS[self.name].languages
        chosen = (self.source_language, self.target_language)
        if not languages:
            _check(
                chosen == (None, None),
                f"data set '{self.name}' has no languages to choose, got source_language "
                f"{self.source_language!r} and target_language {self.target_language!r}",
            )
        else:
            _check(
                all(one in languages for one in chosen) and chosen[0] != chosen[1],
                f"data set '{self.name}' needs two of the languages {', '.join(languages)}; got "
                f"source_language {self.source_language!r} and target_language {self.target_language!r}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelFiles:
    """Your own files, aligned by line.

    Without a development set, 2.5 % of the source lines are held out of the training set, by a hash of the
    line; without a test set there is none.

    Attributes:
      source_language: Code of the sources' language, such as ``"en"``; None where nothing needs it.
      target_language: The same of the targets: scores cut words by it. None tells by the script.
    """

    kind: Literal["parallel"] = "parallel"
    train_source: str
    train_target: str
    development_source: str | None = None
    development_target: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        _check_languages(self)
        for split in ("development", "test"):
            source, target = getattr(self, f"{split}_source"), getattr(self, f"{split}_target")
            _check(
                (source is None) == (target is None),
                f"{split}_source and {split}_target go together, got {source!r} and {target!r}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TsvFiles:
    """Your own files of fields separated by tabs; columns are counted from 0.

    A missing development or test set is treated as in `ParallelFiles`, and so are the languages.
    """

    kind: Literal["tsv"] = "tsv"
    train: str
    development: str | None = None
    test: str | None = None
    source_column: Width = 0
    target_column: Width = 1
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_languages(self)
        _check_at_least(0, source_column=self.source_column, target_column=self.target_column)
        _check(
            self.source_column != self.target_column,
            f"source_column {self.source_column} and target_column {self.target_column} are the same",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticDataset:
    """Random words to copy or to reverse: a task that every model must learn.

    Attributes:
      task: What the target is.
      num_train: Training pairs, all different.
      num_development: Development items, in no other part.
      num_test: Test items, in no other part.
      num_symbols: Different words.
      min_len: Fewest words of a line.
      max_len: Most words of a line.
      seed: Seed of the draw.
    """

    kind: Literal["synthetic"] = "synthetic"
    task: Literal["copy", "reverse"] = "copy"
    num_train: Count = 2000
    num_development: Count = 100
    num_test: Count = 100
    num_symbols: Vocabulary = 10
    min_len: Length = 3
    max_len: Length = 8
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_at_least(1, num_train=self.num_train, num_symbols=self.num_symbols, min_len=self.min_len)
        _check_at_least(0, num_development=self.num_development, num_test=self.num_test, seed=self.seed)
        _check(self.min_len <= self.max_len, f"min_len {self.min_len} is more than max_len {self.max_len}")
        wanted = self.num_train + self.num_development + self.num_test
        possible = 0
        for length in range(self.min_len, self.max_len + 1):
            if possible >= 2 * wanted:
                break
            # A power beyond what is wanted is not computed: it can have millions of digits.
            possible += self.num_symbols ** min(length, wanted.bit_length() + 1)
        _check(
            2 * wanted <= possible,
            f"{wanted} different lines are wanted; lines of {self.min_len} to {self.max_len} out of "
            f"{self.num_symbols} words are {possible}, and at least twice as many are needed",
        )


DatasetConfig = NamedDataset | ParallelFiles | TsvFiles | SyntheticDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Characters:
    """One token a character; ``max_size`` bounds the vocabulary, special ids included."""

    kind: Literal["characters"] = "characters"
    max_size: Vocabulary | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_at_least(5, max_size=self.max_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """One token a word between white space; ``max_size`` bounds the vocabulary, special ids included."""

    kind: Literal["words"] = "words"
    max_size: Vocabulary | None = None
    min_count: Count = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_at_least(5, max_size=self.max_size)
        _check_at_least(1, min_count=self.min_count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subwords:
    """Pieces of words, at most ``vocab_size`` of them, special ids included."""

    kind: Literal["subwords"] = "subwords"
    algorithm: Literal["bpe", "unigram"] = "bpe"
    vocab_size: Vocabulary = 8000

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_at_least(6, vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedTokenizer:
    """A file that ``transformer-jax tokenizer train`` or a run wrote, or any ``tokenizer.json`` of another program.

    Both sides of one path share it.
    """

    kind: Literal["saved"] = "saved"
    path: str

    TEXT_FIELD: ClassVar[str] = "path"  # what a text says that stands for the whole in an override

    def __post_init__(self) -> None:
        _check(bool(self.path), "the path of a saved tokenizer is empty")


TokenizerConfig = Characters | Words | Subwords | SavedTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class MosesText:
    """Lines are normalised and cut into Moses-style tokens before anything else sees them, references too.

    Scores are then of tokenised text, as in many papers; ``translate`` writes plain text again.

    Attributes:
      source_language: Two letters; None takes the language of a named data set.
      target_language: The same.
      lowercase: Whether upper case goes first.
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
            _check(good, f"{name} must be two lower-case letters as in 'de', got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenBuckets:
    """At most ``max_shapes`` batch shapes with the least padding, in lengths that ``multiple_of`` divides."""

    kind: Literal["chosen"] = "chosen"
    max_shapes: Annotated[int, AtMost(1_000)] = 4
    multiple_of: Length = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_at_least(1, max_shapes=self.max_shapes, multiple_of=self.multiple_of)


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
        _check_at_least(1, source_len=self.source_len)
        _check_at_least(2, target_len=self.target_len)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Data of an experiment.

    Attributes:
      dataset: Where the pairs come from.
      source_tokenizer: How sources are cut into tokens.
      target_tokenizer: How targets are cut into tokens.
      share_vocabulary: Train one tokenizer on both sides, for models that share their embeddings.
      moses: Cut lines into Moses-style tokens first; None leaves them as they are.
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
                _check(
                    language is not None,
                    f"moses.{side}_language must be two letters as in 'de': the data set does not say the language",
                )
        _check_at_least(1, batch_size=self.batch_size, max_source_len=self.max_source_len)
        _check_at_least(2, max_target_len=self.max_target_len)
        _check_at_least(0, seed=self.seed)
        longest = (self.max_source_len, self.max_target_len)
        if self.packing is not None:
            longest = (self.packing.source_len, self.packing.target_len)
            _check(
                longest[0] >= self.max_source_len and longest[1] >= self.max_target_len,
                f"a packed row holds {longest[0]} source and {longest[1]} target tokens, but max_source_len is "
                f"{self.max_source_len} and max_target_len is {self.max_target_len}",
            )
        elif isinstance(self.buckets, GivenBuckets):
            longest = self.buckets.shapes[-1]
        _check(
            self.batch_tokens is None or self.batch_tokens >= sum(longest),
            f"batch_tokens must hold one row of {longest[0]} source and {longest[1]} target tokens, got "
            f"{self.batch_tokens}",
        )
        _check_at_least(1, max_train_pairs=self.max_train_pairs)
        _check_at_least(
            1, max_development_items=self.max_development_items, max_test_items=self.max_test_items
        )
        if self.share_vocabulary:
            _check(
                self.source_tokenizer == self.target_tokenizer,
                f"share_vocabulary needs equal tokenizers, got source_tokenizer {self.source_tokenizer} and "
                f"target_tokenizer {self.target_tokenizer}",
            )
        if isinstance(self.buckets, GivenBuckets):
            source_len, target_len = self.buckets.shapes[-1]
            _check(
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
    dataset = config.dataset
    config = dataclasses.replace(
        config,
        source_tokenizer=_with_absolute_path(config.source_tokenizer),
        target_tokenizer=_with_absolute_path(config.target_tokenizer),
    )
    if not isinstance(dataset, ParallelFiles | TsvFiles):
        return config
    absolute: dict[str, Any] = {
        name: os.path.abspath(os.path.expanduser(value))
        for name, value in dataclasses.asdict(dataset).items()
        if isinstance(value, str) and name not in ("kind", "source_language", "target_language")
    }
    return dataclasses.replace(config, dataset=dataclasses.replace(dataset, **absolute))


def _with_absolute_path(tokenizer: TokenizerConfig) -> TokenizerConfig:
    if not isinstance(tokenizer, SavedTokenizer):
        return tokenizer
    return dataclasses.replace(tokenizer, path=os.path.abspath(os.path.expanduser(tokenizer.path)))
