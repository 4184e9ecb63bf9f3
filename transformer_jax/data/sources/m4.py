"""M4 competition: hourly series."""

import csv

import numpy as np

from transformer_jax.data.readers import read_lines
from transformer_jax.data.series import Series, SeriesSet
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.errors import DataError

HORIZON = 48
"""Hours that the competition asks for."""


def read_m4() -> SeriesSet:
    """The 414 hourly series: the competition's test part, and before it a development part of as many hours.

    Raises:
      DataError: If a file is missing or bad.
    """
    train, test = (_rows(f"Hourly-{part}.csv.gz") for part in ("train", "test"))
    series = []
    for (name, known), (same, future) in zip(train, test, strict=True):
        if name != same or len(future) != HORIZON:
            raise DataError(f"m4: series {name!r} of the training file and {same!r} of the test file differ")
        values = np.array([*known, *future])[:, None]
        ends = (len(known) - HORIZON, len(known), len(values))
        series.append(Series(name=name, values=values, ends=ends))
    note = f"m4: the last {HORIZON} hours before the test are the development part"
    return SeriesSet(series=tuple(series), columns=("value",), notes=(note,))


def _rows(file_name: str) -> list[tuple[str, list[float]]]:
    """Name and values of each series; shorter ones are filled up with empty fields."""
    rows = csv.reader(read_lines(locate_file(M4, file_name))[1:])
    return [(fields[0], [float(one) for one in fields[1:] if one]) for fields in rows]


M4 = Dataset(
    name="m4",
    description="M4 competition, hourly: 414 series, 48 hours to forecast",
    licence="no licence file; research use",
    citation="Makridakis et al. 2020, The M4 Competition: 100,000 time series and 61 forecasting methods",
    homepage="https://github.com/Mcompetitions/M4-methods/tree/6c1067e5",
    files=dataset_files(
        None,
        ("Hourly-train.csv.gz", 519370, "4d56abb6310bc349657607a9ab0fed833985c7558f5c3e246818057e51667e2a"),
        ("Hourly-test.csv.gz", 35505, "e766b6f2f51c485c8f3c7128be7eed5c5ae788954327547dfe59002ab1f16b03"),
    ),
    readers={"series": read_m4},
)
