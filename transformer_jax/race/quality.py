"""Validation loss over seconds of training: what speed is worth.

The contestants take turns of about a second each, so that a noisy machine meets all of them alike; evaluation and
compilation do not count. All take the trainer's compiled step with Adam, a short warm-up and a constant rate.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from transformer_jax.data.batches import BOS_ID, NUM_SPECIAL_IDS, PAD_ID, Seq2SeqBatch
from transformer_jax.data.examples import make_batch
from transformer_jax.data.pairs_config import ChosenBuckets, NamedDataset, PairsConfig
from transformer_jax.data.pipeline import BatchPipeline
from transformer_jax.data.text_config import NamedText, RandomWindows, TextConfig
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import DataError
from transformer_jax.race.contestants import ATTENDERS
from transformer_jax.race.speed import TRAINING, Contestant, make_contestants, whole_windows
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Constant
from transformer_jax.training.session import Stopwatch
from transformer_jax.training.step import CompiledSteps

WARM_UP = 50
RATES = {"recurrent": 2e-3, "attention": 1e-3}
"""Learning rates: one for what runs over time, one for what attends."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Text to train on and to be judged by.

    Attributes:
      name: Of the text.
      vocab_size: Number of tokens.
      batches: Starts the training batches from the first one, all of one shape.
      held_out: What the loss is measured on.
    """

    name: str
    vocab_size: int
    batches: Callable[[], Iterator[TokenBatch]]
    held_out: TokenBatch


def characters(*, batch: int = 16, length: int = 128, held_out: int = 128) -> Lesson:
    """The plays of Shakespeare, character by character; the loss is that of windows spread over the development part.

    Raises:
      DataError: If the text is not at hand and cannot be had.
    """
    windows = RandomWindows(context_len=length)
    dataset = NamedText(name="tinyshakespeare")
    task = LanguageModelling(data=TextConfig(dataset=dataset, windows=windows, batch_size=batch))
    text = task.prepare().text
    starts = np.linspace(0, len(text.development) - length - 1, held_out).astype(int)
    return Lesson(
        "characters",
        text.tokenizer.vocab_size,
        text.train.iterate,
        whole_windows(text.development[starts[:, None] + np.arange(length + 1)]),
    )


def pronunciations(*, batch: int = 64, held_out: int = 512) -> Lesson:
    """Words, letter by letter, then their phonemes, which alone are counted.

    Raises:
      DataError: If the dictionary is not at hand.
    """
    prepared = Pronunciation(
        data=PairsConfig(
            dataset=NamedDataset(name="cmudict"), max_source_len=16, too_long="skip", batch_size=batch,
            buckets=ChosenBuckets(max_shapes=1),
        )
    ).prepare()  # fmt: skip
    train = prepared.train
    assert isinstance(train, BatchPipeline), "nothing is packed"
    sizes = (prepared.source_tokenizer.vocab_size, prepared.target_tokenizer.vocab_size)
    chosen = np.linspace(0, len(prepared.development) - 1, held_out).astype(int)
    (shape,) = train.shapes()
    return Lesson(
        "pronunciations",
        sum(sizes) - NUM_SPECIAL_IDS,
        lambda: (as_text(pairs, sizes[0]) for pairs in train.iterate()),
        as_text(make_batch(prepared.development, chosen, shape._replace(batch_size=held_out)), sizes[0]),
    )


def as_text(pairs: Seq2SeqBatch, source_vocab_size: int) -> TokenBatch:
    """Each pair as one text: the source, the start token, and the target with its end, which alone is counted.

    Args:
      pairs: The pairs; their targets' own ids move behind the sources'.
      source_vocab_size: Ids of the sources.
    """
    outputs = pairs.target_outputs
    outputs = np.where(outputs < NUM_SPECIAL_IDS, outputs, outputs + source_vocab_size - NUM_SPECIAL_IDS)
    rows, source_len = pairs.source_tokens.shape
    tokens = np.full((rows, source_len + 1 + outputs.shape[1]), PAD_ID, np.int32)
    tokens[:, :source_len] = pairs.source_tokens
    given = pairs.source_lengths
    np.put_along_axis(tokens, given[:, None], BOS_ID, axis=1)
    np.put_along_axis(tokens, given[:, None] + 1 + np.arange(outputs.shape[1]), outputs, axis=1)
    return whole_windows(tokens)._replace(
        lengths=given + pairs.target_lengths, example_ids=pairs.example_ids, first_counted=given
    )


LESSONS: dict[str, Callable[[], Lesson]] = {"characters": characters, "pronunciations": pronunciations}


class _Learner:
    """A contestant in training."""

    def __init__(self, one: Contestant, lesson: Lesson) -> None:
        self.name, self.held_out = one.name, jax.device_put(lesson.held_out)
        rate = RATES["attention" if one.spec.kind in ATTENDERS else "recurrent"]
        schedule = Constant(peak_learning_rate=rate, warmup_updates=WARM_UP)
        first = next(lesson.batches())
        step, self.state = one.training(
            dataclasses.replace(TRAINING, schedule=schedule, clip_norm=1.0), first
        )
        self.steps = CompiledSteps(step)
        self.steps.compile(self.state, [first])
        self.evaluate = jax.jit(one.forward)
        self.batches = lesson.batches()  # all see the same
        self.stopwatch, self.updates = Stopwatch(), 0
        self.curve: dict[str, list[float]] = {"seconds": [], "updates": [], "loss": []}
        self.measure()

    def train_for(self, seconds: float) -> None:
        """Train for so many seconds, whole steps."""
        end = self.stopwatch.read() + seconds
        self.stopwatch.start()
        while self.stopwatch.read() < end:
            self.state = self.steps(self.state, jax.device_put(next(self.batches)))
            jax.block_until_ready(self.state.update)
            self.updates += 1
        self.stopwatch.stop()

    def measure(self) -> None:
        """Note the held-out loss."""
        loss = float(self.evaluate(self.state.params, self.held_out))
        seconds = self.stopwatch.read()
        for key, value in (("seconds", seconds), ("updates", self.updates), ("loss", loss)):
            self.curve[key].append(round(value, 4))


def race_for_seconds(
    names: Sequence[str],
    lesson: Lesson,
    *,
    width: int,
    equal_parameters: bool,
    seconds: float,
    points: int = 12,
    progress: Callable[[str], None] = lambda text: None,
    curves: dict[str, dict[str, list[float]]] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Each contestant's held-out loss in nats over its own seconds of training.

    Args:
      names: Contestants, none of PyTorch's.
      lesson: What they learn.
      width: Of the Transformer.
      equal_parameters: Whether recurrent widths follow the Transformer's number of parameters.
      seconds: Of training, for each.
      points: Measurements of each after the first.
      progress: Told what is being done.
      curves: Filled as the race goes on, so that nothing is lost when it is broken off.
    """
    curves = {} if curves is None else curves
    progress(f"{lesson.name}: compiling")
    contestants = make_contestants(
        names, width=width, vocab_size=lesson.vocab_size, equal_parameters=equal_parameters,
        longest=lesson.held_out.inputs.shape[1],
    )  # fmt: skip
    learners = [_Learner(one, lesson) for one in contestants]
    curves.update({one.name: one.curve for one in learners})
    for point in range(points):
        for learner in learners:
            progress(f"{lesson.name}: {learner.name} learns, {point + 1} of {points}")
            learner.train_for(seconds / points)
            learner.measure()
    return curves


def load_lesson(name: str) -> Lesson | str:
    """The lesson, or why its text is not at hand."""
    try:
        return LESSONS[name]()
    except (DataError, ImportError) as error:
        return str(error)
