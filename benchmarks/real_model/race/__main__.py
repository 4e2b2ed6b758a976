"""`python -m benchmarks.real_model.race`: see `benchmarks.real_model.race.runner`."""

import sys

from benchmarks.real_model.race.runner import main

if __name__ == "__main__":
    sys.exit(main())
