"""Find, check and load the native library that was built; each process does so once."""

import ctypes
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from transformer_jax.native.recipe import fingerprint
from transformer_jax.native.trusted_folder import SWITCH, native_folder, why_unsafe

BUILD_HINT = "`transformer-jax native build` makes it"

_ANEW = "`transformer-jax native build` with `force=True` makes it anew"

_HANDLERS = ("attention_forward", "attention_backward", "lstm_forward", "lstm_backward")


@dataclasses.dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
      path: Its file.
      variant: Whose vector instructions it uses here.
      fingerprint: Of what it was built from.
      loaded: The library as ctypes has it.
    """

    path: Path
    variant: str
    fingerprint: str
    loaded: Any = dataclasses.field(repr=False)

    def use_variant(self, variant: str) -> bool:
        """Use other vector instructions from now on, for tests; False where this processor does not have them."""
        return bool(self.loaded.transformer_jax_use_variant(variant.encode()))

    def target(self, handler: str) -> str:
        """The name by which XLA knows a handler; of another library it is another one, as kept programs have it."""
        return f"transformer_jax_{handler}_{self.fingerprint}"


@dataclasses.dataclass
class _State:
    is_known: bool = False
    library: Library | None = None
    reason: str | None = None
    registered: set[str] = dataclasses.field(default_factory=set)


_state = _State()


def library() -> Library | None:
    """The library, loaded; ``None`` where there is none for this version, or it is not trusted: see `why_missing`."""
    if os.environ.get(SWITCH, "") == "0":
        return None
    if not _state.is_known:
        _state.library, _state.reason = _load()
        _state.is_known = True
    return _state.library


def why_missing() -> str | None:
    """Why `library` gives ``None``, with what to do; ``None`` where it gives a library."""
    if library() is not None:
        return None
    if os.environ.get(SWITCH, "") == "0":
        return f"the native library is switched off by {SWITCH}=0"
    return _state.reason


def forget() -> None:
    """Look for the library anew, as after building it; one that is loaded stays."""
    if _state.library is None:
        _state.is_known = False


def manifests(folder: Path) -> list[Path]:
    """Descriptions of the libraries for this version in a folder, the newest first."""
    found = folder.glob(f"library-{fingerprint()}-*.json")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _load() -> tuple[Library | None, str | None]:
    folder = native_folder()
    try:
        if not folder.is_dir():
            return None, f"the native library is not built: {BUILD_HINT}"
        reason = why_unsafe(folder)
        if reason is not None:
            return None, f"{reason}: code is not loaded from there"
        found = manifests(folder)
    except OSError as error:
        return None, f"{folder}: {error.strerror}"
    if not found:
        other = any(folder.glob("library-*.json"))
        kind = "is of another version of transformer-jax or jax" if other else "is not built"
        return None, f"the native library {kind}: {BUILD_HINT}"
    return _load_checked(found[0])


def _load_checked(manifest: Path) -> tuple[Library | None, str | None]:
    path = manifest.with_suffix(".so")
    try:
        for one in (manifest, path):
            reason = why_unsafe(one)
            if reason is not None:
                return None, f"{reason}: code is not loaded from it"
        if not _has_its_digest(path):
            return None, f"{path} is damaged: {_ANEW}"
        loaded = ctypes.CDLL(str(path))
        variant = variant_of(loaded)
        _register(loaded)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return (
            None,
            f"{path} cannot be loaded ({error}): {_ANEW}",
        )
    return Library(path, variant, fingerprint(), loaded), None


def is_whole(path: Path) -> bool:
    """Whether a library is there, with a description that has its digest."""
    try:
        return _has_its_digest(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_its_digest(path: Path) -> bool:
    wanted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    return hashlib.sha256(path.read_bytes()).hexdigest() == wanted


def variant_of(loaded: Any) -> str:
    """Which variant a loaded library uses on this processor."""
    loaded.transformer_jax_variant.restype = ctypes.c_char_p
    return loaded.transformer_jax_variant().decode()


def _register(loaded: Any) -> None:
    import jax.ffi

    for handler in _HANDLERS:
        name = f"transformer_jax_{handler}_{fingerprint()}"
        if name in _state.registered:
            continue
        symbol = getattr(loaded, f"transformer_jax_{handler}")
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(symbol), platform="cpu")
        _state.registered.add(name)
