"""Every task under the contract of tasks; a task joins by being listed."""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from scipy.io import wavfile

from transformer_jax.data.captions_config import CaptionsConfig, InkFiles
from transformer_jax.data.classes_config import ClassesConfig, ClassFiles
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.data.masked_config import MaskedTextConfig, Masking, WordPieces
from transformer_jax.data.pairs_config import ChosenBuckets, CutText, PairsConfig, ParallelFiles
from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
from transformer_jax.data.sound import mixed
from transformer_jax.data.speech_config import SpeechConfig, SpeechFiles
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tag_config import TagConfig, TagFiles, Words
from transformer_jax.data.text_config import (
    ContiguousWindows,
    PackedDocuments,
    RandomWindows,
    TextConfig,
    TextFiles,
)
from transformer_jax.data.words_config import Phrases, SubwordBuckets, WordsConfig
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.inference import BeamSearch, GreedySearch
from transformer_jax.models import (
    ClassifierConfig,
    DecoderOnlyConfig,
    EncoderDecoderConfig,
    EncoderDecoderForecast,
    EncoderOnlyConfig,
    FirstTokenPool,
    ForecasterConfig,
    LinearForecast,
    PatchForecast,
    RecurrentForecast,
    RecurrentLMConfig,
    RecurrentTextEncoder,
    StructuredPool,
    TransformerTextEncoder,
    WordVectorsConfig,
)
from transformer_jax.models.feature_encoders import (
    FeatureMasking,
    RecurrentFeatureEncoder,
    TransformerFeatureEncoder,
)
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_decoders import RecurrentTextDecoder, TransformerTextDecoder
from transformer_jax.nn import Learned, Rotary
from transformer_jax.nn.word_letters import LetterConvolution
from transformer_jax.objectives import (
    ClassCrossEntropy,
    CtcLoss,
    FullSoftmax,
    HierarchicalSoftmax,
    JointCtc,
    MaskedTokens,
    NegativeSampling,
    PairCrossEntropy,
    PinballLoss,
    SquaredError,
)
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.loading import LoadedRun
from transformer_jax.runs.model_folder import export_model
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.tasks.classification import Classification
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.rewriting import Rewriting
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.tasks.translation import Translation
from transformer_jax.tasks.union import BuiltInTaskConfig, register_task
from transformer_jax.tasks.word_embedding import WordEmbedding
from transformer_jax.testing import task_suite as suite
from transformer_jax.training.config import Adam, Constant, RowAdagrad, TrainConfig

WORDS = ("cat", "tack", "at", "act", "tact", "attack", "cactus", "tic", "cut", "suit", "is", "sit")

TRANSFORMER = EncoderDecoderConfig(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.1,
)
BAHDANAU = RecurrentSeq2SeqConfig(
    embedding_dim=6,
    hidden_dim=8,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=True,
    attention=Bahdanau(attention_dim=8),
    dropout_rate=0.0,
    residual=False,
)
GPT = DecoderOnlyConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Rotary()
)
GRU = RecurrentLMConfig(cell="gru", embedding_dim=6, hidden_dim=8, num_layers=1)
TAGGER = TaggerConfig(
    encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=6, hidden_dim=5, num_layers=1, dropout_rate=0.1),
    letters=LetterConvolution(embedding_dim=4, num_filters=6),
    crf=True,
    word_dropout_rate=0.1,
)
TEXT_TRANSFORMER = TransformerTextEncoder(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Learned(max_len=12)
)

INK_READER = FeatureToTextConfig(
    encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
    decoder=RecurrentTextDecoder(
        embedding_dim=4,
        hidden_dim=4,
        attention=Bahdanau(attention_dim=4, coverage_width=3),
        dropout_rate=0.1,
    ),
)

LISTENER = FeatureToTextConfig(
    encoder=RecurrentFeatureEncoder(
        cell="gru",
        hidden_dim=5,
        num_layers=1,
        time_reduction=(2,),
        dropout_rate=0.1,
        masking=FeatureMasking(max_time_len=4, max_channels=2),
    ),
    decoder=None,
    ctc=True,
)
JOINT_LISTENER = FeatureToTextConfig(
    encoder=TransformerFeatureEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_layers=1,
        positions=Rotary(),
        subsampling=2,
        context=3,
    ),
    decoder=TransformerTextDecoder(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1, positions=Rotary()
    ),
    ctc=True,
)

