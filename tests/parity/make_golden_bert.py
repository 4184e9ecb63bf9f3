"""What Hugging Face's BERT computes, with gradients: ``python tests/parity/make_golden_bert.py``.

Weights and inputs are float32 numbers; it computes in float64, so that the difference measured is ours alone. Needs
``transformers`` beside PyTorch.
"""

import numpy as np
import torch
import transformers
from golden_store import remove_family, save_case
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

FAMILY = "bert"
DOCUMENT = {
    "model_type": "bert",
    "vocab_size": 13,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 7,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
BATCH, LENGTH = 3, 6


def compute(case: str, seed: int = 5) -> dict[str, np.ndarray]:
    """Weights, inputs, logits, loss and gradients of a case: ``"masked"`` or ``"pretraining"``."""
    generator = np.random.default_rng(seed)
    kind = {"masked": BertForMaskedLM, "pretraining": BertForPreTraining}[case]
    model = kind(BertConfig(**DOCUMENT)).double().eval()
    names = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            near_one = 1.0 if "LayerNorm.weight" in name else 0.0
            array = (near_one + 0.3 * generator.normal(size=tuple(parameter.shape))).astype(np.float32)
            parameter.copy_(torch.tensor(array))
            names[name] = parameter
    tokens = torch.tensor(generator.integers(0, 13, (BATCH, LENGTH)))
    lengths = torch.tensor([LENGTH, 4, 1])
    attention_mask = (torch.arange(LENGTH)[None] < lengths[:, None]).long()
    labels = torch.tensor(generator.integers(0, 13, (BATCH, LENGTH)))
    labels = torch.where((torch.arange(LENGTH) % 2 == 0)[None] & (attention_mask > 0), labels, -100)
    found = model(input_ids=tokens, attention_mask=attention_mask)
    logits = found.logits if case == "masked" else found.prediction_logits
    loss = functional.cross_entropy(
        logits.reshape(-1, 13), labels.reshape(-1), ignore_index=-100, reduction="sum"
    )
    arrays = {}
    if case == "pretraining":
        order = torch.tensor([0, 1, 1])
        of_order = functional.cross_entropy(found.seq_relationship_logits, order, reduction="sum")
        loss = loss + 2.0 * of_order
        arrays |= {"order": order.numpy().astype(np.int32), "order_logits": found.seq_relationship_logits}
    loss.backward()
    arrays |= {
        "tokens": tokens.numpy().astype(np.int32),
        "lengths": lengths.numpy().astype(np.int32),
        "labels": labels.numpy().astype(np.int32),
        "logits": logits,
        "loss": loss,
    }
    for name, parameter in names.items():
        arrays[f"weight/{name}"] = parameter
        if "token_type" in name:  # has the sum of the gradients of positions; here it is part of them
            continue
        assert parameter.grad is not None
        arrays[f"gradient/{name}"] = parameter.grad
    return {
        name: array.detach().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    remove_family(FAMILY)
    for case in ("masked", "pretraining"):
        save_case(FAMILY, case, compute(case), transformers.__version__, program="transformers")
