"""Folders of trained models that come with the library; `transformer_jax.runs.model_folder` finds them."""