IMAGE_READER = FeatureToTextConfig(
    encoder=ConvolutionalImageEncoder(channels=(4, 4)),
    decoder=TransformerTextDecoder(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1, dropout_rate=0.1
    ),
)

STRUCTURED = ClassifierConfig(
    encoder=RecurrentTextEncoder(cell="lstm", embedding_dim=6, hidden_dim=8, num_layers=1, dropout_rate=0.1),
    pooling=StructuredPool(attention_dim=6, num_hops=2),
)
BERT = ClassifierConfig(
    encoder=TransformerTextEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=16,
        num_layers=1,
        positions=Learned(max_len=8),
    ),
    pooling=FirstTokenPool(),
    hidden_dim=8,
    dropout_rate=0.1,
)


def experiment(task: Any, model: Any, metric: str) -> ExperimentConfig:
    """Four updates, evaluated and checkpointed every two."""
    return ExperimentConfig(
        name="tiny",
        task=task,
        model=model,
        train=TrainConfig(
            updates=4,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.01),
            log_every=1,
            evaluate_every=2,
            checkpoint_every=2,
            metric=metric,
            metric_mode=task.metrics[metric],
        ),
    )


def write(path: Path, text: str) -> str:
    """The path of a new file, as the config has it."""
    path.write_text(text)
    return str(path)


def pairs_data(dataset: ParallelFiles) -> PairsConfig:
    """One batch shape for all words."""
    return PairsConfig(
        dataset=dataset, batch_size=8, buckets=ChosenBuckets(max_shapes=1), max_source_len=8, max_target_len=9
    )


def delegated(name: str) -> Any:
    """A method that the task ``pairs`` of a `Spelling` has."""

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return getattr(self.pairs, name)(*arguments, **options)

    return method


