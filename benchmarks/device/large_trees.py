"""Trees too large to factor: processor seconds to 1e-3 and 1e-6 of the default, of HiGHS and of compiled CFR.

    python -m benchmarks.device.large_trees [--games goofspiel:cards=6 ...] [--contenders ...] [--table]

Every run is a process of its own with one thread and no program kept on disk. Seconds are the processor's, from
launching Python to a certificate of the exploitability in payoff units, imports, building and compiling included. What
takes more than 1,800 of them, or more than 16 GB, is "not reached", and is not tried at 1e-6 where 1e-3 was not
reached. `restarted` is what the default was in version 0.1: beside it stands what beginning with discounted CFR on the
host is worth. What has been measured is kept, unless it is named: benchmarks/results/large_trees.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.report import RESULTS, environment, print_table, store

NAME = "large_trees"
GAMES = ("liars_dice:faces=6", "goofspiel:cards=6", "liars_dice:faces=7", "liars_dice:faces=8")
MARKS = ("1e-3", "1e-6")
METHODS = ("auto", "highs", "dcfr", "pcfr+", "pdcfr+", "restarted")
CONTENDERS = tuple(f"{method} {mark}" for mark in MARKS for method in METHODS)
SECONDS, BYTES = 1_800, 16 * 10**9
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def measure(spec: str, contender: str) -> dict[str, Any]:
    """One contender on one game, in this process, which has just begun."""
    method, mark = contender.split()
    import games
    import mmd

    game, tolerance = games.load(spec), float(mark)
    if method == "highs":
        from mmd.measure.exact import attempts

        found = next((one for one in attempts(game) if one.exploitability <= tolerance), None)
        exploitability, name = found.exploitability if found else None, "highs"
    else:
        algorithm = mmd.algorithms.load(method)()
        solution = mmd.solve(game, algorithm, tolerance=tolerance, max_iterations=10**7)
        exploitability, name = solution.exploitability, solution.algorithm["name"]
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.process_time(), "exploitability": exploitability, "method": name, "peak_bytes": peak}


def in_a_process(spec: str, contender: str) -> dict[str, Any]:
    """The same in a process that is stopped at the limits."""
    command = [sys.executable, "-m", "benchmarks.device.large_trees", "--here", contender, "--games", spec]
    with tempfile.TemporaryDirectory() as kept:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | ONE_THREAD | {"JAX_COMPILATION_CACHE_DIR": kept},
        )
    if done.returncode:
        return {"not_reached": done.stderr.splitlines()[-1] if done.stderr else f"{SECONDS} s"}
    return json.loads(done.stdout.splitlines()[-1])


def implied(runs: dict[str, Any], contender: str) -> dict[str, Any] | None:
    """What the run to the wider mark says of the narrower: not reached either, or reached at once."""
    method, mark = contender.split()
    wider = runs.get(f"{method} {MARKS[0]}", {}) if mark != MARKS[0] else {}
    return wider if "not_reached" in wider or wider.get("exploitability", 1.0) <= float(mark) else None


def main() -> None:
    """Measure what is missing, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="measure these anew")
    parser.add_argument("--here", choices=CONTENDERS, help="measure one contender in this process, as JSON")
    parser.add_argument("--table", action="store_true", help="only print what is stored")
    asked = parser.parse_args()
    if asked.here:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        print(json.dumps(measure(asked.games[0], asked.here)))
        return
    for spec in () if asked.table else asked.games:
        for contender in asked.contenders or [one for one in CONTENDERS if one not in _stored().get(spec, {})]:
            found = implied(_stored().get(spec, {}), contender) or in_a_process(spec, contender)
            measured = _stored()  # another run may have stored
            measured.setdefault(spec, {})[contender] = found
            measured = {name: measured[name] for name in sorted(measured, key=GAMES.index)}
            store(NAME, {"games": measured, "cfr_start_gains": gains(measured), "environment": environment()})
            print(spec, contender, found, flush=True)
    measured = _stored()
    print_table(("game", *CONTENDERS), [row(spec, runs) for spec, runs in measured.items()])


def _stored() -> dict[str, Any]:
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["games"] if path.exists() else {}


def gains(measured: dict[str, Any]) -> dict[str, float]:
    """How many times longer the default of version 0.1 takes to 1e-3 than the default, which begins with CFR."""
    return {
        spec: runs["restarted 1e-3"]["seconds"] / runs["auto 1e-3"]["seconds"]
        for spec, runs in measured.items()
        if all("seconds" in runs.get(name, {}) for name in ("restarted 1e-3", "auto 1e-3"))
    }


def row(spec: str, runs: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table; empty where nothing was measured."""
    shown = (runs.get(contender) for contender in CONTENDERS)
    return (spec, *("" if one is None else f"{one['seconds']:.1f}" if "seconds" in one else "-" for one in shown))


if __name__ == "__main__":
    main()
