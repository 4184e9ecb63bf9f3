"""What tasks from features to texts share: their sizes, plans, and files of one's own."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

from transformer_jax.data.feature_batches import FeatureBatch, abstract_feature_batch
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.models.feature_encoders import FeatureEncoder
from transformer_jax.models.image_encoders import ImageEncoder
from transformer_jax.models.sizes import Sizes
from transformer_jax.tasks.task import Artifacts, check_files, check_limit, saved_tokenizer_overrides


class FeatureTextTask:
    """Base of `Captioning` and `Transcription`, which are frozen dataclasses with the field ``data``."""

    kind: Any
    data: Any
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer}
    sizes_given: ClassVar[tuple[str, ...]] = ("feature_dim", "vocab_size")
    has_shorter_batches: ClassVar[bool] = True

    files_kind: ClassVar[str]
    """Kind of the config of a data set of one's own."""

    def check_encoder(self, model: Any, *, reads_images: bool, data: str) -> None:
        """Raise ``ConfigError`` if a model's encoder reads images and the data are none, or the other way round.

        Args:
          model: Config of the model; an ``encoder`` of one's own kind is left to its own checks.
          reads_images: Whether the data are images.
          data: What messages call the data, such as ``"recordings"``.
        """
        encoder = getattr(model, "encoder", None)
        wanted, other = (ImageEncoder, FeatureEncoder) if reads_images else (FeatureEncoder, ImageEncoder)
        if isinstance(encoder, other):
            names = ("images", "frames of features")
            wanted_name, found_name = names if reads_images else names[::-1]
            kinds = " or ".join(f"'{one.kind}'" for one in get_args(wanted))
            raise ConfigError(
                f"{data} need a model.encoder that reads {wanted_name}: {kinds}; got '{encoder.kind}', which reads "
                f"{found_name}"
            )

    def check_lengths(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model takes fewer frames, vectors or tokens than the data may have."""
        data = self.data
        check_limit(
            "data.max_frames",
            data.max_frames,
            getattr(model, "source_limit", None),
            raised="model.encoder.positions.max_len",
            noun="frames at most, by its learned positions",
        )
        check_limit(
            "data.max_target_len",
            data.max_target_len,
            getattr(model, "target_limit", None),
            raised="model.decoder.positions.max_len",
        )
        limit = getattr(getattr(model, "decoder", None), "memory_limit", None)
        if limit is not None:
            # A column of an image is one frame; its vectors lie in rows, too.
            rows = -(-getattr(data.features, "height", 1) // model.encoder.reduction)
            check_limit(
                f"data.max_frames of {data.max_frames}: the number of the encoder's vectors",
                rows * -(-data.max_frames // model.encoder.reduction),
                limit,
                raised="model.decoder.attention.max_len",
                noun="location scores",
            )

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Numbers of a frame, and vocabulary."""
        return self._sizes(artifacts["tokenizer"].vocab_size)

    def _sizes(self, vocab_size: int) -> Sizes:
        return Sizes(feature_dim=self.data.features.feature_dim, vocab_size=vocab_size)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on examples of one's own, and on second ones to develop on."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        dataset = {
            part: files[name][0]
            for name, part in (("text", "train"), ("development_text", "development"))
            if name in files
        }
        return [f"task.data.dataset={json.dumps({'kind': self.files_kind, **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved tokenizer."""
        return saved_tokenizer_overrides(path)

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        task: Any = self
        found: Self = dataclasses.replace(task, data=self.data.with_absolute_paths())
        return found

    def plan_lengths(self) -> tuple[int, ...]:
        """Frames and tokens of the longest training batch that the config allows."""
        return self.data.max_frames, self.data.max_target_len

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        tokens = self.data.batch_tokens
        return int(self.data.batch_size) if tokens is None else rows_of(tokens, sum(lengths))

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> FeatureBatch:
        """Shapes of a training batch; one length is that of both sides."""
        return abstract_feature_batch(rows, lengths[0], self.data.features.feature_dim, lengths[-1])

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given, or that the tokenizer's config bounds, and the numbers of a frame."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        return None if size is None else self._sizes(size)
