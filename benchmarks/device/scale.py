"""Large trees: time to build and to iterate, peak memory against the estimate, and what is reached.

    python -m benchmarks.device.scale [--games liars_dice:faces=9 liars_dice:faces=10] [--seconds 300]

Each game runs in a process of its own, so that its peak memory is its own. `cfr+` is timed because its average is the
quickest to a coarse exploitability on large games; `restarted` is the compiled method behind the default. Results:
benchmarks/results/scale.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from games.memory import estimated_bytes
from mmd import algorithms
from mmd.game.payoff import Sparse

GAMES = ("liars_dice:faces=9", "liars_dice:faces=10")
GOAL = 1e-3
GIB = 2**30


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(spec: str, name: str, seconds: float) -> dict[str, Any]:
    """Build, iterate until the goal or the limit; in this process."""
    before = peak_bytes()
    begun = time.perf_counter()
    game = games.load(spec)
    built, build_peak = time.perf_counter() - begun, peak_bytes()
    assert isinstance(game.payoff, Sparse)
    payoffs = sum(int(np.count_nonzero(bucket.values)) for bucket in game.payoff.by_row.buckets)
    kind = algorithms.load(name)
    solution = mmd.solve(game, kind(), tolerance=GOAL, time_limit=seconds, check_every=10)
    trace = solution.trace
    return {
        "game": spec,
        "algorithm": name,
        "sequences": [player.n_sequences for player in game.players],
        "payoffs": payoffs,
        "build_seconds": built,
        "compile_seconds": solution.seconds["compile"],
        "iterations": solution.iterations,
        "seconds_per_iteration": solution.seconds["solve"] / max(solution.iterations, 1),
        "exploitability": solution.exploitability,
        "converged": solution.converged,
        "value": solution.value,
        "curve": [[float(t), float(e)] for t, e in zip(trace["seconds"], trace["exploitability"], strict=True)],
        "memory": {
            "estimate": estimated_bytes(payoffs),
            "before": before,
            "after_build": build_peak,
            "peak": peak_bytes(),
        },
        "environment": environment(),
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--algorithms", nargs="+", default=["cfr+", "restarted"])
    parser.add_argument("--seconds", type=float, default=300.0, help="of solving allowed to each run")
    parser.add_argument("--here", action="store_true", help="measure one game in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.games[0], arguments.algorithms[0], arguments.seconds)))
        return
    path = RESULTS / "scale.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for spec in arguments.games:
        for name in arguments.algorithms:
            command = [sys.executable, "-m", "benchmarks.device.scale", "--here", "--games", spec, "--algorithms", name]
            command += ["--seconds", str(arguments.seconds)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[f"{spec} {name}"] = json.loads(printed.splitlines()[-1])
            store("scale", {"runs": runs})
    print_table(
        (
            "game",
            "algorithm",
            "payoffs",
            "build s",
            "compile s",
            "s/iteration",
            "exploitability",
            "peak / estimate GiB",
        ),
        [
            (
                run["game"],
                run["algorithm"],
                f"{run['payoffs']:,}",
                f"{run['build_seconds']:.1f}",
                f"{run['compile_seconds']:.1f}",
                f"{run['seconds_per_iteration']:.3f}",
                f"{run['exploitability']:.1e}",
                f"{run['memory']['peak'] / GIB:.1f} / {run['memory']['estimate'] / GIB:.1f}",
            )
            for run in runs.values()
        ],
    )


if __name__ == "__main__":
    main()
