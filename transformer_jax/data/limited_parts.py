"""The parts of a data set, cut to the numbers of examples that a config allows."""

import dataclasses
from typing import Any, TypeVar

import numpy as np

_Splits = TypeVar("_Splits")


def limited_parts(
    splits: _Splits, *, train: int | None, development: int | None, test: int | None
) -> _Splits:
    """The parts with fewer examples: of the training set a fixed random choice in its order, of the others the first.

    Args:
      splits: A dataclass with the lists ``train``, ``development`` and ``test``.
      train: Most training examples; None for all.
      development: Most development examples.
      test: Most test examples.
    """
    given: Any = splits
    chosen = given.train
    if train is not None and train < len(chosen):
        order = np.random.default_rng(0).permutation(len(chosen))[:train]
        chosen = [chosen[place] for place in np.sort(order)]
    return dataclasses.replace(
        given, train=chosen, development=given.development[:development], test=given.test[:test]
    )
