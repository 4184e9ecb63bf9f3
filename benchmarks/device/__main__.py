"""``python -m benchmarks.device``: see :mod:`benchmarks.device.run`."""

import sys

from benchmarks.device.run import main

sys.exit(main())
