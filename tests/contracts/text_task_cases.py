"""Cases of tasks on pairs of lines, texts, classes, tags and word vectors for their contract."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

from tiny_experiments import WORDS, experiment, write

from transformer_jax.data.classes_config import ClassesConfig, ClassFiles
from transformer_jax.data.masked_config import MaskedTextConfig, WordPieces
from transformer_jax.data.pairs_config import ChosenBuckets, CutText, PairsConfig, ParallelFiles
from transformer_jax.data.tag_config import TagConfig, TagFiles, Words
from transformer_jax.data.text_config import (
    PackedDocuments,
    TextConfig,
    TextFiles,
)
from transformer_jax.data.words_config import WordsConfig
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.models import (
    ClassifierConfig,
    DecoderOnlyConfig,
    EncoderDecoderConfig,
    FirstTokenPool,
    RecurrentLMConfig,
    RecurrentTextEncoder,
    StructuredPool,
    TransformerTextEncoder,
    WordVectorsConfig,
)
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.nn import Learned, Rotary
from transformer_jax.nn.word_letters import LetterConvolution
from transformer_jax.objectives import (
    ClassCrossEntropy,
    MaskedTokens,
    PairCrossEntropy,
)
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.loading import LoadedRun
from transformer_jax.tasks.classification import Classification
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.rewriting import Rewriting
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.tasks.word_embedding import WordEmbedding
from transformer_jax.testing import task_suite as suite
from transformer_jax.training.config import RowAdagrad

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
