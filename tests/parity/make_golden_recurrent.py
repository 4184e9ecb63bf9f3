"""What PyTorch's nn.RNN, nn.LSTM and nn.GRU compute, with gradients: ``python
tests/parity/make_golden_recurrent.py``.

Two layers, one or both directions, with full rows or packed ones. Weights and inputs are float32 numbers;
PyTorch computes in float64, so that the difference measured is ours alone.
"""

import itertools

import numpy as np
import torch
from golden_store import remove_family, save_case

FAMILY = "recurrent"
BATCH, TIME, FEATURES, HIDDEN, LAYERS = 3, 4, 3, 4, 2
LENGTHS = [2, 4, 1]


def _network(kind: str, bidirectional: bool) -> torch.nn.Module:
    options = {"num_layers": LAYERS, "batch_first": True, "bidirectional": bidirectional}
    if kind == "lstm":
        return torch.nn.LSTM(FEATURES, HIDDEN, **options)
    if kind == "gru":
        return torch.nn.GRU(FEATURES, HIDDEN, **options)
    return torch.nn.RNN(FEATURES, HIDDEN, nonlinearity=kind.removeprefix("rnn_"), **options)


def compute(case: str, seed: int) -> dict[str, np.ndarray]:
    """Weights, inputs, outputs and gradients of one case, named ``<kind>-<uni|bi>-<full|lengths>``."""
    kind, direction, rows = case.split("-")
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.normal(size=shape).astype(np.float32).astype(np.float64))

    network = _network(kind, direction == "bi").double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * draw(*parameter.shape))
    num_states = LAYERS * (2 if direction == "bi" else 1)
    inputs = draw(BATCH, TIME, FEATURES).requires_grad_()
    carry = tuple(draw(num_states, BATCH, HIDDEN).requires_grad_() for _ in range(2 if kind == "lstm" else 1))
    fed = inputs
    if rows == "lengths":
        fed = torch.nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False)
    outputs, final = network(fed, carry if kind == "lstm" else carry[0])
    if rows == "lengths":
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=TIME)
    final = final if kind == "lstm" else (final,)
    output_weights = draw(*outputs.shape)
    final_weights = tuple(draw(*part.shape) for part in final)
    loss = (outputs * output_weights).sum()
    loss = loss + sum((part * weight).sum() for part, weight in zip(final, final_weights, strict=True))
    loss.backward()

    arrays = {"inputs": inputs, "outputs": outputs, "output_weights": output_weights}
    arrays["gradient.inputs"] = inputs.grad
    if rows == "lengths":
        arrays["lengths"] = torch.tensor(LENGTHS, dtype=torch.int32)
    for index, name in enumerate("hc"[: len(carry)]):
        arrays[f"initial.{name}"] = carry[index]
        arrays[f"gradient.initial.{name}"] = carry[index].grad
        arrays[f"final.{name}"] = final[index]
        arrays[f"final_weights.{name}"] = final_weights[index]
    for name, parameter in network.named_parameters():
        arrays[f"weight.{name}"] = parameter
        arrays[f"gradient.{name}"] = parameter.grad
    return {name: tensor.detach().numpy() for name, tensor in arrays.items()}


def list_cases() -> list[str]:
    """The names of all cases."""
    kinds = ["rnn_tanh", "rnn_relu", "lstm", "gru"]
    return ["-".join(parts) for parts in itertools.product(kinds, ["uni", "bi"], ["full", "lengths"])]


def main() -> None:
    """Write all cases anew."""
    remove_family(FAMILY)
    for seed, case in enumerate(list_cases()):
        save_case(FAMILY, case, compute(case, seed), torch.__version__)


if __name__ == "__main__":
    main()
