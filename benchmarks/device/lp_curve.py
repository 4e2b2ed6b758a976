"""Seconds against HiGHS on the sparse sequence form as games grow, and where the curves cross.

    python -m benchmarks.device.lp_curve [--games ...] [--seconds 300]

Three contenders, each in a process of its own: HiGHS to its optimum; `auto` to an exploitability of 1e-9, and without
its polish to 1e-6. Compilation is printed beside the solving time: the persistent cache saves it from the second run
on. A run that takes longer than `--seconds` is stopped and shown as a dash. Results: benchmarks/results/lp_curve.json.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store

GAMES = (
    *(f"liars_dice:faces={faces}" for faces in (4, 5, 6, 7)),
    *(f"leduc_poker:ranks={ranks}" for ranks in (3, 5, 7, 9, 11, 13)),
)
CONTENDERS = ("highs", "auto 1e-9", "auto without polish 1e-6")


def measure(spec: str, contender: str, seconds: float) -> dict[str, Any]:
    """One contender on one game, in this process."""
    game = games.load(spec)
    sizes = {"sequences": [p.n_sequences for p in game.players], "payoffs": len(game.payoff.entries().values)}
    begun = time.perf_counter()
    if contender == "highs":
        exact = mmd.solve_exactly(game)
        solved = {"seconds": time.perf_counter() - begun, "compile_seconds": 0.0}
        return sizes | solved | {"exploitability": exact.certificate.exploitability, "value": exact.certificate.value}
    polish = False if "without polish" in contender else None
    solution = mmd.solve(game, tolerance=float(contender.split()[-1]), polish=polish, time_limit=seconds)
    return sizes | {
        "seconds": solution.seconds["solve"] if solution.converged else None,
        "compile_seconds": solution.seconds["compile"],
        "exploitability": solution.exploitability,
        "value": solution.value,
        "gradient_evaluations": solution.gradient_evaluations,
    }


def in_a_process(spec: str, contender: str, seconds: float) -> dict[str, Any]:
    """The same in a process that is stopped when it takes too long."""
    command = [sys.executable, "-m", "benchmarks.device.lp_curve", "--here", contender, "--games", spec]
    command += ["--seconds", str(seconds)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 180)
    except subprocess.TimeoutExpired:
        return {"seconds": None, "compile_seconds": None}
    return json.loads(done.stdout.splitlines()[-1])


def crossing(measured: dict[str, Any], family: str, contender: str) -> str | None:
    """The smallest game of a family from which on the contender is faster than HiGHS."""
    crossed = None
    for spec, runs in measured.items():
        if spec.startswith(family) and {"highs", contender} <= runs.keys():
            ours, theirs = runs[contender]["seconds"], runs["highs"]["seconds"]
            faster = ours is not None and (theirs is None or ours < theirs)
            crossed = (crossed or spec) if faster else None
    return crossed


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--here", choices=CONTENDERS, help="measure one contender in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.games[0], arguments.here, arguments.seconds)))
        return
    path = RESULTS / "lp_curve.json"
    measured = json.loads(path.read_text())["games"] if path.exists() else {}
    for spec in arguments.games:
        measured[spec] = {name: in_a_process(spec, name, arguments.seconds) for name in CONTENDERS}
        measured = {name: measured[name] for name in sorted(measured, key=GAMES.index)}
        crossings = {
            f"{family}, {name}": crossing(measured, family, name)
            for family in ("liars_dice", "leduc_poker")
            for name in CONTENDERS[1:]
        }
        store("lp_curve", {"games": measured, "faster_than_highs_from": crossings, "environment": environment()})

    def shown(run: dict[str, Any]) -> str:
        return "-" if run["seconds"] is None else f"{run['seconds']:.2f} (+{run['compile_seconds']:.1f})"

    print_table(
        ("game", "payoffs", *CONTENDERS),
        [
            (spec, f"{next((r['payoffs'] for r in runs.values() if 'payoffs' in r), 0):,}", *map(shown, runs.values()))
            for spec, runs in measured.items()
        ],
    )


if __name__ == "__main__":
    main()
