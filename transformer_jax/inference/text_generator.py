"""Prompts in, texts out: a trained language model with its tokenizer and its search."""

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.documents import Document, split_documents
from transformer_jax.data.prepare_text import encode_documents, predicted_characters
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig, SearchConfig
from transformer_jax.decode.search_options import SearchIds
from transformer_jax.errors import ConfigError, DataError, check_choice
from transformer_jax.inference.growing_text import GrowingText
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.requested_search import RequestedSearch, search_of
from transformer_jax.inference.several_draws import SAMPLE_NUMBERS, check_num_samples
from transformer_jax.inference.token_generator import Beyond, GeneratedTokens, TokenChunk, TokenGenerator
from transformer_jax.inference.token_scores import CarriedScorer, TokenScorer, TokenScores, with_carried_state
from transformer_jax.notes import note

BATCH_ROWS = 8
"""Outputs that are computed side by side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated:
    """Text that a language model generates after a prompt.

    Attributes:
      prompt: The prompt.
      text: What follows it.
      tokens: Its pieces: those that begin before a stop text where one ended it.
      log_prob: Sum of the model's log-probabilities of these tokens, and of the end where the model ended it, in nats;
        ``-inf`` where no token was possible.
      reason: Why it ended: ``"end"`` of the document, a ``"stop"`` text, the ``"length"`` asked for, or
        ``"impossible"`` where every token was ruled out.
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    log_prob: float
    reason: Literal["end", "stop", "length", "impossible"]

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, or by a stop text."""
        return self.reason in ("end", "stop")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextScore:
    """How probable a language model finds a text.

    Attributes:
      pieces: The text's tokens; an empty text where a document ends.
      scores: Log-probability of each token given those before it, and which tokens have one: all but the first, where
        nothing stands before it; the ends of documents have one, as in training.
      num_characters: Characters of the text that are predicted: all, but those of a first token without a score.
    """

    pieces: tuple[str, ...]
    scores: TokenScores
    num_characters: int

    @property
    def log_probs(self) -> npt.NDArray[np.float32]:
        """Log-probability of each token, in nats; NaN where a token has none, or where the model gives NaN."""
        return self.scores.log_probs

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted."""
        return self.scores.count

    @property
    def log_prob(self) -> float:
        """Sum over the tokens, in nats."""
        return self.scores.total

    @property
    def perplexity(self) -> float:
        """Of a token."""
        return self.scores.perplexity

    @property
    def bits_per_character(self) -> float:
        """Negative log-probability to base 2, over the characters that are predicted."""
        return -self.log_prob / (math.log(2.0) * self.num_characters) if self.num_characters else math.nan


