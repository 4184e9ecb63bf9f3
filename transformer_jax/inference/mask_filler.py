"""Texts with hidden words in, the most probable words out, and vectors: a trained masked language model."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.config_json import finite_json
from transformer_jax.data.batches import BOS_ID, EOS_ID, UNK_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.masking import MaskedVocabulary
from transformer_jax.data.padding import pad_rows
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizers import SPACE_MARK
from transformer_jax.data.word_piece_tokenizer import CONTINUATION
from transformer_jax.errors import check_choice, require
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.masked_scores import MAX_TEXT_LEN, MaskedScorer
from transformer_jax.inference.row_program import RowProgram
from transformer_jax.inference.word_embedder import Embedded
from transformer_jax.objectives.masked_tokens import at_places

MASK_TEXT = "[MASK]"
"""What stands in a text for a hidden token."""

_SPLIT = re.compile(re.escape(MASK_TEXT))

TextPooling = Literal["mean", "first"]
"""A text's vector: the mean of its words' tokens, or the vector of the start token, which is [CLS] in BERT."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A token that may stand at a hidden place.

    Attributes:
      token: As the tokenizer has it; a piece that continues a word begins with ``##``.
      probability: Of it among all tokens.
    """

    token: str
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filled:
    """What a masked language model puts in the hidden places of a text.

    Attributes:
      text: The text.
      masks: For each hidden place the most probable tokens, the best first; each place by itself.
      best: The text with the most probable token in each place.
      num_unknown: Tokens of the text that training never saw.
    """

    text: str
    masks: tuple[tuple[Candidate, ...], ...]
    best: str
    num_unknown: int

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; what is not finite is None."""
        found: dict[str, Any] = finite_json(dataclasses.asdict(self))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedWords:
    """The vectors of a text's words, each as it stands there.

    Attributes:
      text: The text.
      words: Its words as the model reads them; those that were cut off are not among them.
      vectors: ``[words, width]``, float32: the mean over the tokens of each word.
    """

    text: str
    words: tuple[str, ...]
    vectors: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoScore:
    """How well a text's tokens are predicted, each from all others.

    Attributes:
      text: The text.
      log_prob: Sum of the log-probabilities in nats.
      num_tokens: Tokens that were predicted; unknown ones never are.
    """

    text: str
    log_prob: float
    num_tokens: int


