"""Seconds from the launch of `mmd solve --algorithm restarted` to its first iterations, with and without programs kept.

    python -m benchmarks.device.startup [--games leduc_poker ...] [--launches 9]

The clock starts before the process does and stops at its first line of progress, printed after the first chunk of
iterations. `import jax`, the floor of any such command, is timed beside it. The cache is a temporary folder of the
benchmark's own. Results: benchmarks/results/startup.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.report import environment, print_table, store

# The command, except that it reports its first chunk at once instead of waiting for some seconds to have passed.
COMMAND = "from mmd.command import cli; from mmd.host import progress; progress.SECONDS_BETWEEN_LINES = 0; cli.entry()"
GAMES = ("kuhn_poker", "leduc_poker", "liars_dice:faces=6")


def seconds_to_first_line(command: list[str], cache: str) -> float:
    """Seconds until a process has written a line to stderr; then it is stopped."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": cache},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    elapsed = time.perf_counter() - begun
    process.kill()
    process.communicate()
    assert line.startswith("restarted: iteration"), line
    return elapsed


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--launches", type=int, default=9)
    arguments = parser.parse_args()
    measured = {}
    for spec in arguments.games:
        command = ["-c", COMMAND, "solve", spec, "--algorithm", "restarted"]
        with tempfile.TemporaryDirectory() as cache:
            first = seconds_to_first_line(command, cache)
            again, imports = [], []
            for _ in range(arguments.launches):
                again.append(seconds_to_first_line(command, cache))
                begun = time.perf_counter()
                subprocess.run([sys.executable, "-c", "import jax"], check=True)
                imports.append(time.perf_counter() - begun)
        measured[spec] = {
            "first": first,
            "again": again,
            "again_median": statistics.median(again),
            "import_jax_median": statistics.median(imports),
        }
    store("startup", {"games": measured, "environment": environment()})
    print_table(
        ("game", "first", "again, median", "best", "import jax alone"),
        [
            (spec, *(f"{s:.2f} s" for s in (m["first"], m["again_median"], min(m["again"]), m["import_jax_median"])))
            for spec, m in measured.items()
        ],
    )


if __name__ == "__main__":
    main()
