"""Folders of trained models that come with the library; `transformer_jax.cli.model_folder` finds them."""
