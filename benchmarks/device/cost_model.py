"""The model of cost by which `auto` chooses the interior point: predicted beside measured processor seconds.

    python -m benchmarks.device.cost_model [--games leduc_poker ...] [--fit]

What the model predicts (`mmd.solving.automatic.interior_seconds`) is worked out before anything is factored: from the
sizes of the game and from the pattern of its factors. The trees of the race were used to fit its numbers; the others
are held out, and no number was changed after they had been measured. Seconds are of one thread, in a process for each
game: finding the order, and iterating to the default tolerance; the shortest of the repeats. `--fit` prints the numbers
that the trees of the race ask for. Results: benchmarks/results/cost_model.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from scipy.optimize import nnls

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.algorithms.interior import Interior
from mmd.solving import automatic

FITTED = (
    "kuhn_poker",
    "leduc_poker",
    "leduc_poker:ranks=5",
    "leduc_poker:ranks=9",
    "goofspiel:cards=4",
    "goofspiel:cards=5",
    "liars_dice:faces=4",
    "liars_dice:faces=5",
    "liars_dice:faces=6",
    "battleship",
    "dark_hex",
)
HELD_OUT = (
    "kuhn_poker:cards=13",
    "leduc_poker:ranks=4",
    "leduc_poker:ranks=5,suits=3",
    "leduc_poker:ranks=3,raises=4",
    "leduc_poker:ranks=7",
    "leduc_poker:ranks=8",
    "goofspiel:cards=4,order=random",
    "goofspiel:cards=5,order=ascending",
    "liars_dice:faces=3,dice=2",
    "liars_dice:faces=2,dice=3",
    "battleship:rows=2,columns=3",
    "battleship:rows=2,columns=2,shots=3",
    "dark_hex:rows=2,columns=2,rules=classical",
    "dark_hex:rows=3,columns=2",
    "token_tree:vocabulary=4,length=4",
)
REPEATS, LONG = 3, 5.0  # how often a game is solved, unless it takes so many seconds
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def measure(spec: str) -> dict[str, Any]:
    """One game, in this process."""
    game, taken = games.load(spec), []
    mmd.solve(games.load("kuhn_poker"), Interior())  # so that no import counts
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
        store("cost_model", {"games": measured, "environment": environment()})
        print(spec, measured[spec], flush=True)


if __name__ == "__main__":
    main()
