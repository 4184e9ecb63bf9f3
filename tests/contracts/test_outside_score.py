"""A score rule that the library does not know: one class and its config outside of the package run everywhere."""

import dataclasses
import functools
import sys
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import functional as F
from transformer_jax import plugins
from transformer_jax.config_json import from_json, to_json
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import cell_class, cell_kinds
from transformer_jax.functional.score_products import products
from transformer_jax.functional.scores import RuleConfig, register_score, score_class, score_kinds
from transformer_jax.models.recurrent_config import Bahdanau, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.score_attention import ScoreAttention
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.testing.attention_cases import AttentionCase
from transformer_jax.testing.attention_suite import check_case
from transformer_jax.typing import Array, Float


def _unit(x):
    return x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6).astype(x.dtype)


@pytree_dataclass
class Cosine:
    """Content-based addressing: Graves et al. 2014, https://arxiv.org/abs/1410.5401, equations 5 and 6."""

    sharpness: Float[Array, "one"]

    def check(self, query_dim, key_dim, num_heads, kv_len):
        if key_dim not in (None, query_dim):
            raise ShapeError(f"Cosine needs query and key of one width, got {query_dim} and {key_dim}")

    def for_heads(self, start, count):
        return self

    def prepare_query(self, query):
        return _unit(query)

    def prepare_key(self, key):
        return _unit(key)

    def score(self, prepared_query, prepared_key, query_positions=None, key_positions=None):
        return products(prepared_query, prepared_key) * self.sharpness[0].astype(jnp.float32)


@register_score
@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineScore(RuleConfig):
    """The cosine of query and key, times a number that is learned."""

    kind: Literal["cosine"] = "cosine"
    start: float = 2.0
    needs_equal_widths = True

    def initialize(self, next_key, query_dim, key_dim):
        return Cosine(jnp.full((1,), self.start))


def _oracle(rule, query, key, head, position):
    norms = np.sqrt((query @ query + 1e-6) * (key @ key + 1e-6))
    return rule.sharpness[0] * (query @ key) / norms


def _case(q_len, kv_heads, mask):
    draw = np.random.default_rng(q_len).normal

    def array(*shape):
        return jnp.asarray(draw(size=shape), jnp.float32)

    arrays = {
        "query": array(2, q_len, 2, 4), "key": array(2, 5, kv_heads, 4), "value": array(2, 5, kv_heads, 3),
        "score": Cosine(jnp.array([1.5])), "bias": None, "reweight": None,
    }  # fmt: skip
    return AttentionCase(f"cosine {q_len}", arrays, mask, draw(size=(2, q_len, 2, 3)), _oracle)


CASES = {
    "whole": _case(3, 2, F.AttentionMask()),
    "grouped": _case(5, 1, F.AttentionMask.causal() & F.AttentionMask.from_lengths(jnp.array([5, 2]), 5)),
}  # fmt: skip


@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize("case", CASES)
def test_contract_of_attention(case, implementation):
    check_case(functools.partial(F.attention, implementation=implementation), CASES[case])