def pairs(kind: Any, model: Any, metric: str, **options: Any) -> suite.TaskCase:
    """A task of pairs: words and their letters; other data are spelt with other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        words = [word.translate(str.maketrans("cait", "wxyz")) if other else word for word in WORDS]
        files = {}
        for part, chosen in (("train", words * 2), ("development", words[:5])):
            files[f"{part}_source"] = write(folder / f"{part}.src", "".join(f"{one}\n" for one in chosen))
            spelt = "".join(f"{' '.join(one.upper())}\n" for one in chosen)
            files[f"{part}_target"] = write(folder / f"{part}.tgt", spelt)
        return experiment(kind(data=pairs_data(ParallelFiles(**files)), **options), model, metric)

    def predict(run: LoadedRun) -> Any:
        return [one.text for one in run.translate(["cat", "attack", "", "zoo"])]

    def score(run: LoadedRun) -> list[float]:
        return [one.log_prob for one in run.score(["cat", "sit"], ["C A T", "S I T"])]

    return suite.TaskCase(config=config, predict=predict, score=score)


def rewriting(model: Any) -> suite.TaskCase:
    """Sentences and the assignments that they describe, whose names no vocabulary has: they have to be copied."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        verb = "put" if other else "set"
        names = [f"x{number}" for number in range(16)]
        files = {}
        for part, chosen in (("train", names), ("development", ["a_b", "C"])):
            sources = "".join(f"{verb} {name} to 'f(1)'.\n" for name in chosen)
            files[f"{part}_source"] = write(folder / f"{part}.src", sources)
            targets = "".join(f"{name}  = 'f(1)'\n" for name in chosen)
            files[f"{part}_target"] = write(folder / f"{part}.tgt", targets)
        data = PairsConfig(
            dataset=ParallelFiles(**files),
            source_tokenizer=Words(min_count=2),
            target_tokenizer=Words(min_count=2),
            share_vocabulary=True,
            cut=CutText(),
            copies_unknown=True,
            batch_size=8,
            buckets=ChosenBuckets(max_shapes=1),
            max_source_len=20,
            max_target_len=20,
        )
        objective = PairCrossEntropy(coverage_weight=0.5)
        search = BeamConfig(max_len=9, num_beams=2)
        return experiment(Rewriting(data=data, objective=objective, search=search), model, "rouge1")

    def predict(run: LoadedRun) -> Any:
        return [one.text for one in run.translate(["set q_1 to q_1", "put it\tback", ""])]

    def score(run: LoadedRun) -> list[float]:
        found = run.score(["set q_1 to 'f(1)'.", "set y to z"], ["q_1 = 'f(1)'", "z  = y"])
        return [one.log_prob for one in found]

    return suite.TaskCase(config=config, predict=predict, score=score)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spelling:
    """Pronunciation of two files, as a task without a field ``data``: its files are fields of its own."""

    kind: Literal["contract_spelling"] = "contract_spelling"
    metrics: ClassVar[Any] = Pronunciation.metrics
    artifact_types: ClassVar[Any] = Pronunciation.artifact_types
    sizes_given: ClassVar[Any] = Pronunciation.sizes_given
    evaluation_type: ClassVar[Any] = Pronunciation.evaluation_type
    train_files: tuple[str, ...]
    development_files: tuple[str, ...]

    @property
    def pairs(self) -> Pronunciation:
        """The task that does the work."""
        names = ("train_source", "train_target", "development_source", "development_target")
        files = dict(zip(names, (*self.train_files, *self.development_files), strict=True))
        return Pronunciation(data=pairs_data(ParallelFiles(**files)), search=GreedyConfig(max_len=9))

    @property
    def objective(self) -> Any:
        return self.pairs.objective

    def with_absolute_paths(self) -> "Spelling":
        found = self.pairs.with_absolute_paths().data.dataset
        return Spelling(
            train_files=(found.train_source, found.train_target),
            development_files=(found.development_source, found.development_target),
        )

    def splits(self) -> tuple[str, ...]:
        return ("development",)

    def describe_data(self) -> list[str]:
        return ["Data: the contract's words"]

    def evaluate(self, predictor: Any, options: Any) -> dict[str, Any]:
        return {**self.pairs.evaluate(predictor, options), "task": self.kind}

    check = delegated("check")
    check_objective = delegated("check_objective")
    prepare = delegated("prepare")
    sizes = delegated("sizes")
    evaluator = delegated("evaluator")
    predictor = delegated("predictor")
    file_overrides = delegated("file_overrides")
    tokenizer_overrides = delegated("tokenizer_overrides")
    plan_lengths = delegated("plan_lengths")
    plan_rows = delegated("plan_rows")
    abstract_batch = delegated("abstract_batch")
    known_sizes = delegated("known_sizes")
    is_at_hand = delegated("is_at_hand")


def without_data(model: Any) -> suite.TaskCase:
    """The same words for a task that the library does not have, nor its field ``data``."""
    own = pairs(Pronunciation, model, "per")

    def config(folder: Path, other: bool) -> ExperimentConfig:
        found = own.config(folder, other).task.data.dataset
        task = Spelling(
            train_files=(found.train_source, found.train_target),
            development_files=(found.development_source, found.development_target),
        )
        return experiment(task, model, "per")

    return suite.TaskCase(config=config, predict=own.predict, score=own.score)


