"""Dynamic masking: which tokens of a text are hidden and to be predicted, drawn anew at each visit.

All draws are counters through a mixing function: a number follows from the seed, the visit, the example and the place
in it, and from nothing else. So a resumed run hides the same tokens, and what is hidden in an example does not depend
on the batch that it is in.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import check_bounds, require_field
from transformer_jax.data.batches import NUM_SPECIAL_IDS
from transformer_jax.data.text_batches import IGNORED, IntArray
from transformer_jax.data.tokenizers import Tokenizer

Words64 = npt.NDArray[np.uint64]

# Purposes of draws, which keep the numbers of one example apart.
_CHOICE, _REPLACEMENT, _OTHER_TOKEN = 1, 2, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """Shares of tokens that are hidden, and what stands in their place.

    Attributes:
      rate: Share of a text's tokens that are to be predicted; at least one, start, end and unknown tokens never.
      mask_share: Of those, the share that the mask stands for.
      random_share: The share that another token stands for, each of the vocabulary as likely; the rest stays as it is.
      whole_words: Whether all pieces of a word are chosen together.

    Raises:
      ConfigError: If a share is out of range, or both are more than 1 together.

    Example:
      >>> Masking().num_places(128)
      19

    Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.1; drawn anew at each
    visit: Liu et al. 2019, https://arxiv.org/abs/1907.11692, section 4.1.
    """

    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    whole_words: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(0.0 < self.rate < 1.0, self, "rate", "above 0 and below 1")
        require_field(0.0 <= self.mask_share <= 1.0, self, "mask_share", "between 0 and 1")
        rest = 1.0 - self.mask_share
        require_field(
            0.0 <= self.random_share <= rest + 1e-9, self, "random_share", "between 0 and 1 - mask_share"
        )

    def num_places(self, length: int) -> int:
        """Most tokens that are hidden in a text of so many: the static size of what is predicted."""
        return max(1, round(self.rate * length))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedVocabulary:
    """The facts of a tokenizer that masking needs.

    Attributes:
      mask_id: Token that stands for a hidden one.
      size: Number of ids.
      first_ordinary: The first id that stands for text; those below are padding, unknown, start, end and mask.
      continuations: ``[vocab]``, whether a token continues a word; None where words do not matter.
    """

    mask_id: int
    size: int
    first_ordinary: int
    continuations: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, whole_words: bool) -> "MaskedVocabulary":
        """The facts of a tokenizer.

        Raises:
          DataError: If words are to be chosen as wholes, and its tokens do not say where words begin.
        """
        return cls(
            mask_id=tokenizer.mask_id,
            size=tokenizer.vocab_size,
            first_ordinary=NUM_SPECIAL_IDS + (tokenizer.mask_id == NUM_SPECIAL_IDS),
            continuations=tokenizer.continuations() if whole_words else None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masked:
    """Texts with hidden tokens.

    Attributes:
      tokens: ``[batch, len]``, as the model sees them.
      places: ``[batch, places]``, where the hidden tokens are, from left to right; `IGNORED` behind the last one.
      targets: ``[batch, places]``, the tokens that were there; `IGNORED` in the same places.
    """

    tokens: IntArray
    places: IntArray
    targets: IntArray


def mask_tokens(
    tokens: IntArray,
    lengths: IntArray,
    example_ids: IntArray,
    *,
    masking: Masking,
    vocabulary: MaskedVocabulary,
    seed: int,
    visit: int,
) -> Masked:
    """Hide tokens of texts.

    Args:
      tokens: ``[batch, len]``.
      lengths: ``[batch]``, tokens of each text.
      example_ids: ``[batch]``, a number that names each text.
      masking: How many, and what stands in their place.
      vocabulary: Of the tokens.
      seed: Of all draws.
      visit: How often the texts were seen before, say the epoch: another number gives other draws.

    Returns:
      The texts, and what is hidden in them; ``places`` has `Masking.num_places` of ``len`` columns.

    Example:
      >>> tokens = np.array([[2, 7, 8, 9, 6, 5, 7, 8, 3, 0]], np.int32)
      >>> masked = mask_tokens(
      ...   tokens, np.array([9], np.int32), np.array([0], np.int32), masking=Masking(rate=0.3, mask_share=1.0,
      ...   random_share=0.0), vocabulary=MaskedVocabulary(mask_id=4, size=10, first_ordinary=5), seed=1, visit=0)
      >>> masked.tokens.tolist(), masked.places.tolist(), masked.targets.tolist()
      ([[2, 7, 8, 9, 4, 4, 7, 8, 3, 0]], [[4, 5, -1]], [[6, 5, -1]])
    """
    length = tokens.shape[1]
    columns = np.arange(length)
    may_hide = (columns < lengths[:, None]) & (tokens >= vocabulary.first_ordinary)
    may_hide &= tokens != vocabulary.mask_id
    wanted = np.rint(masking.rate * may_hide.sum(axis=1)).astype(np.int64)
    wanted = np.where(may_hide.any(axis=1), np.clip(wanted, 1, masking.num_places(length)), 0)
    words = _words(tokens, may_hide, vocabulary.continuations)
    chosen = _chosen(words, may_hide, wanted, _draws(seed, visit, example_ids, length, _CHOICE))

    share = unit_interval(_draws(seed, visit, example_ids, length, _REPLACEMENT))
    numbers = _draws(seed, visit, example_ids, length, _OTHER_TOKEN) % np.uint64(
        vocabulary.size - vocabulary.first_ordinary
    )
    others = vocabulary.first_ordinary + numbers.astype(np.int64)
    seen = np.where(share < masking.mask_share + masking.random_share, others, tokens)
    seen = np.where(share < masking.mask_share, vocabulary.mask_id, seen)
    num_places = masking.num_places(length)
    # The chosen places first, in their order.
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :num_places]
    is_one = np.take_along_axis(chosen, order, axis=1)
    return Masked(
        tokens=np.where(chosen, seen, tokens).astype(np.int32),
        places=np.where(is_one, order, IGNORED).astype(np.int32),
        targets=np.where(is_one, np.take_along_axis(tokens, order, axis=1), IGNORED).astype(np.int32),
    )


def _words(
    tokens: IntArray, may_hide: npt.NDArray[np.bool_], continuations: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.int64]:
    """``[batch, len]``, column of the first token of the word that each token belongs to; its own without words."""
    columns = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    if continuations is None:
        return columns
    before = np.pad(may_hide[:, :-1], ((0, 0), (1, 0)))
    continues = continuations[tokens] & before & may_hide
    return np.maximum.accumulate(np.where(continues, 0, columns), axis=1)


def _chosen(
    words: npt.NDArray[np.int64],
    may_hide: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.int64],
    keys: Words64,
) -> npt.NDArray[np.bool_]:
    """Words in the order of the keys of their first tokens, each taken if the row still wants so many tokens."""
    rows, length = words.shape
    sizes = np.zeros((rows, length), np.int64)
    np.add.at(sizes, (np.arange(rows)[:, None], words), may_hide)
    order = np.argsort(np.where(sizes > 0, keys, np.uint64(2**64 - 1)), axis=1, kind="stable")
    in_order = np.take_along_axis(sizes, order, axis=1)
    taken, count = np.zeros((rows, length), bool), np.zeros(rows, np.int64)
    for step in range(length):
        size = in_order[:, step]
        fits = (size > 0) & (count + size <= wanted)
        taken[:, step] = fits
        count += np.where(fits, size, 0)
        if (count == wanted).all():
            break
    is_taken = np.zeros((rows, length), bool)
    np.put_along_axis(is_taken, order, taken, axis=1)
    return np.take_along_axis(is_taken, words, axis=1) & may_hide


def _draws(seed: int, visit: int, example_ids: IntArray, length: int, purpose: int) -> Words64:
    """``[batch, len]`` random numbers of 64 bits, each a function of seed, visit, example, place and purpose."""
    of_row = draw_numbers(seed, visit, example_ids, purpose)
    return mixed(of_row[:, None] ^ mixed(np.arange(length, dtype=np.uint64) + np.uint64(1)))


def draw_numbers(seed: int, visit: int, example_ids: npt.ArrayLike, purpose: int) -> Words64:
    """A random number of 64 bits for each example, a function of seed, visit, example and purpose alone.

    Example:
      >>> draw_numbers(0, 0, [1], 1) == draw_numbers(0, 0, [5, 1], 1)[1:]
      array([ True])
    """
    number = np.zeros(1, np.uint64)
    for part in (seed, visit, purpose):
        number = mixed(number ^ np.uint64(part))
    return mixed(number ^ np.asarray(example_ids, np.int64).astype(np.uint64))


def unit_interval(numbers: Words64) -> npt.NDArray[np.float64]:
    """Numbers of 64 bits as fractions from 0 to below 1."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mixed(numbers: Words64) -> Words64:
    """SplitMix64: a permutation of the numbers of 64 bits whose outputs pass for independent draws.

    Example:
      >>> hex(int(mixed(np.zeros(1, np.uint64))[0]))
      '0xe220a8397b1dcdaf'

    Source: Steele et al. 2014, https://doi.org/10.1145/2714064.2660195, figure 13.
    """
    with np.errstate(over="ignore"):
        mix = np.asarray(numbers, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mix = (mix ^ (mix >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mix = (mix ^ (mix >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mix ^ (mix >> np.uint64(31))
