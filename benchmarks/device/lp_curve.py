"""Processor seconds against HiGHS on the sparse sequence form as games grow, and where the curves cross.

    python -m benchmarks.device.lp_curve [--games ...] [--seconds 600]

Contenders, each in a process of its own with one thread: HiGHS's dual simplex, attempt by attempt until one is
certified to an exploitability of 1e-9 (`mmd.solve_exactly` goes on to its own, stricter bound); and the default to
1e-9, which says what method it chose. Seconds are those of the processor, of solving alone: imports and building the
game are not in them, finding an elimination order and compiling are. A run that takes longer than `--seconds` of the
processor is stopped and shown as a dash. Games that `benchmarks.device.cold_start` has measured in this way are taken
from its results unless they are named. Results: benchmarks/results/lp_curve.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.measure.exact import attempts

GAMES = (
    *(f"liars_dice:faces={faces}" for faces in (4, 5, 6, 7)),
    *(f"leduc_poker:ranks={ranks}" for ranks in (3, 5, 7, 9, 11, 13)),
)
CONTENDERS = ("highs", "default")
TOLERANCE = 1e-9
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def measure(spec: str, contender: str) -> dict[str, Any]:
    """One contender on one game, in this process."""
    kuhn, game = games.load("kuhn_poker"), games.load(spec)
    if contender == "highs":
        by_highs(kuhn)  # so that no import counts
        return by_highs(game)
    mmd.solve(kuhn, tolerance=TOLERANCE)
    begun = time.process_time()
    solution = mmd.solve(game, tolerance=TOLERANCE)
    return {
        "seconds": time.process_time() - begun if solution.converged else None,
        "method": solution.algorithm["name"],
        "iterations": solution.iterations,
        "exploitability": solution.exploitability,
        "value": solution.value,
    }


def by_highs(game: mmd.Game) -> dict[str, Any]:
    """Attempts of HiGHS until one is certified to the tolerance: seconds and exploitability of each, and in all."""
    tried: list[dict[str, float]] = []
    begun = time.process_time()
    for found in attempts(game):
        tried.append({"seconds": time.process_time() - begun, "exploitability": found.exploitability})
        if found.exploitability <= TOLERANCE:
            break
        begun = time.process_time()
    reached = tried[-1]["exploitability"] <= TOLERANCE
    return {"seconds": sum(one["seconds"] for one in tried) if reached else None, "attempts": tried}


def in_a_process(spec: str, contender: str, seconds: int) -> dict[str, Any]:
    """The same in a process that is stopped when it takes too long."""
    command = [sys.executable, "-m", "benchmarks.device.lp_curve", "--here", contender, "--games", spec]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode < 0:
        return {"seconds": None, "not_reached_in": seconds}
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def crossing(measured: dict[str, Any], family: str) -> str | None:
    """The smallest game of a family from which on the default takes less time than HiGHS's first attempt."""
    crossed = None
    for spec, runs in measured.items():
        if spec.startswith(family) and {"highs", "default"} <= runs.keys():
            ours, theirs = runs["default"]["seconds"], first_attempt(runs["highs"])
            faster = ours is not None and (theirs is None or ours < theirs)
            crossed = (crossed or spec) if faster else None
    return crossed


def first_attempt(run: dict[str, Any]) -> float | None:
    """Processor seconds of HiGHS's first attempt, whatever it reached; None if it did not end."""
    return run["attempts"][0]["seconds"] if "attempts" in run else None


def main() -> None:
    """Measure what is asked for, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", help="measure these; without, what has not been measured")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--seconds", type=int, default=600, help="of the processor, for each run")
    parser.add_argument("--here", choices=CONTENDERS, help="measure one contender in this process, as JSON")
    parser.add_argument("--table", action="store_true", help="only print what is stored")
    asked = parser.parse_args()
    if asked.here:
        resource.setrlimit(resource.RLIMIT_CPU, (asked.seconds, asked.seconds))
        print(json.dumps(measure(asked.games[0], asked.here)))
        return
    path = RESULTS / "lp_curve.json"
    measured = json.loads(path.read_text())["games"] if path.exists() else {}
    measured = from_cold_starts() | measured
    for spec in () if asked.table else asked.games or [spec for spec in GAMES if spec not in measured]:
        for contender in asked.contenders:
            measured.setdefault(spec, {})[contender] = in_a_process(spec, contender, asked.seconds)
            keep(measured)
            print(spec, contender, measured[spec][contender], flush=True)
    measured = keep(measured)
    print_table(("game", "HiGHS, first attempt", *CONTENDERS), [row(spec, runs) for spec, runs in measured.items()])


def from_cold_starts() -> dict[str, Any]:
    """What the benchmark of cold starts has measured of solving alone."""
    path = RESULTS / "cold_start.json"
    stored = json.loads(path.read_text())["games"] if path.exists() else {}
    known = {spec: spec.removesuffix(":ranks=3") for spec in GAMES}  # Leduc poker has three ranks
    firsts = {spec: stored.get(f"trees/{name}/0", {}).get("first", {}) for spec, name in known.items()}
    return {
        spec: _taken(first) for spec, first in firsts.items() if len(first.get("highs", {}).get("attempts", ())) == 1
    }


def _taken(first: dict[str, Any]) -> dict[str, Any]:
    """One launch in the form of this benchmark; HiGHS needed one attempt."""
    highs, alone = first["highs"], first["seconds"]["alone"]
    attempt = {"seconds": highs["alone"], "exploitability": highs["exploitability"]}
    return {
        "highs": {"seconds": highs["alone"], "attempts": [attempt], "from": "cold_start"},
        "default": {name: first[name] for name in ("method", "iterations", "exploitability", "value")}
        | {"seconds": alone, "from": "cold_start"},
    }


def keep(measured: dict[str, Any]) -> dict[str, Any]:
    """Store in order, with the crossings; what was stored."""
    measured = {name: measured[name] for name in sorted(measured, key=GAMES.index)}
    crossings = {family: crossing(measured, family) for family in ("liars_dice", "leduc_poker")}
    store("lp_curve", {"games": measured, "faster_than_highs_from": crossings, "environment": environment()})
    return measured


def row(spec: str, runs: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    first = first_attempt(runs.get("highs", {}))
    seconds = (runs.get(contender, {}).get("seconds") for contender in CONTENDERS)
    return (spec, *("-" if one is None else f"{one:.2f}" for one in (first, *seconds)))


if __name__ == "__main__":
    main()
