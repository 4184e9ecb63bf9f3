"""The sizes that a task gives to a model: what a model's config cannot know by itself."""

import dataclasses

from transformer_jax.errors import ConfigError

__all__ = ["Sizes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes that come with the data, each ``None`` where the task has no such thing.

    Attributes:
      source_vocab_size: Tokens of the source vocabulary of a pair.
      target_vocab_size: Tokens of the target vocabulary of a pair.
      vocab_size: Tokens of the one vocabulary of a text.
      num_classes: Classes of a whole text.
      num_labels: Labels of a token.
      carried_rows: Rows of a training batch whose recurrent state is carried from one window to the next; ``None`` =
        nothing is carried.
      feature_dim: Numbers of a frame of features, or channels of an image.
      num_channels: Values of a step of a series.
      context_len: Steps of a series that a forecast is made from.
      horizon_len: Steps that are forecast.
      num_outputs: Numbers that forecast a value: 1, or one a quantile.
      num_buckets: Vectors of hashed character n-grams that words share, beside those of the vocabulary.

    Example:
      >>> Sizes(vocab_size=65).need("vocab_size")
      65
      >>> Sizes().need("vocab_size")
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: the model needs vocab_size, the task gives no sizes: choose another
    """

    source_vocab_size: int | None = None
    target_vocab_size: int | None = None
    vocab_size: int | None = None
    num_classes: int | None = None
    num_labels: int | None = None
    carried_rows: int | None = None
    num_channels: int | None = None
    context_len: int | None = None
    horizon_len: int | None = None
    num_outputs: int | None = None
    num_buckets: int | None = None
    feature_dim: int | None = None

    @classmethod
    def of_pairs(cls, source_vocab_size: int, target_vocab_size: int | None = None) -> "Sizes":
        """Sizes of pairs of texts; one number means two vocabularies of that size.

        Example:
          >>> Sizes.of_pairs(5).target_vocab_size
          5
        """
        target = source_vocab_size if target_vocab_size is None else target_vocab_size
        return cls(source_vocab_size=source_vocab_size, target_vocab_size=target)

    def need(self, name: str) -> int:
        """The size of that name.

        Args:
          name: An attribute.

        Returns:
          Its value.

        Raises:
          ConfigError: If the task gives none: the model is for other tasks.
        """
        value = getattr(self, name)
        if value is None:
            given = [
                field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None
            ]
            raise ConfigError(
                f"the model needs {name}, the task gives {', '.join(given) or 'no sizes'}: choose another"
            )
        return value

    def vocabularies(self) -> tuple[int, ...]:
        """The vocabulary sizes that are given."""
        sizes = (self.source_vocab_size, self.target_vocab_size, self.vocab_size)
        return tuple(size for size in sizes if size is not None)

    def of_windows(self) -> int:
        """Most weights of a map between the windows of series for each number of its width; 0 where there are none."""
        context, horizon = self.context_len or 0, self.horizon_len or 0
        return context * horizon * (self.num_channels or 1) * (self.num_outputs or 1)
