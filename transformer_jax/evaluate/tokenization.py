"""Tokenizer of BLEU: sacrebleu's, chosen by the language, or by the script of the references.

The usual ``13a`` cuts at white space and punctuation. Chinese, Japanese, Thai and others write no spaces between words:
a whole clause would be one word there, and BLEU 0 for all but exact copies.
"""

import importlib.util
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from transformer_jax.errors import ConfigError, nearest_hint

DEFAULT = "13a"

# sacrebleu's names.
BLEU_TOKENIZERS = (
    "13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "spBLEU-1K", "spm", "zh",
)  # fmt: skip

UNSPACED_SHARE = 0.25
"""Share of the letters from which on a text counts as written without spaces."""

KANA_SHARE = 0.05
"""Share of kana among kana and Chinese characters from which on they are Japanese."""

_SAMPLE_CHARACTERS = 200_000

# Of languages without spaces between words, ISO 639 codes of two and three letters.
_CODES = {
    "zh": "zh", "zho": "zh", "chi": "zh", "cmn": "zh", "yue": "zh", "wuu": "zh", "lzh": "zh",
    "ja": "ja", "jpn": "ja", "ko": "ko", "kor": "ko", "th": "th", "tha": "th", "lo": "lo", "lao": "lo",
    "km": "km", "khm": "km", "my": "my", "mya": "my", "bur": "my", "bo": "bo", "bod": "bo", "tib": "bo",
    "dz": "bo", "dzo": "bo",
}  # fmt: skip

# By the first word of a character's Unicode name.
_SCRIPTS = {
    "CJK": "Han", "HIRAGANA": "kana", "KATAKANA": "kana", "KATAKANA-HIRAGANA": "kana", "THAI": "Thai",
    "LAO": "Lao", "KHMER": "Khmer", "MYANMAR": "Myanmar", "TIBETAN": "Tibetan", "HANGUL": "Hangul",
}  # fmt: skip
_LANGUAGE_OF = {"Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Tibetan": "bo"}


@dataclass(frozen=True)
class BleuTokenizer:
    """A tokenizer of sacrebleu, and why it was chosen.

    Attributes:
      name: sacrebleu's name, as in ``tok:zh`` of a signature.
      reason: For people.
      is_unspaced: Whether the text has no spaces between words, so that other scores must not cut it there either.
    """

    name: str
    reason: str
    is_unspaced: bool = False

    def cut(self) -> Callable[[str], list[str]]:
        """Function from a text to its words.

        Raises:
          ConfigError: If the tokenizer needs a package that is not installed.
        """
        if not self.is_unspaced:
            return str.split
        tokenizer = bleu_metric(self.name).tokenizer
        return lambda text: str(tokenizer(text)).split()


