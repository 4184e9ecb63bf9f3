"""Word vectors of a file as the first embeddings of any model."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.data.tokenizers import SPACE_MARK
from transformer_jax.data.vector_files import VectorTable, read_vectors
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.runs.warm_start import Start, start_from
from transformer_jax.tasks.task import Artifacts

_OUTPUT = "output_embedding"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorStart:
    """Vectors for the input embeddings of a new run: every token that is a word of the file gets its vector.

    A token of a subword tokenizer that begins a word stands for that word; a word is looked for as it is, then in lower
    case. The vectors are scaled together to the mean square that the embeddings start with, which is what the layers
    behind them are initialised for. Tokens without a vector stay as they were initialised.

    Args:
      where: The file.
      table: Words with their vectors.
    """

    where: Path
    table: VectorTable

    def artifacts_for(self, task: Any) -> None:
        """None: the new run makes its own."""
        del task

    def fill(self, model: nnx.Module, artifacts: Artifacts) -> str:
        """Give the embeddings of ``model`` their vectors.

        Args:
          model: Any model with an `Embedding`.
          artifacts: Of the new run; a tokenizer or vocabulary says what each row stands for.

        Returns:
          How many rows were filled, for a person.

        Raises:
          RunError: If the model has no embeddings of these tokens, or no token is a word of the file.
          ConfigError: If the vectors have another width than the embeddings.
        """
        vocabularies = {name: rows for name, one in artifacts.items() if (rows := _row_words(one))}
        found = []
        for path, embedding in _embeddings(model):
            for name, words in vocabularies.items():
                if _belongs(path, name, vocabularies) and embedding.embedding.shape[0] >= max(words) + 1:
                    found.append(self._fill_one(path, embedding, words))
        if not found:
            raise RunError(
                f"{self.where}: the model has no embedding of the run's tokens to begin with these vectors"
            )
        return "\n".join(found)

    def _fill_one(self, path: str, embedding: Embedding, words: dict[int, str]) -> str:
        table = np.array(embedding.embedding[...])
        width = self.table.vectors.shape[1]
        if width != table.shape[1]:
            raise ConfigError(
                f"{self.where} has vectors of width {width}, {path} has {table.shape[1]}: set the model's width to "
                f"{width}, or take other vectors"
            )
        places = {word: place for place, word in enumerate(self.table.words)}
        chosen = {
            row: place
            for row, word in words.items()
            if (place := places.get(word, places.get(word.lower()))) is not None
        }
        if not chosen:
            raise RunError(
                f"{self.where}: not one of the {len(words):,} tokens of {path} is a word of the file"
            )
        vectors = self.table.vectors[list(chosen.values())]
        scale = np.sqrt(np.mean(np.square(table)) / max(float(np.mean(np.square(vectors))), 1e-30))
        table[list(chosen)] = vectors * np.float32(scale)
        embedding.embedding[...] = jnp.asarray(table)
        return f"vectors: {len(chosen):,} of {len(words):,} rows of {path} are those of {self.where}"


def start_from_vectors(path: Path) -> VectorStart:
    """Read a file in word2vec's text or binary format for a new run.

    Raises:
      DataError: If it cannot be read.
    """
    return VectorStart(where=path, table=read_vectors(path))


def start_of(where: Path, *, allow_partial: bool = False) -> Start | VectorStart:
    """What a new run begins from: a folder is another run's, a file has word vectors.

    Raises:
      RunError: If the folder cannot be read.
      DataError: If the file cannot be.
    """
    return start_from_vectors(where) if where.is_file() else start_from(where, allow_partial=allow_partial)


def _row_words(artifact: Any) -> dict[int, str]:
    """The word of each row that stands for one."""
    if hasattr(artifact, "words") and hasattr(artifact, "counts"):
        return dict(enumerate(artifact.words))
    if not hasattr(artifact, "symbols") or not hasattr(artifact, "vocab_size"):
        return {}
    first = artifact.vocab_size - len(artifact.symbols)
    return {first + place: symbol.removeprefix(SPACE_MARK) for place, symbol in enumerate(artifact.symbols)}


def _embeddings(model: nnx.Module) -> list[tuple[str, Embedding]]:
    """The input embeddings of a model by their path; the output's where it has no other."""
    found = [
        (".".join(map(str, path)), module)
        for path, module in nnx.iter_graph(model)
        if isinstance(module, Embedding)
    ]
    inputs = [one for one in found if not one[0].endswith(_OUTPUT)]
    return inputs or found


def _belongs(path: str, name: str, vocabularies: dict[str, Any]) -> bool:
    """Whether an embedding is that of an artifact's tokens, as ``source_embedding`` is of ``source_tokenizer``."""
    side = name.partition("_")[0]
    return len(vocabularies) == 1 or side in path or (side == "target" and path.endswith(_OUTPUT))
