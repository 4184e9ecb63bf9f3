"""Write the documents' tables from ``benchmarks/results/*.json`` and the code, so that each number has its source.

    python benchmarks/document_tables.py            rewrites the pages with tables
    python benchmarks/document_tables.py --check    says whether they are up to date (exit status 1 if not)

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``. The tables are made in ``benchmarks/tables``.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tables import (
    caption_tables,
    decoding_tables,
    device_sections,
    kernel_tables,
    ladder_tables,
    race_tables,
    reliability_tables,
    rewriting_tables,
    series_tables,
    speech_tables,
    text_tables,
    training_tables,
)
from benchmarks.tables.result_files import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "attention.md",
    ROOT / "docs" / "beyond-text.md",
    ROOT / "docs" / "language-models.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "recurrence.md",
    ROOT / "docs" / "reliability.md",
    ROOT / "docs" / "scaling.md",
    ROOT / "docs" / "translation.md",
    ROOT / "docs" / "words-and-sentences.md",
    ROOT / "experiments" / "RESULTS.md",
]

SUBJECTS = (
    caption_tables,
    decoding_tables,
    device_sections,
    kernel_tables,
    ladder_tables,
    race_tables,
    reliability_tables,
    rewriting_tables,
    series_tables,
    speech_tables,
    text_tables,
    training_tables,
)

TABLES: dict[str, Callable[[], str]] = {
    name: table for subject in SUBJECTS for name, table in subject.TABLES.items()
}


def filled_in(text: str) -> str:
    """``text`` with every marked table written anew.

    Raises:
      KeyError: If a marker names no table.
    """

    def table(match: re.Match[str]) -> str:
        found = TABLES[match[1]]()
        return (
            f"<!-- table {match[1]} -->\n{found}\n<!-- end -->"
            if found
            else f"<!-- table {match[1]} -->\n<!-- end -->"
        )

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def rewrite(*, check: bool = False) -> None:
    """Write every page's tables anew, or only look whether they would change.

    Raises:
      SystemExit: If ``check`` is set and a page would change.
    """
    for page in PAGES:
        before = page.read_text()
        after = filled_in(before)
        if check:
            if before != after:
                raise SystemExit(
                    f"{page.name} is not what the results say: run python benchmarks/document_tables.py"
                )
            continue
        page.write_text(after)
        print(
            f"{page.name}: " + ("tables written" if after != before else "nothing changed"), file=sys.stderr
        )


def main() -> None:
    """Parse the command line; rewrite or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only say")
    rewrite(check=parser.parse_args().check)


if __name__ == "__main__":
    main()