def language(model: Any, windows: Any) -> suite.TaskCase:
    """Language modelling of a text of words; other data have other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        lines = [" ".join(WORDS[start:] + WORDS[:start]) for start in range(8)]
        text = "\n".join(lines) + "\n"
        text = text.translate(str.maketrans("cait", "wxyz")) if other else text
        files = TextFiles(
            train=(write(folder / "train.txt", text),),
            development=(write(folder / "development.txt", text[:150]),),
            document_separator="sit" if isinstance(windows, PackedDocuments) and not other else None,
        )
        data = TextConfig(dataset=files, windows=windows, batch_size=4)
        return experiment(LanguageModelling(data=data, evaluation_rows=4), model, "nats")

    def predict(run: LoadedRun) -> Any:
        outputs = run.generate(["cat", "attack is a", ""], max_tokens=12, seed=3, num_samples=2)
        return [one.text for one in outputs]

    def score(run: LoadedRun) -> list[float]:
        return [one.log_prob for one in run.score(["cat tack at act tact", "is sit"])]

    return suite.TaskCase(config=config, predict=predict, score=score)


def classes(model: Any, *, penalty_weight: float = 0.0) -> suite.TaskCase:
    """Classification of words by their first letter; other data have other letters and classes."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        rows = [f"{word[0]}-word\t{' '.join(word)}\n" for word in WORDS if word[0] in "ast"] * 4
        files = {
            part: write(
                folder / f"{part}.tsv",
                "".join(chosen).translate(str.maketrans("ast", "xyz") if other else {}),
            )
            for part, chosen in (("train", rows), ("development", rows[:5]))
        }
        data = ClassesConfig(
            dataset=ClassFiles(**files), max_len=8, batch_size=8, num_buckets=1, marks_ends=model is BERT
        )
        objective = ClassCrossEntropy(penalty_weight=penalty_weight)
        return experiment(Classification(data=data, objective=objective), model, "accuracy")

    def predict(run: LoadedRun) -> Any:
        return [one.label for one in run.classify(["t a c k", "a c t", "", "z o o", "s " * 20])]

    def score(run: LoadedRun) -> list[float]:
        found = run.classify(["t a c k", "i s"])
        return [probability for one in found for probability in one.probabilities.values()]

    return suite.TaskCase(config=config, predict=predict, score=score)


def word_vectors(objective: Any, by_rows: bool, **options: Any) -> suite.TaskCase:
    """Vectors of the words; other data have other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        lines = [" ".join(WORDS[start:] + WORDS[:start]) for start in range(8)]
        text = "\n".join(lines) + "\nred hen" * 3 + "\n"  # one pair that is more than its words
        text = text.translate(str.maketrans("cait", "wxyz")) if other else text
        files = TextFiles(
            train=(write(folder / "train.txt", text),),
            development=(write(folder / "development.txt", text[:150]),),
        )
        data = WordsConfig(
            datasets=(files,), min_count=1, window=2, sample=0.1, row_len=8, batch_size=4, **options
        )
        found = experiment(
            WordEmbedding(data=data, objective=objective), WordVectorsConfig(embedding_dim=6), "loss"
        )
        if not by_rows:
            return found
        train = dataclasses.replace(found.train, optimizer=RowAdagrad(), clip_norm=None)
        return dataclasses.replace(found, train=train)

    def predict(run: LoadedRun) -> Any:
        near = [one.word for one in run.nearest("cat", num_neighbours=4)]
        embedded = [
            (one.vector.tolist(), one.num_known) for one in run.embed(["cat tack", "", "zoo", "Sit!"])
        ]
        return near, [one.word for one in run.analogy("cat", "act", "is")], embedded

    def score(run: LoadedRun) -> list[float]:
        return [run.similarity("cat", "act"), *run.embed(["attack cactus"])[0].vector.tolist()]

    return suite.TaskCase(config=config, predict=predict, score=score)


def tagging(model: Any, *, has_classes: bool = True, **options: Any) -> suite.TaskCase:
    """Words with labels and a class of each line; other data have other labels and words."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        label, kind = ("last", "Far") if other else ("first", "Near")

        def sentences(count: int) -> str:
            found = []
            for start in range(count):
                words = (WORDS[start:] + WORDS[:start])[: 2 + start % 5]
                words = [one.translate(str.maketrans("cait", "wxyz")) for one in words] if other else words
                marked = [f"{word}\t{'B-' if word[0] in 'cw' else 'I-'}{label}" for word in words[1:]]
                comment = f"# class = {kind if start % 2 else 'Middle'}\n" if has_classes else ""
                found.append("\n".join([f"{comment}{words[0]}\tO", *marked]))
            return "\n\n".join(found) + "\n"

        files = TagFiles(
            train=write(folder / "train.tsv", sentences(12)),
            development=write(folder / "development.tsv", sentences(5)),
        )
        given = {"tokenizer": Words(max_size=40), "batch_size": 4, "num_buckets": 1} | options
        data = TagConfig(dataset=files, **given)
        return experiment(Tagging(data=data), model, "f1")

    def predict(run: LoadedRun) -> Any:
        found = run.tag(["cat tack at", ["attack", "zoo"], "", "act " * 9])
        return [(one.labels, one.label) for one in found]

    def score(run: LoadedRun) -> list[float]:
        return [
            probability for one in run.tag(["cat tack at", "sit is"]) for probability in one.probabilities
        ]

    return suite.TaskCase(config=config, predict=predict, score=score)


