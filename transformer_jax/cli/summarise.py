"""``transformer-jax summarise``: ``translate`` under the name that fits runs of e-mails and their subjects."""

import dataclasses
from typing import Literal

from transformer_jax.cli.translate import Command as TranslateCommand

DESCRIPTION = """Summarise lines with a trained model: one line out for each line in, in order, as they come.

The same as transformer-jax translate, whose options it has: any run on pairs of lines can be used, whether it was
trained on texts with summaries or on anything else. A text is one line: write a line break within it as a space.

Examples:
  transformer-jax summarise runs/subjects --input emails.txt --output subjects.txt
  echo "Dear all, the meeting is moved to 3 pm ." | transformer-jax summarise runs/subjects
  transformer-jax summarise runs/subjects --input emails.txt --beam 5 --no-repeat-ngram 2

An empty line gives an empty line. Of a text over the limit of training (data.max_source_len) only the beginning is
read, and how many there were is said on standard error at the end; --too-long whole reads all of it, as far as the
model can take it."""


@dataclasses.dataclass(frozen=True)
class Command(TranslateCommand):
    """The options of ``translate``, of which one has another default."""

    too_long: Literal["whole", "skip", "truncate", "fail"] = "truncate"
    """Texts longer than data.max_source_len: `truncate` reads their beginning, `whole` takes them as they are (those
    over the model's own limit are left out), `skip` leaves them out, `fail` stops."""
