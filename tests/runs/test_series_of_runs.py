"""Runs of a series: how one that may have been killed anywhere is begun or resumed, and how signals are reported."""

import signal
from pathlib import Path

import pytest

from transformer_jax.runs.experiment_runner import begin_or_resume
from transformer_jax.runs.folder import CONFIG_NAME, RUN_LOCK_NAME, interruptible
from transformer_jax.training.stopping import Stopped


def test_the_rest_of_a_killed_beginning_goes(tmp_path: Path) -> None:
    def found() -> tuple[bool, bool]:
        options = begin_or_resume(tmp_path / "run", label="one")
        return options.resume, options.overwrite

    assert found() == (False, False)
    (tmp_path / "run").mkdir()
    assert found() == (False, False)
    (tmp_path / "run" / RUN_LOCK_NAME).write_text("{}")  # written before the config
    assert found() == (False, True)
    (tmp_path / "run" / CONFIG_NAME).write_text("{}")
    assert found() == (True, False)


def test_a_hint_keeps_the_number_of_the_signal() -> None:
    with pytest.raises(Stopped, match="go on") as caught, interruptible("go on"):
        raise Stopped(signal.SIGTERM, "of the run")
    assert caught.value.signal_number == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt, match="go on") as plain, interruptible("go on"):
        raise KeyboardInterrupt
    assert not isinstance(plain.value, Stopped)
