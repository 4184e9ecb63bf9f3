"""Parts of pages that need no network: figures inside of the file, the table of the environment, the style."""

import base64
import dataclasses
import html
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Figure:
    """One picture of the report.

    Args:
      title: Heading.
      sentence: What it shows and how to read it.
      alternative: For readers who do not see the picture.
      image: The picture's bytes.
      media_type: Such as ``"image/svg+xml"``.
      dark_image: The same for dark screens, on pages with `DARK_STYLE`; None shows ``image`` there.
    """

    title: str
    sentence: str
    alternative: str
    image: bytes
    media_type: str = "image/svg+xml"
    dark_image: bytes | None = None


def figure_section(figure: Figure) -> str:
    image = f'<img src="{_address(figure, figure.image)}" alt="{html.escape(figure.alternative)}">'
    if figure.dark_image is not None:
        dark = _address(figure, figure.dark_image)
        image = f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{image}</picture>'
    return (
        f"<section><h2>{html.escape(figure.title)}</h2><figure>{image}"
        f"<figcaption>{html.escape(figure.sentence)}</figcaption></figure></section>"
    )


def _address(figure: Figure, image: bytes) -> str:
    return f"data:{figure.media_type};base64,{base64.b64encode(image).decode()}"


def environment_section(document: Mapping[str, Any]) -> str:
    entries = "".join(
        f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in document["environment"].items()
    )
    return f"<section><h2>Environment</h2><dl>{entries}</dl></section>"


PAGE_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #616e7c; --line: #e1e5ea; --paper: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
header h1 { margin: 0 0 8px; font-size: 2rem; letter-spacing: -0.01em; }
header p { margin: 4px 0; color: var(--soft); max-width: 75ch; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 20px 24px;
  margin-top: 24px; }
h2 { margin: 0 0 12px; font-size: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.85rem; }
th:first-child, .samples th, .samples td, .maps th, .maps td { text-align: left; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
.maps td { vertical-align: top; border-bottom: 0; }
.samples { font-size: 0.9rem; }
.right { color: #14683f; }
.wrong { color: #a3350b; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.scroll { overflow-x: auto; }
.note, figcaption { color: var(--soft); font-size: 0.9rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: 8px; }
svg text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
"""

DARK_STYLE = """
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ink: #e6e9ee; --soft: #9fabb8; --line: #333b45; --paper: #1b2027; }
  body { background: #12161b; }
  .right { color: #6fcf97; }
  .wrong { color: #f0a06a; }
}
@media (max-width: 600px) {
  main { padding: 16px 10px 40px; }
  header h1 { font-size: 1.5rem; }
  section { padding: 14px 12px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 6px; }
}
"""
"""After `PAGE_STYLE`: dark screens, and narrow ones."""
