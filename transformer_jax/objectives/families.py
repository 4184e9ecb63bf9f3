"""Families of objectives, one for each kind of batch, to which packages and programs add their own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from transformer_jax.errors import check_choice
from transformer_jax.kinds import Kinds
from transformer_jax.objectives.classes import ClassCrossEntropy
from transformer_jax.objectives.ctc_texts import CtcLoss
from transformer_jax.objectives.feature_cross_entropy import FeatureCrossEntropy
from transformer_jax.objectives.forecast_loss import PinballLoss, SquaredError
from transformer_jax.objectives.joint_ctc import JointCtc
from transformer_jax.objectives.masked_tokens import MaskedTokens
from transformer_jax.objectives.negative_sampling import NegativeSampling
from transformer_jax.objectives.next_token import NextToken
from transformer_jax.objectives.pair_cross_entropy import PairCrossEntropy
from transformer_jax.objectives.tags import TagLikelihood
from transformer_jax.objectives.word_softmax import FullSoftmax, HierarchicalSoftmax
from transformer_jax.plugins import config_fault

__all__ = [
    "CaptionObjective",
    "ClassObjective",
    "MaskedObjective",
    "PairObjective",
    "SeriesObjective",
    "SpeechObjective",
    "TagObjective",
    "TextObjective",
    "WordObjective",
    "register_objective",
]

_Config = TypeVar("_Config", bound=type)

_NEEDED = {"words": ("num_noise", "noise_exponent", "has_paths"), "series": ("quantiles",)}
"""What a task reads of its objective beside the call."""


def _kinds(form: str, *own: type) -> Kinds[Any]:
    def fault(objective: Any) -> str | None:
        is_called = any("__call__" in vars(base) for base in objective.__mro__)
        missing = [] if is_called else ["__call__(model, batch, rng_key)"]
        missing += [name for name in _NEEDED.get(form, ()) if not hasattr(objective, name)]
        return config_fault(objective) or (f"it has no {', '.join(missing)}" if missing else None)

    return Kinds(f"objective of {form}", own, f"transformer_jax.objectives.{form}", fault=fault)


_FAMILIES: dict[str, Kinds[Any]] = {
    "pairs": _kinds("pairs", PairCrossEntropy),
    "text": _kinds("text", NextToken),
    "classes": _kinds("classes", ClassCrossEntropy),
    "tags": _kinds("tags", TagLikelihood),
    "masked": _kinds("masked", MaskedTokens),
    "words": _kinds("words", NegativeSampling, HierarchicalSoftmax, FullSoftmax),
    "captions": _kinds("captions", FeatureCrossEntropy),
    "speech": _kinds("speech", CtcLoss, JointCtc, FeatureCrossEntropy),
    "series": _kinds("series", SquaredError, PinballLoss),
}

if TYPE_CHECKING:
    PairObjective = PairCrossEntropy
    TextObjective = NextToken
    ClassObjective = ClassCrossEntropy
    TagObjective = TagLikelihood
    MaskedObjective = MaskedTokens
    WordObjective = NegativeSampling | HierarchicalSoftmax | FullSoftmax
    CaptionObjective = FeatureCrossEntropy
    SpeechObjective = CtcLoss | JointCtc | FeatureCrossEntropy
    SeriesObjective = SquaredError | PinballLoss
else:
    PairObjective = Annotated[Any, _FAMILIES["pairs"]]
    TextObjective = Annotated[Any, _FAMILIES["text"]]
    ClassObjective = Annotated[Any, _FAMILIES["classes"]]
    TagObjective = Annotated[Any, _FAMILIES["tags"]]
    MaskedObjective = Annotated[Any, _FAMILIES["masked"]]
    WordObjective = Annotated[Any, _FAMILIES["words"]]
    CaptionObjective = Annotated[Any, _FAMILIES["captions"]]
    SpeechObjective = Annotated[Any, _FAMILIES["speech"]]
    SeriesObjective = Annotated[Any, _FAMILIES["series"]]


def register_objective(form: str) -> Callable[[_Config], _Config]:
    """A decorator that makes an objective of the running program known by its ``kind``.

    Installed packages do the same by an entry point of the group ``transformer_jax.objectives.FORM``, which commands
    see too.

    Args:
      form: What it is the loss of: ``"pairs"``, ``"text"``, ``"classes"``, ``"tags"``, ``"masked"``, ``"words"``,
        ``"captions"``, ``"speech"`` or ``"series"``.

    Returns:
      The decorator of a frozen dataclass that is called as ``(model, batch, rng_key) -> (LossSum, metrics, model
      state)``; it returns the class itself. An objective of words also has ``num_noise``, ``noise_exponent`` and
      ``has_paths``, one of series ``quantiles``.

    Raises:
      ConfigError: If there is no such form; by the decorator, if the ``kind`` is no text or taken, or a part is
        missing.

    Example:
      >>> import dataclasses
      >>> from typing import Literal
      >>> from transformer_jax.tasks.translation import Translation
      >>> @register_objective("pairs")
      ... @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class HalfLoss(PairCrossEntropy):
      ...   kind: Literal["half_loss"] = "half_loss"
      ...   def __call__(self, model, batch, rng_key):
      ...     loss, metrics, state = super().__call__(model, batch, rng_key)
      ...     return dataclasses.replace(loss, sum=0.5 * loss.sum), metrics, state
      >>> Translation(objective=HalfLoss()).objective.kind
      'half_loss'
    """
    check_choice("form", form, tuple(_FAMILIES))
    register: Callable[[_Config], _Config] = _FAMILIES[form].register
    return register