def drawing(word: str) -> list[list[list[float]]]:
    """Strokes of a word, one for each letter, whose bends tell the letter."""
    strokes = []
    for place, letter in enumerate(word):
        bend = (ord(letter) - 96) / 26
        strokes.append([[place, 0.0], [place + bend, 0.5], [place + 0.2, bend], [place + 0.2, 1.0]])
    return strokes


def inkml(word: str, truth: str) -> str:
    """The same as a file."""
    traces = [
        f"<trace>{', '.join(f'{x:.2f} {y:.2f}' for x, y in stroke)}</trace>" for stroke in drawing(word)
    ]
    return (
        f'<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">{truth}</annotation>'
        f"{''.join(traces)}</ink>"
    )


def captioning(model: Any, features: Any) -> suite.TaskCase:
    """Drawings of the words, to be spelt; other data are spelt with other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        for part, chosen in (("train", WORDS), ("development", WORDS[:5])):
            (folder / part).mkdir()
            for word in chosen:
                spelt = word.translate(str.maketrans("cait", "wxyz")) if other else word
                write(folder / part / f"{word}.inkml", inkml(word, " ".join(spelt)))
        data = CaptionsConfig(
            dataset=InkFiles(
                train=str(folder / "train"), development=str(folder / "development"), is_latex=False
            ),
            features=features,
            max_frames=24,
            max_target_len=9,
            batch_size=4,
            num_buckets=1,
        )
        task = Captioning(data=data, search=BeamConfig(max_len=9, num_beams=2))
        return experiment(task, model, "token_error_rate")

    def predict(run: LoadedRun) -> Any:
        drawings = [drawing("attack" * 3), [[[0.0, 0.0]]], drawing("attack" * 2)]
        return [(one.text, one.score) for one in run.caption(drawings)]

    def score(run: LoadedRun) -> list[float]:
        seen = run.attend([drawing("tack")], search=GreedySearch())[0]
        return [
            seen.weights.sum() + 1.0,
            *(one.score for one in run.caption([drawing("cat"), drawing("sit")])),
        ]

    return suite.TaskCase(config=config, predict=predict, score=score)


def masked(model: Any, *, order_weight: float = 0.0, **options: Any) -> suite.TaskCase:
    """Hidden tokens of lines of words; other data have other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        lines = [" ".join((WORDS[start:] + WORDS[:start])[: 3 + start % 6]) for start in range(12)]
        text = "\n".join(lines) + "\n"
        text = text.translate(str.maketrans("cait", "wxyz")) if other else text
        files = TextFiles(
            train=(write(folder / "train.txt", text * 2),),
            development=(write(folder / "development.txt", text[:150]),),
        )
        data = MaskedTextConfig(
            datasets=(files,),
            tokenizer=WordPieces(vocab_size=30),
            max_len=12,
            batch_size=4,
            sentence_order=order_weight > 0,
            **options,
        )
        task = MaskedLanguageModelling(data=data, objective=MaskedTokens(order_weight=order_weight))
        return experiment(task, model, "nats")

    def predict(run: LoadedRun) -> Any:
        texts = ["cat [MASK] at", "[MASK]", "", "zoo [MASK][MASK]", "act " * 9 + "[MASK]"]
        filled = [(one.best, [len(mask) for mask in one.masks]) for one in run.fill(texts, num_best=3)]
        return filled, [one.vector.tolist() for one in run.embed(["cat tack", ""])]

    def score(run: LoadedRun) -> list[float]:
        return [one.log_prob for one in run.score(["cat tack at", "sit is"])]

    return suite.TaskCase(config=config, predict=predict, score=score)


