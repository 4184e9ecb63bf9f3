"""A page of a model's worst and best sentences, each with its attention; needs no network."""

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from transformer_jax.inference.attention_maps import Alignment
from transformer_jax.plot.html_page import PAGE_STYLE, environment_section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentence:
    """One scored output.

    Args:
      number: Which line it was, from 1.
      source: What was read.
      references: What should have been written.
      output: What was written.
      score: From 0 to 100, the more the better.
      alignment: What the attention looked at; None where the model has none.
    """

    number: int
    source: str
    references: tuple[str, ...]
    output: str
    score: float
    alignment: Alignment | None


def render_sentences(
    worst: Sequence[Sentence],
    best: Sequence[Sentence],
    *,
    title: str,
    measure: str,
    lines: Sequence[str],
    environment: dict[str, Any],
) -> str:
    """The whole page.

    Args:
      worst: By rising score.
      best: By falling score.
      title: Of the page.
      measure: What a sentence's score is.
      lines: The scores of the whole set, for people.
      environment: Machine and versions.

    Example:
      >>> one = Sentence(number=1, source="a", references=("b",), output="<c>", score=0.0, alignment=None)
      >>> page = render_sentences([one], [], title="t", measure="chrF", lines=[], environment={})
      >>> "&lt;c&gt;" in page, "http" in page
      (True, False)
    """
    scores = "".join(f"<li>{html.escape(line)}</li>" for line in lines if line.strip())
    body = (
        f"<header><h1>{html.escape(title)}</h1><p>Sentences are ranked by {html.escape(measure)}. Open one to see "
        "what its attention looked at: each row is a token that was written, each column one that was read, and a "
        "darker cell a larger share of the attention (of the last layer, the mean over its heads).</p></header>"
        f"<section><h2>The whole set</h2><ul>{scores}</ul></section>"
        f"{_section('The worst', worst)}{_section('The best', best)}"
        f"{environment_section({'environment': environment})}"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{PAGE_STYLE}{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, sentences: Sequence[Sentence]) -> str:
    if not sentences:
        return ""
    return f"<section><h2>{title}</h2>{''.join(map(_sentence, sentences))}</section>"


def _sentence(one: Sentence) -> str:
    references = "".join(f"<dt>wanted</dt><dd>{html.escape(text)}</dd>" for text in one.references)
    looked = "" if one.alignment is None else _attention(one.alignment)
    return (
        f"<article><p class='note'>line {one.number:,}, score {one.score:.1f}</p><dl>"
        f"<dt>read</dt><dd>{html.escape(one.source)}</dd>{references}"
        f"<dt>wrote</dt><dd class='{'right' if one.output in one.references else 'wrong'}'>"
        f"{html.escape(one.output) or '&empty;'}</dd></dl>{looked}</article>"
    )


def _attention(alignment: Alignment) -> str:
    if not alignment.maps or not alignment.source or not alignment.target:
        return ""
    head = "".join(f"<th scope='col'><span>{html.escape(text)}</span></th>" for text in alignment.source)
    rows = []
    for text, weights in zip(alignment.target, alignment.mean_of_last(), strict=True):
        cells = "".join(
            f"<td style='background:rgb(31 119 180 / {min(max(float(weight), 0.0), 1.0):.2f})' "
            f"title='{float(weight):.2f}'></td>"
            for weight in weights
        )
        rows.append(f"<tr><th scope='row'>{html.escape(text)}</th>{cells}</tr>")
    return (
        "<details><summary>attention</summary><div class='scroll'><table class='heat'><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


_STYLE = """
article { border-bottom: 1px solid var(--line); padding: 10px 0; }
article:last-child { border-bottom: 0; }
article p { margin: 0 0 4px; }
details { margin-top: 6px; } summary { cursor: pointer; color: var(--soft); }
.heat { width: auto; } .heat th, .heat td { border: 0; padding: 0; }
.heat td { width: 22px; height: 22px; min-width: 22px; border: 1px solid #fff; outline: 1px solid var(--line); }
.heat tbody th { font-weight: 400; padding-right: 8px; text-align: right; }
.heat thead th { vertical-align: bottom; font-weight: 400; padding-bottom: 4px; }
.heat thead span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
"""
