"""Processor seconds of a first `mmd solve SPEC`, beside those of `import jax`, the floor of what brings JAX.

    python -m benchmarks.device.startup [--games leduc_poker ...] [--launches 5]

The command is launched to its end, with an empty folder for compiled programs, in turns with `import jax`, each in a
process of its own. Seconds are those of all threads, interpreter included. Results: benchmarks/results/startup.json.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.report import environment, print_table, store

GAMES = ("kuhn_poker", "leduc_poker")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def processor_seconds(*arguments: str) -> float:
    """What `python ARGUMENTS` takes, with an empty cache."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as empty:
        variables = ONE_THREAD | {"XDG_CACHE_HOME": empty}
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=os.environ | variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(spec: str, launches: int) -> dict[str, Any]:
    """All launches of one game."""
    taken = [
        (processor_seconds("-m", "mmd", "solve", spec), processor_seconds("-c", "import jax")) for _ in range(launches)
    ]
    solve, jax = zip(*taken, strict=True)
    return {
        "solve": solve,
        "import_jax": jax,
        "solve_median": statistics.median(solve),
        "import_jax_median": statistics.median(jax),
        "times_import_jax": statistics.median(solve) / statistics.median(jax),
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--launches", type=int, default=5)
    asked = parser.parse_args()
    measured = {spec: measure(spec, asked.launches) for spec in asked.games}
    store("startup", {"games": measured, "environment": environment()})
    print_table(
        ("game", "mmd solve, s", "import jax, s", "times that"),
        [
            (spec, f"{m['solve_median']:.2f}", f"{m['import_jax_median']:.2f}", f"{m['times_import_jax']:.2f}")
            for spec, m in measured.items()
        ],
    )


if __name__ == "__main__":
    main()