def forecasting(model: Any, objective: Any) -> suite.TaskCase:
    """Two waves with a gap; other data have other sizes."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        path = write(folder / "waves.csv", waves(80, 9.0 if other else 2.0))
        data = SeriesConfig(
            dataset=SeriesFiles(path=path, num_development=12, num_test=8),
            context_len=12,
            horizon_len=4,
            season_len=6,
            batch_size=8,
            gaps="hold",
        )
        return experiment(Forecasting(data=data, objective=objective), model, "mse")

    def predict(run: LoadedRun) -> Any:
        series = np.sin(np.arange(60.0)).reshape(30, 2)
        return [
            (one.times, one.values.tolist(), {key: value.tolist() for key, value in one.quantiles.items()})
            for one in run.forecast([series, series[:12]])
        ]

    def score(run: LoadedRun) -> list[float]:
        return list(run.forecast(np.cos(np.arange(60.0)).reshape(30, 2))[0].values.ravel())

    return suite.TaskCase(config=config, predict=predict, score=score)


def transcription(model: Any, objective: Any) -> suite.TaskCase:
    """Words spelled in tones, one for each letter; other data have other letters."""

    def sound(word: str, rate: int = 2000) -> Any:
        time = np.arange(rate // 20)
        tones = [np.sin(2 * np.pi * (100 + 25 * (ord(letter) - 97)) * time / rate) for letter in word]
        rng = np.random.default_rng(len(word))
        samples = np.concatenate(tones) + 0.01 * rng.normal(size=len(tones) * len(time))
        return (20_000 * samples).astype(np.int16)

    def config(folder: Path, other: bool) -> ExperimentConfig:
        rows = []
        for number, word in enumerate(WORDS):
            wavfile.write(folder / f"{number}.wav", 2000, sound(word))
            text = word.translate(str.maketrans("cait", "wxyz")) if other else word
            rows.append(f"{number}.wav\t{text}\n")
        files = SpeechFiles(
            train=write(folder / "train.tsv", "".join(rows)),
            development=write(folder / "development.tsv", "".join(rows[:5])),
        )
        features = SpeechFeatures(
            sample_rate=2000, num_filters=8, num_cepstra=5, num_deltas=1, window_ms=20.0
        )
        data = SpeechConfig(
            dataset=files, features=features, max_frames=40, max_target_len=8, batch_size=4, num_buckets=1
        )
        task = Transcription(data=data, objective=objective, search=GreedyConfig(max_len=8))
        return experiment(task, model, "cer")

    def recordings() -> list[Any]:
        silence = np.zeros(500, np.int16)
        return [
            *(mixed(sound(word), 2000) for word in ("cat", "sit", "cactus", "a" * 30)),
            mixed(sound("tack", 4000), 4000),
            mixed(silence, 2000),
        ]

    def predict(run: LoadedRun) -> Any:
        found = run.transcribe(recordings())
        beams = run.transcribe(recordings()[:2], search=BeamSearch(num_beams=2))
        return [(one.text, one.starts) for one in found], [one.text for one in beams]

    def score(run: LoadedRun) -> list[float]:
        return [one.score for one in run.transcribe(recordings()[:2])]

    return suite.TaskCase(config=config, predict=predict, score=score)


def waves(rows: int, size: float) -> str:
    """A CSV of two waves by the hour, whose second one has a gap and whose row 30 is missing."""
    lines = ["date,high,low"]
    for row in range(rows):
        high, low = (size * math.sin(row * step) + row % 3 for step in (1.0, 0.4))
        written = "" if row == 20 else f"{low:.4f}"
        if row != 30:
            lines.append(f"2024-01-0{1 + row // 24} {row % 24:02d}:00,{high:.4f},{written}")
    return "\n".join(lines) + "\n"


FORECAST_TRANSFORMER: dict[str, Any] = {
    "patch_len": 4,
    "stride": 2,
    "model_dim": 8,
    "num_heads": 2,
    "num_kv_heads": 2,
    "feed_forward_dim": 8,
    "num_layers": 1,
}

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
