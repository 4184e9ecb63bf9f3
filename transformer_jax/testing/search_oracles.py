"""Oracles for search over a ``TableModel``: every sequence there is, and beam search by Python lists."""

import itertools
from dataclasses import dataclass

from transformer_jax.testing.tiny_models import TableModel


@dataclass(frozen=True)
class Hypothesis:
    """One sequence, its end included, with its log-probability and score."""

    tokens: tuple[int, ...]
    log_prob: float
    score: float
    finished: bool

    @property
    def length(self) -> int:
        """Tokens before the end."""
        return len(self.tokens) - self.finished

    def padded(self, max_len: int, pad_id: int = 0) -> list[int]:
        """Tokens, filled up to ``max_len``."""
        return [*self.tokens, *[pad_id] * (max_len - len(self.tokens))]


@dataclass(frozen=True, kw_only=True)
class SearchOracle:
    """Search in float64 and plain Python.

    Attributes:
      model: The table.
      bos_id: Token that is fed first.
      eos_id: Token that ends a sequence.
      max_len: Most tokens to generate, the end included.
      alpha: Length penalty of Wu et al. 2016.
    """

    model: TableModel
    bos_id: int
    eos_id: int
    max_len: int
    alpha: float = 0.0

    def log_probs_after(self, source: int, tokens: tuple[int, ...]) -> list[float]:
        """Log-probabilities of the next token."""
        return self.model.prefix_log_probs(source, (self.bos_id, *tokens)).tolist()

    def hypothesis(self, tokens: tuple[int, ...], log_prob: float) -> Hypothesis:
        """The sequence with its score."""
        score = log_prob / ((5 + len(tokens)) / 6) ** self.alpha
        return Hypothesis(tokens, log_prob, score, tokens[-1] == self.eos_id)

    def enumerate(self, source: int) -> list[Hypothesis]:
        """All sequences that end within ``max_len`` tokens, and those cut off there; best first."""
        others = [token for token in range(self.model.vocab_size) if token != self.eos_id]
        sequences = list(itertools.product(others, repeat=self.max_len))
        for length in range(self.max_len):
            sequences += [(*body, self.eos_id) for body in itertools.product(others, repeat=length)]
        found = []
        for tokens in sequences:
            log_probs = [
                self.log_probs_after(source, tokens[:place])[token] for place, token in enumerate(tokens)
            ]
            found.append(self.hypothesis(tokens, sum(log_probs)))
        return sorted(found, key=lambda hypothesis: -hypothesis.score)

    def beam(self, source: int, num_beams: int, num_best: int) -> list[Hypothesis]:
        """Beam search that never stops early."""
        live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        ended: list[Hypothesis] = []
        for step in range(self.max_len):
            candidates = [
                ((*tokens, token), log_prob + added)
                for tokens, log_prob in live
                for token, added in enumerate(self.log_probs_after(source, tokens))
            ]
            candidates.sort(key=lambda candidate: -candidate[1])
            for tokens, log_prob in candidates[:num_beams]:
                if tokens[-1] == self.eos_id or step + 1 == self.max_len:
                    ended.append(self.hypothesis(tokens, log_prob))
            live = [candidate for candidate in candidates if candidate[0][-1] != self.eos_id][:num_beams]
        return sorted(ended, key=lambda hypothesis: -hypothesis.score)[:num_best]
