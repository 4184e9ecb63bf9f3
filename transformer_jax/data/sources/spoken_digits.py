"""Free Spoken Digit Dataset: recordings of ten words."""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

SPOKEN_DIGITS = Dataset(
    name="spoken-digits",
    description="Free Spoken Digit Dataset: 3,000 recordings at 8 kHz by six speakers, in one archive",
    licence="CC BY-SA 4.0",
    citation="Jackson et al. 2018, Free Spoken Digit Dataset, https://doi.org/10.5281/zenodo.1342401",
    homepage="https://github.com/Jakobovski/free-spoken-digit-dataset/tree/26eb9aaf/recordings",
    files=dataset_files(
        None,
        ("recordings.zip", 16157653, "771cbb3de55a38eccfb76792f0e731ec43b16009d6d8709422cb3f40bfffdb71"),
    ),
)
