"""Building, keeping, trusting and loading the native library."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

from transformer_jax import native
from transformer_jax.native import compiler, loader, recipe
from transformer_jax.native.trusted_folder import SWITCH, NativeError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the test's own, and a process that has not looked for a library yet."""
    path = tmp_path / "native"
    monkeypatch.setenv(SWITCH, str(path))
    monkeypatch.setattr(loader, "_state", loader._State())
    return path


@pytest.fixture
def built(folder, native_folder):
    """A copy of the tests' library in that folder."""
    folder.mkdir(mode=0o700)
    for path in native_folder.glob(f"library-{recipe.fingerprint()}-*"):
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / path.name).chmod(0o600)
    return folder


def library_file(folder):
    (path,) = folder.glob(f"library-{recipe.fingerprint()}-*.so")
    return path


def test_what_was_built_is_for_its_owner_alone_and_is_not_built_again(native_folder, monkeypatch):
    monkeypatch.setenv(SWITCH, str(native_folder))
    assert stat.S_IMODE(native_folder.stat().st_mode) == 0o700
    for path in native_folder.glob("library-*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = library_file(native_folder).stat().st_mtime_ns
    assert native.build() == library_file(native_folder)
    assert library_file(native_folder).stat().st_mtime_ns == before
    assert not list(native_folder.glob("building-*"))


def test_what_is_built_needs_no_compiler_any_more(built, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert native.build() == library_file(built)
    with pytest.raises(NativeError, match="no compiler"):
        native.build(force=True)


def test_a_folder_without_a_library(folder):
    assert native.library() is None
    assert "not built: `transformer-jax native build` makes it" in native.why_missing()


def test_a_library_of_another_version(built, monkeypatch):
    monkeypatch.setattr(loader, "fingerprint", lambda: "0" * 16)
    assert "is of another version of transformer-jax or jax" in native.why_missing()


def test_the_switch(built, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    assert native.library() is None
    assert "switched off" in native.why_missing()


def cut_off(folder):
    path = library_file(folder)
    path.write_bytes(path.read_bytes()[:1000])
    return "is damaged"


def not_json(folder):
    library_file(folder).with_suffix(".json").write_text("{")
    return "cannot be loaded"


def without_library(folder):
    library_file(folder).unlink()
    return "cannot be loaded|No such file"


def writable_by_all(folder):
    folder.chmod(0o777)
    return "can be written by others"


def library_writable_by_all(folder):
    library_file(folder).chmod(0o666)
    return "can be written by others"


def a_link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))
    return "is a link"


def no_library_at_all(folder):
    """Text in the place of the library, its digest right."""
    import hashlib

    path = library_file(folder)
    path.write_text("no library")
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(b"no library").hexdigest()}))
    return "cannot be loaded"


SPOILED = [
    cut_off,
    not_json,
    without_library,
    writable_by_all,
    library_writable_by_all,
    a_link,
    no_library_at_all,
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_damaged_or_not_trusted_is_not_loaded(built, spoil):
    reason = spoil(built)
    assert native.library() is None
    assert re.search(reason, native.why_missing()), native.why_missing()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user_is_refused(built):
    os.chown(built, 12345, -1)
    assert "belongs to another user (number 12345)" in native.why_missing()
    with pytest.raises(NativeError, match="belongs to another user"):
        native.build()


@pytest.mark.parametrize("spoil", [writable_by_all, a_link])
def test_nothing_is_built_into_a_folder_that_is_not_trusted(built, spoil):
    reason = spoil(built)
    with pytest.raises(NativeError, match=reason):
        native.build()


def test_without_a_compiler(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NativeError, match="no compiler for C"):
        native.build()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NativeError, match="CXX names 'no-such-compiler', which is not there"):
        native.build()


def a_compiler(tmp_path, monkeypatch, body):
    path = tmp_path / "compiler"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "compiler 1.0"; exit 0; fi\n{body}\n')
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


BROKEN = {
    'echo "attention.h:1: error: no idea" >&2; exit 1': "cannot compile .*error: no idea",
    "exit 0": "cannot be loaded|No such file",
    "kill -9 $$": "cannot compile",
    # Makes files that are no libraries.
    'while [ "$1" != -o ]; do shift; done; echo nothing > "$2"': "made a library that cannot be loaded",
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_compiler_leaves_nothing_behind(folder, tmp_path, monkeypatch, body):
    a_compiler(tmp_path, monkeypatch, body)
    with pytest.raises(NativeError, match=BROKEN[body]) as raised:
        native.build()
    assert "\n" not in str(raised.value)
    assert {path.name for path in folder.iterdir()} <= {"build.lock"}
    assert native.library() is None


def test_a_compiler_that_says_nothing(folder, tmp_path, monkeypatch):
    path = tmp_path / "compiler"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    with pytest.raises(NativeError, match="does not say its version"):
        native.build()


def test_a_full_disk(folder, tmp_path, monkeypatch):
    a_compiler(tmp_path, monkeypatch, "exit 0")

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler.tempfile, "TemporaryDirectory", full)
    with pytest.raises(NativeError, match="No space left on device; the native library was not kept"):
        native.build()


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(SWITCH, str(tmp_path / "file" / "native"))
    with pytest.raises(NativeError, match="the native library is kept there"):
        native.build()


def test_what_a_killed_build_left_is_removed_by_the_next(folder, tmp_path, monkeypatch):
    a_compiler(tmp_path, monkeypatch, "exit 1")
    (folder / "building-left").mkdir(parents=True)
    folder.chmod(0o700)
    with pytest.raises(NativeError):
        native.build()
    assert not list(folder.glob("building-*"))


def test_clear_removes_libraries(built):
    assert native.clear() == 1
    assert not list(built.glob("library-*"))
    assert native.clear() == 0


def test_the_fingerprint_follows_sources_flags_and_headers(monkeypatch, tmp_path):
    recipe.fingerprint.cache_clear()
    before = recipe.fingerprint()
    for change in ("flags", "sources", "headers"):
        with monkeypatch.context() as patch:
            if change == "flags":
                patch.setattr(recipe, "FLAGS", (*recipe.FLAGS, "-g"))
            else:
                (tmp_path / f"{change}.h").write_text("// another")
                if change == "sources":
                    patch.setattr(recipe, "SOURCES", tmp_path)
                else:
                    patch.setattr(recipe, "header_folder", lambda: tmp_path)
            recipe.fingerprint.cache_clear()
            assert recipe.fingerprint() != before, change
    recipe.fingerprint.cache_clear()


@pytest.mark.full
def test_two_processes_that_build_at_once_build_one_library(folder):
    command = [sys.executable, "-m", "transformer_jax.cli.main", "native", "build"]
    command = [sys.executable, "-c", "from transformer_jax import native; print(native.build())"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {one.communicate(timeout=300)[0] for one in both}
    assert said == {f"{library_file(folder)}\n"}
    assert [one.returncode for one in both] == [0, 0]
    assert native.library() is not None
