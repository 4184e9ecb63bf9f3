"""AESLC: e-mails with their subject lines."""

import json
import re

from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.readers import read_lines
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.errors import DataError

_SUBJECT = "\n\n@subject\n"
_MORE_SUBJECTS = re.compile(r"\n+@ann\d+\n")


def email_and_subject(text: str) -> tuple[str, str]:
    """Body and subject line of an e-mail as the corpus writes it, each on one line.

    White space within them becomes single spaces. The subjects that annotators wrote, which only two parts of the
    corpus have, are left out: published scores are against the senders' own.

    Args:
      text: The body, and behind ``@subject`` on a line of its own the subject.

    Raises:
      ValueError: If there is no subject.

    Example:
      >>> email_and_subject("Dear all,\\nlunch at 12.\\n\\n@subject\\nLunch\\n\\n@ann0\\nlunch today")
      ('Dear all, lunch at 12.', 'Lunch')
    """
    body, found, subject = text.rpartition(_SUBJECT)
    if not found:
        raise ValueError("no line '@subject'")
    own = _MORE_SUBJECTS.split(subject)[0]
    return " ".join(body.split()), " ".join(own.split())


def _read(source_language: str | None, target_language: str | None) -> PairSplits:
    del source_language, target_language

    def read(split: str) -> list[Pair]:
        path, pairs = locate_file(AESLC, f"{split}.jsonl.xz"), []
        for number, line in enumerate(read_lines(path), 1):
            try:
                pairs.append(Pair(*email_and_subject(json.loads(line)["text"]), number))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{path}: line {number}: wanted an object whose 'text' is an e-mail with '@subject', got "
                    f"{line[:60]!r} ({error})"
                ) from None
        return pairs

    return with_held_out(read("train"), read("dev"), read("test"))


AESLC = Dataset(
    name="aeslc",
    description="E-mail bodies and subject lines, 14,436 / 1,960 / 1,906, with three more subjects in dev and test",
    licence="CC BY-NC-SA 4.0",
    citation="Zhang and Tetreault 2019, This Email Could Save Your Life",
    homepage="https://github.com/ryanzhumich/AESLC/tree/7afc087a",
    files=dataset_files(
        None,
        ("train.jsonl.xz", 2587640, "2c5b41f442fac08c3b365319437d12207f7b6c25be005335ac51ceda46c929f2"),
        ("dev.jsonl.xz", 476520, "cc9805cd3f9fd2634dd34d60bdb5ed41b45a2f442ecc559139c719fc7bf14346"),
        ("test.jsonl.xz", 435996, "2197a866dd889b4f2b6aae55b11dcbedf617ef8bba6a42f55e4d19bf04b11e16"),
    ),
    readers={"pairs": _read},
)
