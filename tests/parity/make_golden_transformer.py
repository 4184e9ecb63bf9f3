"""What PyTorch's attention, Transformer layers and nn.Transformer compute, with gradients: ``python
tests/parity/make_golden_transformer.py``.

Weights and inputs are float32 numbers; PyTorch computes in float64, so that the difference measured is ours
alone.
"""

import numpy as np
import torch
from golden_store import remove_family, save_case

FAMILY = "transformer"
BATCH, SOURCE_LEN, TARGET_LEN, MODEL, HEADS, FEED_FORWARD, LAYERS = 2, 5, 4, 8, 2, 12, 2
MEMORY_DIM = 6
SOURCE_LENGTHS = [5, 3]


def _padding() -> torch.Tensor:
    """True = padding, PyTorch's way round."""
    return torch.arange(SOURCE_LEN)[None, :] >= torch.tensor(SOURCE_LENGTHS)[:, None]


def _causal(length: int) -> torch.Tensor:
    """True = hidden, PyTorch's way round."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def _attention(variant: str, draw) -> tuple[torch.nn.Module, dict, callable]:
    kind, what = variant.split("_", 1)
    dims = {"kdim": MEMORY_DIM, "vdim": MEMORY_DIM} if what == "dims" else {}
    network = torch.nn.MultiheadAttention(MODEL, HEADS, batch_first=True, bias=what != "no_bias", **dims)
    query_len = TARGET_LEN if kind == "cross" else SOURCE_LEN
    inputs = {"query": draw(BATCH, query_len, MODEL)}
    if kind == "cross":
        inputs["memory"] = draw(BATCH, SOURCE_LEN, MEMORY_DIM if what == "dims" else MODEL)
    options = {}
    if what == "causal":
        options["attn_mask"] = _causal(SOURCE_LEN)
    if what in ("padding", "both"):
        options["key_padding_mask"] = _padding()
    if what == "both":
        options["attn_mask"] = _causal(SOURCE_LEN)
    if what == "bias":
        inputs["bias"] = draw(BATCH, HEADS, SOURCE_LEN, SOURCE_LEN)

    def run() -> dict[str, torch.Tensor]:
        memory = inputs.get("memory", inputs["query"])
        if what == "bias":
            options["attn_mask"] = inputs["bias"].reshape(BATCH * HEADS, SOURCE_LEN, SOURCE_LEN)
        outputs, weights = network(inputs["query"], memory, memory, average_attn_weights=False, **options)
        return {"outputs": outputs, "weights": weights}

    return network, inputs, run


def _encoder_layer(placement: str, activation: str) -> torch.nn.Module:
    return torch.nn.TransformerEncoderLayer(
        MODEL, HEADS, FEED_FORWARD, 0.0, activation, batch_first=True, norm_first=placement == "pre"
    )


def _decoder_layer(placement: str, activation: str) -> torch.nn.Module:
    return torch.nn.TransformerDecoderLayer(
        MODEL, HEADS, FEED_FORWARD, 0.0, activation, batch_first=True, norm_first=placement == "pre"
    )


def _network(case: str, draw) -> tuple[torch.nn.Module, dict, callable]:
    kind, placement, *rest = case.split("-")
    if kind == "attention":
        return _attention(placement, draw)
    activation = rest[0]
    inputs = {"source": draw(BATCH, SOURCE_LEN, MODEL)}
    if kind == "encoder_layer":
        network = _encoder_layer(placement, activation)
        return (
            network,
            inputs,
            lambda: {"outputs": network(inputs["source"], src_key_padding_mask=_padding())},
        )
    inputs["target"] = draw(BATCH, TARGET_LEN, MODEL)
    masks = {"tgt_mask": _causal(TARGET_LEN), "memory_key_padding_mask": _padding()}
    if kind == "decoder_layer":
        network = _decoder_layer(placement, activation)
        return network, inputs, lambda: {"outputs": network(inputs["target"], inputs["source"], **masks)}
    encoder = torch.nn.TransformerEncoder(
        _encoder_layer(placement, activation), LAYERS, torch.nn.LayerNorm(MODEL), enable_nested_tensor=False
    )
    decoder = torch.nn.TransformerDecoder(
        _decoder_layer(placement, activation), LAYERS, torch.nn.LayerNorm(MODEL)
    )
    network = torch.nn.Transformer(
        MODEL, HEADS, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    )
    return (
        network,
        inputs,
        lambda: {
            "outputs": network(inputs["source"], inputs["target"], src_key_padding_mask=_padding(), **masks)
        },
    )


def compute(case: str, seed: int) -> dict[str, np.ndarray]:
    """Weights, inputs, outputs and gradients of one case."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        numbers = generator.normal(size=shape).astype(np.float32).astype(np.float64)
        return torch.from_numpy(numbers).requires_grad_()

    network, inputs, run = _network(case, draw)
    network = network.double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_((0.5 * draw(*parameter.shape)).float() + ("norm" in name and "weight" in name))
    outputs = run()
    output_weights = draw(*outputs["outputs"].shape)
    (outputs["outputs"] * output_weights).sum().backward()
    arrays = {**outputs, "output_weights": output_weights}
    for name, array in inputs.items():
        arrays |= {f"input.{name}": array, f"gradient.input.{name}": array.grad}
    for name, parameter in network.named_parameters():
        arrays |= {f"weight.{name}": parameter, f"gradient.weight.{name}": parameter.grad}
    arrays["lengths"] = torch.tensor(SOURCE_LENGTHS, dtype=torch.int32)
    return {name: tensor.detach().numpy() for name, tensor in arrays.items()}


def list_cases() -> list[str]:
    """The names of all cases."""
    variants = ["self_full", "self_causal", "self_padding", "self_both", "self_bias", "self_no_bias"]
    variants += ["cross_full", "cross_padding", "cross_dims", "cross_no_bias"]
    cases = [f"attention-{variant}" for variant in variants]
    for kind in ("encoder_layer", "decoder_layer"):
        cases += [
            f"{kind}-{norm}-{activation}" for norm in ("post", "pre") for activation in ("relu", "gelu")
        ]
    return [*cases, "transformer-post-relu", "transformer-pre-gelu"]


def main() -> None:
    """Write all cases anew."""
    remove_family(FAMILY)
    for seed, case in enumerate(list_cases()):
        save_case(FAMILY, case, compute(case, seed), torch.__version__)


if __name__ == "__main__":
    main()
