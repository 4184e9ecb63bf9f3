"""M4 competition: hourly series."""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

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
)
