"""Lines of Django's Python with a description in English.

Of the test pairs 14 % stand in the training set: unseen pairs want a score of their own.
"""

from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files

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
)
