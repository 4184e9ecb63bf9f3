"""Multi30k: descriptions of images in English, German and French."""

from transformer_jax.data import readers
from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file

_TASK = f"{GITHUB}/multi30k/dataset/a3d2e0d2/data/task1/"


def _read(source_language: str, target_language: str) -> PairSplits:
    def read(stem: str) -> list[Pair]:
        return readers.read_parallel(
            locate_file(MULTI30K, f"{stem}.{source_language}.gz"),
            locate_file(MULTI30K, f"{stem}.{target_language}.gz"),
        )

    return with_held_out(read("train"), read("val"), read("test_2016_flickr"))


MULTI30K = Dataset(
    name="multi30k",
    description="Multi30k task 1: image descriptions in English, German and French, aligned by line",
    licence="research use",
    citation="Elliott et al. 2016, Multi30K: Multilingual English-German Image Descriptions",
    homepage="https://github.com/multi30k/dataset",
    files={
        **dataset_files(
            _TASK,
            ("train.en.gz", 568929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            ("train.de.gz", 637044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            ("train.fr.gz", 604242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            ("val.en.gz", 21650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            ("val.de.gz", 24681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            ("val.fr.gz", 23001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
            (
                "test_2016_flickr.en.gz",
                21077,
                "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
            ),
            (
                "test_2016_flickr.de.gz",
                22890,
                "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
            ),
            (
                "test_2016_flickr.fr.gz",
                22310,
                "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
            ),
            folder="raw/",
        ),
        **dataset_files(
            _TASK,
            (
                "test_2016_flickr.lc.norm.tok.en",
                63307,
                "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
            ),
            (
                "test_2016_flickr.lc.norm.tok.de",
                71917,
                "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
            ),
            folder="tok/",
        ),
    },
    languages=("en", "de", "fr"),
    readers={"pairs": _read},
)
