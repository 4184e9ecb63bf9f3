"""The config codec: round trip, and each kind of bad document refused with its path."""

import dataclasses
import json
from typing import Any, ClassVar, Literal

import pytest

from transformer_jax.config_json import (
    MAX_DOCUMENT_BYTES,
    apply_overrides,
    from_document,
    from_json,
    load_document,
    to_json,
)
from transformer_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    kind: Literal["constant"] = "constant"
    learning_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warm:
    kind: Literal["warm"] = "warm"
    learning_rate: float
    warmup_updates: int = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    model_dim: int
    num_heads: int
    score: Literal["dot", "general"] = "dot"
    name: str = "inner"
    note: str | None = None
    limit: float | None = None
    scale: float | Literal["fan_in"] = 1.0

    def __post_init__(self) -> None:
        if self.model_dim % self.num_heads:
            raise ConfigError(f"model_dim {self.model_dim} does not divide by num_heads {self.num_heads}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    schedule: Constant | Warm
    edges: tuple[int, ...] = (4, 8)
    tied: bool = True
    many: tuple[Constant | Warm, ...] = ()


OUTER = Outer(inner=Inner(model_dim=8, num_heads=2), schedule=Warm(learning_rate=0.1))


def document_with(**changes: object) -> str:
    return json.dumps({**dataclasses.asdict(OUTER), **changes})


def test_round_trip_keeps_types_and_values() -> None:
    config = dataclasses.replace(OUTER, many=(Constant(learning_rate=1.0), Warm(learning_rate=2.0)))
    again = from_json(Outer, to_json(config))
    assert again == config
    assert isinstance(again.schedule, Warm)
    assert again.edges == (4, 8)
    assert isinstance(again.edges, tuple)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"inner": {"model_dim": 3.7, "num_heads": 1}}, ["inner.model_dim", "whole number", "3.7"]),
        ({"inner": {"model_dim": "1", "num_heads": 1}}, ["inner.model_dim", "whole number", '"1"']),
        ({"inner": {"model_dim": True, "num_heads": 1}}, ["inner.model_dim", "whole number", "true"]),
        ({"inner": {"model_dim": 8.0, "num_heads": 1}}, ["inner.model_dim", "whole number", "8.0"]),
        ({"inner": {"model_dim": 8, "num_heads": 3}}, ["inner", "8", "3", "divide"]),
        ({"inner": {"model_dim": 8}}, ["inner.num_heads", "missing"]),
        (
            {"inner": {"model_dim": 8, "num_heads": 2, "scroe": "dot"}},
            ["inner.scroe", "did you mean 'score'"],
        ),
        (
            {"inner": {"model_dim": 8, "num_heads": 2, "score": "dott"}},
            ["inner.score", "'dot' or 'general'", "dott"],
        ),
        ({"inner": {"model_dim": 8, "num_heads": 2, "limit": "x"}}, ["inner.limit", "a number", '"x"']),
        ({"inner": {"model_dim": 8, "num_heads": 2, "scale": True}}, ["inner.scale", "number", "true"]),
        ({"inner": 5}, ["inner", "an object", "5"]),
        ({"inner": None}, ["inner", "an object", "null"]),
        ({"edges": 4}, ["edges", "a list", "4"]),
        ({"edges": [4, "8"]}, ["edges.1", "whole number", '"8"']),
        ({"tied": 1}, ["tied", "true or false", "1"]),
        ({"schedule": {"learning_rate": 1.0}}, ["schedule", "'kind' is missing", "'constant', 'warm'"]),
        ({"schedule": {"kind": "wram", "learning_rate": 1.0}}, ["schedule", '"wram"', "did you mean 'warm'"]),
        ({"schedule": {"kind": ["warm"], "learning_rate": 1.0}}, ["schedule", '["warm"]', "known:"]),
        (
            {"schedule": {"kind": "warm", "learning_rate": 1, "warmup_updates": 2.5}},
            ["schedule.warmup_updates", "2.5"],
        ),
        (
            {"schedule": {"kind": "constant", "learning_rate": 1, "warmup_updates": 2}},
            ["schedule.warmup_updates"],
        ),
        ({"schedule": "warm"}, ["schedule", "an object", '"warm"']),
        ({"many": [{"kind": "constant", "learning_rate": 1.0, "lr": 2}]}, ["many.0.lr"]),
        ({"many": [{"kind": "constant", "learning_rate": "a"}]}, ["many.0", "learning_rate", "a number"]),
        ({"shedule": {}}, ["'shedule'", "did you mean 'schedule'"]),
    ],
)
def test_bad_values_are_refused_with_their_path(changes: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Outer, document_with(**changes), "config.json")
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("{", "line 1, column 2"),
        ("[1]", "wanted an object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is not"),
        ('{"a": -Infinity}', "Infinity is not"),
        ('{"a": 1e999}', "finite"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ("[" * 200_000, "nested deeper"),
        (" " * (MAX_DOCUMENT_BYTES + 1), "at most"),
    ],
)
def test_documents_no_config_can_be(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: ") as caught:
        load_document(text, "config.json")
    assert part in str(caught.value)
    assert len(str(caught.value)) < 300


def overridden(*overrides: str) -> Outer:
    return from_document(Outer, apply_overrides(Outer, dataclasses.asdict(OUTER), overrides), "--set")


def test_overrides_reach_nested_fields() -> None:
    config = overridden("inner.model_dim=16", "edges=[2, 3]", "tied=false", "inner.note=plain text")
    assert config.inner.model_dim == 16
    assert config.edges == (2, 3)
    assert config.tied is False
    assert config.inner.note == "plain text"


def test_overrides_of_text_fields_stay_text() -> None:
    assert overridden("inner.name=8").inner.name == "8"
    assert overridden("inner.name=null").inner.name == "null"
    assert overridden("inner.note=null").inner.note is None
    assert overridden('inner.note="null"').inner.note == "null"
    assert overridden("inner.score=general").inner.score == "general"


def test_overriding_the_kind_drops_the_fields_of_the_old_one() -> None:
    config = overridden("schedule.kind=constant", "schedule.learning_rate=0.5")
    assert config.schedule == Constant(learning_rate=0.5)
    assert overridden('schedule={"kind": "constant", "learning_rate": 2}').schedule == Constant(
        learning_rate=2
    )
    with pytest.raises(ConfigError, match="did you mean 'constant'"):
        overridden("schedule.kind=constnat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    kind: Literal["made"] = "made"
    size: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    kind: Literal["kept"] = "kept"
    path: str

    TEXT_FIELD: ClassVar[str] = "path"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    part: Made | Kept | None
    only: Inner = OUTER.inner


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("made", Made(size=5)),  # the kind that it has: its other values stay
        ("some/file.json", Kept(path="some/file.json")),
        ("12", ConfigError),
        ('{"kind": "kept", "path": "made"}', Kept(path="made")),
        ("null", None),
    ],
)
def test_a_text_stands_for_a_part(text: str, wanted: Any) -> None:
    document = dataclasses.asdict(Holder(part=Made(size=5)))
    changed = apply_overrides(Holder, document, [f"part={text}"])
    if wanted is ConfigError:
        with pytest.raises(ConfigError, match="part: wanted an object"):
            from_document(Holder, changed)
    else:
        assert from_document(Holder, changed) == Holder(part=wanted)
    with pytest.raises(ConfigError, match='only: wanted an object, got "inner"'):
        from_document(Holder, apply_overrides(Holder, document, ["only=inner"]))


