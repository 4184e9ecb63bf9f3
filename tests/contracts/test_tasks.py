"""Every task under the contract of tasks; a task joins by being listed."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from feature_task_cases import (
    FORECAST_TRANSFORMER,
    IMAGE_READER,
    INK_READER,
    JOINT_LISTENER,
    LISTENER,
    captioning,
    forecasting,
    transcription,
)
from text_task_cases import (
    BAHDANAU,
    BERT,
    GPT,
    GRU,
    STRUCTURED,
    TAGGER,
    TEXT_TRANSFORMER,
    TRANSFORMER,
    Spelling,
    classes,
    language,
    masked,
    pairs,
    rewriting,
    tagging,
    without_data,
    word_vectors,
)

from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.data.masked_config import Masking, WordPieces
from transformer_jax.data.text_config import (
    ContiguousWindows,
    PackedDocuments,
    RandomWindows,
)
from transformer_jax.data.words_config import Phrases, SubwordBuckets
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.models import (
    EncoderDecoderForecast,
    EncoderOnlyConfig,
    ForecasterConfig,
    LinearForecast,
    PatchForecast,
    RecurrentForecast,
    RecurrentTextEncoder,
)
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.objectives import (
    CtcLoss,
    FullSoftmax,
    HierarchicalSoftmax,
    JointCtc,
    NegativeSampling,
    PinballLoss,
    SquaredError,
)
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.model_folder import export_model
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.translation import Translation
from transformer_jax.tasks.union import BuiltInTaskConfig, register_task
from transformer_jax.testing import task_suite as suite

CASES = {
    "captioning-gru-coverage": captioning(INK_READER, StrokeFeatures(spacing=0.5)),
    "transcription-ctc": transcription(LISTENER, CtcLoss()),
    "word-vectors-skip-gram": word_vectors(NegativeSampling(shared_noise=4), True),
    "translation-bahdanau": pairs(Translation, BAHDANAU, "chrf", search=GreedyConfig(max_len=9)),
    "pronunciation-bahdanau": pairs(
        Pronunciation, BAHDANAU, "per", search=BeamConfig(max_len=9, num_beams=2)
    ),
    "rewriting-pointer": rewriting(
        dataclasses.replace(
            BAHDANAU,
            attention=Bahdanau(attention_dim=8, coverage_width=1),
            pointer=Pointer(extended=True),
        )
    ),
    "language-packed-gpt": language(GPT, PackedDocuments(context_len=16)),
    "language-contiguous-gru": language(GRU, ContiguousWindows(context_len=8)),
    "forecasting-linear": forecasting(
        ForecasterConfig(network=LinearForecast(trend_len=5), has_affine=True),
        PinballLoss(quantiles=(0.1, 0.5, 0.8)),
    ),
    "tagging-lstm-crf": tagging(TAGGER, word_len=6),
    "without-data": without_data(BAHDANAU),
    "classes-structured-lstm": classes(STRUCTURED, penalty_weight=0.1),
    "masked-bert-order": masked(
        EncoderOnlyConfig(encoder=TEXT_TRANSFORMER, order_head=True), order_weight=2.0, unit="line"
    ),
    "translation-transformer": pairs(
        Translation, TRANSFORMER, "bleu", search=BeamConfig(max_len=9, num_beams=2)
    ),
    "word-vectors-cbow-adam": word_vectors(NegativeSampling(shared_noise=4, architecture="cbow"), False),
    "word-vectors-tree-phrases": word_vectors(
        HierarchicalSoftmax(), True, phrases=Phrases(threshold=15.0, min_count=1)
    ),
    "word-vectors-softmax-subwords": word_vectors(
        FullSoftmax(architecture="cbow"), True, subwords=SubwordBuckets(max_len=4, num_buckets=50)
    ),
    "language-random-gpt": language(GPT, RandomWindows(context_len=8)),
    "language-contiguous-gpt": language(GPT, ContiguousWindows(context_len=8)),
    "language-random-gru": language(GRU, RandomWindows(context_len=8)),
    "classes-bert": classes(BERT),
    "language-packed-gru": language(GRU, PackedDocuments(context_len=16)),
    "masked-lstm-whole-words": masked(
        EncoderOnlyConfig(
            encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=6, hidden_dim=5, num_layers=1)
        ),
        masking=Masking(rate=0.3, whole_words=True),
    ),
    "transcription-joint": transcription(JOINT_LISTENER, JointCtc()),
    "tagging-transformer": tagging(
        dataclasses.replace(TAGGER, encoder=TEXT_TRANSFORMER, letters=None, crf=False),
        word_len=None,
        max_words=8,
    ),
    "tagging-pieces-crf": tagging(
        dataclasses.replace(TAGGER, encoder=TEXT_TRANSFORMER, letters=None),
        tokenizer=WordPieces(vocab_size=80),
        word_len=None,
        max_len=12,
    ),
    "forecasting-patches": forecasting(
        ForecasterConfig(network=PatchForecast(**FORECAST_TRANSFORMER)), SquaredError(units="context")
    ),
    "forecasting-encoder-decoder": forecasting(
        ForecasterConfig(network=EncoderDecoderForecast(**FORECAST_TRANSFORMER), channels="together"),
        SquaredError(),
    ),
    "forecasting-lstm-attention": forecasting(
        ForecasterConfig(
            network=RecurrentForecast(hidden_dim=6, attention_dim=4, segment_len=2, dropout_rate=0.1),
            normalization="last",
        ),
        PinballLoss(),
    ),
    "captioning-images-transformer": captioning(IMAGE_READER, ImageFeatures(height=8)),
}


IN_FIRST_TIER = tuple(CASES)[:13]


# Their models predict and are exported in the cases beside them, too; in the first tier they are held to their data.
HELD_TO_DATA = {"translation-bahdanau", "without-data"}


OF_DATA = {"protocol", "prepared data", "changed artifacts", "plan", "absolute paths"}


def is_first(name: str, check: str) -> bool:
    return name in IN_FIRST_TIER and (name not in HELD_TO_DATA or check in OF_DATA)


HELD = [
    pytest.param(name, check, marks=() if is_first(name, check) else pytest.mark.full)
    for name in CASES
    for check in suite.CHECKS
]

register_task(Spelling)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, compilation_cache: None
) -> Callable[[str], suite.TrainedCase]:
    """A case after training, by its name.

    A parametrised fixture would train each case once for each check: pytest keeps it for equal indices alone.
    """
    return functools.lru_cache(maxsize=2)(
        lambda name: suite.train_case(CASES[name], tmp_path_factory.mktemp(name))
    )


@pytest.mark.parametrize(("name", "check"), HELD)
def test_task_keeps_the_contract(
    trained: Callable[[str], suite.TrainedCase], name: str, check: str, tmp_path: Path
) -> None:
    suite.CHECKS[check](trained(name), tmp_path)


def test_every_task_is_listed(tmp_path: Path) -> None:
    listed = set()
    for number, name in enumerate(IN_FIRST_TIER):
        folder = tmp_path / str(number)
        folder.mkdir()
        listed.add(type(CASES[name].config(folder, False).task))
    assert listed == {*typing.get_args(BuiltInTaskConfig), Spelling}


def test_card_says_what_a_task_says_of_its_data(tmp_path: Path, compilation_cache: None) -> None:
    config = CASES["without-data"].config(tmp_path, False)
    run_experiment(config, tmp_path / "run", RunOptions(quiet=True))
    export_model(tmp_path / "run", tmp_path / "model", about="A test.")
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "- Data: the contract's words\n" in card
    assert "on the development set (5 items)" in card