@dataclasses.dataclass
class TextGenerator:
    """A trained language model that writes and scores text.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      tokenizer: Turns text into ids.
      search: Search that `generate` uses unless it is given another.
      window_len: Tokens of a training window.
      context_len: Most tokens that the model reads at once; None for no end.
      marks_documents: Whether the model knows where a document starts and ends.
      document_separator: Text between two documents of a text that is scored; None for none.
      carries_state: Whether the model is trained with its state carried from window to window.
      report: Counts of what was done to prompts and texts so far.
    """

    verbs: ClassVar[tuple[str, ...]] = ("generate", "stream", "score")

    name: str
    model: Any
    tokenizer: Tokenizer
    search: SampleConfig | GreedyConfig
    window_len: int
    context_len: int | None = None
    marks_documents: bool = False
    document_separator: str | None = None
    carries_state: bool = False
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _programs: dict[Any, TokenGenerator] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self.report.unit = self.tokenizer.unit.removesuffix("s")

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    def generate(
        self,
        prompts: str | Sequence[str] = "",
        *,
        max_tokens: int | None = None,
        search: RequestedSearch | None = None,
        num_samples: int = 1,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        beyond: Beyond = "window",
        invariant: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Generated]:
        """Write on behind prompts; an output's tokens do not depend on the prompts beside it.

        One prompt alone is computed as a batch of one row, several in batches of eight. A processor may round the two
        differently in the last bits of a log-probability; ``invariant`` gives one prompt the very bits that it has
        among others.

        Args:
          prompts: A text, or several.
          max_tokens: Most tokens of an output; None for the run's own.
          search: How to choose tokens, such as ``Sampling(temperature=0.8)``; None for the run's own search.
          num_samples: Outputs of each prompt; those of one prompt stand together.
          stop: Texts that end an output, which is cut before them.
          seed: Of the draws.
          beyond: What becomes of a prompt and an output that together pass the context: ``"window"`` reads the last
            half of it anew and continues, ``"refuse"`` raises.
          invariant: Whether one prompt is computed as among others, in as many rows.
          on_progress: Called with the number of tokens written so far, over all outputs.

        Raises:
          ConfigError: If the search is impossible.
          TypeError: If a prompt is no text.
          ShapeError: If the context is passed and ``beyond`` is ``"refuse"``.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        _check_texts("prompts", texts)
        check_num_samples(num_samples)
        if len(texts) > SAMPLE_NUMBERS:
            raise ConfigError(f"at most {SAMPLE_NUMBERS:,} prompts at once, got {len(texts):,}")
        check_choice("beyond", beyond, get_args(Beyond))
        self._begin()
        numbers = [i + j * SAMPLE_NUMBERS for i in range(len(texts)) for j in range(num_samples)]
        stops = self._stops(stop)
        ids = [one for text in texts for one in [self._prompt_ids(text)] * num_samples]
        written = [GrowingText(self.tokenizer, one, stops=stops) for one in ids]
        num_written = 0

        def on_tokens(index: int, tokens: tuple[int, ...]) -> bool:
            nonlocal num_written
            num_written += len(tokens)
            if on_progress is not None:
                on_progress(num_written)
            return any(written[index].add(token) for token in tokens)

        generator = self._generator(max_tokens, search, beyond, rows=_rows(len(ids), invariant))
        self.report.note_all()
        found = generator.generate(self.state, ids, seed=seed, row_ids=numbers, on_tokens=on_tokens)
        outputs = []
        for index, one in enumerate(found):
            text = written[index]
            kept = one.tokens[: text.num_tokens]
            log_probs = np.asarray(one.token_log_probs[: text.num_tokens], np.float32)
            outputs.append(
                Generated(
                    prompt=texts[index // num_samples],
                    text=text.text,
                    tokens=tuple(self.tokenizer.pieces(kept)),
                    # Added up one after another, as the search does.
                    log_prob=float(np.cumsum(log_probs)[-1]) if text.stopped and kept else one.log_prob,
                    reason=_reason(one, stopped=text.stopped),
                )
            )
        self._note_impossible([one.reason == "impossible" for one in outputs])
        return outputs

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int | None = None,
        search: RequestedSearch | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        sample: int = 0,
        beyond: Beyond = "window",
        invariant: bool = False,
    ) -> Iterator[str]:
        """The text that `generate` gives for a prompt, in pieces as they come.

        Args:
          prompt: A text.
          max_tokens: As for `generate`, and so are ``search``, ``stop``, ``seed``, ``beyond`` and ``invariant``.
          search: How to choose tokens.
          stop: Texts that end the output.
          seed: Of the draws.
          sample: Which of the outputs of ``generate(num_samples=...)``.
          beyond: What becomes of a prompt and an output that together pass the context.
          invariant: Whether the prompt is computed as among others.

        Raises:
          ConfigError: At once, not with the first piece, as `generate` raises it.
          ShapeError: The same.
        """
        check_choice("beyond", beyond, get_args(Beyond))
        self._begin()
        stops = self._stops(stop)
        generator = self._generator(max_tokens, search, beyond, rows=_rows(1, invariant))
        numbers, ids = [sample * SAMPLE_NUMBERS], self._prompt_ids(prompt)
        chunks = generator.stream(self.state, [ids], seed=seed, row_ids=numbers)
        self.report.note_all()
        return self._pieces(chunks, GrowingText(self.tokenizer, ids, stops=stops))

    def _pieces(
        self, chunks: Generator[TokenChunk, bool | None, list[GeneratedTokens]], text: GrowingText
    ) -> Iterator[str]:
        shown, stops = 0, None
        while True:
            try:
                chunk = chunks.send(stops)
            except StopIteration as end:
                self._note_impossible(
                    [_reason(one, stopped=text.stopped) == "impossible" for one in end.value]
                )
                return
            stops = any(text.add(token) for token in chunk.tokens)
            ready = text.length if stops or chunk.ended else text.num_ready
            if ready > shown:
                yield text.between(shown, ready)
                shown = ready

    def score(self, texts: Sequence[str], *, stride: int | None = None) -> list[TextScore]:
        """How probable texts are, token by token.

        Args:
          texts: Texts of any length.
          stride: Tokens between the starts of two windows; each token is predicted from at least
            ``context - stride`` tokens before it. None takes half of the training window, or the whole text before a
            token where the model is trained with its state carried from window to window.

        Raises:
          ConfigError: If ``stride`` is below 1 or above the window.
          TypeError: If ``texts`` is one text.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of texts, got one text: write [{texts[:20]!r}]")
        _check_texts("texts", texts)
        scorer = self.scorer(stride, usual_stride=max(1, self.window_len // 2))
        self._begin()
        found = []
        for text in texts:
            documents = split_documents(Document("the text", text), self.document_separator)
            ids = encode_documents(documents, self.tokenizer, marks_documents=self.marks_documents)
            if self.tokenizer.count_unknown(ids):
                for document in documents:
                    self.report.unknown.update(self.tokenizer.unknown_pieces(document.text))
            scores, kept = scorer(ids), ids != BOS_ID
            pieces = iter(self.tokenizer.pieces(ids))
            found.append(
                TextScore(
                    pieces=tuple("" if token == EOS_ID else next(pieces) for token in ids[kept].tolist()),
                    scores=TokenScores(scores.log_probs[kept], scores.counted[kept]),
                    num_characters=predicted_characters(
                        documents, self.tokenizer, marks_documents=self.marks_documents
                    ),
                )
            )
        self.report.note_all()
        return found

    def scorer(
        self, stride: int | None = None, *, usual_stride: int | None = None, batch_size: int = 8
    ) -> Callable[[npt.NDArray[np.int32]], TokenScores]:
        """What scores token ids, as `encode_documents` gives them.

        Args:
          stride: Tokens between the starts of two windows, see `TokenScorer`; None reads the whole text before a token
            where the model is trained with its state carried, else windows with ``usual_stride``.
          usual_stride: As ``stride``; None for windows side by side.
          batch_size: Windows of a batch.

        Raises:
          ConfigError: If a stride is below 1 or above the window.
        """
        carrying = None
        if stride is None and self.carries_state:
            carrying = with_carried_state(self.model, vocab_size=self.tokenizer.vocab_size)
        if carrying is not None:
            carried, carried_state = (
                CarriedScorer(carrying, context_len=self.window_len),
                nnx.split(carrying)[1],
            )
            return lambda ids: carried(carried_state, ids)
        windows = TokenScorer(
            self.model,
            context_len=self.window_len,
            stride=usual_stride if stride is None else stride,
            batch_size=batch_size,
        )
        state = self.state
        return lambda ids: windows(state, ids)

    def _generator(
        self, max_tokens: int | None, search: RequestedSearch | None, beyond: Beyond, *, rows: int
    ) -> TokenGenerator:
        config: SearchConfig = search_of(search, self.search)
        if not isinstance(config, SampleConfig | GreedyConfig):
            raise ConfigError(f"text is generated by sampling or greedily, not by '{config.kind}' search")
        own = {PAD_ID, UNK_ID, BOS_ID} | (set() if self.marks_documents else {EOS_ID})
        config = dataclasses.replace(
            config,
            max_len=config.max_len if max_tokens is None else max_tokens,
            forbidden_ids=tuple(sorted({*config.forbidden_ids, *own})),
        )
        ids = SearchIds(bos_id=BOS_ID, eos_id=EOS_ID, pad_id=PAD_ID)
        key = (config, beyond, rows)
        if key not in self._programs:
            self._programs[key] = TokenGenerator(
                self.model, config, ids, context_len=self.context_len, beyond=beyond, batch_size=rows
            )
        return self._programs[key]

    def _note_impossible(self, outputs: Sequence[bool]) -> None:
        if any(outputs):
            said = _impossible_note(sum(outputs), len(outputs), outputs.index(True) + 1)
            note(f"note: {said}", is_warning=True)

    def _begin(self) -> None:
        """Start to count anew: what a call reports is of its own texts."""
        self.report = LineReport(unit=self.report.unit)

    def _prompt_ids(self, text: str) -> list[int]:
        ids = self._known_ids(text)
        if self.marks_documents:
            return [BOS_ID, *ids]
        if ids:
            return ids
        newline = self.tokenizer.encode("\n")
        if not newline or self.tokenizer.count_unknown(newline):
            raise DataError(
                "an empty prompt: the model was trained on running text without line breaks: give it a beginning"
            )
        return newline

    def _known_ids(self, text: str) -> list[int]:
        ids = self.tokenizer.encode_array(text)
        if self.tokenizer.count_unknown(ids):
            self.report.unknown.update(self.tokenizer.unknown_pieces(text))
        return ids.tolist()

    def _stops(self, stop: str | Sequence[str]) -> list[str]:
        stops = [stop] if isinstance(stop, str) else list(stop)
        if "" in stops and not isinstance(stop, str):
            raise ConfigError("a stop text is empty: leave it out")
        return [one for one in stops if one]


def _check_texts(name: str, values: Sequence[object]) -> None:
    for index, one in enumerate(values):
        if not isinstance(one, str):
            raise TypeError(f"{name}[{index}] must be a text, got {type(one).__name__}")


def _rows(num_outputs: int, invariant: bool) -> int:
    """Rows of a batch: one where there is one output alone."""
    return 1 if num_outputs == 1 and not invariant else BATCH_ROWS


def _reason(output: GeneratedTokens, *, stopped: bool) -> Literal["end", "stop", "length", "impossible"]:
    if stopped:
        return "stop"
    if not output.found:
        return "impossible"
    return "end" if output.finished else "length"


def _impossible_note(count: int, total: int, first: int) -> str:
    ends = "ends" if count == 1 else "end"
    return (
        f"{count:,} of {total:,} texts {ends} where no token was possible, the first of them text {first}, with "
        "log-probability -inf: all tokens were ruled out, or the model gives nothing but NaN; loosen the search, or "
        "check the model's parameters"
    )
