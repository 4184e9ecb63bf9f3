"""Compiles the step of two small models over meshes of eight virtual devices; writes what it does beside its plan.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python planned_programs.py OUTPUT.json MODEL/MESH ...
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from transformer_jax.data.batches import empty_batch
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.planning import find_device
from transformer_jax.testing.sharded_step import FAST_COMPILE, compile_sharded_step
from transformer_jax.training.config import AdamW, Constant, MeshShape, TrainConfig

VOCAB, ROWS, SOURCE_LEN, TARGET_LEN = 64, 32, 8, 8
MODELS: dict[str, Any] = {
    "transformer": EncoderDecoderConfig(
        model_dim=64, num_heads=8, num_kv_heads=8, feed_forward_dim=256, num_encoder_layers=1, num_decoder_layers=1,
        dropout_rate=0.0, share_embeddings="target",
    ),
    "recurrent": RecurrentSeq2SeqConfig(
        embedding_dim=64, hidden_dim=64, cell="gru", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
        attention=LastState(feed_each_step=False),
        dropout_rate=0.0, residual=False,
    ),
}  # fmt: skip
# Deep enough for what is kept between the layers to be most of the memory; with what is computed again.
DEEP = EncoderDecoderConfig(
    model_dim=32, num_heads=4, num_kv_heads=4, feed_forward_dim=128, num_encoder_layers=4, num_decoder_layers=4,
    dropout_rate=0.1, share_embeddings="target",
)  # fmt: skip
REMAT = {"deep": "nothing", "deep, remat": "layers"}
MODELS |= dict.fromkeys(REMAT, DEEP)
MESHES = {
    "data": MeshShape(data=8),
    "fsdp": MeshShape(fsdp=8),
    "tensor": MeshShape(tensor=8),
    "data-fsdp-tensor": MeshShape(data=2, fsdp=2, tensor=2),
}


def compared(model: str, mesh: str) -> dict[str, Any]:
    """Of a device, the program's figures and the plan's."""
    step = compile_sharded_step(
        lambda: build_model(MODELS[model], Sizes.of_pairs(VOCAB), seed=0),
        PairCrossEntropy(label_smoothing=0.1),
        TrainConfig(
            updates=1, optimizer=AdamW(), schedule=Constant(peak_learning_rate=0.001), average_decay=0.9,
            sharding=MESHES[mesh], remat=REMAT.get(model, "nothing"),
        ),
        empty_batch(ROWS, *(32, 32) if model in REMAT else (SOURCE_LEN, TARGET_LEN)),
        device=find_device("cpu"),
        compiler_options=FAST_COMPILE,
    )  # fmt: skip
    sent: Counter[str] = Counter()
    planned: Counter[str] = Counter()
    for one in step.costs.collectives:
        sent[one.kind] += one.sent_bytes
    for traffic in step.plan.traffic:
        planned[traffic.kind] += traffic.sent_bytes
    return {
        "arguments": [step.argument_bytes, step.plan.argument_bytes],
        "work space": [step.temporary_bytes, step.plan.memory_bytes - step.plan.argument_bytes],
        "flops": [step.costs.dot_flops, step.plan.device_flops],
        "counted flops": step.executable.cost_analysis()["flops"],
        "sent": [sum(sent.values()), sum(planned.values())],
        "kinds": [sent, planned],
        "in loops": sum(one.in_loop for one in step.costs.collectives),
        "unknown": [step.costs.loops_of_unknown_length, list(step.plan.unknown)],
    }


def main() -> None:
    """The models over the meshes that were named."""
    found = {case: compared(*case.split("/")) for case in sys.argv[2:]}
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
