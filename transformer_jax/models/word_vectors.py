"""Word vectors: two tables, one of the vectors that are kept and one of those that they are trained against."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Width, check_bounds, require_field
from transformer_jax.functional.word_losses import mean_with_subwords
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.typing import Array, Float, Int

__all__ = ["WordVectors", "WordVectorsConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordVectorsConfig:
    """Word vectors.

    Attributes:
      kind: Tag of the union of model configs.
      embedding_dim: Width of a vector.

    Raises:
      ConfigError: If the width is out of range.

    Example:
      >>> WordVectorsConfig(embedding_dim=4).build(Sizes(vocab_size=3), rngs=nnx.Rngs(0))(jnp.array([[0, 2]])).shape
      (1, 2, 4)
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size",)

    kind: Literal["word_vectors"] = "word_vectors"
    embedding_dim: Width = 100

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(self.embedding_dim >= 1, self, "embedding_dim", "at least 1")

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "WordVectors":
        """The model for these sizes."""
        return WordVectors(
            self, vocab_size=sizes.need("vocab_size"), num_buckets=sizes.num_buckets or 0, rngs=rngs
        )


class WordVectors(nnx.Module):
    r"""Input and output vectors of word2vec.

    The input vectors, which are kept, start as uniform numbers between :math:`-1 / 2d` and :math:`1 / 2d`, the output
    vectors as zeros. Behind the rows of the words the input table has those of hashed n-grams. With hierarchical
    softmax a row of the output table is an inner node of the tree, and the last row is not used.

    Args:
      config: Width.
      vocab_size: Words.
      num_buckets: Vectors of n-grams.
      rngs: Source of the initial parameters.

    Source: Mikolov et al. 2013, https://arxiv.org/abs/1310.4546; the start is ``word2vec.c``'s.
    """

    def __init__(
        self, config: WordVectorsConfig, *, vocab_size: int, num_buckets: int = 0, rngs: nnx.Rngs
    ) -> None:
        self.config, self.vocab_size = config, vocab_size
        width = config.embedding_dim
        self.embedding = Embedding(vocab_size + num_buckets, width, padding_id=None, scale="none", rngs=rngs)
        bound = 0.5 / width
        self.embedding.embedding[...] = jax.random.uniform(
            rngs.params(), (vocab_size + num_buckets, width), jnp.float32, -bound, bound
        )
        self.output_embedding = Embedding(vocab_size, width, padding_id=None, scale="none", rngs=rngs)
        self.output_embedding.embedding[...] = jnp.zeros((vocab_size, width), jnp.float32)

    def __call__(
        self, words: Int[Array, "*batch"], *, subwords: Int[Array, "*batch grams"] | None = None
    ) -> Float[Array, "*batch model"]:
        """Vectors of words.

        Args:
          words: Ids; -1 for a word outside of the vocabulary, whose n-grams count alone.
          subwords: Rows of their n-grams, -1 where there is none; None without n-grams.

        Returns:
          ``[*batch, model]``; zeros for a word without id and n-grams.
        """
        words = jnp.asarray(words)[..., None]
        rows = words if subwords is None else jnp.concatenate([words, jnp.asarray(subwords)], axis=-1)
        vectors = self.embedding(jnp.maximum(rows, 0))
        return mean_with_subwords(vectors, rows)
