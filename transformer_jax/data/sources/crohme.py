"""CROHME: handwritten formulas with their LaTeX.

Thirty captions stand in both the training and the test set.
"""

import itertools
from pathlib import Path

import numpy as np

from transformer_jax.data.captioned import HELD_OUT_SHARE, Captioned, CaptionSplits, hold_out_captions
from transformer_jax.data.ink import Ink
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_arrays import read_arrays
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.errors import DataError


def read_strokes(path: Path) -> list[Captioned]:
    """Formulas of one of the set's files: steps of the pen, one after the other, from an origin for each formula.

    Args:
      path: The file, with ``dx``, ``dy`` (of each point), ``stroke_lengths`` (points of each stroke), ``strokes``
        (strokes of each formula), ``names`` and ``captions``.

    Raises:
      DataError: If arrays are missing, hold objects, or do not fit together.
    """
    names = ("dx", "dy", "stroke_lengths", "strokes", "names", "captions")
    dx, dy, lengths, counts, titles, captions = read_arrays(path, names, what="formulas")
    fits = lengths.sum() == len(dx) == len(dy) and counts.sum() == len(lengths)
    if not fits or not len(counts) == len(titles) == len(captions):
        raise DataError(f"{path}: its arrays do not fit together; take a copy that is whole")
    steps = np.stack([dx, dy], axis=1).astype(np.int64)
    ends = np.cumsum(lengths)
    found, first = [], 0
    for count, title, caption in zip(counts.tolist(), titles.tolist(), captions.tolist(), strict=True):
        last = first + count
        start = int(ends[first - 1]) if first else 0
        points = np.cumsum(steps[start : int(ends[last - 1])], axis=0)
        edges = [0, *(ends[first:last] - start).tolist()]
        strokes = tuple(points[a:b].astype(np.float32) for a, b in itertools.pairwise(edges))
        found.append(Captioned(item=Ink(strokes), caption=caption, name=title))
        first = last
    return found


def _read() -> CaptionSplits:
    train, development = hold_out_captions(read_strokes(locate_file(CROHME, "train.npz")))
    return CaptionSplits(
        train=train,
        development=development,
        test=read_strokes(locate_file(CROHME, "test.npz")),
        notes=(
            f"about {HELD_OUT_SHARE:.0%} of the training captions are held out as development set, in whosever hand",
            "30 captions of the test set stand in the training set too, in other hands",
        ),
    )


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
    readers={"captions": _read},
)
