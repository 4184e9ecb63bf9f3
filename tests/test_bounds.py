"""Every integer of a config has an upper bound, and what is above it is refused before anything is built."""

import dataclasses
import functools
import json
import typing
from collections.abc import Iterator
from typing import Any

import jax
import pytest
from flax import nnx

from transformer_jax.bounds import bounds_of
from transformer_jax.config_json import apply_overrides, from_document, to_json
from transformer_jax.data.pairs_config import PairsConfig, SyntheticDataset, TsvFiles
from transformer_jax.decode.searcher import BeamConfig, SampleConfig
from transformer_jax.errors import ConfigError
from transformer_jax.kinds import Kinds
from transformer_jax.models import build
from transformer_jax.models.build import build_model, model_shapes
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.presets import llama_like
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.local_attention import Predictive
from transformer_jax.nn.position_encodings import AlibiPositions, Learned, RelativePositions
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Constant, TrainConfig


def configs(annotation: Any) -> Iterator[type[Any]]:
    """All dataclasses that a config can hold."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in typing.get_type_hints(annotation, include_extras=True).values():
            yield from configs(hint)
    for family in getattr(annotation, "__metadata__", ()):
        if isinstance(family, Kinds):
            for member in family.members():
                if member.__module__.startswith("transformer_jax."):  # not what other tests registered
                    yield from configs(member)
    for inner in typing.get_args(annotation):
        yield from configs(inner)


def holds_integers(annotation: Any) -> bool:
    return annotation is int or any(holds_integers(inner) for inner in typing.get_args(annotation))


def test_every_integer_of_a_config_has_a_bound() -> None:
    found = {*configs(ExperimentConfig), SampleConfig}
    assert len(found) > 30
    unbounded = [
        f"{cls.__name__}.{name}"
        for cls in found
        for name, hint in typing.get_type_hints(cls).items()
        if holds_integers(hint) and name not in bounds_of(cls)
    ]
    assert unbounded == []
    assert all(most < 2**32 for cls in found for most in bounds_of(cls).values())


MODEL = EncoderDecoderConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_encoder_layers=1, num_decoder_layers=1
)
RECURRENT = RecurrentSeq2SeqConfig(
    embedding_dim=8, hidden_dim=8, cell="gru", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
    attention=LastState(feed_each_step=False), dropout_rate=0.0, residual=False,
)  # fmt: skip
CONFIG = ExperimentConfig(
    name="bounded",
    task=Translation(data=PairsConfig(dataset=TsvFiles(train="a")), search=BeamConfig(max_len=9, num_beams=2)),

    model=MODEL,
    train=TrainConfig(
        updates=4, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.01), metric="bleu", metric_mode="max"
    ),

)  # fmt: skip


@pytest.mark.parametrize("value", [2**31, 2**63, 10**400], ids=["int32", "int64", "long"])
@pytest.mark.parametrize("model", [MODEL, RECURRENT], ids=["transformer", "recurrent"])
def test_sizes_above_their_bounds_are_refused_at_once(model: Any, value: int) -> None:
    document = json.loads(to_json(dataclasses.replace(CONFIG, model=model)))
    tried = 0
    for part in ("task.data", "model", "train", "task.search", "task.objective"):
        for name, old in functools.reduce(dict.__getitem__, part.split("."), document).items():
            if isinstance(old, int) and not isinstance(old, bool) and name != "seed":
                changed = json.loads(json.dumps(document))
                functools.reduce(dict.__getitem__, part.split("."), changed)[name] = value
                with pytest.raises(ConfigError, match=f"{name} must be at most"):
                    from_document(ExperimentConfig, changed)
                tried += 1
    assert tried >= 19


@pytest.mark.parametrize(
    "override",
    [
        "model.num_encoder_layers=100000",
        "task.data.max_source_len=1000000",
        "task.search.num_beams=100000",
        "task.search.max_len=10000000",
        "task.search.forbidden_ids=[1,2147483648]",
        "task.search.constraints.no_repeat_ngram=1000",
        'task.data.buckets={"kind": "given", "shapes": [[8, 9], [100000, 100000]]}',
        "train.seed=4294967296",
        'train.sharding={"data": 2147483648}',
    ],
)
def test_absurd_values_of_set_are_named(override: str) -> None:
    document = apply_overrides(ExperimentConfig, json.loads(to_json(CONFIG)), [override])
    with pytest.raises(ConfigError, match=r"must be at most [\d,]+, got [\d,]+$") as raised:
        from_document(ExperimentConfig, document, "--set")
    assert override.partition("=")[0].split(".")[-1] in str(raised.value)


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        dataclasses.replace(
            MODEL, positions=Learned(max_len=5), share_embeddings="all", norm_placement="pre"
        ),
        dataclasses.replace(MODEL, positions=RelativePositions(), decoder_self_attention="softmax"),
        dataclasses.replace(MODEL, positions=AlibiPositions(), attention_bias=True),
        dataclasses.replace(MODEL, decoder_self_attention="linear", num_decoder_layers=2),
        llama_like(),
        RECURRENT,
        dataclasses.replace(RECURRENT, attention=Bahdanau(attention_dim=4), bidirectional=True, cell="lstm"),
        dataclasses.replace(
            RECURRENT, attention=Luong(score="location", input_feeding=True, max_len=5), cell="min_gru"
        ),
        dataclasses.replace(
            RECURRENT, attention=Luong(score="general", input_feeding=False, local=Predictive(half_width=1))
        ),
    ],
)
def test_shapes_of_a_model_are_those_of_the_built_one(model: Any) -> None:
    vocabularies = Sizes(source_vocab_size=6, target_vocab_size=6, vocab_size=6)
    found, wanted = model_shapes(model, vocabularies), build_model(model, vocabularies, seed=0)
    (found_graph, found_state), (wanted_graph, wanted_state) = nnx.split(found), nnx.split(wanted)
    assert found_graph == wanted_graph
    assert jax.tree.structure(found_state) == jax.tree.structure(wanted_state)
    for one, other in zip(jax.tree.leaves(found_state), jax.tree.leaves(wanted_state)):
        assert isinstance(one, jax.ShapeDtypeStruct)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


@pytest.mark.parametrize("layers", [(1, 1), (4, 2), (2, 5)])
def test_a_model_larger_than_the_memory_is_refused_by_its_parameters(
    layers: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabularies = Sizes.of_pairs(6, 7)
    sized = dataclasses.replace(MODEL, num_encoder_layers=layers[0], num_decoder_layers=layers[1])
    shapes = model_shapes(sized, vocabularies)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
    monkeypatch.setattr(build, "machine_memory", (4 * parameters - 1).__int__)
    with pytest.raises(ConfigError, match=f"the model has {parameters:,} parameters"):
        build_model(sized, vocabularies, seed=0)
    monkeypatch.undo()
    huge = dataclasses.replace(MODEL, model_dim=65_536, feed_forward_dim=65_536, num_encoder_layers=1_000)
    traced = nnx.eval_shape(
        lambda: build_model(dataclasses.replace(huge, num_encoder_layers=1), vocabularies, seed=0)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(traced))) > 10**10, (
        "what is only traced may be huge"
    )
    deep = dataclasses.replace(RECURRENT, hidden_dim=65_536, num_encoder_layers=1_000)
    for one in (huge, deep):
        with pytest.raises(ConfigError, match="choose smaller sizes or fewer layers"):
            build_model(one, vocabularies, seed=0)


def test_the_different_lines_of_a_synthetic_set_are_counted_without_computing_all() -> None:
    # Their numbers would have half a million digits.
    SyntheticDataset(num_symbols=2**24, min_len=1, max_len=2**16)
    SyntheticDataset(num_symbols=2**24, min_len=2**16, max_len=2**16)
    with pytest.raises(ConfigError, match="lines of 1 to 2 out of 3 words are 12"):
        SyntheticDataset(num_train=5, num_development=1, num_test=1, num_symbols=3, min_len=1, max_len=2)
    SyntheticDataset(num_train=4, num_development=1, num_test=1, num_symbols=3, min_len=1, max_len=2)


def test_a_long_value_is_quoted_in_part() -> None:
    document = json.loads(to_json(CONFIG))
    document["train"]["metric"] = "bleu" * 100_000
    with pytest.raises(ConfigError, match=r"train.metric is 'bleubleu.*\.\.\.") as raised:
        from_document(ExperimentConfig, document)
    assert len(str(raised.value)) < 700