def test_overrides_do_not_change_the_given_document() -> None:
    document = dataclasses.asdict(OUTER)
    apply_overrides(Outer, document, ["inner.model_dim=16"])
    assert document == dataclasses.asdict(OUTER)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("inner.modle_dim=16", "unknown key 'inner.modle_dim'; did you mean 'model_dim'"),
        ("iner.model_dim=16", "unknown key 'iner'; did you mean 'inner'"),
        ("inner.model_dim.x=16", "'inner.model_dim' has no fields"),
        ("edges.0=16", "'edges' has no fields"),
        ("inner.model_dim", "wanted path=value"),
        ("=3", "wanted path=value"),
        ("inner..x=3", "wanted path=value"),
        ("inner.model_dim=sixteen", 'inner.model_dim: wanted a whole number, got "sixteen"'),
        ("inner.model_dim=3.7", "inner.model_dim: wanted a whole number, got 3.7"),
        ("inner.limit=1e999", "finite"),
        ("schedule.warmup=3", "did you mean 'warmup_updates'"),
    ],
)
def test_bad_overrides(override: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(override)
    assert part in str(caught.value)


def test_values_json_cannot_hold_are_refused_when_writing() -> None:
    with pytest.raises(ConfigError, match="Constant"):
        to_json(Constant(learning_rate=float("nan")))
