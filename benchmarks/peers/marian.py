"""Our Transformer's weights in `transformers` and in CTranslate2: the peers of our decoding.

A post-norm model becomes a MarianMT, a pre-norm one a Pegasus, which is the same with the norms before the sublayers.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.allocator import num_cores
from transformer_jax.functional.positions import sinusoidal_table

MAX_POSITIONS = 512

Arrays = Mapping[str, np.ndarray]


def _thirds(arrays: Arrays, name: str, parts: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights ``[out, in]`` and biases of projections that ours makes in one product; zeros where ours has none."""
    kernel = arrays[f"{name}.kernel"]
    kernels = np.split(kernel, parts, axis=1)
    biases = np.split(arrays.get(f"{name}.bias", np.zeros(kernel.shape[1], np.float32)), parts)
    return [(kernel.T, bias) for kernel, bias in zip(kernels, biases, strict=True)]


class Marian:
    """`transformers`' MarianMT, or Pegasus.

    Args:
      arrays: Our parameters by name, of a model with one table for all embeddings; pre-norm if it has last norms.
      sizes: ``vocab_size``, ``model_dim``, ``num_heads``, ``feed_forward_dim``, ``num_layers`` (of each side).
      ids: ``pad``, ``bos``, ``eos``.
      device: PyTorch's.
      dtype: Of the weights, PyTorch's name.
    """

    name = "transformers"

    def __init__(
        self,
        arrays: Arrays,
        sizes: Mapping[str, int],
        ids: Mapping[str, int],
        *,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        import torch
        import transformers

        torch.set_num_threads(num_cores())
        transformers.logging.set_verbosity_error()
        self._torch, self._ids = torch, ids
        is_pre_norm = "encoder.final_norm.scale" in arrays
        kinds = (transformers.MarianConfig, transformers.MarianMTModel)
        if is_pre_norm:
            kinds = (transformers.PegasusConfig, transformers.PegasusForConditionalGeneration)
        config = kinds[0](
            vocab_size=sizes["vocab_size"], d_model=sizes["model_dim"],
            encoder_layers=sizes["num_layers"], decoder_layers=sizes["num_layers"],
            encoder_attention_heads=sizes["num_heads"], decoder_attention_heads=sizes["num_heads"],
            encoder_ffn_dim=sizes["feed_forward_dim"], decoder_ffn_dim=sizes["feed_forward_dim"],
            activation_function="relu", scale_embedding=True, max_position_embeddings=MAX_POSITIONS,
            pad_token_id=ids["pad"], eos_token_id=ids["eos"], decoder_start_token_id=ids["bos"],
            forced_eos_token_id=None, bos_token_id=ids["bos"],
        )  # fmt: skip
        self.model = kinds[1](config).eval()
        state = self.model.state_dict()
        filled = dict.fromkeys(state, False)

        def put(name: str, array: np.ndarray) -> None:
            if tuple(state[name].shape) != array.shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, ours is {array.shape}")
            state[name].copy_(torch.from_numpy(np.array(array, np.float32)))
            filled[name] = True

        table = arrays["target_embedding.embedding"]
        positions = np.asarray(sinusoidal_table(MAX_POSITIONS, sizes["model_dim"]))
        with torch.no_grad():
            for name in ("model.shared.weight", "model.encoder.embed_tokens.weight",
                         "model.decoder.embed_tokens.weight", "lm_head.weight"):  # fmt: skip
                put(name, table)
            put("final_logits_bias", np.zeros((1, sizes["vocab_size"]), np.float32))
            for side in ("encoder", "decoder"):
                put(f"model.{side}.embed_positions.weight", positions)
                if is_pre_norm:
                    put(f"model.{side}.layer_norm.weight", arrays[f"{side}.final_norm.scale"])
                    put(f"model.{side}.layer_norm.bias", arrays[f"{side}.final_norm.bias"])
                for index in range(sizes["num_layers"]):
                    ours, theirs = f"{side}.layers.{index}", f"model.{side}.layers.{index}"
                    blocks = [("self_attention", "self_attn", "self_attn_layer_norm")]
                    if side == "decoder":
                        blocks.append(("cross_attention", "encoder_attn", "encoder_attn_layer_norm"))
                    for block, module, norm in blocks:
                        if block == "self_attention":
                            projections = _thirds(arrays, f"{ours}.{block}.query_key_value", 3)
                        else:
                            projections = [
                                *_thirds(arrays, f"{ours}.{block}.query", 1),
                                *_thirds(arrays, f"{ours}.{block}.key_value", 2),
                            ]
                        projections += _thirds(arrays, f"{ours}.{block}.output", 1)
                        for letter, (weight, bias) in zip(("q", "k", "v", "out"), projections, strict=True):
                            put(f"{theirs}.{module}.{letter}_proj.weight", weight)
                            put(f"{theirs}.{module}.{letter}_proj.bias", bias)
                        put(f"{theirs}.{norm}.weight", arrays[f"{ours}.{block}_residual.norm.scale"])
                        put(f"{theirs}.{norm}.bias", arrays[f"{ours}.{block}_residual.norm.bias"])
                    for ours_name, their_name in (("inner", "fc1"), ("outer", "fc2")):
                        ((weight, bias),) = _thirds(arrays, f"{ours}.feed_forward.{ours_name}", 1)
                        put(f"{theirs}.{their_name}.weight", weight)
                        put(f"{theirs}.{their_name}.bias", bias)
                    put(
                        f"{theirs}.final_layer_norm.weight",
                        arrays[f"{ours}.feed_forward_residual.norm.scale"],
                    )
                    put(f"{theirs}.final_layer_norm.bias", arrays[f"{ours}.feed_forward_residual.norm.bias"])
        missing = [name for name, done in filled.items() if not done]
        if missing:
            raise ValueError(f"not filled: {missing}")
        self._device = device
        self.model = self.model.to(device, getattr(torch, dtype))

    def __call__(
        self, sources: Sequence[Sequence[int]], *, beams: int, max_len: int, exact: bool, alpha: float
    ) -> list[list[int]]:
        """Outputs of one batch, without start and end; ``exact``: of ``max_len`` tokens each."""
        torch, longest = self._torch, max(map(len, sources))
        tokens = np.full((len(sources), longest), self._ids["pad"], np.int64)
        mask = np.zeros_like(tokens)
        for row, source in enumerate(sources):
            tokens[row, : len(source)] = source
            mask[row, : len(source)] = 1
        bad = [[self._ids["pad"]], [self._ids["bos"]], [self._ids["unk"]]]
        if exact:
            bad.append([self._ids["eos"]])
        with torch.no_grad():
            found = self.model.generate(
                input_ids=torch.from_numpy(tokens).to(self._device),
                attention_mask=torch.from_numpy(mask).to(self._device), num_beams=beams,
                max_new_tokens=max_len, do_sample=False, length_penalty=alpha, early_stopping=False,
                bad_words_ids=bad, use_cache=True,
            )  # fmt: skip
        ended = {self._ids["eos"], self._ids["pad"]}
        rows = []
        for row in found[:, 1:].tolist():
            cut = next((place for place, token in enumerate(row) if token in ended), len(row))
            rows.append(row[:cut])
        return rows


class CTranslate:
    """CTranslate2, float32; arguments as `Marian`."""

    name = "ctranslate2"

    def __init__(self, arrays: Arrays, sizes: Mapping[str, int], ids: Mapping[str, int]) -> None:
        import ctranslate2
        from ctranslate2.specs import common_spec, transformer_spec

        spec = transformer_spec.TransformerSpec.from_config(
            (sizes["num_layers"], sizes["num_layers"]), sizes["num_heads"],
            pre_norm="encoder.final_norm.scale" in arrays,
            activation=common_spec.Activation.RELU,
        )  # fmt: skip
        table = np.array(arrays["target_embedding.embedding"], np.float32)
        positions = np.array(sinusoidal_table(MAX_POSITIONS, sizes["model_dim"]), np.float32)

        def linear(target: Any, weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
            target.weight = np.ascontiguousarray(
                np.concatenate([weight for weight, _ in weights]), np.float32
            )
            target.bias = np.ascontiguousarray(np.concatenate([bias for _, bias in weights]), np.float32)

        def norm(target: Any, name: str) -> None:
            target.gamma = np.array(arrays[f"{name}.scale"], np.float32)
            target.beta = np.array(arrays[f"{name}.bias"], np.float32)

        spec.encoder.embeddings[0].weight = table
        spec.decoder.embeddings.weight = table
        spec.decoder.projection.weight = table
        for side, stack in (("encoder", spec.encoder), ("decoder", spec.decoder)):
            stack.scale_embeddings = True
            stack.position_encodings.encodings = positions
            if "encoder.final_norm.scale" in arrays:
                norm(stack.layer_norm, f"{side}.final_norm")
            for index, layer in enumerate(stack.layer):
                ours = f"{side}.layers.{index}"
                linear(
                    layer.self_attention.linear[0],
                    _thirds(arrays, f"{ours}.self_attention.query_key_value", 1),
                )
                linear(layer.self_attention.linear[1], _thirds(arrays, f"{ours}.self_attention.output", 1))
                norm(layer.self_attention.layer_norm, f"{ours}.self_attention_residual.norm")
                if side == "decoder":
                    cross = layer.attention
                    linear(cross.linear[0], _thirds(arrays, f"{ours}.cross_attention.query", 1))
                    linear(cross.linear[1], _thirds(arrays, f"{ours}.cross_attention.key_value", 1))
                    linear(cross.linear[2], _thirds(arrays, f"{ours}.cross_attention.output", 1))
                    norm(cross.layer_norm, f"{ours}.cross_attention_residual.norm")
                linear(layer.ffn.linear_0, _thirds(arrays, f"{ours}.feed_forward.inner", 1))
                linear(layer.ffn.linear_1, _thirds(arrays, f"{ours}.feed_forward.outer", 1))
                norm(layer.ffn.layer_norm, f"{ours}.feed_forward_residual.norm")
        names = [f"t{index}" for index in range(sizes["vocab_size"])]
        names[ids["unk"]] = "<unk>"
        names[ids["bos"]], names[ids["eos"]] = "<s>", "</s>"
        spec.register_source_vocabulary(names)
        spec.register_target_vocabulary(names)
        spec.config.add_source_eos = False
        spec.config.decoder_start_token = "<s>"
        spec.validate()
        spec.optimize()
        self._names, self._places = names, {name: index for index, name in enumerate(names)}
        self._ids = ids
        with tempfile.TemporaryDirectory() as folder:
            spec.save(str(Path(folder)))
            self._translator = ctranslate2.Translator(
                folder, device="cpu", compute_type="float32", inter_threads=1,
                intra_threads=num_cores(),
            )  # fmt: skip

    def __call__(
        self, sources: Sequence[Sequence[int]], *, beams: int, max_len: int, exact: bool, alpha: float
    ) -> list[list[int]]:
        """As `Marian`."""
        suppressed = [[self._names[self._ids[name]]] for name in ("pad", "bos", "unk")]
        found = self._translator.translate_batch(
            [[self._names[token] for token in source] for source in sources],
            beam_size=beams, max_decoding_length=max_len, min_decoding_length=max_len if exact else 1,
            length_penalty=alpha, suppress_sequences=suppressed, max_batch_size=len(sources),
        )  # fmt: skip
        return [[self._places[name] for name in one.hypotheses[0]] for one in found]
