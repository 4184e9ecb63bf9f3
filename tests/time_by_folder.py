"""Where the time of a test run goes, as a Markdown table by folder, from JUnit files that pytest wrote.

    python tests/time_by_folder.py before=part1.xml,part2.xml after=build/tests.xml

Seconds are those of the tests with their set-up and tear-down, summed over the workers.
"""

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree


def by_folder(files: list[Path]) -> dict[str, tuple[float, int]]:
    """Seconds and tests of each folder of ``tests``, and of the files beside the folders as one."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            parts = (case.get("classname") or case.get("name", "")).split(".")
            name = f"tests/{parts[1]}" if len(parts) > 2 else "tests/*.py"
            seconds[name] += float(case.get("time", 0))
            tests[name] += 1
    return {name: (seconds[name], tests[name]) for name in sorted(seconds, key=lambda name: -seconds[name])}


def table(runs: dict[str, list[Path]]) -> str:
    """The Markdown table; a run has two columns."""
    found = {name: by_folder(files) for name, files in runs.items()}
    folders = list(dict.fromkeys(folder for run in found.values() for folder in run))
    lines = ["| folder | " + " | ".join(f"{name}: tests | seconds" for name in found) + " |"]
    lines.append("| --- |" + " ---: | ---: |" * len(found))
    for folder in folders:
        cells = [found[name].get(folder, (0.0, 0)) for name in found]
        lines.append(f"| {folder} | " + " | ".join(f"{n:,} | {s:,.0f}" for s, n in cells) + " |")
    totals = [(sum(s for s, _ in run.values()), sum(n for _, n in run.values())) for run in found.values()]
    lines.append("| together | " + " | ".join(f"{n:,} | {s:,.0f}" for s, n in totals) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    named = dict(argument.split("=", 1) for argument in sys.argv[1:])
    print(table({name: [Path(file) for file in files.split(",")] for name, files in named.items()}))
