"""English Web Treebank of Universal Dependencies."""

from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.sources.tag_lines import CONLLU_COLUMNS, read_conllu
from transformer_jax.data.tagged_text import TaggedSentence, TagSplits
from transformer_jax.errors import DataError


def _read(annotation: str | None) -> TagSplits:
    column = annotation or "upos"
    if column not in CONLLU_COLUMNS:
        raise DataError(
            f"data set 'ud-english-ewt' has no annotation '{column}'; it has {', '.join(CONLLU_COLUMNS)}"
        )

    def part(name: str) -> list[TaggedSentence]:
        return read_conllu(locate_file(UD_ENGLISH_EWT, f"en_ewt-ud-{name}.conllu.xz"), column=column)

    return TagSplits(train=part("train"), development=part("dev"), test=part("test"))


UD_ENGLISH_EWT = Dataset(
    name="ud-english-ewt",
    description="Universal Dependencies English Web Treebank 2.16, CoNLL-U: 12,544 / 2,001 / 2,077 sentences",
    licence="CC BY-SA 4.0",
    citation="Silveira et al. 2014, A Gold Standard Dependency Corpus for English",
    homepage="https://github.com/UniversalDependencies/UD_English-EWT/tree/15d613d8",
    files={
        **dataset_files(
            None,
            (
                "en_ewt-ud-train.conllu.xz",
                1419864,
                "7e8496d11de12deb81c6dd479785ef225439de3f281dbf78f02459633645a9ad",
            ),
            (
                "en_ewt-ud-dev.conllu.xz",
                216228,
                "343a1f0431c7eb0f7cf51f4d60d5d2b59dc0c94d26a4cd2fd4d4ab9c6af2dae4",
            ),
            (
                "en_ewt-ud-test.conllu.xz",
                215272,
                "694c114fe9170a1b052d7690b45ebe1081c7e8257035e5fe3462e8736a5a38fd",
            ),
        ),
        **dataset_files(
            f"{GITHUB}/UniversalDependencies/UD_English-EWT/15d613d8/",
            ("LICENSE.txt", 20014, "b3d1b0f4c6ae151f7eb78738f46ebd5ee140f8a7f76501ba26af123140d35ae7"),
        ),
    },
    readers={"tags": _read},
)
