"""Compile the native library into the user's cache: once for a version, whole or not at all."""

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from transformer_jax.errors import shortened
from transformer_jax.native import loader, recipe
from transformer_jax.native.trusted_folder import NativeError, made_folder, native_folder
from transformer_jax.notes import note

COMPILERS = ("c++", "g++", "clang++")
"""Names that are looked for, where the environment variable ``CXX`` names none."""

_SECONDS = 600
"""After so long a compiler is stopped."""

_PREFIX = "building-"

_CHECK = """
import ctypes, sys
loaded = ctypes.CDLL(sys.argv[1])
loaded.transformer_jax_variant.restype = ctypes.c_char_p
print(loaded.transformer_jax_variant().decode())
"""


def build(*, force: bool = False) -> Path:
    """Compile the native library, unless that of this version is there; processes that begin later use it.

    Args:
      force: Compile although it is there.

    Returns:
      Its file.

    Raises:
      NativeError: If there is no compiler, it fails, or the library cannot be kept; nothing is left behind then.
    """
    from filelock import FileLock, Timeout

    folder = made_folder()
    built = [manifest.with_suffix(".so") for manifest in loader.manifests(folder)]
    if not force and built and loader.is_whole(built[0]):  # by whatever compiler
        return built[0]
    compiler = found_compiler()
    version = _version_of(compiler)
    compiler_hash = hashlib.sha256(f"{compiler}\0{version}".encode()).hexdigest()[:8]
    path = folder / f"library-{recipe.fingerprint()}-{compiler_hash}.so"
    try:
        with FileLock(folder / "build.lock", timeout=2 * _SECONDS):
            if force or not loader.is_whole(path):
                _build_into(folder, path, compiler, version)
    except Timeout:
        raise NativeError(f"another process has been building in {folder} for too long: stop it") from None
    except OSError as error:
        raise NativeError(f"{folder}: {error.strerror or error}; the native library was not kept") from None
    loader.forget()
    return path


def clear() -> int:
    """Remove all compiled libraries of this user; returns how many."""
    folder = native_folder()
    libraries = list(folder.glob("library-*.so")) if folder.is_dir() else []
    for path in [*libraries, *(folder.glob("library-*.json") if folder.is_dir() else [])]:
        path.unlink(missing_ok=True)
    return len(libraries)


def found_compiler() -> str:
    """Path of a compiler for C++.

    Raises:
      NativeError: If there is none.
    """
    named = os.environ.get("CXX", "").strip()
    for name in (named,) if named else COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    wanted = (
        f"CXX names '{named}', which is not there" if named else f"none of {', '.join(COMPILERS)} is there"
    )
    raise NativeError(
        f"no compiler for C++17: {wanted}; install one (Debian: apt-get install g++), or go on without, "
        "which changes nothing but speed"
    )


def _version_of(compiler: str) -> str:
    said = _run([compiler, "--version"], "does not say its version").split("\n")[0].strip()
    if not said:
        raise NativeError(f"{compiler} does not say its version: is it a compiler?")
    return said


def _build_into(folder: Path, path: Path, compiler: str, version: str) -> None:
    start = time.monotonic()
    variants = recipe.variants()
    note(f"compiling the native library with {version}, for {', '.join(variants)}; some 10 to 30 s")
    for left in folder.glob(f"{_PREFIX}*"):  # by a process that was killed: we have the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_PREFIX) as name:
        room = Path(name)
        common = [compiler, *recipe.FLAGS, f"-I{recipe.SOURCES}", "-isystem", str(recipe.header_folder())]
        steps = {
            room / f"{variant}-{source}.o": [*common, *flags, "-c", str(recipe.SOURCES / source)]
            for variant, flags in variants.items()
            for source in recipe.KERNELS
        }
        for source in recipe.COMMON:
            words = [*common, *recipe.common_flags(), "-c", str(recipe.SOURCES / source)]
            steps[room / f"{source}.o"] = words
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            done = [
                pool.submit(_run, [*words, "-o", str(made)], f"cannot compile {made.stem}")
                for made, words in steps.items()
            ]
            for one in done:
                one.result()
        whole = room / "library.so"
        _run([compiler, "-shared", "-pthread", *map(str, steps), "-o", str(whole)], "cannot link")
        variant = _run(
            [sys.executable, "-c", _CHECK, str(whole)], "made a library that cannot be loaded"
        ).strip()
        os.chmod(whole, 0o600)
        document = {
            "sha256": hashlib.sha256(whole.read_bytes()).hexdigest(),
            "compiler": version,
            "flags": recipe.FLAGS,
            "variants": list(variants),
            "seconds": round(time.monotonic() - start, 1),
        }
        manifest = room / "library.json"
        manifest.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.chmod(manifest, 0o600)
        _sync(whole)
        _sync(manifest)
        # The library first: a description without its library, or of another one, is never taken for whole.
        os.replace(whole, path)
        os.replace(manifest, path.with_suffix(".json"))
    note(
        f"{path}: {path.stat().st_size / 1e3:,.0f} kB in {time.monotonic() - start:.0f} s, {variant} on this processor"
    )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _run(words: Sequence[str], failure: str) -> str:
    """Standard output of a program.

    Raises:
      NativeError: If it fails, with the first error that it printed.
    """
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NativeError(f"{words[0]} {failure}: no end after {_SECONDS} s") from None
    except OSError as error:
        raise NativeError(f"{words[0]}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.splitlines() or [f"status {done.returncode}"]
        first = next((line for line in lines if "error" in line.lower()), lines[0])
        raise NativeError(f"{words[0]} {failure}: {shortened(first.strip(), 300)}")
    return done.stdout
