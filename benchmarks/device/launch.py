"""One launch: a game solved in this process to a tolerance, and the processor's seconds until then, as a line of JSON.

    python -P benchmarks/device/launch.py SPEC TOLERANCE [--matrix FILE] [--perturbed SEED] [--algorithm NAME] [--highs]
        [--seconds N]

`mmd` may be any version: only names are used that 0.1.0 has as well, so `PYTHONPATH` chooses it. Processor seconds are
those of all threads since the process began: until JAX and all imports were there, the game was built, and it was
solved. `--highs` also solves by HiGHS afterwards, attempt by attempt until one is within the tolerance: a second
line. Either is then done once more, which says what it takes alone, without its imports.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

SHORT = 3.0  # seconds of solving, imports included, up to which it is done once more without them


def perturbed(game: Any, seed: int) -> Any:
    """The game with every payoff times a draw from (0.8, 1.2)."""
    entries = game.payoff.entries()
    values = entries.values * np.random.default_rng(seed).uniform(0.8, 1.2, len(entries.values))
    return type(game).from_entries(game.players, entries._replace(values=values), game.description)


def by_highs(game: Any, tolerance: float) -> dict[str, Any]:
    """Attempts of HiGHS until one is within the tolerance: seconds of each, with imports and without."""
    begun, seconds, exploitability = time.process_time(), [], np.inf
    from mmd.measure.exact import attempts

    for found in attempts(game):
        seconds.append(round(time.process_time() - begun, 4))
        begun, exploitability = time.process_time(), min(exploitability, found.exploitability)
        if exploitability <= tolerance:
            break
    alone = sum(seconds) if sum(seconds) > SHORT else once_more(lambda: [*islice(attempts(game), len(seconds))])
    return {"attempts": seconds, "alone": alone, "exploitability": exploitability}


def once_more(run: Callable[[], Any]) -> float:
    """Processor seconds of what has been done before in this process, so that no import counts."""
    begun = time.process_time()
    run()
    return round(time.process_time() - begun, 4)


def main() -> None:
    """Solve and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec")
    parser.add_argument("tolerance", type=float)
    parser.add_argument("--matrix", help="a file of NumPy with payoffs, instead of the game that SPEC names")
    parser.add_argument("--perturbed", type=int)
    parser.add_argument("--algorithm", default="auto")
    parser.add_argument("--highs", action="store_true")
    parser.add_argument("--seconds", type=int, help="of the processor, after which the process is killed")
    asked = parser.parse_args()
    if asked.seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (asked.seconds, asked.seconds))
    import jax  # noqa: F401 - to know what it takes

    seconds = {"jax": time.process_time()}
    import games
    import mmd
    from mmd import algorithms

    algorithm = None if asked.algorithm == "auto" else algorithms.load(asked.algorithm)()
    seconds["imported"] = time.process_time()
    game = games.load(asked.spec) if asked.matrix is None else mmd.Game.from_matrix(np.load(asked.matrix))
    game = game if asked.perturbed is None else perturbed(game, asked.perturbed)
    seconds["built"] = time.process_time()
    solution = mmd.solve(game, algorithm, tolerance=asked.tolerance)
    seconds["solved"] = time.process_time()
    solving = seconds["solved"] - seconds["built"]
    seconds["alone"] = solving
    if asked.highs and solving <= SHORT:
        seconds["alone"] = once_more(lambda: mmd.solve(game, algorithm, tolerance=asked.tolerance))
    exploitability = mmd.certify(game, solution.policy.probabilities).exploitability
    found = {
        "tolerance": asked.tolerance,
        "seconds": {part: round(taken, 4) for part, taken in seconds.items()},
        "converged": bool(solution.converged and exploitability <= asked.tolerance),
        "exploitability": exploitability,
        "value": solution.value,
        "method": solution.algorithm["name"],
        "iterate": solution.iterate,
        "iterations": solution.iterations,
    }
    print(json.dumps(found), flush=True)
    if asked.highs:
        print(json.dumps(by_highs(game, asked.tolerance)))


if __name__ == "__main__":
    main()
