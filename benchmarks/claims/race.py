"""Gradient evaluations and seconds to an exploitability: every algorithm on every family, from the uniform policy.

    python -m benchmarks.claims.race [--games leduc_poker ...] [--seconds 120] [--ours] [--table]

One run gives both iterates of a method that has two; its better one counts. `restarted`, the same without its polish,
and `anchored` run first, to 1e-9. A rival may take three times the gradient evaluations that `restarted` took to 1e-9
without the polish (at least 3,000) and `--seconds` of solving; a dash means "not within that". `interior`, which is
not mirror descent and computes one gradient an iteration, is what the default usually chooses. It and the polish solve
sparse linear systems besides; the gradient evaluations that they take are counted, the systems are in the seconds.
Evaluations do not depend on the machine, seconds do, and compilation is not in them. HiGHS, on the sparse sequence
form, is in its own column: it is exact, and for small games it is the tool to use. Games given are measured anew and
the others kept: benchmarks/results/race.json.
"""

import argparse
import json
import time
from typing import Any

import jax
import numpy as np

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from mmd import algorithms
from mmd.algorithms.contract import AVERAGE, ITERATES, LAST
from mmd.measure.solution import Trace

MARKS = (1e-3, 1e-6, 1e-9)
GAMES = (
    "kuhn_poker",
    "leduc_poker",
    "leduc_poker:ranks=5",
    "leduc_poker:ranks=9",
    "goofspiel:cards=4",
    "goofspiel:cards=5",
    "goofspiel:cards=6",
    "liars_dice:faces=4",
    "liars_dice:faces=5",
    "liars_dice:faces=6",
    "battleship",
    "dark_hex",
)
PLAIN = "restarted, no polish"
OURS = ("interior", "restarted", PLAIN, "anchored")
SCORED = OURS[:3]
FAMILY = ("cfr", "cfr+", "dcfr", "pcfr+", "pdcfr+", "rtcfr+")


def first_below(trace: Trace, column: str) -> dict[str, dict[str, float] | None]:
    """Mark -> evaluations and seconds when a column of the trace was first at most the mark."""
    found: dict[str, dict[str, float] | None] = {}
    for mark in MARKS:
        reached = np.flatnonzero(trace[column] <= mark)
        at = None if not len(reached) else reached[0]
        found[f"{mark:.0e}"] = (
            None
            if at is None
            else {"evaluations": int(trace["gradient_evaluations"][at]), "seconds": float(trace["seconds"][at])}
        )
    return found


def polished_below(solution: mmd.Solution, mark: float) -> dict[str, float] | None:
    """Evaluations and seconds when a polished policy was first at most the mark."""
    for one in solution.polish["tries"] if solution.polish else ():
        if one["nash_conv_after"] / 2 <= mark:
            return {"evaluations": one["gradient_evaluations"], "seconds": one["seconds"]}
    return None


def earlier(one: dict[str, float] | None, other: dict[str, float] | None) -> dict[str, float] | None:
    """The one that took fewer evaluations."""
    return min((at for at in (one, other) if at is not None), key=lambda at: at["evaluations"], default=None)


def run(game: mmd.Game, name: str, limit: int, seconds: float) -> dict[str, Any]:
    """One algorithm on one game, each of its iterates."""
    jax.clear_caches()  # a process can map only so many compiled programs
    kind = algorithms.load(name.split(",")[0])
    has_average = not kind.keeps_best and "iterate" in getattr(kind, "__dataclass_fields__", {})
    algorithm = kind(iterate=ITERATES[LAST]) if has_average else kind()
    polish = False if name == PLAIN else None
    solution = mmd.solve(game, algorithm, tolerance=MARKS[-1], max_iterations=limit, time_limit=seconds, polish=polish)
    found = first_below(solution.trace, "exploitability")
    if solution.polish is not None:
        found = {mark: earlier(at, polished_below(solution, float(mark))) for mark, at in found.items()}
    iterates = {"best" if kind.keeps_best else ITERATES[LAST]: found}
    if has_average:
        iterates[ITERATES[AVERAGE]] = first_below(solution.trace, "average_exploitability")
    return {
        "iterates": iterates,
        "status": str(solution.status),
        "value": solution.value,
        "exploitability": solution.exploitability,
        "gradient_evaluations": solution.gradient_evaluations,
        "seconds": solution.seconds,
    }


def defined(game: mmd.Game, name: str) -> bool:
    """Whether an algorithm is defined on a game; methods for preference games refuse trees."""
    try:
        algorithms.load(name)().resolve(game)
    except mmd.GameError:
        return False
    return True