def choose_bleu_tokenizer(
    references: Iterable[str], *, language: str | None = None, name: str | None = None, is_cut: bool = False
) -> BleuTokenizer:
    """The tokenizer that BLEU of texts in this language is taken with.

    ``zh`` for Chinese; ``ja-mecab`` and ``ko-mecab`` for Japanese and Korean where they are installed
    (``sacrebleu[ja]``, ``sacrebleu[ko]``), else ``char`` for Japanese and ``13a`` for Korean, which has spaces;
    ``char`` for Thai, Lao, Khmer, Burmese and Tibetan (``flores200``, which downloads its model, can be named);
    ``13a`` for all others. Where a language that is said does not go with a script without spaces, the script decides.

    Args:
      references: What outputs are compared with, for their script.
      language: Code such as ``"zh"`` or ``"pt-BR"``; None where it is not known.
      name: A tokenizer of sacrebleu to take in any case.
      is_cut: Whether texts are words with spaces between already (``none``), but for a script without spaces.

    Raises:
      ConfigError: If ``name`` is none of sacrebleu's.

    Example:
      >>> choose_bleu_tokenizer(["\\u6211\\u559c\\u6b22\\u559d\\u8336\\u3002"])
      BleuTokenizer(name='zh', reason='script of the references: Han', is_unspaced=True)
      >>> choose_bleu_tokenizer(["I like tea."], language="en").name
      '13a'

    Source: Post 2018, https://arxiv.org/abs/1804.08771; the defaults by target language of sacrebleu.
    """
    script, written = detect_unspaced(references)
    if name is not None:
        if name not in BLEU_TOKENIZERS:
            raise ConfigError(
                f"BLEU's tokenizer must be one of {', '.join(BLEU_TOKENIZERS)}; got {name!r}"
                f"{nearest_hint(name, BLEU_TOKENIZERS)}"
            )
        cuts_not = script is not None and name in ("13a", "none", "intl")
        doubt = f", although it does not cut the references' script ({script})" if cuts_not else ""
        return BleuTokenizer(name, f"as named{doubt}", script is not None)
    said = _CODES.get(language.replace("_", "-").partition("-")[0].lower()) if language else None
    reason = f"language {language}" if language else f"script of the references: {script or 'with spaces'}"
    if language and said is None and written is not None:
        reason = f"script of the references: {script}, not language {language}"
    chosen = said or written
    if chosen is None or chosen == "ko":
        if chosen == "ko" and not is_cut and _is_installed("mecab_ko"):
            return BleuTokenizer("ko-mecab", reason)
        return BleuTokenizer("none" if is_cut else DEFAULT, "cut already" if is_cut else reason)
    if chosen == "zh":
        return BleuTokenizer("zh", reason, is_unspaced=True)
    if chosen == "ja" and _is_installed("MeCab") and _is_installed("ipadic"):
        return BleuTokenizer("ja-mecab", reason, is_unspaced=True)
    if chosen == "ja":
        reason += "; for words by ja-mecab install sacrebleu[ja]"
    return BleuTokenizer("char", reason, is_unspaced=True)


def detect_unspaced(texts: Iterable[str]) -> tuple[str | None, str | None]:
    """Script and language of texts that are written without spaces between words; None twice of others.

    Example:
      >>> detect_unspaced(["tea"]), detect_unspaced(["\\u304a\\u8336\\u3092"])
      ((None, None), ('Han and kana', 'ja'))
    """
    counts: Counter[str] = Counter()
    letters = 0
    for text in texts:
        if text.isascii():
            letters += sum(map(str.isalpha, text))
        else:
            found = [_script(character) for character in text if character.isalpha()]
            letters += len(found)
            counts.update(one for one in found if one)
        if letters >= _SAMPLE_CHARACTERS:
            break
    del counts["Hangul"]  # has spaces
    if sum(counts.values()) < UNSPACED_SHARE * max(letters, 1):
        return None, None
    east_asian = counts["Han"] + counts["kana"]
    most = max(_LANGUAGE_OF, key=lambda script: counts[script])
    if counts[most] > east_asian:
        return most, _LANGUAGE_OF[most]
    if counts["kana"] >= KANA_SHARE * east_asian:
        return "Han and kana", "ja"
    return "Han", "zh"


def bleu_metric(tokenize: str, **options: Any) -> Any:
    """sacrebleu's metric.

    Raises:
      ConfigError: If it has no such tokenizer, or the tokenizer needs a package that is not installed.
    """
    from sacrebleu.metrics import BLEU

    if tokenize not in BLEU_TOKENIZERS:
        raise ConfigError(
            f"tokenize must be one of {', '.join(BLEU_TOKENIZERS)}; got {tokenize!r}"
            f"{nearest_hint(tokenize, BLEU_TOKENIZERS)}"
        )
    try:
        return BLEU(tokenize=tokenize, **options)
    except (ImportError, RuntimeError, OSError, KeyError) as error:
        lines = str(error).split("\n") if str(error) else [type(error).__name__]
        reason = " ".join(line.strip() for line in lines if line.strip())
        raise ConfigError(
            f"BLEU's tokenizer {tokenize!r} cannot be had here: {reason}; install what it needs, or take another of "
            f"{', '.join(BLEU_TOKENIZERS)}"
        ) from None


def _script(character: str) -> str | None:
    return _SCRIPTS.get(unicodedata.name(character, "").partition(" ")[0])


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
