"""Time to the first token and time for each token after it, over the length of the context.

Both are of greedy search by the library's token loop: the model's ``start`` reads the context, its ``step`` is fed each
token. A recurrent model's token costs the same wherever it stands; a Transformer's reads all that came before.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.decode import GreedyConfig, RowOptions, SearchIds, TokenInputs
from transformer_jax.decode.sampling import most_probable_tokens
from transformer_jax.decode.token_loop import TokenLoopState, advance_tokens, begin_tokens
from transformer_jax.race.speed import Contestant, at_once, random_batch
from transformer_jax.race.timing import Record, interleave, out_of_memory, quartiles

NEW_TOKENS = 16
SEARCH = GreedyConfig(max_len=1 + NEW_TOKENS, forbidden_ids=(EOS_ID,))  # no row ends before the others
IDS = SearchIds(bos_id=BOS_ID, eos_id=EOS_ID)


def race_over_contexts(
    contestants: Sequence[Contestant],
    contexts: Sequence[int],
    batches: Sequence[int],
    *,
    calls: int,
    max_seconds: float,
    progress: Callable[[str], None] = lambda text: None,
    compilers: int = 1,
) -> Iterator[list[Record]]:
    """The records of one batch and context after the other.

    Of each kind the first contestant takes part (one token at a time all its implementations are one), and none of
    PyTorch's.

    Args:
      contestants: Who races.
      contexts: Tokens that stand before the first new one.
      batches: Sequences at once.
      calls: Timed calls of each.
      max_seconds: Seconds of a case at most, beyond five rounds.
      progress: Told what is being measured.
      compilers: How many are compiled at a time, before anything is timed.
    """
    first_of_kind = {one.spec.kind: one for one in reversed(contestants) if one.peer is None}
    ours = list(reversed(first_of_kind.values()))
    for batch in batches:
        for context in contexts:
            tokens = random_batch(batch, context, contestants[0].vocab_size).inputs
            first_calls: dict[str, Any] = {}
            next_calls: dict[str, Any] = {}
            failed: dict[str, str] = {}
            prepared = at_once(ours, functools.partial(_calls, tokens), compilers)
            for one in ours:
                progress(f"generating, batch {batch}, context {context:,}: compiling {one.name}")
                try:
                    first_calls[one.name], next_calls[one.name] = prepared[one.name]()
                except Exception as error:
                    note = out_of_memory(error)
                    if note is None:
                        raise
                    failed[one.name] = note
            progress(
                f"generating, batch {batch}, context {context:,}: {len(first_calls)} contestants in turns"
            )
            records = []
            for mode, timed, share in (
                ("first_token", first_calls, 1),
                ("next_token", next_calls, NEW_TOKENS),
            ):
                times = interleave(timed, calls=calls, warmup=1, max_seconds=max_seconds)
                for one in ours:
                    milliseconds = [value / share for value in times.get(one.name, [])]
                    lower, middle, upper = quartiles(milliseconds) if milliseconds else (None, None, None)
                    records.append(
                        Record(
                            case=f"{mode}-{batch}-{context}", implementation=one.name, compile_s=None,
                            median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=None,
                            tokens_per_s=batch / middle * 1e3 if middle and mode == "next_token" else None,
                            flops=None, max_abs_err=None, note=failed.get(one.name, ""),
                            extra={"mode": mode, "length": context, "batch": batch, "width": one.width,
                                   "parameters": one.parameters, "calls": len(milliseconds),
                                   "milliseconds": np.round(milliseconds, 5).tolist()},
                        )
                    )  # fmt: skip
            yield records


def _calls(tokens: np.ndarray, one: Contestant) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Callables for the context with the first token, and for the tokens after it."""
    batch, context = tokens.shape
    inputs = TokenInputs(tokens[:, :-1], np.full(batch, context - 1, np.int32))
    prompt, last = jax.device_put((inputs, tokens[:, -1]))

    def advance(params: Any, carry: TokenLoopState, *, until: jax.Array | None) -> TokenLoopState:
        model: Any = one.structure.merge(params, {})
        return advance_tokens(model, carry, most_probable_tokens, SEARCH, IDS, RowOptions(), until=until)

    def first(params: Any, prompt: TokenInputs, last: jax.Array) -> TokenLoopState:
        model: Any = one.structure.merge(params, {})
        state = model.start(prompt, max_len=SEARCH.max_len)
        carry = begin_tokens(model, state, SEARCH, IDS, RowOptions(first_tokens=last))
        return advance(params, carry, until=jnp.int32(1))

    prefill, decode = jax.jit(first), jax.jit(functools.partial(advance, until=None))
    started = jax.block_until_ready(prefill(one.params, prompt, last))
    jax.block_until_ready(decode(one.params, started))
    return (
        lambda: jax.block_until_ready(prefill(one.params, prompt, last)),
        lambda: jax.block_until_ready(decode(one.params, started)),
    )
