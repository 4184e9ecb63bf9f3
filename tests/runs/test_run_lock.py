"""run.lock: which entries a resumed run is compared by, whatever its task calls its data and artifacts."""

import types
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.errors import RunError
from transformer_jax.runs.lock import keep_setting, run_setting, settings_of_data


class Train:
    batches_per_epoch = 3

    def describe(self) -> str:
        return "three batches"


class Labels:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def fingerprint(self) -> str:
        return self.mark


def prepared(mark: str) -> Any:
    """Data of a task that no package lists: pictures with labels."""
    return types.SimpleNamespace(
        train=Train(), fingerprints={"pictures": mark}, artifacts={"label_set": Labels(mark)}
    )


def test_names_of_data_and_artifacts_are_those_of_the_task(tmp_path: Path) -> None:
    first, other = prepared("a"), prepared("b")
    assert settings_of_data(first) == {"pictures", "label set", "batches", "warm start"}
    assert settings_of_data(first) - {"warm start"} <= run_setting(first).keys()
    keep_setting(tmp_path, run_setting(first), update=0, allow_inexact=False)
    again = run_setting(other)
    keep_setting(tmp_path, again, update=2, allow_inexact=False, ignored=settings_of_data(other))
    with pytest.raises(RunError, match="label set was a, now it is b"):
        keep_setting(tmp_path, again, update=2, allow_inexact=False)


def test_another_setting_is_refused(tmp_path: Path) -> None:
    one = prepared("a")
    keep_setting(tmp_path, run_setting(one), update=0, allow_inexact=False)
    changed = run_setting(one) | {"jax": "0.0.1"}
    with pytest.raises(RunError, match=r"jax was .*, now it is 0\.0\.1 .*`allow_inexact=True`"):
        keep_setting(tmp_path, changed, update=2, allow_inexact=False, ignored=settings_of_data(one))
    keep_setting(tmp_path, changed, update=2, allow_inexact=True, ignored=settings_of_data(one))
