"""Several sources of text as one: named sets and files, one after another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

from transformer_jax.data.dataset_kinds import dataset_kinds, with_absolute_dataset_paths
from transformer_jax.data.documents import TextSplits
from transformer_jax.data.sources.named_text import NamedText
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.sources.text_files import TextFiles
from transformer_jax.kinds import Kinds

BuiltInTextSource = NamedText | TextFiles
DATASET_KINDS: Kinds[Any] = dataset_kinds("text", get_args(BuiltInTextSource))

if TYPE_CHECKING:
    TextSource = BuiltInTextSource
else:
    TextSource = Annotated[Any, DATASET_KINDS]


def load_texts(sources: Sequence[TextSource]) -> TextSplits:
    """Read the three parts of all sources, in their order.

    Raises:
      DataError: If a file is missing or bad; one line that says which and what to do.
    """
    found = [source.load() for source in sources]
    return TextSplits(
        train=[document for one in found for document in one.train],
        development=[document for one in found for document in one.development],
        test=[document for one in found for document in one.test],
        notes=tuple(note for one in found for note in one.notes),
    )


def are_at_hand(sources: Sequence[TextSource]) -> bool:
    """Whether all sources can be read without fetching anything.

    Example:
      >>> are_at_hand([TextFiles(train=("mine.txt",))])
      True
    """
    return all(not isinstance(one, NamedText) or is_at_hand(one.name) for one in sources)


def from_any_folder(sources: Sequence[TextSource]) -> tuple[TextSource, ...]:
    """The same sources, their files to be found from any folder.

    Example:
      >>> from_any_folder([TextFiles(train=("/data/../a.txt",))])[0].train
      ('/a.txt',)
    """
    return tuple(map(with_absolute_dataset_paths, sources))
