"""Our GPT-2's weights in `transformers`: the peer of our generation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from transformer_jax.allocator import num_cores
from transformer_jax.interop.gpt2 import gpt2_to_hugging_face
from transformer_jax.models.decoder_only import DecoderOnlyConfig


class HuggingFaceGPT2:
    """`transformers`' GPT-2 in float32, greedy, with its cache.

    Args:
      arrays: Our parameters by name.
      config: Our config: GPT-2's choices, any size.
      vocab_size: Number of tokens.
    """

    name = "transformers"

    def __init__(
        self, arrays: Mapping[str, np.ndarray], config: DecoderOnlyConfig, *, vocab_size: int
    ) -> None:
        import torch
        import transformers

        torch.set_num_threads(num_cores())
        transformers.logging.set_verbosity_error()
        self._torch = torch
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        theirs = transformers.GPT2Config(
            vocab_size=vocab_size, n_positions=config.context_len, n_embd=config.model_dim,
            n_layer=config.num_layers, n_head=config.num_heads, n_inner=config.feed_forward_dim,
            layer_norm_epsilon=config.norm_epsilon, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        self.model: Any = transformers.GPT2LMHeadModel(theirs).eval()
        state = {
            name: torch.from_numpy(np.array(array, np.float32))
            for name, array in gpt2_to_hugging_face(arrays).items()
        }
        self.model.load_state_dict(state)

    def __call__(self, prompts: np.ndarray, *, max_len: int) -> np.ndarray:
        """Exactly ``max_len`` tokens behind each prompt of ``[batch, len]``."""
        torch = self._torch
        tokens = torch.from_numpy(np.array(prompts, np.int64))
        with torch.inference_mode():
            found = self.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), do_sample=False, use_cache=True,
                max_new_tokens=max_len, min_new_tokens=max_len,
            )  # fmt: skip
        return found[:, prompts.shape[1] :].numpy()
