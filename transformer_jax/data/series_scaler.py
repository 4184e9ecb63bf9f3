"""The scaler of series: mean and standard deviation of each channel of the training part, kept beside a model."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.data.artifact_file import fingerprint_of, load_artifact
from transformer_jax.data.series import Series, Values
from transformer_jax.errors import DataError
from transformer_jax.files import write_whole

MAX_SCALED_VALUE = 1e15
"""Largest size of a scaled value: sums of squares of larger ones are infinite in float32."""

Scaling = Literal["standard", "none"]
"""Each channel to mean 0 and variance 1 over the training parts, or values as they are."""


@dataclasses.dataclass(frozen=True)
class SeriesScaler:
    r"""An affine map of each channel.

    .. math:: z = (x - \mu) / \sigma

    Args:
      columns: Names of the channels.
      mean: Of each channel.
      scale: Of each channel, above 0.

    Raises:
      DataError: If the numbers are not as many as the columns, not finite, or a scale is not above 0.

    Example:
      >>> scaler = SeriesScaler.fit([Series(name="a", values=np.array([[1.0], [3.0], [99.0]]), ends=(2, 2, 3))], ["x"])
      >>> scaler.mean, scaler.scale, scaler.scaled(np.array([[5.0]])).tolist()
      ((2.0,), (1.0,), [[3.0]])
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.columns or not len(self.columns) == len(self.mean) == len(self.scale):
            raise DataError("a scaler needs a mean and a scale for each of its columns")
        if len(set(self.columns)) != len(self.columns):
            raise DataError("a scaler's columns must have different names")
        if not all(math.isfinite(one) for one in (*self.mean, *self.scale)) or min(self.scale) <= 0:
            raise DataError("a scaler's means and scales must be finite, and its scales above 0")

    @classmethod
    def fit(
        cls, series: Sequence[Series], columns: Sequence[str], scaling: Scaling = "standard"
    ) -> "SeriesScaler":
        """The scaler of the training parts; a column that is constant there keeps the scale 1.

        Only `Series.training_values` is read, so that nothing of the development and the test part is in it. Missing
        values do not count.

        Args:
          series: The series.
          columns: Names of their channels.
          scaling: ``"none"`` leaves values as they are.

        Raises:
          DataError: If a column has no value in the training parts.
        """
        if scaling == "none":
            return cls(tuple(columns), (0.0,) * len(columns), (1.0,) * len(columns))
        values = np.concatenate([one.training_values() for one in series])
        known = ~np.isnan(values)
        for column, count in zip(columns, known.sum(axis=0).tolist(), strict=True):
            if not count:
                raise DataError(f"column {column!r} has no value in the training part: leave it out")
        mean = np.nanmean(values, axis=0)
        deviation = np.nanstd(values, axis=0)
        # What rounding leaves of a constant is no deviation.
        constant = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
        scale = np.where(constant, 1.0, deviation)
        return cls(tuple(columns), tuple(mean.tolist()), tuple(scale.tolist()))

    def scaled(self, values: Values) -> Values:
        """Values ``[..., channels]`` as models read them."""
        return (values - np.array(self.mean)) / np.array(self.scale)

    def model_values(self, values: Values, *, where: str) -> npt.NDArray[np.float32]:
        """The same in float32.

        Args:
          values: ``[..., channels]``.
          where: The series, for messages.

        Raises:
          DataError: If a scaled value is not finite, or above `MAX_SCALED_VALUE`.
        """
        scaled = self.scaled(values)
        if not (np.abs(scaled) <= MAX_SCALED_VALUE).all():
            raise DataError(
                f"{where}: holds numbers that are infinite, or above {MAX_SCALED_VALUE:g} when scaled: correct them"
            )
        return scaled.astype(np.float32)

    def unscaled(self, values: Any) -> Values:
        """The values that scaled ones ``[..., channels]`` stand for."""
        return np.asarray(values, np.float64) * np.array(self.scale) + np.array(self.mean)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any number or name does."""
        return fingerprint_of([self.columns, self.mean, self.scale])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write names and numbers as JSON."""
        document = {"columns": self.columns, "mean": self.mean, "scale": self.scale}
        write_whole(Path(path), json.dumps(document, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SeriesScaler":
        """Read a file that `save` wrote.

        Raises:
          DataError: If it is missing or damaged.
        """
        return load_artifact(path, cls._of_document, what="the scaler", noun="a scaler")

    @classmethod
    def _of_document(cls, document: Any) -> "SeriesScaler":
        columns = [_checked(one, str) for one in document["columns"]]
        numbers = [
            [float(_checked(one, (int, float))) for one in document[name]] for name in ("mean", "scale")
        ]
        return cls(tuple(columns), tuple(numbers[0]), tuple(numbers[1]))


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"wanted {kind}")
    return value
