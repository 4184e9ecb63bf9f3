"""All named data sets, one line each, and their readers by form."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformer_jax.data.captioned import CaptionSplits
from transformer_jax.data.documents import TextSplits
from transformer_jax.data.labelled_texts import ClassSplits
from transformer_jax.data.line_pairs import PairSplits
from transformer_jax.data.series import SeriesSet
from transformer_jax.data.sources.aeslc import AESLC
from transformer_jax.data.sources.an4 import AN4
from transformer_jax.data.sources.cmudict import CMUDICT
from transformer_jax.data.sources.cmudict_g2p import CMUDICT_G2P
from transformer_jax.data.sources.crohme import CROHME
from transformer_jax.data.sources.dataset import Dataset, Form
from transformer_jax.data.sources.digits import DIGITS
from transformer_jax.data.sources.django_code import DJANGO_CODE
from transformer_jax.data.sources.english_novels import ENGLISH_NOVELS
from transformer_jax.data.sources.ett import ETT
from transformer_jax.data.sources.gcide import GCIDE
from transformer_jax.data.sources.m4 import M4
from transformer_jax.data.sources.multi30k import MULTI30K
from transformer_jax.data.sources.sentences import SENTENCES
from transformer_jax.data.sources.snips_slots import SNIPS_SLOTS
from transformer_jax.data.sources.spoken_digits import SPOKEN_DIGITS
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.sources.stories260k import STORIES260K
from transformer_jax.data.sources.tatoeba_zh_en import TATOEBA_ZH_EN
from transformer_jax.data.sources.tinyshakespeare import TINYSHAKESPEARE
from transformer_jax.data.sources.ud_english_ewt import UD_ENGLISH_EWT
from transformer_jax.data.sources.war_and_peace import WAR_AND_PEACE
from transformer_jax.data.sources.word_similarity import WORD_SIMILARITY
from transformer_jax.data.tagged_text import TagSplits
from transformer_jax.data.utterances import SpeechSplits
from transformer_jax.errors import DataError, nearest_hint

_DATASETS = (
    CMUDICT,
    CMUDICT_G2P,
    MULTI30K,
    TATOEBA_ZH_EN,
    TINYSHAKESPEARE,
    WAR_AND_PEACE,
    ENGLISH_NOVELS,
    GCIDE,
    SENTENCES,
    SNIPS_SLOTS,
    UD_ENGLISH_EWT,
    AESLC,
    DJANGO_CODE,
    AN4,
    SPOKEN_DIGITS,
    CROHME,
    DIGITS,
    ETT,
    M4,
    WORD_SIMILARITY,
    STORIES260K,
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _DATASETS}


def find_dataset(name: str) -> Dataset:
    """The named set.

    Raises:
      DataError: If there is none of this name.
    """
    if name not in DATASETS:
        raise DataError(f"no data set '{name}'{nearest_hint(name, DATASETS)}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def names_with(*forms: Form) -> list[str]:
    """Names of the sets that have a reader of one of the forms.

    Example:
      >>> names_with("pronunciations")
      ['cmudict', 'cmudict-g2p']
    """
    return [name for name, dataset in DATASETS.items() if not dataset.readers.keys().isdisjoint(forms)]


def locate(name: str, file_name: str) -> Path:
    """Path of a whole, checked file of a named set, downloaded to the user's cache if it is nowhere else.

    Raises:
      DataError: If the file cannot be found or downloaded, is cut off, or has a wrong checksum; says what to do.
    """
    return locate_file(find_dataset(name), file_name)


def read_pairs(
    name: str, *, source_language: str | None = None, target_language: str | None = None
) -> PairSplits:
    """The three parts of a named set of pairs of lines, or of words with their pronunciations.

    Args:
      name: Name of the set.
      source_language: Of a set of translations, the language to read; unused for pronunciations.
      target_language: Of a set of translations, the language to write; unused for pronunciations.

    Raises:
      DataError: If there is no such set, it gives no pairs, or a file is missing or bad.
    """
    readers = _readers_of(name, "pairs", "pronunciations")
    splits: PairSplits = (
        readers["pairs"](source_language, target_language)
        if "pairs" in readers
        else readers["pronunciations"]()
    )
    return splits


def read_text(name: str) -> TextSplits:
    """The three parts of a named set of documents.

    Raises:
      DataError: If there is no such set, it gives no text, or a file is missing or bad.
    """
    splits: TextSplits = _readers_of(name, "text")["text"]()
    return splits


def read_classes(name: str, *, subset: str, fold: int | None = None) -> ClassSplits:
    """The three parts of a named set of texts with a class each.

    Args:
      name: Name of the set.
      subset: Which of its subsets.
      fold: Of a set for cross-validation, the fold that is tested on.

    Raises:
      DataError: If there is no such set, it gives no classes, or a file is missing or bad.
    """
    splits: ClassSplits = _readers_of(name, "classes")["classes"](subset, fold)
    return splits


def read_tags(name: str, annotation: str | None = None) -> TagSplits:
    """The three parts of a named set of sentences with a label for each word.

    Args:
      name: Name of the set.
      annotation: Which labels, of a set that has several; None takes the first.

    Raises:
      DataError: If there is no such set or annotation, it gives no labels, or a file is missing or bad.
    """
    splits: TagSplits = _readers_of(name, "tags")["tags"](annotation)
    return splits


def read_captions(name: str) -> CaptionSplits:
    """The three parts of a named set of drawings or images with captions.

    Raises:
      DataError: If there is no such set, it gives no captions, or a file is missing or bad.
    """
    splits: CaptionSplits = _readers_of(name, "captions")["captions"]()
    return splits


def read_series(name: str) -> SeriesSet:
    """A named set of time series.

    Raises:
      DataError: If there is no such set, it gives no series, or a file is missing or bad.
    """
    series: SeriesSet = _readers_of(name, "series")["series"]()
    return series


def read_speech(name: str, *, test_speaker: str | None = None) -> SpeechSplits:
    """The three parts of a named set of recordings with what is said in them.

    Args:
      name: Name of the set.
      test_speaker: The speaker that is tested on and not trained on; None takes the set's own parts.

    Raises:
      DataError: If there is no such set or speaker, it gives no speech, or a file is missing or bad.
    """
    splits: SpeechSplits = _readers_of(name, "speech")["speech"](test_speaker)
    return splits


def _readers_of(name: str, *forms: Form) -> Mapping[Form, Callable[..., Any]]:
    dataset = find_dataset(name)
    if dataset.readers.keys().isdisjoint(forms):
        raise DataError(
            f"data set '{name}' gives no {' or '.join(forms)}; these do: {', '.join(names_with(*forms))}"
        )
    return dataset.readers
