"""``transformer-jax tokenizer train``: text files to a tokenizer."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transformer_jax.cli.flags import VOCABULARY

DESCRIPTION = """Train a subword tokenizer on text files, plain or gzipped, one example a line.

A config takes it in place of one that is trained on the run's own data:
  source_tokenizer=SavedTokenizer(path="joint.json")
Two runs with one tokenizer have the same ids; name the files of both languages for a joint one.

Examples:
  transformer-jax tokenizer train train.en train.de --output joint.json --vocab-size 8000
  transformer-jax tokenizer train train.zh --output zh.json --algorithm unigram --vocab-size 6000"""


@dataclasses.dataclass(frozen=True)
class Command:
    action: tyro.conf.Positional[Literal["train"]]
    """What to do."""

    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]]
    """Text to train on."""

    output: Annotated[Path, tyro.conf.arg(metavar="FILE.json")]
    """Where the tokenizer goes."""

    algorithm: Literal["bpe", "unigram", "word_pieces"] = "bpe"
    """Byte pair encoding, a unigram model, or WordPiece as BERT has it (in lower case)."""

    vocab_size: Annotated[int, tyro.conf.arg(metavar="N"), VOCABULARY] = 8000
    """Most ids, the four special ones included."""

    def run(self) -> int:
        # Loaded here, not above: --help does without.
        from transformer_jax.data.tokenizer_config import Subwords, TokenizerConfig, WordPieces
        from transformer_jax.data.tokenizer_training import train_on_files
        from transformer_jax.files import require_other_file
        from transformer_jax.notes import note

        require_other_file("--output", self.output, self.files)
        config: TokenizerConfig = (
            WordPieces(vocab_size=self.vocab_size)
            if self.algorithm == "word_pieces"
            else Subwords(algorithm=self.algorithm, vocab_size=self.vocab_size)
        )
        trained = train_on_files(config, self.files)
        trained.tokenizer.save(self.output)
        note(
            f"{self.output}: {trained.tokenizer.vocab_size:,} ids from {trained.num_lines:,} lines, "
            f"{trained.tokens_per_word:.2f} tokens a word"
        )
        return 0
