"""War and Peace: a novel as one text."""

from transformer_jax.data.documents import Document, TextSplits, split_by_characters
from transformer_jax.data.readers import read_text_file
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file


def _read() -> TextSplits:
    """The split of the citation: 80 %, 10 % and 10 % of the characters, in the order of the text."""
    document = Document("war-and-peace", read_text_file(locate_file(WAR_AND_PEACE, "input.txt")))
    parts = [[Document(document.name, text)] for text in split_by_characters(document, 0.8, 0.9)]
    return TextSplits(
        train=parts[0],
        development=parts[1],
        test=parts[2],
        notes=("80 %, 10 % and 10 % of the characters, in the order of the text",),
    )


WAR_AND_PEACE = Dataset(
    name="war-and-peace",
    description="Tolstoy's War and Peace in English, 3,196,211 characters",
    licence="public domain",
    citation="Karpathy, Johnson and Fei-Fei 2015, Visualizing and Understanding Recurrent Networks",
    homepage="https://github.com/MrHereward/machine_learning_sandbox/tree/2d0fdf30",
    files=dataset_files(
        None,
        ("input.txt", 3196228, "b0fc81c399971eaf738c8be89809e6a0d95c151749112b04f06b6af648d8a39f"),
    ),
    readers={"text": _read},
)
