"""The race from a checkout: what ``transformer-jax race`` does, and where its committed results come from.

python benchmarks/race.py --run-dir runs/race                 then race.json, report.html and the figures lie there
python benchmarks/race.py compare old/race.json new/race.json
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from transformer_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["race", *sys.argv[1:]]))
