"""Config of a training run: optimiser, schedule, and how often to log, evaluate and save."""

import dataclasses
import math
from typing import Literal

from transformer_jax.bounds import Count, Rows, Seed, Width, check_bounds, require_field


def _is_rate(value: float) -> bool:
    return 0.0 <= value < 1.0


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015); the defaults are those of Vaswani et al. 2017, section 5.3.

    Args:
      beta1: Decay of the running mean of the gradient.
      beta2: Decay of the running mean of its square.
      epsilon: Added to the root of that mean.
    """

    kind: Literal["adam"] = "adam"
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-9

    def __post_init__(self) -> None:
        require_field(_is_rate(self.beta1), self, "beta1", "at least 0 and below 1")
        require_field(_is_rate(self.beta2), self, "beta2", "at least 0 and below 1")
        require_field(_is_positive(self.epsilon), self, "epsilon", "above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) on every parameter of two or more axes.

    Args:
      beta1: Decay of the running mean of the gradient.
      beta2: Decay of the running mean of its square.
      epsilon: Added to the root of that mean.
      weight_decay: Share of a weight taken away an update, times the learning rate. Biases and norm scales
        (one axis) are left alone.
    """

    kind: Literal["adamw"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        require_field(_is_rate(self.beta1), self, "beta1", "at least 0 and below 1")
        require_field(_is_rate(self.beta2), self, "beta2", "at least 0 and below 1")
        require_field(_is_positive(self.epsilon), self, "epsilon", "above 0")
        require_field(
            math.isfinite(self.weight_decay) and self.weight_decay >= 0, self, "weight_decay", "at least 0"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowAdagrad:
    r"""Adagrad (Duchi et al. 2011) with one running sum a row of a matrix, for tables of which a batch reads few rows.

    Each use of a row :math:`r` in a batch, with its gradient :math:`g` of width :math:`d`, counts by itself:

    .. math:: G_r \leftarrow G_r + \lVert g \rVert^2 / d, \quad p_r \leftarrow p_r - \eta \, g / \sqrt{G_r}

    An objective that says which rows it reads (`RowObjective`) has only those changed, by the gradient of its summed
    loss; an update then takes time for the batch and not for the tables. Another objective's parameters are changed as
    a whole, each row as one use of its mean loss.

    Args:
      initial: First value of every running sum.
    """

    kind: Literal["row_adagrad"] = "row_adagrad"
    initial: float = 0.01

    def __post_init__(self) -> None:
        require_field(_is_positive(self.initial), self, "initial", "above 0")


OptimizerConfig = Adam | AdamW | RowAdagrad


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noam:
    """Linear warm-up, then decay by the inverse square root of the update (Vaswani et al. 2017, equation 3).

    Args:
      model_dim: Width of the model; the rate falls with its root.
      warmup_updates: Updates until the peak, ``factor * (model_dim * warmup_updates) ** -0.5``.
      factor: Multiplies the whole curve; the paper's is 1.
    """

    kind: Literal["noam"] = "noam"
    model_dim: Width
    warmup_updates: Count
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(self.model_dim >= 1, self, "model_dim", "at least 1")
        require_field(self.warmup_updates >= 1, self, "warmup_updates", "at least 1")
        require_field(_is_positive(self.factor), self, "factor", "above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up, then half a cosine down to ``final_ratio`` of the peak at the last update.

    Args:
      peak_learning_rate: The highest rate.
      warmup_updates: Updates until the peak; 0 starts there. A tenth of a run that is not longer.
      final_ratio: The last rate over the peak.
    """

    kind: Literal["cosine"] = "cosine"
    peak_learning_rate: float
    warmup_updates: Count
    final_ratio: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(_is_positive(self.peak_learning_rate), self, "peak_learning_rate", "above 0")
        require_field(self.warmup_updates >= 0, self, "warmup_updates", "at least 0")
        require_field(0.0 <= self.final_ratio <= 1.0, self, "final_ratio", "between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearDecay:
    """Linear warm-up, then a straight line down to zero, reached just after the last update.

    Args:
      peak_learning_rate: The highest rate.
      warmup_updates: Updates until the peak; 0 starts there. A tenth of a run that is not longer.
    """

    kind: Literal["linear"] = "linear"
    peak_learning_rate: float
    warmup_updates: Count

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(_is_positive(self.peak_learning_rate), self, "peak_learning_rate", "above 0")
        require_field(self.warmup_updates >= 0, self, "warmup_updates", "at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """Linear warm-up, then one rate throughout.

    Args:
      peak_learning_rate: The rate.
      warmup_updates: Updates until it is reached; 0 starts there.
    """

    kind: Literal["constant"] = "constant"
    peak_learning_rate: float
    warmup_updates: Count = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(_is_positive(self.peak_learning_rate), self, "peak_learning_rate", "above 0")
        require_field(self.warmup_updates >= 0, self, "warmup_updates", "at least 0")


ScheduleConfig = Noam | Cosine | LinearDecay | Constant


def warmup_updates(schedule: ScheduleConfig, updates: int) -> int:
    """The warm-up that a run of so many updates has: a tenth of it, where its rate would never fall otherwise.

    So a run that is shortened runs, and its schedule keeps its shape.

    Example:
      >>> schedule = LinearDecay(peak_learning_rate=0.01, warmup_updates=100)
      >>> warmup_updates(schedule, 2000), warmup_updates(schedule, 40)
      (100, 4)
    """
    if isinstance(schedule, Cosine | LinearDecay) and schedule.warmup_updates >= updates:
        return updates // 10
    return schedule.warmup_updates


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Devices along each axis of the mesh that a run is spread over; their product is all devices.

    Args:
      data: Over which the rows of a batch are spread.
      fsdp: Over which rows are spread, and the matrices of parameters and optimiser too.
      tensor: Over which the columns of layers and the vocabulary are spread.
      sequence: Over which the positions of a batch are spread.
    """

    data: Rows = 1
    fsdp: Rows = 1
    tensor: Rows = 1
    sequence: Rows = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("data", "fsdp", "tensor", "sequence"):
            require_field(getattr(self, name) >= 1, self, name, "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. An update is one batch and one optimiser step.

    Args:
      updates: Length of the run.
      optimizer: Adam or AdamW.
      schedule: Learning rate over updates.
      clip_norm: Largest norm of the gradient of the mean loss; a longer one is scaled down. None: no limit.
      accumulation: Micro-batches that each batch is cut into; the gradient equals the whole batch's.
      seed: Of the dropout keys; the key of an update is ``fold_in(dropout_key(seed), update)``.
      log_every: Updates between log rows; only there does the host wait for the device.
      evaluate_every: Updates between evaluations on the development set.
      checkpoint_every: Updates between checkpoints.
      keep_last: How many of the last checkpoints are kept; several to take their mean.
      keep_best: How many of the best-scoring checkpoints are kept besides.
      keep_every: Checkpoints of updates that it divides are kept for good; a multiple of ``checkpoint_every``, or None.
      metric: Which of the evaluation's numbers is the score.
      metric_mode: Whether the best score is the lowest (``"min"``) or the highest (``"max"``).
      patience: Stop after so many evaluations without a better score; None trains to the end.
      average_decay: Decay of an exponential moving average of the parameters, which is then what is evaluated
        and what a checkpoint gives to search with; 0 keeps none. It starts lower, at update :math:`t` it is
        :math:`\\min(d, (1 + t) / (10 + t))`.
      sharding: The mesh of devices; None trains on one.
      on_divergence: Reaction to a non-finite loss or gradient: ``"stop"`` the run; ``"skip"`` the update,
        parameters and optimiser staying as they were; ``"rollback"`` to the last checkpoint and pass over the batches
        from there to that one (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5.1).
      max_divergences: So many updates skipped, or rollbacks, are allowed in a run; one more stops it.
      on_failed_save: What to do when a checkpoint cannot be written (a full disk): ``"stop"`` the run, or ``"go_on"``
        and try again at the next; the last one of a run must succeed.
      remat: What is computed again in the backward pass instead of being kept (Chen et al. 2016,
        https://arxiv.org/abs/1604.06174): ``"nothing"``; ``"elementwise"``: all but the products with weights, of
        use for Transformers; ``"layers"``: all but the layers' inputs. XLA undoes it on a CPU.
    """

    updates: Count
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    clip_norm: float | None = 1.0
    accumulation: Rows = 1
    seed: Seed = 0
    log_every: Count = 50
    evaluate_every: Count = 500
    checkpoint_every: Count = 500
    keep_last: Count = 1
    keep_best: Count = 1
    keep_every: Count | None = None
    metric: str = "loss"
    metric_mode: Literal["min", "max"] = "min"
    patience: Count | None = None
    average_decay: float = 0.0
    sharding: MeshShape | None = None
    on_divergence: Literal["stop", "skip", "rollback"] = "stop"
    max_divergences: Count = 10
    on_failed_save: Literal["stop", "go_on"] = "stop"
    remat: Literal["nothing", "elementwise", "layers"] = "nothing"

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in (
            "updates",
            "accumulation",
            "log_every",
            "evaluate_every",
            "checkpoint_every",
            "keep_last",
        ):
            require_field(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("keep_best", "max_divergences"):
            require_field(getattr(self, name) >= 0, self, name, "at least 0")
        require_field(0 <= self.seed < 2**32, self, "seed", "at least 0 and below 2**32")
        require_field(
            self.clip_norm is None or _is_positive(self.clip_norm), self, "clip_norm", "above 0, or None"
        )
        require_field(_is_rate(self.average_decay), self, "average_decay", "at least 0 and below 1")
        require_field(
            self.keep_every is None or (self.keep_every >= 1 and self.keep_every % self.checkpoint_every == 0),
            self, "keep_every", f"a multiple of checkpoint_every ({self.checkpoint_every}), or None",
        )  # fmt: skip
        require_field(self.patience is None or self.patience >= 1, self, "patience", "at least 1, or None")

    def notes(self) -> tuple[str, ...]:
        """Remarks on how the values go together, a line each."""
        wanted, cut = self.schedule.warmup_updates, warmup_updates(self.schedule, self.updates)
        if cut == wanted:
            return ()
        return (
            f"schedule.warmup_updates ({wanted:,}) is not below updates ({self.updates:,}): the warm-up is cut to "
            f"{cut:,} of {self.updates:,} updates, a tenth of the run",
        )
