"""Parameters of other libraries and file formats, to and from."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.interop.bert import bert_config as bert_config
    from transformer_jax.interop.bert import bert_from_hugging_face as bert_from_hugging_face
    from transformer_jax.interop.bert import bert_to_hugging_face as bert_to_hugging_face
    from transformer_jax.interop.gpt2 import gpt2_config as gpt2_config
    from transformer_jax.interop.gpt2 import gpt2_from_hugging_face as gpt2_from_hugging_face
    from transformer_jax.interop.gpt2 import gpt2_to_hugging_face as gpt2_to_hugging_face
    from transformer_jax.interop.llama2c import Llama2c as Llama2c
    from transformer_jax.interop.llama2c import load_llama2c as load_llama2c
    from transformer_jax.interop.llama2c import read_llama2c as read_llama2c
    from transformer_jax.interop.llama2c import read_llama2c_pieces as read_llama2c_pieces
    from transformer_jax.interop.to_torch import cells_to_torch as cells_to_torch
    from transformer_jax.interop.to_torch import decoder_stack_to_torch as decoder_stack_to_torch
    from transformer_jax.interop.to_torch import encoder_stack_to_torch as encoder_stack_to_torch
    from transformer_jax.interop.torch_cells import cell_from_torch as cell_from_torch
    from transformer_jax.interop.torch_cells import cells_from_torch as cells_from_torch
    from transformer_jax.interop.torch_modules import cross_attention_from_torch as cross_attention_from_torch
    from transformer_jax.interop.torch_modules import decoder_layer_from_torch as decoder_layer_from_torch
    from transformer_jax.interop.torch_modules import decoder_stack_from_torch as decoder_stack_from_torch
    from transformer_jax.interop.torch_modules import encoder_layer_from_torch as encoder_layer_from_torch
    from transformer_jax.interop.torch_modules import encoder_stack_from_torch as encoder_stack_from_torch
    from transformer_jax.interop.torch_modules import self_attention_from_torch as self_attention_from_torch

_MODULES = {
    "Llama2c": "llama2c",
    "bert_config": "bert",
    "bert_from_hugging_face": "bert",
    "bert_to_hugging_face": "bert",
    "cell_from_torch": "torch_cells",
    "cells_from_torch": "torch_cells",
    "cells_to_torch": "to_torch",
    "cross_attention_from_torch": "torch_modules",
    "decoder_layer_from_torch": "torch_modules",
    "decoder_stack_from_torch": "torch_modules",
    "decoder_stack_to_torch": "to_torch",
    "encoder_layer_from_torch": "torch_modules",
    "encoder_stack_from_torch": "torch_modules",
    "encoder_stack_to_torch": "to_torch",
    "gpt2_config": "gpt2",
    "gpt2_from_hugging_face": "gpt2",
    "gpt2_to_hugging_face": "gpt2",
    "load_llama2c": "llama2c",
    "read_llama2c": "llama2c",
    "read_llama2c_pieces": "llama2c",
    "self_attention_from_torch": "torch_modules",
}
"""Where each public name is defined."""

__all__ = [
    "Llama2c",
    "bert_config",
    "bert_from_hugging_face",
    "bert_to_hugging_face",
    "cell_from_torch",
    "cells_from_torch",
    "cells_to_torch",
    "cross_attention_from_torch",
    "decoder_layer_from_torch",
    "decoder_stack_from_torch",
    "decoder_stack_to_torch",
    "encoder_layer_from_torch",
    "encoder_stack_from_torch",
    "encoder_stack_to_torch",
    "gpt2_config",
    "gpt2_from_hugging_face",
    "gpt2_to_hugging_face",
    "load_llama2c",
    "read_llama2c",
    "read_llama2c_pieces",
    "self_attention_from_torch",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
