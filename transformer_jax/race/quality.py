"""Validation loss over seconds of training: what speed is worth.

The contestants take turns of about a second each, so that a noisy machine meets all of them alike; evaluation and
compilation do not count. All train with Adam, a short warm-up and a constant rate.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from transformer_jax.errors import DataError
from transformer_jax.race.contestants import ATTENDERS, mean_loss
from transformer_jax.race.speed import make_contestants

WARM_UP = 50
RATES = {"recurrent": 2e-3, "attention": 1e-3}
"""Learning rates: one for what runs over time, one for what attends."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Sequences to train on and to be judged by.

    Attributes:
      name: Of the task.
      vocab_size: Number of tokens.
      draw: A training batch ``(tokens [batch, time + 1], weights [batch, time])`` from a generator.
      held_out: What the loss is measured on.
    """

    name: str
    vocab_size: int
    draw: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    held_out: tuple[np.ndarray, np.ndarray]


def characters(*, batch: int = 16, length: int = 128, held_out: int = 128) -> Task:
    """The plays of Shakespeare, character by character; the last tenth is held out.

    Raises:
      DataError: If the text is not at hand and cannot be had.
    """
    from transformer_jax.data.sources.registry import locate

    text = locate("tinyshakespeare", "input.txt").read_text("utf-8")
    letters = {letter: index for index, letter in enumerate(sorted(set(text)))}
    ids = np.array([letters[letter] for letter in text], np.int32)
    cut = len(ids) * 9 // 10
    windows = np.arange(length + 1)[None, :]

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        starts = generator.integers(0, cut - length - 1, size=(batch, 1))
        return ids[starts + windows], np.ones((batch, length), np.float32)

    starts = np.linspace(cut, len(ids) - length - 2, held_out).astype(int)[:, None]
    return Task(
        "characters", len(letters), draw, (ids[starts + windows], np.ones((held_out, length), np.float32))
    )


def pronunciations(*, batch: int = 64, held_out: int = 512) -> Task:
    """Words, letter by letter, then their phonemes, which alone are counted; every twentieth word is held out.

    Raises:
      DataError: If the dictionary is not at hand.
    """
    from transformer_jax.data.readers import split_lines
    from transformer_jax.data.sources.cmudict import parse_cmudict
    from transformer_jax.data.sources.registry import locate

    path = locate("cmudict", "cmudict.dict")
    words = parse_cmudict(split_lines(path.read_bytes(), str(path)), str(path))
    rows = [([*word], phonemes[0].split()) for word, phonemes in sorted(words.items()) if len(word) <= 16]
    symbols = sorted({symbol for letters, phonemes in rows for symbol in (*letters, *phonemes)})
    index = {symbol: 2 + place for place, symbol in enumerate(symbols)}  # 0: padding, 1: end of either part
    length = max(len(letters) + len(phonemes) for letters, phonemes in rows) + 1
    tokens = np.zeros((len(rows), length + 1), np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    for row, (letters, phonemes) in enumerate(rows):
        ids = [*(index[one] for one in letters), 1, *(index[one] for one in phonemes), 1]
        tokens[row, : len(ids)] = ids
        weights[row, len(letters) : len(ids) - 1] = 1.0  # what follows the first end
    is_held_out = np.arange(len(rows)) % 20 == 0
    train = np.flatnonzero(~is_held_out)
    chosen = np.flatnonzero(is_held_out)
    chosen = chosen[np.linspace(0, len(chosen) - 1, held_out).astype(int)]

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        picked = generator.choice(train, batch)
        return tokens[picked], weights[picked]

    return Task("pronunciations", 2 + len(symbols), draw, (tokens[chosen], weights[chosen]))


TASKS: dict[str, Callable[[], Task]] = {"characters": characters, "pronunciations": pronunciations}


class _Learner:
    """A contestant in training."""

    def __init__(self, one: Any, task: Task) -> None:
        self.name = one.name
        rate = RATES["attention" if one.spec.kind in ATTENDERS else "recurrent"]
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(0.0, rate, WARM_UP))
        )
        graph = one.graph

        def loss(params: Any, tokens: jax.Array, weights: jax.Array) -> jax.Array:
            return mean_loss(nnx.merge(graph, params), tokens, weights)

        def step(params: Any, state: Any, tokens: jax.Array, weights: jax.Array) -> tuple[Any, Any]:
            changes, state = optimizer.update(jax.grad(loss)(params, tokens, weights), state)
            return optax.apply_updates(params, changes), state

        self.generator = np.random.default_rng(0)  # all see the same batches
        self.task = task
        self.evaluate = jax.jit(loss)
        self.params, self.state = one.params, optimizer.init(one.params)
        self.step = jax.jit(step).lower(self.params, self.state, *self._batch()).compile()
        self.generator = np.random.default_rng(0)
        self.seconds, self.updates = 0.0, 0
        self.curve: dict[str, list[float]] = {"seconds": [], "updates": [], "loss": []}
        self.measure()

    def _batch(self) -> tuple[jax.Array, jax.Array]:
        tokens, weights = self.task.draw(self.generator)
        return jnp.asarray(tokens), jnp.asarray(weights)

    def train_for(self, seconds: float) -> None:
        """Train for so many seconds, whole steps."""
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            self.params, self.state = jax.block_until_ready(
                self.step(self.params, self.state, *self._batch())
            )
            self.updates += 1
        self.seconds += time.perf_counter() - begin

    def measure(self) -> None:
        """Note the held-out loss."""
        loss = float(self.evaluate(self.params, *map(jnp.asarray, self.task.held_out)))
        for key, value in (("seconds", self.seconds), ("updates", self.updates), ("loss", loss)):
            self.curve[key].append(round(value, 4))


def race_for_seconds(
    names: Sequence[str],
    task: Task,
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
      task: What they learn.
      width: Of the Transformer.
      equal_parameters: Whether recurrent widths follow the Transformer's number of parameters.
      seconds: Of training, for each.
      points: Measurements of each after the first.
      progress: Told what is being done.
      curves: Filled as the race goes on, so that nothing is lost when it is broken off.
    """
    curves = {} if curves is None else curves
    progress(f"{task.name}: compiling")
    contestants = make_contestants(
        names, width=width, vocab_size=task.vocab_size, equal_parameters=equal_parameters,
        longest=task.held_out[0].shape[1],
    )  # fmt: skip
    learners = [_Learner(one, task) for one in contestants]
    curves.update({one.name: one.curve for one in learners})
    for point in range(points):
        for learner in learners:
            progress(f"{task.name}: {learner.name} learns, {point + 1} of {points}")
            learner.train_for(seconds / points)
            learner.measure()
    return curves


def load_task(name: str) -> Task | str:
    """The task, or why it is not at hand."""
    try:
        return TASKS[name]()
    except (DataError, ImportError) as error:
        return str(error)
