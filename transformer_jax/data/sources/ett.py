"""Electricity transformer temperature: hourly series."""

from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files

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
)
