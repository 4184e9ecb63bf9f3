"""The six rungs of the ladder: trained, scored and timed alike, and the report of their comparison."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.ladder.comparison import compare as compare
    from transformer_jax.ladder.comparison import score_rung as score_rung
    from transformer_jax.ladder.comparison_report import write_report as write_report
    from transformer_jax.ladder.rungs import Preset as Preset
    from transformer_jax.ladder.rungs import check_rungs as check_rungs
    from transformer_jax.ladder.rungs import rung_config as rung_config

_MODULES = {
    "Preset": "rungs",
    "check_rungs": "rungs",
    "compare": "comparison",
    "rung_config": "rungs",
    "score_rung": "comparison",
    "write_report": "comparison_report",
}
"""Where each public name is defined."""

__all__ = [
    "Preset",
    "check_rungs",
    "compare",
    "rung_config",
    "score_rung",
    "write_report",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
