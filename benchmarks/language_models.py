"""Language models: training beside PyTorch eager, the table of architectures, generation beside `transformers`.

    python benchmarks/language_models.py training --json benchmarks/results/language_training-cpu.json
    python benchmarks/language_models.py table --json benchmarks/results/language_table-cpu.json
    python benchmarks/language_models.py generation --json benchmarks/results/language_generation-cpu.json

Each part is a file of its own, `benchmarks/language_PART.py`, whose docstring says what is measured.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import language_generation, language_table, language_training

PARTS = {"training": language_training, "table": language_table, "generation": language_generation}


def main() -> None:
    """Parse the command line and run the part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, module in PARTS.items():
        one = parts.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(one)
    options = parser.parse_args()
    PARTS[options.part].run(options)


if __name__ == "__main__":
    main()