@dataclasses.dataclass
class MaskFiller:
    """A trained masked language model.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      encoding: Turns text into ids.
      usual_len: Most tokens of a text in training.
      source_limit: Most tokens that the model can take; None for no end.
      report: Counts of what was done to texts so far.
    """

    verbs: ClassVar[tuple[str, ...]] = ("fill", "embed", "embed_words", "score")

    name: str
    model: Any
    encoding: TextEncoding
    usual_len: int
    source_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _programs: dict[str, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.report.unit = self.encoding.tokenizer.unit.removesuffix("s")
        self._vocabulary = MaskedVocabulary.of(self.encoding.tokenizer, whole_words=False)

    @property
    def state(self) -> nnx.State:
        """The model's state."""
        return nnx.split(self.model)[1]

    @property
    def scorer(self) -> MaskedScorer:
        """Losses of hidden tokens."""
        if "scorer" not in self._programs:
            self._programs["scorer"] = MaskedScorer(
                self.model, usual_len=self._usual, source_limit=self.source_limit
            )
        found: MaskedScorer = self._programs["scorer"]
        return found

    def fill(self, texts: Sequence[str], *, num_best: int = 5) -> list[Filled]:
        """The most probable tokens at each ``[MASK]`` of each text; a text's numbers do not depend on those beside it.

        Of a text longer than the model can take, a stretch around each ``[MASK]`` is read. A text without one comes
        back as it is.

        Args:
          texts: Texts of any number and length.
          num_best: Tokens a place.

        Raises:
          TypeError: If ``texts`` is one text, or holds something else than texts.
          ConfigError: If ``num_best`` is below 1.
        """
        _require_texts(texts)
        require(num_best >= 1, f"num_best must be at least 1, got {num_best}")
        rows: list[list[int]] = []
        places: list[int] = []
        for text in texts:
            ids = self._with_masks(text)
            for place in [place for place, token in enumerate(ids) if token == -1]:
                whole = [self._vocabulary.mask_id if token == -1 else token for token in ids]
                row, at = self._stretch(whole, place)
                rows.append(row)
                places.append(at)
            self._count(text.replace(MASK_TEXT, " "), ids)
        found = iter(self._best(rows, places, num_best))
        filled = []
        for text in texts:
            parts = _SPLIT.split(text)
            masks = tuple(next(found) for _ in parts[1:])
            filled.append(
                Filled(
                    text=text,
                    masks=masks,
                    best=_filled(parts, [candidates[0].token for candidates in masks]),
                    num_unknown=self._with_masks(text).count(UNK_ID),
                )
            )
        return filled

    def embed(self, texts: Sequence[str], *, pooling: TextPooling = "mean") -> list[Embedded]:
        """Vectors of texts, in their order, each by itself.

        The encoder's last vectors, so those of a model that was trained for nothing but hidden tokens. A text longer
        than the model can take is cut, and the report says so.

        Args:
          texts: Lines.
          pooling: See `TextPooling`; of a text without words zeros are the mean.

        Raises:
          TypeError: If ``texts`` is one text, or holds something else than texts.
          ConfigError: If the pooling is unknown.
        """
        _require_texts(texts)
        check_choice("pooling", pooling, get_args(TextPooling))
        found = []
        for text, ids, vectors in self._encoded(texts):
            of_words = self._word_tokens(text, len(ids))
            tokens = [token for group in of_words for token in group]
            vector = vectors[0] if pooling == "first" else _mean(vectors, tokens)
            known = sum(all(ids[token] != UNK_ID for token in group) for group in of_words if group)
            found.append(
                Embedded(text=text, vector=vector, num_words=len(self.encoding.words(text)), num_known=known)
            )
        return found

    def embed_words(self, texts: Sequence[str]) -> list[EmbeddedWords]:
        """Vectors of the words of texts, each word as it stands among the others.

        Args:
          texts: Lines.

        Raises:
          TypeError: If ``texts`` is one text, or holds something else than texts.
        """
        _require_texts(texts)
        found = []
        for text, ids, vectors in self._encoded(texts):
            words, groups = self.encoding.words(text), self._word_tokens(text, len(ids))
            kept = [place for place, group in enumerate(groups) if group]
            table = [_mean(vectors, groups[place]) for place in kept]
            found.append(
                EmbeddedWords(
                    text=text,
                    words=tuple(words[place] for place in kept),
                    vectors=np.stack(table) if table else np.zeros((0, vectors.shape[1]), np.float32),
                )
            )
        return found

    def score(self, texts: Sequence[str]) -> list[PseudoScore]:
        """Pseudo-log-likelihood of texts: the sum over the tokens, each hidden by itself.

        Args:
          texts: Lines; one longer than the model can take is cut, and the report says so.

        Raises:
          TypeError: If ``texts`` is one text, or holds something else than texts.

        Source: Salazar et al. 2020, https://arxiv.org/abs/1910.14659, equation 2.
        """
        _require_texts(texts)
        losses = self.pseudo_losses(
            [self._cut(text, ids) for text, ids in zip(texts, self.encoding.encode(texts))]
        )
        return [
            PseudoScore(text=text, log_prob=-float(one.astype(np.float64).sum()), num_tokens=len(one))
            for text, one in zip(texts, losses, strict=True)
        ]

    def pseudo_losses(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """Loss of each token of sequences of ids, start and end included, when it alone is hidden."""
        return self.scorer.pseudo_losses(
            self.state,
            sequences,
            mask_id=self._vocabulary.mask_id,
            first_ordinary=self._vocabulary.first_ordinary,
        )

    @property
    def _usual(self) -> int:
        return self.usual_len if self.source_limit is None else min(self.usual_len, self.source_limit)

    def _with_masks(self, text: str) -> list[int]:
        """Ids of a text with start and end; -1 where a token is hidden."""
        parts = self.encoding.tokenizer.encode_batch(
            [self.encoding.clean(part) for part in _SPLIT.split(text)]
        )
        ids = [BOS_ID, *parts[0]]
        for part in parts[1:]:
            ids += [-1, *part]
        return [*ids, EOS_ID]

    def _stretch(self, ids: list[int], place: int) -> tuple[list[int], int]:
        """As many of the ids as the model can take, around a place, with start and end; and where the place is then."""
        limit = self.source_limit
        if limit is None or len(ids) <= limit:
            return ids, place
        inner = ids[1:-1]
        start = min(max(0, place - 1 - (limit - 2) // 2), len(inner) - (limit - 2))
        return [BOS_ID, *inner[start : start + limit - 2], EOS_ID], place - start

    def _best(self, rows: list[list[int]], places: list[int], num_best: int) -> list[tuple[Candidate, ...]]:
        first = self._vocabulary.first_ordinary
        most = self._vocabulary.size - first
        # Few sizes, so few programs.
        size = min(most, 1 << (num_best - 1).bit_length())
        name = f"best {size}"
        if name not in self._programs:
            self._programs[name] = self._program(_best_tokens(size, first))

        def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
            chosen = [rows[index] for index in indices.tolist()]
            tokens, lengths = pad_rows(chosen, num_rows=num_rows, length=length)
            at = np.zeros((num_rows, 1), np.int32)
            at[: len(chosen), 0] = [places[index] for index in indices.tolist()]
            return tokens, lengths, at

        found = self._programs[name].run(self.state, [len(row) for row in rows], make)
        return [
            tuple(
                Candidate(token=token, probability=float(np.exp(log_prob)))
                for token, log_prob in zip(
                    self.encoding.tokenizer.pieces(tokens[:num_best]), log_probs[:num_best].tolist()
                )
            )
            for log_probs, tokens in found
        ]

    def _encoded(self, texts: Sequence[str]) -> list[tuple[str, list[int], npt.NDArray[np.float32]]]:
        if "vectors" not in self._programs:
            self._programs["vectors"] = self._program(_vectors)
        cut = []
        for text, ids in zip(texts, self.encoding.encode(texts)):
            cut.append(self._cut(text, ids))
            self._count(text, ids)
        found = self._programs["vectors"](self.state, cut)
        return [
            (text, ids, vectors[: len(ids)]) for text, ids, vectors in zip(texts, cut, found, strict=True)
        ]

    def _program(self, function: Any) -> RowProgram:
        lengths = PaddedLengths.in_steps(self._usual, limit=self.source_limit or MAX_TEXT_LEN)
        return RowProgram(self.model, function, lengths=lengths)

    def _word_tokens(self, text: str, num_tokens: int) -> list[list[int]]:
        """The tokens of each word of a text, of the first ``num_tokens``, start included."""
        groups: list[list[int]] = [[] for _ in self.encoding.words(text)]
        for token, word in enumerate(self.encoding.word_of_token(text)[: num_tokens - 1]):
            if word is not None:
                groups[word].append(token)
        return groups

    def _cut(self, text: str, ids: list[int]) -> list[int]:
        if self.source_limit is None or len(ids) <= self.source_limit:
            return ids
        self.report.num_too_long += 1
        if self.report.num_too_long == 1:
            self.report.remark(
                f"a text of {len(ids)} tokens was cut to {self.source_limit}, the model's positions: {text[:40]!r}"
            )
        return self.encoding.cut(ids, self.source_limit)

    def _count(self, text: str, ids: Sequence[int]) -> None:
        if UNK_ID in ids:
            self.report.unknown.update(self.encoding.tokenizer.unknown_pieces(self.encoding.clean(text)))


def _best_tokens(size: int, first: int) -> Any:
    def compute(model: Any, tokens: Any, lengths: Any, places: Any) -> tuple[Any, Any]:
        vectors = at_places(model.encoder(tokens, lengths=lengths), places)[:, 0]
        log_probs = jax.nn.log_softmax(model.logits(vectors).astype(jnp.float32), axis=-1)
        best, ids = jax.lax.top_k(log_probs[:, first:], size)
        return best, ids + first

    return compute


def _vectors(model: Any, tokens: Any, lengths: Any) -> Any:
    return model.encoder(tokens, lengths=lengths).astype(jnp.float32)


def _mean(vectors: npt.NDArray[np.float32], tokens: Sequence[int]) -> npt.NDArray[np.float32]:
    if not tokens:
        return np.zeros(vectors.shape[1], np.float32)
    return vectors[list(tokens)].mean(axis=0, dtype=np.float32)


def _filled(parts: Sequence[str], tokens: Sequence[str]) -> str:
    """A text with tokens between its parts; a piece that continues a word is joined to what stands before it.

    Example:
      >>> _filled(["The ", " sat, walk ", " away"], ["cat", "##ing"])
      'The cat sat, walking away'
    """
    text = parts[0]
    for token, part in zip(tokens, parts[1:], strict=True):
        if token.startswith(CONTINUATION):
            text = text.rstrip() + token.removeprefix(CONTINUATION)
        else:
            text += token.removeprefix(SPACE_MARK)
        text += part
    return text


def _require_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, got one text: write [{texts[:20]!r}]")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{place}] must be a text, got {type(text).__name__}")
