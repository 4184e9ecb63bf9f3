"""Searches for the text of speech frames: CTC's best path or prefix search, a decoder's, or both jointly."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.feature_batches import padded_frames
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig, SearchConfig
from transformer_jax.errors import ConfigError
from transformer_jax.functional.ctc import ctc_best_path
from transformer_jax.inference.batch_search import BatchSearcher, Hypothesis, batch_rows
from transformer_jax.inference.row_program import RowProgram
from transformer_jax.inference.source_rows import FeatureRows
from transformer_jax.models.ctc_decoder import CtcDecoder
from transformer_jax.nn.parameters import parameter_count

__all__ = ["BestPaths", "SpeechHypothesis", "SpeechSearcher", "speech_lengths"]

MAX_LENGTH_FACTOR = 8
"""Recordings of up to so many times the frames of the longest in training are read, longer ones refused."""


@dataclasses.dataclass(frozen=True)
class SpeechHypothesis:
    """A hypothesis, and where its tokens begin.

    Attributes:
      hypothesis: Token ids and score.
      places: Index of the encoder's vector at which each token begins; empty unless it is CTC's best path.
    """

    hypothesis: Hypothesis
    places: tuple[int, ...] = ()


def speech_lengths(model: Any, max_frames: int) -> PaddedLengths:
    """The few lengths that recordings are padded to; the longest is the model's limit, or eight times training's.

    Args:
      model: A `FeatureToText`.
      max_frames: Most frames of a recording in training.

    Returns:
      Lengths in frames.
    """
    limit = model.config.source_limit
    longest = MAX_LENGTH_FACTOR * max_frames if limit is None else limit
    return PaddedLengths.in_steps(min(max_frames, longest), steps=6, limit=longest)


class BestPaths:
    """Texts of frames by the most probable path of a CTC head.

    Args:
      model: A `FeatureToText` with a CTC head; only its structure is kept.
      lengths: Lengths that recordings are padded to, in frames.
      feature_dim: Numbers of a frame.

    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891, section 3.2.
    """

    def __init__(self, model: Any, *, lengths: PaddedLengths, feature_dim: int) -> None:
        self._dim = feature_dim
        self._program = RowProgram(model, _best_path, lengths=lengths)

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self._program.compile_seconds

    def check(self, state: Any) -> None:
        """Raise what the longest recordings would raise, without compiling anything."""
        self._program.check(state, self._batches([]))

    def __call__(self, state: Any, sources: Sequence[npt.NDArray[Any]]) -> list[list[SpeechHypothesis]]:
        """The one hypothesis of each source, with the place of each token.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          sources: Frames of each recording, ``[frames, feature_dim]``.
        """
        found = self._program.run(state, [len(one) for one in sources], self._batches(sources))
        hypotheses = []
        for tokens, length, frames, log_prob in found:
            text = Hypothesis(tuple(tokens[:length].tolist()), float(log_prob), True)
            hypotheses.append([SpeechHypothesis(text, tuple(frames[:length].tolist()))])
        return hypotheses

    def _batches(self, sources: Sequence[npt.NDArray[Any]]) -> Callable[..., Any]:
        def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> Any:
            return padded_frames([sources[index] for index in indices.tolist()], num_rows, length, self._dim)

        return make


class SpeechSearcher:
    """Texts of frames by the search that fits a model: CTC's best path or prefix search, a decoder's, or both jointly.

    | model | greedy | beam |
    | --- | --- | --- |
    | CTC head | best path | prefix search |
    | decoder | decoder | decoder |
    | both | decoder | joint, see `CtcDecoder`; decoder alone where ``ctc_weight`` is 0 |

    Args:
      model: A `FeatureToText`; only its structure is kept.
      search: Greedy, beam, or sampling for a model with a decoder.
      feature_dim: Numbers of a frame.
      max_frames: Most frames of a recording in training.
      ctc_weight: Share of CTC in the beam search of a model that has a decoder and a CTC head; 0 for none.
      num_devices: Devices that search side by side.

    Attributes:
      lengths: Lengths that recordings are padded to, in frames.

    Raises:
      ConfigError: If the search would draw samples and the model has no decoder.

    Source: best path and prefix search: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891, section 3.2; both:
    Hori et al. 2017, https://doi.org/10.18653/v1/P17-1048.
    """

    def __init__(
        self,
        model: Any,
        search: SearchConfig,
        *,
        feature_dim: int,
        max_frames: int,
        ctc_weight: float = 0.0,
        num_devices: int = 1,
    ) -> None:
        self._paths: BestPaths | None = None
        self._searcher: BatchSearcher | None = None
        self.lengths = speech_lengths(model, max_frames)
        if model.config.decoder is None and isinstance(search, GreedyConfig):
            self._paths = BestPaths(model, lengths=self.lengths, feature_dim=feature_dim)
            return
        self._is_joint = isinstance(search, BeamConfig) and (
            model.config.decoder is None or (model.config.ctc and ctc_weight > 0)
        )
        if model.config.decoder is None and not self._is_joint:
            raise ConfigError("a model without a decoder draws no samples: choose greedy or beam search")
        searched = model
        if self._is_joint:
            weight = 1.0 if model.config.decoder is None else ctc_weight
            searched = CtcDecoder(
                model,
                ctc_weight=weight,
                blank_id=PAD_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                forbidden_ids=(UNK_ID,),
            )
        self._searcher = BatchSearcher(
            searched,
            search,
            batch_size=batch_rows(search, parameters=parameter_count(model)),
            lengths=self.lengths,
            longest_output=model.config.target_limit,
            num_devices=num_devices,
            form=FeatureRows(feature_dim),
        )

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        one = self._paths or self._searcher
        return 0.0 if one is None else one.compile_seconds

    def check(self, state: Any) -> None:
        """Raise what the search of the longest recordings would raise, without compiling it."""
        if self._paths is not None:
            self._paths.check(state)
        elif self._searcher is not None:
            self._searcher.check()

    def __call__(self, state: Any, sources: Sequence[npt.NDArray[Any]]) -> list[list[SpeechHypothesis]]:
        """Hypotheses of each source, best first.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          sources: Frames of each recording, ``[frames, feature_dim]``.
        """
        if self._paths is not None:
            return self._paths(state, sources)
        assert self._searcher is not None
        searched = _within(state, "model") if self._is_joint else state
        return [
            [SpeechHypothesis(one) for one in hypotheses] for hypotheses in self._searcher(searched, sources)
        ]


def _within(state: Any, name: str) -> nnx.State:
    """The state of a module whose attribute has a state."""
    flat = nnx.to_flat_state(state)
    found: nnx.State = nnx.from_flat_state([((name, *path), value) for path, value in flat])
    return found


def _best_path(model: Any, features: Any, lengths: Any) -> Any:
    memory, lengths = model.encode((features, lengths))
    logits = model.ctc_logits(memory)
    tokens = jnp.arange(logits.shape[-1])
    is_forbidden = (tokens == UNK_ID) | (tokens == BOS_ID) | (tokens == EOS_ID)
    path = ctc_best_path(jnp.where(is_forbidden, -jnp.inf, logits), lengths, blank_id=PAD_ID)
    return path.tokens, path.lengths, path.frames, path.log_probs
