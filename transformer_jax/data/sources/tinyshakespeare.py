"""Tiny Shakespeare: plays as one text."""

from transformer_jax.data.documents import Document, TextSplits, split_by_characters
from transformer_jax.data.readers import read_text_file
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file


def _read() -> TextSplits:
    """The split of nanoGPT: the first 90 % of the characters train, the rest is for validation."""
    document = Document("tinyshakespeare", read_text_file(locate_file(TINYSHAKESPEARE, "input.txt")))
    train, validation = split_by_characters(document, 0.9)
    return TextSplits(
        train=[Document(document.name, train)],
        development=[Document(document.name, validation)],
        test=[],
        notes=("development text: the last 10 % of the characters; there is no test text",),
    )


TINYSHAKESPEARE = Dataset(
    name="tinyshakespeare",
    description="Plays of Shakespeare, 1,115,394 characters",
    licence="public domain",
    citation="Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks",
    homepage="https://github.com/karpathy/char-rnn",
    files=dataset_files(
        f"{GITHUB}/karpathy/char-rnn/6f9487a6/data/tinyshakespeare/",
        ("input.txt", 1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
    ),
    readers={"text": _read},
)
