"""Snips: requests with slots and intents, a folder for each split."""

from transformer_jax.data.readers import read_lines
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.tagged_text import TaggedSentence, TagSplits
from transformer_jax.errors import DataError

_FILES = ("seq.in", "seq.out", "label")


def read_slot_lines(
    words: list[str], slots: list[str], intents: list[str], where: str
) -> list[TaggedSentence]:
    """Sentences of three files that belong together line by line; a tag and a word for each other.

    Args:
      words: Lines of words between blanks.
      slots: Lines of labels between blanks.
      intents: An intent a line.
      where: Name of the files in messages.

    Raises:
      DataError: If the files differ in their numbers of lines, or a line has not a label for each word; names it.

    Example:
      >>> read_slot_lines(["play jazz "], ["O B-genre "], ["PlayMusic"], "the files")[0].labels
      ('O', 'B-genre')
    """
    if not len(words) == len(slots) == len(intents):
        raise DataError(
            f"{where}: {len(words)} lines of words, {len(slots)} of slots, {len(intents)} of intents: wanted as many"
        )
    found = []
    for line, (text, labels, intent) in enumerate(zip(words, slots, intents, strict=True), start=1):
        # Blanks alone separate words: other white space of Unicode belongs to them.
        tokens, tags = text.strip(" ").split(" "), labels.strip(" ").split(" ")
        tokens, tags = [one for one in tokens if one], [one for one in tags if one]
        if not tokens or len(tokens) != len(tags) or not intent.strip():
            raise DataError(
                f"{where}, line {line}: {len(tokens)} words, {len(tags)} slots, intent {intent!r}: wanted a slot for "
                "each word, and an intent"
            )
        found.append(TaggedSentence(tuple(tokens), tuple(tags), intent.strip(), line))
    return found


def _read(annotation: str | None) -> TagSplits:
    if annotation is not None:
        raise DataError(f"data set 'snips-slots' has slots only, no annotation '{annotation}': leave it out")

    def part(folder: str) -> list[TaggedSentence]:
        words, slots, intents = (read_lines(locate_file(SNIPS_SLOTS, f"{folder}/{name}")) for name in _FILES)
        return read_slot_lines(words, slots, intents, f"data set 'snips-slots', {folder}")

    return TagSplits(train=part("train"), development=part("valid"), test=part("test"))


SNIPS_SLOTS = Dataset(
    name="snips-slots",
    description="Requests to an assistant: words, IOB slots and 7 intents, 13,084 / 700 / 700 lines",
    licence="CC0",
    citation="Coucke et al. 2018, Snips Voice Platform; Goo et al. 2018, Slot-Gated Modeling",
    homepage="https://github.com/MiuLab/SlotGated-SLU",
    files=dataset_files(
        f"{GITHUB}/MiuLab/SlotGated-SLU/61f0307c/data/snips/",
        ("train/seq.in", 617079, "04ad1e3f2121d83c6478f9a4b17d2dbdc21d06d6127f73cb7af835ed733f9855"),
        ("train/seq.out", 950926, "fd5f2121d8055827e5d6b3d3bac30f3d7e94e82a5d437751960cbdd9e1b4f6d3"),
        ("train/label", 184532, "bfd7df6cf9dd76c5da5d8b61bc85f90386197bdd3d7510c1d324c051537b962f"),
        ("valid/seq.in", 33629, "64e0f6d8ad8aab3a3828164d7d53731a0993d3ca1aed437ceaca6d3d568d410e"),
        ("valid/seq.out", 50626, "712e6d34feb8d52d208b820a5f8bae6e6ff990f08374507dfde22de389088319"),
        ("valid/label", 9900, "9c1dd041216f647bcfca838aaf1a48eb5781e4404256d31ff07cd38a5436c52f"),
        ("test/seq.in", 33121, "c1e341173fcea2951a8ca371956a6f81c76de87b9583c62eb87edd6158fa3a7c"),
        ("test/seq.out", 50918, "58c07c9097d5e1f78889765c2a535a160f6455b90b3142055c8051847afcca47"),
        ("test/label", 10120, "37a26da3ad079bb41c42c85a3a8f827eb47efec4c5917ce5d08f4b2736e4f830"),
    ),
    readers={"tags": _read},
)
