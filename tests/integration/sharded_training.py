"""Trains tiny models over several meshes of eight virtual devices, and on one; writes what came of each.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python sharded_training.py OUTPUT.npz MODEL/MESH ...
"""

import dataclasses
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.data.batches import PAD_ID
from transformer_jax.functional import projected_logsumexp
from transformer_jax.functional.attention import choice
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import Bahdanau, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.experts import Experts
from transformer_jax.nn.parameters import CarriedState
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask
from transformer_jax.training.config import AdamW, Cosine, MeshShape, TrainConfig
from transformer_jax.training.loop import Trainer
from transformer_jax.training.state import split_model
from transformer_jax.training.trackers import read_rows

VOCAB = 48
MODELS: dict[str, Any] = {
    "transformer": EncoderDecoderConfig(
        model_dim=32, num_heads=4, num_kv_heads=4, feed_forward_dim=64, num_encoder_layers=1, num_decoder_layers=1,
        dropout_rate=0.1, share_embeddings="target",
    ),
    "recurrent": RecurrentSeq2SeqConfig(
        embedding_dim=24, hidden_dim=32, cell="lstm", num_encoder_layers=1, num_decoder_layers=1, bidirectional=True,
        attention=Bahdanau(attention_dim=16), dropout_rate=0.1, residual=False,
    ),
    # Drops between the layers of its decoder, in a loop.
    "two layers": RecurrentSeq2SeqConfig(
        embedding_dim=24, hidden_dim=32, cell="gru", num_encoder_layers=2, num_decoder_layers=2, bidirectional=False,
        attention=Luong(score="general", input_feeding=True), dropout_rate=0.1, residual=False,
    ),
}  # fmt: skip
EXPERTS = "experts"
MODELS[EXPERTS] = dataclasses.replace(
    MODELS["transformer"], feed_forward=Experts(num_experts=4, capacity_factor=1.0)
)
BATCH_NORM = "batch norm"
MODELS[BATCH_NORM] = dataclasses.replace(
    MODELS["transformer"], normalization="batch", norm_placement="sandwich"
)


class Reader(nnx.Module):
    """A gated recurrence whose matrices have names of their own, and which does not say that a loop reads them."""

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.entry_weight = nnx.Param(0.4 * jax.random.normal(rngs.params(), (width, 2 * width)))
        self.memory_weight = nnx.Param(0.2 * jax.random.normal(rngs.params(), (width, 2 * width)))

    def __call__(self, start: Any, inputs: Any) -> Any:
        """States after each step ``[batch, time, width]``."""
        memory = 0.5 * self.memory_weight[...]

        def body(state: Any, entry: Any) -> tuple[Any, Any]:
            new, kept = jnp.split(entry + state @ memory, 2, axis=-1)
            kept = jax.nn.sigmoid(kept)
            state = kept * state + (1.0 - kept) * jnp.tanh(new)
            return state, state

        entries = (inputs @ self.entry_weight[...]).swapaxes(0, 1)
        return jax.lax.scan(body, start, entries)[1].swapaxes(0, 1)


class Undeclared(nnx.Module):
    """An encoder and a decoder of such recurrences, the encoder's state carried on from batch to batch."""

    def __init__(self, width: int = 32) -> None:
        rngs = nnx.Rngs(0)
        self.embedding = nnx.Embed(VOCAB, width, rngs=rngs)
        self.carried = CarriedState(jnp.zeros((TASK.batch_size, width)))
        self.inward, self.outward = Reader(width, rngs=rngs), Reader(width, rngs=rngs)

    def __call__(self, source_tokens: Any, source_lengths: Any, inputs: Any, *, rng_key: Any = None) -> Any:
        """Logits ``[batch, target_len, vocab]``."""
        read = self.inward(self.carried[...], self.embedding(source_tokens))
        self.carried[...] = jax.lax.stop_gradient(read[:, -1])
        return self.outward(read[:, -1], self.embedding(inputs)) @ self.embedding.embedding[...].T