def race(spec: str, seconds: float, rivals: dict[str, Any] | None) -> dict[str, Any]:
    """All algorithms on one game; `rivals` are those that were measured before, None to measure them."""
    game = games.load(spec)
    runs = {name: run(game, name, 60_000, 4 * seconds) for name in OURS}
    limit = max(3_000, 3 * runs[PLAIN]["gradient_evaluations"])
    for name in algorithms.names():
        if name not in OURS and rivals is None and defined(game, name):
            runs[name] = run(game, name, limit, seconds)
            print(f"  {spec} {name}: {runs[name]['exploitability']:.1e}", flush=True)
    runs |= rivals or {}
    begun = time.perf_counter()
    exact = mmd.solve_exactly(game)
    return {
        "game": spec,
        "sequences": [player.n_sequences for player in game.players],
        "runs": runs,
        "rival_limit": {"gradient_evaluations": limit, "seconds": seconds},
        "exact": {"value": exact.certificate.value, "seconds": time.perf_counter() - begun},
        "environment": environment(),
    }


def run_again(result: dict[str, Any], names: list[str], seconds: float) -> dict[str, Any]:
    """Some rivals with another limit of seconds; the other runs are kept."""
    game, limit = games.load(result["game"]), result["rival_limit"]["gradient_evaluations"]
    for name in names:
        result["runs"][name] = run(game, name, limit, seconds) | {"time_limit": seconds, "environment": environment()}
        print(f"  {result['game']} {name}: {result['runs'][name]['exploitability']:.1e}", flush=True)
    return result


def evaluations(runs: dict[str, Any], names: list[str], mark: str) -> tuple[int, str] | None:
    """Fewest evaluations to the mark among some algorithms' iterates, and whose they are."""
    found = [
        (marks[mark]["evaluations"], f"{name} ({iterate})")
        for name in names
        if name in runs
        for iterate, marks in runs[name]["iterates"].items()
        if marks[mark]
    ]
    return min(found) if found else None


def summarize(measured: dict[str, Any]) -> list[list[str]]:
    """A line for each game and mark: ours, the best rival, and HiGHS."""
    rows = []
    for spec, result in measured.items():
        runs = result["runs"]
        rivals = [name for name in runs if name not in OURS]
        for mark in (f"{m:.0e}" for m in MARKS):
            ours = [evaluations(runs, [name], mark) for name in OURS]
            family = evaluations(runs, [name for name in rivals if name in FAMILY], mark)
            other = evaluations(runs, [name for name in rivals if name not in FAMILY], mark)
            taken = runs["restarted"]["iterates"]["best"][mark]
            cells = [f"{o[0]}" if o else "-" for o in ours] + [f"{r[0]} {r[1]}" if r else "-" for r in (family, other)]
            wall = f"{taken['seconds']:.2f}" if taken else "-"
            rows.append([spec, mark, *cells, wall, f"{result['exact']['seconds']:.2f}"])
    return rows


def score(measured: dict[str, Any], engine: str, mark: str = "1e-06") -> dict[str, int]:
    """Games on which an engine of ours needs fewer evaluations than the best CFR-family iterate, and at most half."""
    fewer = half = 0
    for result in measured.values():
        ours = evaluations(result["runs"], [engine], mark)
        family = evaluations(result["runs"], [name for name in FAMILY if name in result["runs"]], mark)
        theirs = family[0] if family else np.inf
        fewer += ours is not None and ours[0] < theirs
        half += ours is not None and 2 * ours[0] <= theirs
    return {"games": len(measured), "fewer": fewer, "at_most_half": half}


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--seconds", type=float, default=120.0, help="of solving allowed to a rival")
    parser.add_argument("--ours", action="store_true", help="measure our engines anew and keep the rivals' runs")
    parser.add_argument("--rivals", nargs="+", help="measure only these anew, on games that have been measured")
    parser.add_argument("--table", action="store_true", help="only print what is stored")
    arguments = parser.parse_args()
    path = RESULTS / "race.json"
    measured = json.loads(path.read_text())["games"] if path.exists() else {}

    def keep() -> None:
        store("race", {"games": measured, "score_to_1e-06": {name: score(measured, name) for name in SCORED}})

    for spec in () if arguments.table else arguments.games:
        if arguments.rivals:
            measured[spec] = run_again(measured[spec], arguments.rivals, arguments.seconds)
            keep()
            continue
        before = measured[spec]["runs"] if arguments.ours and spec in measured else None
        rivals = before and {name: run for name, run in before.items() if name not in OURS}
        measured[spec] = race(spec, arguments.seconds, rivals)
        measured = {name: measured[name] for name in sorted(measured, key=lambda s: (s not in GAMES, s))}
        keep()
    header = ("game", "to", *OURS, "best of CFR family", "best of the others", "restarted s", "HiGHS s")
    print_table(header, summarize(measured))
    print({name: score(measured, name) for name in SCORED})


if __name__ == "__main__":
    main()
