"""Lines of Django's Python with a description in English.

Of the test pairs 14 % stand in the training set: unseen pairs want a score of their own.
"""

from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.readers import read_parallel
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file

TRAIN_PAIRS, DEVELOPMENT_PAIRS = 16_000, 1_000
"""Sizes of the parts that all publications share, in the order of the file; the rest is the test set."""


def _read(source_language: str | None, target_language: str | None) -> PairSplits:
    """The three parts; white space at the ends of a line, such as the indentation of code, is left out."""
    del source_language, target_language
    pairs = [
        Pair(pair.source.strip(), pair.target.strip(), pair.line)
        for pair in read_parallel(locate_file(DJANGO_CODE, "all.anno"), locate_file(DJANGO_CODE, "all.code"))
    ]
    held_out = TRAIN_PAIRS + DEVELOPMENT_PAIRS
    return with_held_out(pairs[:TRAIN_PAIRS], pairs[TRAIN_PAIRS:held_out], pairs[held_out:])


DJANGO_CODE = Dataset(
    name="django-code",
    description="A line of English and a line of Python: 16,000 / 1,000 / 1,805 pairs in the order of the file",
    licence="MIT",
    citation="Oda et al. 2015, Learning to Generate Pseudo-code from Source Code using Statistical Machine Translation",
    homepage="https://github.com/odashi/ase15-django-dataset",
    files={
        **dataset_files(
            f"{GITHUB}/odashi/ase15-django-dataset/c37fa281/django/",
            ("all.anno", 1382085, "86b38c7bf6ffe2882d4603f799e92f48ddaab8a7d9b2af41bba923e59b41800a"),
            ("all.code", 906732, "d20b345fd3cdcf8d54b9cd123b3de4078f8f9a3c6bfc9fed9cd215bc857f99db"),
        ),
        **dataset_files(
            f"{GITHUB}/odashi/ase15-django-dataset/c37fa281/",
            ("LICENSE", 1078, "d1403b04600718d08a4a963f170ad931c3f62add3053a8099e0630ccb55e7f40"),
        ),
    },
    readers={"pairs": _read},
)