UNDECLARED = "undeclared"
IN_BLOCKS = "transformer, in blocks"
MODELS[IN_BLOCKS] = MODELS["transformer"]
NAMES = (UNDECLARED, *MODELS)  # the one in blocks stays the last
MESHES: dict[str, MeshShape | None] = {
    "one": None,
    "data": MeshShape(data=8),
    "fsdp": MeshShape(fsdp=8),
    "tensor": MeshShape(tensor=8),
    "data-fsdp-tensor": MeshShape(data=2, fsdp=2, tensor=2),
    "data-sequence": MeshShape(data=4, sequence=2),
}
MESHES_OF = {
    UNDECLARED: ("one", "tensor", "data-fsdp-tensor"),
    "two layers": ("one", "data-fsdp-tensor"),
    IN_BLOCKS: ("one", "data", "data-fsdp-tensor"),
    BATCH_NORM: ("one", "data", "data-fsdp-tensor", "data-sequence"),
    EXPERTS: ("one", "data", "data-fsdp-tensor", "data-sequence"),
}
UPDATES = 4
TASK = SequenceTask(task="reverse", vocab_size=VOCAB, min_len=3, max_lens=(11,), batch_size=16, dummy_rows=3)


class Batches:
    """The task's batches, their sources a place longer, so that all lengths are even."""

    def abstract_batches(self) -> list[Any]:
        return [_longer(batch) for batch in TASK.abstract_batches()]

    def count_tokens(self, batch: Any) -> int:
        return TASK.count_tokens(batch)

    def iterate(self, start_step: int) -> Iterator[Any]:
        for batch in TASK.iterate(start_step):
            yield _longer(batch)


def _longer(batch: Any) -> Any:
    return batch._replace(source_tokens=np.pad(batch.source_tokens, ((0, 0), (0, 1)), constant_values=PAD_ID))


def build(model_name: str) -> Any:
    """The model with its first parameters."""
    if model_name == UNDECLARED:
        return Undeclared()
    return build_model(MODELS[model_name], Sizes.of_pairs(VOCAB), seed=0)


def train(model_name: str, sharding: MeshShape | None, folder: Path) -> dict[str, np.ndarray]:
    """Parameters, losses and bytes a device after some updates."""
    model = build(model_name)
    config = TrainConfig(
        updates=UPDATES, optimizer=AdamW(), schedule=Cosine(peak_learning_rate=0.001, warmup_updates=1),
        log_every=1, checkpoint_every=UPDATES, average_decay=0.5,
        sharding=sharding,
    )  # fmt: skip
    objective = PairCrossEntropy(label_smoothing=0.1, r_drop_weight=0.5 if model_name == IN_BLOCKS else 0.0)
    trainer = Trainer(model, objective, config, run_dir=folder, batches=Batches(), quiet=True)
    trainer.fit()
    _, params, others = split_model(model)
    found = {f"parameters/{name}": np.asarray(leaf) for name, leaf in params.items()}
    if model_name in (BATCH_NORM, EXPERTS):  # of the whole batch, wherever its rows lie
        found |= {f"statistics/{name}": np.asarray(leaf) for name, leaf in others.items()}
    found["losses"] = np.array([row["loss"] for row in read_rows(folder)])
    return found


def cases() -> list[str]:
    """``MODEL/MESH`` for all models over their meshes; a recurrence takes one position after another."""
    all_but_sequence = tuple(name for name in MESHES if name != "data-sequence")
    of = {"transformer": tuple(MESHES), "recurrent": all_but_sequence, **MESHES_OF}
    return [f"{model}/{mesh}" for model in NAMES for mesh in of[model]]


def main(path: str, wanted: Collection[str]) -> None:
    """Train the wanted of :func:`cases`."""
    jax.config.update("jax_default_matmul_precision", "highest")
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in NAMES:
            if model == IN_BLOCKS:  # the last one
                projected_logsumexp.BLOCK_ELEMENTS, choice.BLOCKWISE_FROM_PAIRS = 2**10, 1
            for name in (
                case.split("/")[1] for case in cases() if case in wanted and case.split("/")[0] == model
            ):
                for key, array in train(model, MESHES[name], Path(folder) / f"{model}-{name}").items():
                    found[f"{model}/{name}/{key}"] = array
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
