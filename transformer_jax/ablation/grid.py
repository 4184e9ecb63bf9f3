"""The members of a grid: the base, and the configs that the varied values make of it."""

import dataclasses
import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from transformer_jax.ablation.grid_values import Varied, overrides_of
from transformer_jax.errors import ConfigError, TransformerJaxError, shortened
from transformer_jax.runs.experiment import ExperimentConfig, with_overrides

MAX_MEMBERS = 500
MAX_SEEDS = 1000

BASE_FOLDER = "base"

_LONGEST_FOLDER = 80
"""Characters of a member's folder; what is longer ends in a digest."""

_LONGEST_VALUE = 40
"""Characters of a value in a member's name."""

_SEEDS = ("train.seed", "task.data.seed", "data.seed")

Setting = tuple[str, str]
"""A path and the text of its value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One config of a grid, trained once with each seed.

    Attributes:
      name: Of its values, for people: ``"normalization=rms, positions=alibi"``.
      folder: A file name made of it, ``"normalization-rms_positions-alibi"``.
      settings: Its varied values.
      config: With the base's seeds; None where the values do not go together.
      error: What is wrong with them, in one line.
      is_base: Whether the config is the base itself.
    """

    name: str
    folder: str
    settings: tuple[Setting, ...]
    config: ExperimentConfig | None
    error: str | None = None
    is_base: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Values to vary in a base config, and how many seeds each member is trained with.

    The members are the product of all values, or each value alone against the base. The base itself is always one of
    them. A path with one value is varied against the base's own.

    Args:
      base: The config that ideas are measured against.
      varied: Paths and values; later ones are set after earlier ones.
      num_seeds: Runs of each member; the seeds of parameters and batches count up from the base's.
      one_at_a_time: Each value alone, in the place of the product.

    Raises:
      ConfigError: If a path names no field, or no value goes with the base; if a seed is varied, if two members
        are the same, or if there are too many.

    Example:
      >>> from transformer_jax.ladder.rungs import rung_config
      >>> base = rung_config("quick", "transformer", seed=0)
      >>> grid = Grid(base=base, varied=(Varied(path="model.dropout_rate", values=("0", "0.3")),), num_seeds=3)
      >>> [member.name for member in grid.members()]
      ['base (dropout_rate=0)', 'dropout_rate=0.3']
    """

    base: ExperimentConfig
    varied: tuple[Varied, ...]
    num_seeds: int = 3
    one_at_a_time: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.num_seeds <= MAX_SEEDS:
            raise ConfigError(f"`seeds` must be at least 1 and at most {MAX_SEEDS:,}, got {self.num_seeds}")
        if not self.varied:
            raise ConfigError(
                "nothing is varied: give `vary`, a path and its values, such as model.normalization=layer,rms"
            )
        for one in self.varied:
            texts = [text for value in one.values for text in overrides_of(one.path, value)]
            if any(text.partition("=")[0].strip() in _SEEDS for text in texts):
                raise ConfigError(
                    f"`vary={one.path}`: seeds count up by themselves: give their number as `seeds`"
                )
            if self._are_the_base(one):
                raise ConfigError(
                    f"`vary={one.path}={','.join(one.values)}`: that is the base's own value: give another one"
                )
        self.members()

    def members(self) -> tuple[Member, ...]:
        """All members, the base first."""
        names = short_names([one.path for one in self.varied])
        found: list[Member] = []
        base_settings: tuple[Setting, ...] = ()
        folders = {BASE_FOLDER}
        for settings in self._settings():
            config, error = self._config(settings)
            if config == self.base:
                if base_settings and not self.one_at_a_time:
                    raise ConfigError(
                        f"{_named(base_settings, names)} and {_named(settings, names)} are the same config"
                    )
                base_settings = settings
                continue
            twin = next((one for one in found if config is not None and one.config == config), None)
            name = _named(settings, names)
            if twin is not None:
                raise ConfigError(f"{twin.name} and {name} are the same config: leave one of them out")
            folder = _folder(settings, names, folders)
            folders.add(folder.casefold())
            found.append(Member(name=name, folder=folder, settings=settings, config=config, error=error))
        for one in self.varied:
            self._require_some(one, found)
        shown = f" ({_named(base_settings, names)})" if base_settings and not self.one_at_a_time else ""
        base = Member(
            name=f"base{shown}", folder=BASE_FOLDER, settings=base_settings, config=self.base, is_base=True
        )
        return (base, *found)

    def seeded(self, config: ExperimentConfig, index: int) -> ExperimentConfig:
        """A member's config with the ``index``-th seed; the first is the config's own."""
        train, task = config.train, config.task
        data: Any = getattr(task, "data", None)
        if hasattr(data, "seed"):
            task = dataclasses.replace(task, data=dataclasses.replace(data, seed=_seed(data.seed, index)))
        train = dataclasses.replace(train, seed=_seed(train.seed, index))
        return dataclasses.replace(config, train=train, task=task)

    def _settings(self) -> Iterator[tuple[Setting, ...]]:
        if self.one_at_a_time:
            number = sum(len(one.values) for one in self.varied)
        else:
            number = math.prod(max(2, len(one.values)) for one in self.varied)
        if number > MAX_MEMBERS:
            raise ConfigError(
                f"{number:,} members; a grid may have at most {MAX_MEMBERS}: vary less, or `one_at_a_time=True`"
            )
        if self.one_at_a_time:
            return (((one.path, value),) for one in self.varied for value in one.values)
        axes = []
        for one in self.varied:
            alone: list[tuple[Setting, ...]] = [()] if len(one.values) == 1 else []
            axes.append(alone + [((one.path, value),) for value in one.values])
        return (tuple(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*axes))

    def _config(self, settings: Sequence[Setting]) -> tuple[ExperimentConfig | None, str | None]:
        if not settings:
            return self.base, None
        try:
            overrides = [text for path, value in settings for text in overrides_of(path, value)]
            config = with_overrides(self.base, overrides)
        except TransformerJaxError as error:
            return None, one_line(error)
        wanted, given = self.base.train, config.train
        if (wanted.metric, wanted.metric_mode) != (given.metric, given.metric_mode):
            return None, f"train.metric is {given.metric}, the base's is {wanted.metric}: no common scale"
        return config, None

    def _are_the_base(self, varied: Varied) -> bool:
        """Whether a path's values change nothing."""
        return all(self._config([(varied.path, value)])[0] == self.base for value in varied.values)

    def _require_some(self, varied: Varied, members: Sequence[Member]) -> None:
        """Raise the first member's error if no member can be, or this path names no field in any of them."""
        own = [one for one in members if any(path == varied.path for path, _ in one.settings)]
        errors = [one.error for one in own if one.config is None]
        if errors and len(errors) == len(own):
            is_unknown = all(
                "unknown key" in str(one) or "no fields of its own" in str(one) for one in errors
            )
            if is_unknown or all(one.config is None for one in members):
                raise ConfigError(str(errors[0]))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted paths that tell them apart.

    Example:
      >>> short_names(["model.encoder.kind", "model.decoder.kind", "train.clip_norm"])
      {'model.encoder.kind': 'encoder.kind', 'model.decoder.kind': 'decoder.kind', 'train.clip_norm': 'clip_norm'}
    """
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = (
            ".".join(parts[-length:]) for length in range(2 if parts[-1] == "kind" else 1, len(parts) + 1)
        )
        others = [f".{other}" for other in paths if other != path]
        found[path] = next(
            (end for end in ends if not any(other.endswith(f".{end}") for other in others)), path
        )
    return found


def one_line(error: BaseException) -> str:
    """An error as one line of at most 400 characters, without advice to the one run; varied paths are named as such.

    Example:
      >>> one_line(ConfigError("`overrides`: loss is nan", hint="go on with `resume=True`"))
      'loss is nan'
    """
    text = str(error)
    if isinstance(error, TransformerJaxError) and error.hint is not None:
        text = text.removesuffix(f": {error.hint}")
    text = " ".join(text.split()).removeprefix("`overrides`: ").replace("`overrides`", "`vary`")
    if not isinstance(error, TransformerJaxError):
        text = f"{type(error).__name__}: {text}"
    return shortened(text, 400)


def _named(settings: Sequence[Setting], names: dict[str, str]) -> str:
    return (
        ", ".join(f"{names[path]}={shortened(value, _LONGEST_VALUE)}" for path, value in settings) or "base"
    )


def _folder(settings: Sequence[Setting], names: dict[str, str], taken: set[str]) -> str:
    """Letters, digits and ``._+-`` only, of bounded length, and no other member's even where case does not count."""
    parts = (
        re.sub(r"[^A-Za-z0-9.+]+", "-", f"{names[path]}-{value}").strip("-.") for path, value in settings
    )
    folder = "_".join(parts)
    if len(folder) > _LONGEST_FOLDER or folder.casefold() in taken:
        whole = "\n".join(f"{path}={value}" for path, value in settings)
        digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
        folder = f"{folder[: _LONGEST_FOLDER - 9]}-{digest}"
    return folder


def _seed(first: int, index: int) -> int:
    return (first + index) % 2**32
