"""Attention is read wherever the search could write, and a model without attention is told so at once."""

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import BOS_ID
from transformer_jax.data.line_pairs import EvaluationItem
from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.data.tokenizers import train_character_tokenizer, train_word_tokenizer
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.inference.attention_maps import AttentionReader, padded_lengths
from transformer_jax.inference.batch_search import Hypothesis
from transformer_jax.ladder import comparison as comparing
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.position_encodings import Learned
from transformer_jax.tasks.pronunciation import Pronunciation

SOURCE_TOKENIZER = train_character_tokenizer(["abcdef"])
TARGET_TOKENIZER = train_word_tokenizer(["A B C D E F"])
MODEL = EncoderDecoderConfig(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    positions=Learned(max_len=6),
)


@pytest.fixture(scope="module")
def model() -> Any:
    """A Transformer with six learned positions, untrained."""
    sizes = Sizes.of_pairs(SOURCE_TOKENIZER.vocab_size, TARGET_TOKENIZER.vocab_size)
    return build_model(MODEL, sizes, seed=0)


CUT_OFF = Hypothesis((4, 5, 6, 7, 8, 9), -1.0, False)
ENDED = Hypothesis((9, 8, 7, 6, 5), -1.0, True)


@pytest.mark.parametrize("source_len", [6, 8])
def test_outputs_as_long_as_the_positions_are_read(model: Any, source_len: int) -> None:
    state = nnx.split(model)[1]
    sources = [[4, 5, 6, 7, 8, 9], [5, 4]]
    reader = AttentionReader(model, batch_size=3, source_len=source_len, target_len=6)
    found = reader(state, sources, [CUT_OFF, ENDED], SOURCE_TOKENIZER, TARGET_TOKENIZER)
    assert [one.target for one in found] == [list("ABCDEF"), [*"FEDCB", "<end>"]]
    inputs = jnp.array([[BOS_ID, 4, 5, 6, 7, 8], [BOS_ID, 9, 8, 7, 6, 5]])
    tokens = jnp.array([[4, 5, 6, 7, 8, 9], [5, 4, 0, 0, 0, 0]])
    wanted = model.attention_maps(tokens, jnp.array([6, 2]), inputs)["decoder_layer_0"]
    for one, weights, source in zip(found, wanted, sources):
        assert one.maps["decoder_layer_0"].shape == (2, 6, len(source))
        np.testing.assert_allclose(one.maps["decoder_layer_0"], weights[:, :, : len(source)], atol=1e-6)


def test_a_comparison_reads_as_far_as_its_search(model: Any) -> None:
    task = Pronunciation(data=PairsConfig(max_source_len=6), search=GreedyConfig(max_len=6))
    data = types.SimpleNamespace(
        test_items=[EvaluationItem("abcdef", ("A B",))],
        source_tokenizer=SOURCE_TOKENIZER,
        target_tokenizer=TARGET_TOKENIZER,
    )
    result: Any = types.SimpleNamespace(model=model, config=types.SimpleNamespace(task=task), prepared=data)
    (found,) = comparing._alignments(result, nnx.split(model)[1], [[4, 5, 6, 7, 8, 9]], [CUT_OFF])
    assert found["target"] == list("ABCDEF")
    assert np.shape(found["weights"]) == (6, 6)


def test_padded_lengths_are_few_and_reach_the_longest() -> None:
    for longest in range(1, 50):
        lengths = padded_lengths(longest)
        assert lengths == sorted(set(lengths))
        assert lengths[0] >= 1
        assert lengths[-1] == longest
        assert len(lengths) <= 4


def test_commands_read_as_far_as_the_search(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    run_dir = tmp_path / "run"
    positions = {"kind": "learned", "max_len": 7}
    ran = run_command(
        "train", tiny_experiment, "--run-dir", run_dir, "--set", f"model.positions={json.dumps(positions)}",
        "data.max_source_len=7", "data.max_target_len=7", "search.max_len=7", "train.updates=2",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    (tmp_path / "in.txt").write_text("attack\n")
    words = ("--input", tmp_path / "in.txt", "--attention", tmp_path / "maps.npz")
    ran = run_command("translate", run_dir, *words)
    assert ran.status == 0, ran.err
    ran = run_command("plot", run_dir, "--output", tmp_path / "figures", "--line", "attack")
    assert ran.status == 0, ran.err
    assert (tmp_path / "figures" / "attention_1_attack.png").is_file()


def test_a_model_without_attention_is_refused_before_the_first_line(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    run_dir = tmp_path / "run"
    model = {
        "kind": "recurrent_seq2seq",
        "embedding_dim": 4,
        "hidden_dim": 4,
        "cell": "gru",
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "bidirectional": False,
        "attention": {"kind": "last_state", "feed_each_step": False},
        "dropout_rate": 0.0,
        "residual": False,
    }
    ran = run_command(
        "train",
        tiny_experiment,
        "--run-dir",
        run_dir,
        "--set",
        f"model={json.dumps(model)}",
        "train.updates=2",
    )
    assert ran.status == 0, ran.err
    (tmp_path / "in.txt").write_text("cat\n")
    (tmp_path / "out.txt").write_text("mine\n")
    files = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt")
    message = fails("translate", run_dir, *files, "--attention", tmp_path / "maps.npz")
    assert message == "error: the model of 'tiny' has no attention to look at: leave --attention out"
    assert (tmp_path / "out.txt").read_text() == "mine\n"
    assert not (tmp_path / "maps.npz").exists()
    assert run_command("translate", run_dir, *files).status == 0
    message = fails("plot", run_dir, "--output", tmp_path / "figures", "--line", "cat")
    assert message == "error: the model of 'tiny' has no attention to look at: leave --line out"
