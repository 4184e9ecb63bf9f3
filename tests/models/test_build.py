"""Models are built from configs and sizes; installed packages add configs by entry points."""

import dataclasses
import importlib.metadata
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import pytest
from flax import nnx

from transformer_jax import plugins
from transformer_jax.config_json import from_json, to_json
from transformer_jax.errors import ConfigError
from transformer_jax.kinds import Kinds
from transformer_jax.models import EncoderDecoderConfig, ModelConfig, Sizes, build_model, register_model
from transformer_jax.models.build import layer_counts
from transformer_jax.tasks.union import register_task

CONFIG = EncoderDecoderConfig(
    model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_encoder_layers=1, num_decoder_layers=1
)

PACKAGE = """
import dataclasses
from typing import Literal

from flax import nnx
from transformer_jax.models import Sizes

@dataclasses.dataclass(frozen=True, kw_only=True)
class BigramConfig:
    kind: Literal["bigram"] = "bigram"
    model_dim: int = 4

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> nnx.Module:
        return nnx.Embed(sizes.need("vocab_size"), self.model_dim, rngs=rngs)
"""
USER = """
import warnings
warnings.simplefilter("error")
import bigram_plugin  # before the library: the plug-in imports the library, which lists its plug-ins
from transformer_jax.config_json import from_json, to_json
from transformer_jax.models import ModelConfig, Sizes, build_model
import dataclasses

@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    model: ModelConfig

held = from_json(Holder, '{"model": {"kind": "bigram", "model_dim": 3}}')
assert held.model == bigram_plugin.BigramConfig(model_dim=3)
print(build_model(held.model, Sizes(vocab_size=5), seed=0).embedding.shape)
"""


def installed(folder: Path, module: str, source: str, entry: str) -> None:
    """A package as an installer leaves it: a module, and metadata with an entry point."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[transformer_jax.models]\n{module} = {entry}\n")


def test_a_model_needs_the_sizes_of_its_task() -> None:
    with pytest.raises(
        ConfigError, match="needs source_vocab_size, the task gives vocab_size: choose another"
    ):
        build_model(CONFIG, Sizes(vocab_size=5), seed=0)
    with pytest.raises(ConfigError, match="the task gives no sizes"):
        Sizes().need("vocab_size")


def test_layers_are_counted_by_field() -> None:
    assert layer_counts(dataclasses.replace(CONFIG, num_decoder_layers=3)) == {
        "num_encoder_layers": 1,
        "num_decoder_layers": 3,
    }


def test_an_installed_package_adds_a_model(tmp_path: Path) -> None:
    installed(tmp_path, "bigram_plugin", PACKAGE, "bigram_plugin:BigramConfig")
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USER}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "(5, 3)"


@dataclasses.dataclass(frozen=True)
class SameKind:
    kind: Literal["encoder_decoder"] = "encoder_decoder"


@dataclasses.dataclass(frozen=True)
class NoKind:
    size: int = 1


@pytest.fixture
def fresh_plugins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers entry points for one test."""

    def register(*values: str) -> None:
        points = [
            importlib.metadata.EntryPoint(f"p{number}", value, "some.group")
            for number, value in enumerate(values)
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
        plugins.plugin_classes.cache_clear()

    yield register
    plugins.plugin_classes.cache_clear()


def test_a_plugin_that_cannot_be_imported_is_named_with_its_package(tmp_path: Path) -> None:
    installed(tmp_path, "broken_plugin", "raise ValueError('two\\nlines')", "broken_plugin:Config")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from transformer_jax.models import model_kinds; print(len(model_kinds()) > 1)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.strip() == "True"
    (line,) = (line for line in ran.stderr.splitlines() if "PluginWarning" in line)
    assert "package broken-plugin: plug-in 'broken_plugin'" in line
    assert "ValueError: two lines" in line


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("no_such_module_anywhere:Config", "ModuleNotFoundError"),
        ("json:dumps", "wanted a config dataclass"),
        (f"{__name__}:NoKind", "its field 'kind' must have a text as its default"),
    ],
)
def test_what_is_no_config_class_is_left_out(fresh_plugins: Any, value: str, fault: str) -> None:
    fresh_plugins(value)
    kinds: Kinds[Any] = Kinds("thing", [], "some.group")
    with pytest.warns(RuntimeWarning, match=fault):
        assert kinds.members() == ()


def test_a_kind_that_is_taken_is_left_out(fresh_plugins: Any) -> None:
    fresh_plugins(f"{__name__}:SameKind")
    kinds: Kinds[Any] = Kinds("thing", [EncoderDecoderConfig], "some.group")
    with pytest.warns(RuntimeWarning, match="kind 'encoder_decoder' is that of EncoderDecoderConfig"):
        assert kinds.members() == (EncoderDecoderConfig,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kinds.members() == (EncoderDecoderConfig,)  # told once
        assert Kinds("other", [], "some.group").members() == (SameKind,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    model: ModelConfig


def test_a_model_registered_late_is_read_from_json() -> None:
    text = '{"model": {"kind": "registered_late", "size": 3}}'
    with pytest.raises(
        ConfigError, match=r'unknown kind "registered_late"; known: .*import the module that registers it'
    ):
        from_json(Holder, text)

    @register_model
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Late:
        kind: Literal["registered_late"] = "registered_late"
        size: int

        def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> nnx.Module:
            return nnx.Linear(self.size, sizes.need("vocab_size"), rngs=rngs)

    held = from_json(Holder, text)
    assert held == Holder(model=Late(size=3))
    assert from_json(Holder, to_json(held)) == held
    assert build_model(held.model, Sizes(vocab_size=5), seed=0).kernel.shape == (3, 5)
    with pytest.raises(ConfigError, match=r"config: unknown key 'model.sise'; did you mean 'size'"):
        from_json(Holder, '{"model": {"kind": "registered_late", "sise": 3}}')
    with pytest.raises(ConfigError, match=r"model.size: wanted an? .*got \"three\""):
        from_json(Holder, '{"model": {"kind": "registered_late", "size": "three"}}')


class Undecorated(SameKind):
    kind = "undecorated"


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (NoKind, "must have a text as its 'kind'"),
        (Undecorated, "cannot be registered: wanted a config dataclass"),
        (SameKind, "no method build"),
    ],
)
def test_a_class_that_is_no_model_config_is_not_registered(member: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        register_model(member)


def test_a_task_without_a_part_of_the_protocol_is_not_registered() -> None:
    @dataclasses.dataclass(frozen=True)
    class Half:
        kind: Literal["half"] = "half"

        def prepare(self, artifacts: Any = None) -> None: ...

    with pytest.raises(
        ConfigError, match=r"task class Half cannot be registered: .* wants .*evaluator, predictor"
    ):
        register_task(Half)
