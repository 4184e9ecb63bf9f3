"""CROHME: handwritten formulas with their LaTeX.

Thirty captions stand in both the training and the test set.
"""

from transformer_jax.data.sources.dataset import Dataset, dataset_files

CROHME = Dataset(
    name="crohme",
    description="CROHME 2014: pen strokes and LaTeX tokens of 8,835 and 986 formulas, the test set as images too",
    licence="CC BY-NC-SA 3.0, research use",
    citation="Mouchere et al. 2014, ICFHR 2014 Competition on Recognition of On-line Handwritten Expressions",
    homepage="https://github.com/vndee/offline-crohme/tree/0e09cbdb",
    files=dataset_files(
        None,
        ("train.npz", 4719188, "a6cb40a97070fa23123a91e97efa5a96787543a8e13a312a80e28c77abf1b05a"),
        ("test.npz", 480344, "91c1a62458ea49572878648255fb512fd3cffb32db439455e37f04faa6a21313"),
        ("dictionary.txt", 706, "988728199dcb0e76c0b1693f70909db7c906e35cd4e4444c3b4d245e9f02f205"),
        (
            "off_image_test.tar.gz",
            1417306,
            "543d5d04a628bdebcf43def7cc6d8194424361a22b31894c0f58be3f141f8a6c",
        ),
    ),
)
