"""Electricity transformer temperature: hourly series, with the split of the publications."""

import dataclasses

from transformer_jax.data.series import SeriesSet
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.series_files import read_series_file
from transformer_jax.data.sources.stored_files import locate_file

MONTH = 30 * 24
"""Hours of a month, as the publications count them."""

ENDS = (12 * MONTH, 16 * MONTH, 20 * MONTH)
"""Twelve months to train, four to develop, four to test; what lies behind them is not used, as published."""


def read_ett() -> SeriesSet:
    """The seven series.

    Raises:
      DataError: If the file is missing or bad.
    """
    found = read_series_file(locate_file(ETT, "ETTh1.csv"))
    return dataclasses.replace(
        found, series=tuple(dataclasses.replace(one, name="ETTh1", ends=ENDS) for one in found.series)
    )


ETT = Dataset(
    name="ett",
    description="Electricity transformer temperature, hourly, 17,420 rows of 7 series",
    licence="CC BY-ND 4.0",
    citation="Zhou et al. 2021, Informer: Beyond Efficient Transformer for Long Sequence Forecasting",
    homepage="https://github.com/zhouhaoyi/ETDataset",
    files=dataset_files(
        f"{GITHUB}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/",
        ("ETTh1.csv", 2589657, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
    ),
    readers={"series": read_ett},
)
