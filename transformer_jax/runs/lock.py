"""``run.lock``: settings besides the config that determine a run's bits, and their check when it is resumed."""

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformer_jax.config_json import load_document
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, RunError, shortened
from transformer_jax.files import read_text, write_json
from transformer_jax.runs.folder import RUN_LOCK_NAME

FORMAT = 1

WARM_START = "warm start"
"""Whose parameters the run began with."""

_SAYS_NOTHING = ("platform",)
"""Parts of the environment from which no bit follows."""

_BATCHES = "batches"

_MACHINE = ("processor", "cores", "device", "jax")

_FLAGS = (
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
)


def run_setting(prepared: Any) -> dict[str, str]:
    """Software and hardware of a run, by name.

    Args:
      prepared: The task's prepared data.
    """
    import jax

    setting = {name: str(value) for name, value in environment_table().items() if name not in _SAYS_NOTHING}
    setting |= {name: str(getattr(jax.config, name, None)) for name in _FLAGS}
    setting |= dict(prepared.fingerprints)
    setting |= {_spoken(name): artifact.fingerprint() for name, artifact in prepared.artifacts.items()}
    train = prepared.train
    return setting | {_BATCHES: f"{train.batches_per_epoch} an epoch; {train.describe()}"}


def settings_of_data(prepared: Any) -> frozenset[str]:
    """Entries that a checkpoint also records, or that follow from them: other data are checked apart from settings.

    Args:
      prepared: The task's prepared data.
    """
    return frozenset([*prepared.fingerprints, *map(_spoken, prepared.artifacts), _BATCHES, WARM_START])


def keep_setting(
    run_dir: Path,
    setting: dict[str, str],
    *,
    update: int,
    allow_inexact: bool,
    ignored: Collection[str] = (),
) -> None:
    """Write ``run.lock``, or compare with what is there.

    Args:
      run_dir: The run folder.
      setting: That of now.
      update: Updates that the run has done.
      allow_inexact: Whether a run may be resumed with another setting, which is then appended to the former.
      ignored: Entries that are not compared, see `settings_of_data`.

    Raises:
      RunError: If the setting differs and that is not allowed; says in what.
    """
    path = run_dir / RUN_LOCK_NAME
    sessions = _read(path) if update and path.is_file() else []
    if sessions:
        changed = _differences(sessions[-1], setting, ignored)
        if not changed:
            return
        if not allow_inexact:
            raise RunError(
                f"{run_dir}: a resumed run would not come to the same bits: {'; '.join(changed)} "
                "(`allow_inexact=True` continues all the same)"
            )
    write_json(path, {"format": FORMAT, "sessions": [*sessions, {"from_update": update, **setting}]})


def _differences(was: dict[str, Any], now: dict[str, Any], ignored: Collection[str]) -> list[str]:
    """In what a session's setting is not another one, as far as bits follow from it."""
    names = sorted(was.keys() - {"from_update", *ignored})
    return [
        f"{name} was {was[name]}, now it is {now.get(name)}" for name in names if was[name] != now.get(name)
    ]


def setting_differences(run_dir: Path, again_dir: Path) -> list[str]:
    """Why a run trained again may come to other bits, a line each: settings that differ, then or now.

    Args:
      run_dir: The run.
      again_dir: The run that repeats it.
    """
    settings = []
    for folder in (run_dir, again_dir):
        path = folder / RUN_LOCK_NAME
        settings.append(_read(path) if path.is_file() else [])
    before, again = settings
    if not before or not again:
        return [f"{run_dir} has no {RUN_LOCK_NAME}: what it was trained with is not known"]
    found = _differences(before[0], again[0], (WARM_START,))
    for earlier, later in itertools.pairwise(before):
        changed = _differences(earlier, later, ())
        found += [f"from update {later['from_update']} of the run on: {change}" for change in changed]
    return found


def warm_start_of(run_dir: Path) -> str | None:
    """The run whose parameters a run began with; None where it began with its own."""
    path = run_dir / RUN_LOCK_NAME
    sessions = _read(path) if path.is_file() else []
    name = str(sessions[0].get(WARM_START, "none")) if sessions else "none"
    return None if name == "none" else name


def machine_of(run_dir: Path) -> dict[str, str]:
    """Processor, cores, device and JAX version of the run's last session; empty without a ``run.lock``."""
    path = run_dir / RUN_LOCK_NAME
    sessions = _read(path) if path.is_file() else []
    return {name: str(sessions[-1][name]) for name in _MACHINE if name in sessions[-1]} if sessions else {}


def _spoken(artifact: str) -> str:
    return artifact.replace("_", " ")


def _read(path: Path) -> list[dict[str, Any]]:
    document = load_document(read_text(path), str(path))
    try:
        if document["format"] != FORMAT:
            raise ConfigError(
                f"{path}: of format {shortened(repr(document['format']))}; this version reads {FORMAT}"
            )
        # Runs from before there was a native library say nothing of it.
        return [
            {"native": "none", **{str(name): value for name, value in one.items()}}
            for one in document["sessions"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: damaged: remove it to resume without the comparison") from None
