"""A named data set of series, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.series import SeriesSet
from transformer_jax.data.sources.registry import names_with, read_series
from transformer_jax.errors import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedSeries:
    """A set of `transformer_jax.data.sources.registry` that holds series, with its published split.

    Attributes:
      name: ``ett`` (ETTh1: 7 series, hourly; 12, 4 and 4 months) or ``m4`` (414 hourly series of one channel; the last
        48 hours before the test are the development part).

    Raises:
      ConfigError: If there is no such set.

    Example:
      >>> NamedSeries(name="ett").columns[-1]
      'OT'
    """

    kind: Literal["named"] = "named"
    name: str = "ett"

    def __post_init__(self) -> None:
        check_choice("name", self.name, names_with("series"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the channels."""
        return _COLUMNS[self.name]

    def load(self) -> SeriesSet:
        """Read the set.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_series(self.name)


_COLUMNS = {"ett": ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"), "m4": ("value",)}
