"""The model of cost by which `auto` chooses the interior point: predicted beside measured processor seconds.

    python -m benchmarks.device.cost_model [--games leduc_poker ...]

What the model predicts (`mmd.solving.automatic.interior_seconds`) is worked out before anything is factored: from the
sizes of the game and from the pattern of its factors. How many iterations it expects is a least squares fit of
logarithms on the trees of the race, and what one takes was chosen by hand on them; the other trees are held out.
Seconds are of one thread, in a process for each game:
finding the order, and iterating to the default tolerance; the shortest of the repeats. Results:
benchmarks/results/cost_model.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import games
import mmd
from benchmarks.claims.race import GAMES
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.algorithms._newton import Work
from mmd.algorithms.interior import Interior
from mmd.solving import automatic

FITTED = tuple(name for name in GAMES if name != "goofspiel:cards=6")  # which no factor fits
HELD_OUT = (
    "kuhn_poker:cards=13",
    "leduc_poker:ranks=4",
    "leduc_poker:ranks=5,suits=3",
    "leduc_poker:ranks=3,raises=4",
    "leduc_poker:ranks=7",
    "goofspiel:cards=4,order=random",
    "goofspiel:cards=5,order=ascending",
    "liars_dice:faces=2,dice=3",
    "battleship:rows=2,columns=2,shots=3",
    "dark_hex:rows=2,columns=2,rules=classical",
    "token_tree:vocabulary=4,length=4",
)
REPEATS, LONG = 3, 0.5  # how often a game is solved, unless it takes so many seconds
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def measure(spec: str) -> dict[str, Any]:
    """One game, in this process."""
    game, taken = games.load(spec), []
    solution = mmd.solve(games.load("kuhn_poker"), Interior())  # so that no import counts
    while len(taken) < REPEATS and not (taken and max(taken) > LONG):
        begun = time.process_time()
        solution = mmd.solve(game, Interior())
        taken.append(time.process_time() - begun)
    prepared = Interior().resolve(game).prepared
    assert prepared is not None
    work = prepared.newton.work
    return {
        "sequences": [player.n_sequences for player in game.players],
        "payoffs": game.payoff.n_stored,
        "work": work._asdict(),
        "entries": prepared.newton.matrix.nnz,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "seconds": min(taken),
    }


def in_a_process(spec: str) -> dict[str, Any]:
    """The same in a process of its own, with one thread."""
    command = [sys.executable, "-m", "benchmarks.device.cost_model", "--here", "--games", spec]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1])


def predicted(run: dict[str, Any]) -> float:
    """What the model says, before anything is factored."""
    work = Work(sum(run["sequences"]), run["work"]["entries"], run["work"]["operations"])
    return automatic.interior_seconds(work)


def main() -> None:
    """Measure what is missing, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", help="measure these anew; those that have not been measured if none")
    parser.add_argument("--here", action="store_true", help="measure one game in this process, as JSON")
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.games[0])))
        return
    path = RESULTS / "cost_model.json"
    measured = json.loads(path.read_text())["games"] if path.exists() else {}
    for spec in asked.games or [spec for spec in (*FITTED, *HELD_OUT) if spec not in measured]:
        measured[spec] = in_a_process(spec)
        keep(measured)
        print(spec, measured[spec], flush=True)
    keep(measured)
    rows = [
        (spec, group, f"{predicted(run):.2f}", f"{run['seconds']:.2f}", f"{predicted(run) / run['seconds']:.2f}")
        for group, names in (("fitted", FITTED), ("held out", HELD_OUT))
        for spec, run in measured.items()
        if spec in names
    ]
    print_table(("tree", "", "predicted, s", "measured, s", "ratio"), rows)


def keep(measured: dict[str, Any]) -> None:
    """Store what was measured, with what the model says now and how far it is off, in order."""
    order = [spec for spec in (*FITTED, *HELD_OUT) if spec in measured]
    games_ = {spec: measured[spec] | {"predicted": predicted(measured[spec])} for spec in order}
    ratios = {spec: run["predicted"] / run["seconds"] for spec, run in games_.items()}
    held_out = [max(ratio, 1 / ratio) for spec, ratio in ratios.items() if spec in HELD_OUT]
    worst = {"held_out": max(held_out, default=None), "held_out_trees": len(held_out)}
    store("cost_model", {"games": games_, "worst_factor": worst, "environment": environment()})


if __name__ == "__main__":
    main()
