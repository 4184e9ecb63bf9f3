"""A file is the old one or the new one, and as readable as any other."""

import os
import stat
from pathlib import Path

import pytest

from transformer_jax.files import reported_as, write_whole


def test_new_text_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("old\n", "nøw\n"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_leaves_the_old_text_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old\n")

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, no_space)
    with pytest.raises(OSError, match="No space left") as raised:
        write_whole(path, "new\n")
    assert raised.value.filename == str(path)  # not the temporary file's
    assert path.read_text() == "old\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(tmp_path / "none" / "a.txt", "new\n")
    assert raised.value.filename == str(tmp_path / "none" / "a.txt")
    with pytest.raises(OSError, match="no number") as raised_without_number, reported_as(tmp_path):
        raise OSError("no number")
    assert raised_without_number.value.filename is None


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_whole(path, "text\n")
    assert path.read_text() == "text\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_what_is_no_file_is_written_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(path, "text\n")
    assert os.read(reader, 100) == b"text\n"
    os.close(reader)
    assert path.is_fifo()


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    """A standard stream that goes into a file is such a link, in a folder of devices."""
    (tmp_path / "devices").mkdir()
    link, file = tmp_path / "devices" / "stdout", tmp_path / "page.html"
    link.symlink_to(file)
    for text in ("old\n", "new\n"):
        write_whole(link, text)
        assert link.readlink() == file
        assert file.read_text() == text
    assert [path.name for path in (tmp_path / "devices").iterdir()] == ["stdout"]
    link.unlink()
    link.symlink_to(tmp_path / "none" / "a.txt")
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(link, "text\n")
    assert raised.value.filename == str(link)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux shows open files as links")
def test_an_open_pipe_is_written_under_its_name_in_proc() -> None:
    reader, writer = os.pipe()
    write_whole(Path(f"/proc/self/fd/{writer}"), "text\n")
    assert os.read(reader, 100) == b"text\n"
    os.close(reader)
    os.close(writer)
