"""A trained language model of 264,128 parameters, in the binary layout of llama2.c."""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

STORIES260K = Dataset(
    name="stories260k",
    description="A Llama-like model of 264,128 parameters, its vocabulary of 512 pieces, and its card",
    licence="MIT",
    citation="Karpathy 2023, llama2.c; Eldan and Li 2023, TinyStories",
    homepage="https://github.com/DaveBben/esp32-llm/tree/934dab4d",
    files=dataset_files(
        None,
        ("stories260K.bin", 1056540, "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696"),
        ("tok512.bin", 6227, "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312"),
        ("stories260K.md", 2909, "aff94a9a6ad3e539bd7e474fab0dbf8330563899008d619ab0c614769f34a09b"),
    ),
)
