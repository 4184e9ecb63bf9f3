"""Config of the data of a masked language model: text, tokenizer, pieces, masking and batches."""

import dataclasses
from typing import Annotated, Literal

from transformer_jax.bounds import (
    AtMost,
    Count,
    Length,
    Rows,
    Seed,
    check_at_least,
    check_bounds,
    require_field,
)
from transformer_jax.data.masking import Masking
from transformer_jax.data.sources.named_text import NamedText
from transformer_jax.data.sources.text_files import TextFiles
from transformer_jax.data.sources.text_sources import TextSource, from_any_folder
from transformer_jax.data.tokenizer_config import (
    SavedTokenizer,
    TokenizerConfig,
    WordPieces,
    Words,
    with_absolute_path,
)
from transformer_jax.errors import check_choice

__all__ = [
    "MaskedTextConfig",
    "Masking",
    "NamedText",
    "SavedTokenizer",
    "TextFiles",
    "WordPieces",
    "Words",
    "with_absolute_masked_paths",
]

PieceUnit = Literal["document", "line"]
"""What a text may not reach beyond."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTextConfig:
    """Data of a masked language model.

    Attributes:
      datasets: Where the texts come from, one after another; the development and test texts are theirs too.
      tokenizer: How it is cut into tokens. Tokens of one without a mask are hidden behind its unknown token.
      lowercase: Whether the text is written in lower case first; `WordPieces` have a flag of their own.
      splits_punctuation: Whether punctuation is set apart from words first, as `Words` want it.
      unit: Documents are cut into texts of ``max_len`` tokens, one behind another; with ``"line"`` each line is by
        itself.
      max_len: Tokens of a text, start and end included; longer ones are cut at the start of a word.
      sentence_order: Whether a text is two parts with an end token behind each, exchanged in half of all visits.
      masking: Which tokens are hidden, and behind what.
      batch_size: Rows of a training batch.
      num_buckets: Most lengths of training batches; texts of a document are all but the last of one length.
      seed: Seed of the order of batches and of the masking.
      max_train_characters: Take only the first so many characters of the training text.
      max_development_characters: Take only the first so many characters of the development text.
      max_test_characters: Take only the first so many characters of the test text.

    Raises:
      ConfigError: If a number is out of range.
    """

    datasets: tuple[TextSource, ...] = (NamedText(name="english-novels"),)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=WordPieces)
    lowercase: bool = False
    splits_punctuation: bool = False
    unit: PieceUnit = "document"
    max_len: Length = 128
    sentence_order: bool = False
    masking: Masking = dataclasses.field(default_factory=Masking)
    batch_size: Rows = 32
    num_buckets: Annotated[int, AtMost(1_000)] = 1
    seed: Seed = 0
    max_train_characters: Count | None = None
    max_development_characters: Count | None = None
    max_test_characters: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(len(self.datasets) > 0, self, "datasets", "at least one text")
        check_choice("unit", self.unit, ("document", "line"))
        check_at_least(self.num_marks + (2 if self.sentence_order else 1), max_len=self.max_len)
        check_at_least(1, batch_size=self.batch_size, num_buckets=self.num_buckets)
        for name in ("train", "development", "test"):
            check_at_least(1, **{f"max_{name}_characters": getattr(self, f"max_{name}_characters")})
        check_at_least(0, seed=self.seed)

    @property
    def num_marks(self) -> int:
        """Start and end tokens of a text."""
        return 3 if self.sentence_order else 2


def with_absolute_masked_paths(config: MaskedTextConfig) -> MaskedTextConfig:
    """The same data, to be found from any folder.

    Example:
      >>> config = MaskedTextConfig(datasets=(TextFiles(train=("/data/../a.txt",)),))
      >>> with_absolute_masked_paths(config).datasets[0].train
      ('/a.txt',)
    """
    return dataclasses.replace(
        config,
        datasets=from_any_folder(config.datasets),
        tokenizer=with_absolute_path(config.tokenizer),
    )