def test_module_owns_its_parameter():
    attend = ScoreAttention(CosineScore(start=3.0), 4, 4, rngs=nnx.Rngs(0))
    assert {name: array.tolist() for name, array in named_parameters(attend).items()} == {"sharpness": [3.0]}
    query, memory = (jax.random.normal(jax.random.key(seed), (2, 5, 4)) for seed in range(2))
    output, weights = attend.with_weights(query, attend.prepare(memory))
    cosines = np.einsum(
        "bqd,bkd->bqk", *(x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, memory))
    )
    wanted = jax.nn.softmax(3.0 * cosines, axis=-1)
    chex.assert_trees_all_close(weights[:, 0], wanted, atol=1e-5)
    chex.assert_trees_all_close(output, wanted @ memory, atol=1e-5)
    with pytest.raises(ConfigError, match="score 'cosine' needs query and memory of one width; got 3 and 4"):
        ScoreAttention(CosineScore(), 3, 4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "attention",
    [
        Luong(score="cosine", input_feeding=True),
        pytest.param(Luong(score="scaled_dot", input_feeding=False), marks=pytest.mark.full),
        pytest.param(Bahdanau(attention_dim=4, score="cosine"), marks=pytest.mark.full),
        Bahdanau(attention_dim=4, score="concat"),
    ],
    ids=lambda attention: f"{attention.kind}-{attention.score}",
)
def test_decoders_take_it_by_name(attention):
    config = RecurrentSeq2SeqConfig(
        embedding_dim=4, hidden_dim=6, cell="gru", num_encoder_layers=1, num_decoder_layers=1,
        bidirectional=False, attention=attention, dropout_rate=0.0, residual=False,
    )  # fmt: skip
    assert from_json(RecurrentSeq2SeqConfig, to_json(config)) == config
    model = config.build(Sizes(source_vocab_size=7, target_vocab_size=8), rngs=nnx.Rngs(0))
    source, lengths, targets = jnp.ones((2, 5), int), jnp.array([5, 3]), jnp.ones((2, 3), int)

    def loss(model):
        return (model(source, lengths, targets) ** 2).sum()

    gradients = named_parameters(jax.jit(nnx.grad(loss))(model))
    rule = {name: array for name, array in gradients.items() if name.startswith("decoder.attend.")}
    assert set(rule) == {f"decoder.attend.{name}" for name in _fields(attention.score)}
    assert all(bool(jnp.any(array != 0)) for array in rule.values())
    logits, state = model(source, lengths, targets), model.start(TokenInputs(source, lengths), max_len=3)
    for time in range(3):
        stepped, state = model.step(state, targets[:, time])
        chex.assert_trees_all_close(stepped, logits[:, time], atol=1e-5)


def _fields(score):
    return {"cosine": ["sharpness"], "scaled_dot": [], "concat": ["weight", "vector"]}[score]


def test_combinations_that_cannot_be_are_refused_at_construction():
    with pytest.raises(
        ConfigError, match=r"score must be one of .*'cosine'.*; got 'cosin'; did you mean 'cosine'"
    ):
        Luong(score="cosin", input_feeding=True)
    with pytest.raises(
        ConfigError, match="score 'location' needs max_len, which attention 'bahdanau' has not"
    ):
        Bahdanau(attention_dim=4, score="location")
    with pytest.raises(ConfigError, match="score 'cosine' needs equal widths"):
        RecurrentSeq2SeqConfig(
            embedding_dim=4, hidden_dim=6, cell="gru", num_encoder_layers=1, num_decoder_layers=1,
            bidirectional=True, attention=Luong(score="cosine", input_feeding=True), dropout_rate=0.0, residual=False,
        )  # fmt: skip


PLUGIN = """
import dataclasses
from typing import Literal

from transformer_jax.functional.recurrent import GatedCell
from transformer_jax.functional.scores import RuleConfig
from transformer_jax.pytree import pytree_dataclass


@pytree_dataclass
class InstalledCell(GatedCell):
    kind = "installed_cell"
    num_gates = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstalledScore(RuleConfig):
    kind: Literal["installed_score"] = "installed_score"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with both, as an installer leaves it on the path."""
    (tmp_path / "tiny_jax_plugin.py").write_text(PLUGIN)
    information = tmp_path / "tiny_jax_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-jax-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[transformer_jax.cells]\none = tiny_jax_plugin:InstalledCell\n"
        "[transformer_jax.scores]\none = tiny_jax_plugin:InstalledScore\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.plugin_classes.cache_clear()
    yield
    plugins.plugin_classes.cache_clear()
    sys.modules.pop("tiny_jax_plugin", None)


def test_installed_packages_add_cells_and_scores_by_entry_points(installed):
    assert "installed_cell" in cell_kinds()
    assert cell_class("installed_cell").__name__ == "InstalledCell"
    assert score_class("installed_score").__name__ == "InstalledScore"
    assert score_kinds()[0] == "dot"
