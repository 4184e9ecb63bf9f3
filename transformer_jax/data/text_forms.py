"""The form that lines of a data set have before a tokenizer sees them."""

from transformer_jax.data.cut_text import CutSides
from transformer_jax.data.moses import MosesSides
from transformer_jax.data.pairs_config import PairsConfig


def text_form(config: PairsConfig) -> MosesSides | CutSides | None:
    """The form of a config's lines; None if they stay unchanged.

    Example:
      >>> text_form(PairsConfig()) is None
      True
    """
    return MosesSides.of(config) or CutSides.of(config)
