"""From launching Python to a certified 1e-9: processor seconds of the default, of version 0.1.0 and of HiGHS.

    python -m benchmarks.device.cold_start [--before TREE] [--groups trees random ...] [--page]

Eleven trees of the race, the 200 random games of `random_games`, 54 matrices of seven kinds and 100 trees of five
families with every payoff times a draw from (0.8, 1.2). Every tree of the race and one game of each other kind are
launched: in a process of its own, with one thread for NumPy, the first time with no program kept on disk, the second
("again") with what the first one kept, unless that is nothing and the first took more than ten seconds. Processor
seconds of all threads since the process began, imports, building and compiling included. HiGHS solves in the first
process after ours: its launch is importing, building, and the attempts it takes to be certified to the same tolerance.
The other games are solved one after the other in one process, by the default and by HiGHS: nothing is compiled for
them, or they are launched as well.

`--before` is a working tree of version 0.1.0 (`git worktree add --detach TREE 8910e38`): it is launched on the same
games, with so many processor seconds at most; what it does not reach by then is "not reached". The method that it calls
`auto` is named `restarted` since.

The tolerance is 1e-9 in payoff units, of matrices 1e-9 of the largest payoff. What has been measured is kept and not
measured again: benchmarks/results/cold_start.json. `--page` writes docs/benchmarks/cold-start.md from it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.claims import race, random_games
from benchmarks.device import launch
from benchmarks.report import RESULTS, environment, store

NAME, PAGE = "cold_start", RESULTS.parents[1] / "docs" / "benchmarks" / "cold-start.md"
LAUNCH = Path(__file__).with_name("launch.py")
TOLERANCE = 1e-9
TREES = tuple(spec for spec in race.GAMES if spec != "goofspiel:cards=6")
FAMILIES = ("kuhn_poker:cards=5", "leduc_poker", "goofspiel:cards=5", "liars_dice:faces=4", "battleship")
COPIES, DRAWS = 20, 200
SHAPES = ((100, 100), (60, 200))
MOST_SECONDS = {"trees": 300, "perturbed": 60, "random": 60, "matrices": 60}  # of the processor, a launch
FEW = 1  # games of a kind that are launched
LONG = 10.0  # processor seconds of a launch that is not repeated if it keeps nothing
NAMES = {"trees": "trees of the race", "perturbed": "perturbed trees", "random": "random games", "matrices": "matrices"}
WITHIN, MOST_TIMES = 3, 2  # times HiGHS, times version 0.1.0 again: what is named on the page
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def uniform(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Independent, uniform."""
    return rng.uniform(-1, 1, shape)


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Independent, normal."""
    return rng.normal(size=shape)


def integers(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Losses, draws and wins, with many ties."""
    return rng.integers(-1, 2, shape).astype(float)


def duplicated(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rows and columns of a smaller game, repeated."""
    rows, columns = (rng.integers(0, n // 2, n) for n in shape)
    return rng.uniform(-1, 1, shape)[np.ix_(rows, columns)]


def low_rank(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rank five."""
    return rng.normal(size=(shape[0], 5)) @ rng.normal(size=(5, shape[1]))


def antisymmetric(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A preference game's margins."""
    square = rng.uniform(-1, 1, (shape[0], shape[0]))
    return (square - square.T) / 2


def tournament(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Margins of -1, 0 and 1."""
    upper = np.triu(rng.integers(-1, 2, (shape[0], shape[0])), 1).astype(float)
    return upper - upper.T


RECTANGULAR: tuple[Draw, ...] = (uniform, normal, integers, duplicated, low_rank)
SQUARE: tuple[Draw, ...] = (antisymmetric, tournament)


@dataclass(frozen=True)
class Case:
    """One game: the group and kind it counts to, its number there, and how it is made."""

    group: str
    kind: str
    number: int
    perturbed: bool = False
    matrix: Callable[[], np.ndarray] | None = None

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.group}/{self.kind}/{self.number}"

    @property
    def is_early(self) -> bool:
        """Whether it is launched in any case."""
        of_kind = [case.number for case in cases() if (case.group, case.kind) == (self.group, self.kind)]
        return self.number in of_kind[:FEW]

    def arguments(self, folder: Path) -> list[str]:
        """Of `launch.py`."""
        if self.matrix is None:
            return [self.kind, str(TOLERANCE), *(["--perturbed", str(self.number)] if self.perturbed else [])]
        np.save(folder / "payoffs.npy", self.matrix())
        return ["matrix", repr(self.tolerance), "--matrix", str(folder / "payoffs.npy")]

    def game(self) -> mmd.Game:
        """The game itself."""
        if self.matrix is not None:
            return mmd.Game.from_matrix(self.matrix())
        return launch.perturbed(games.load(self.kind), self.number) if self.perturbed else games.load(self.kind)

    @property
    def tolerance(self) -> float:
        """In payoff units."""
        return TOLERANCE * ((0.0 if self.matrix is None else float(np.abs(self.matrix()).max())) or 1.0)


def cases() -> list[Case]:
    """Every game, by group."""
    found = [Case("trees", spec, 0) for spec in TREES]
    found += [Case("perturbed", spec, seed, perturbed=True) for spec in FAMILIES for seed in range(COPIES)]
    for seed in range(DRAWS):
        kind = random_games.KINDS[seed % len(random_games.KINDS)]
        found.append(Case("random", kind, seed, matrix=partial(_random, seed)))
    for draw in (*RECTANGULAR, *SQUARE):
        shapes = [SHAPES[0]] * 7 if draw in SQUARE else [shape for shape in SHAPES for _ in range(4)]
        for number, shape in enumerate(shapes):
            found.append(Case("matrices", draw.__name__, number, matrix=partial(_matrix, draw, shape, number)))
    return found


def _random(seed: int) -> np.ndarray:
    return random_games.draw(seed)[1]


def _matrix(draw: Draw, shape: tuple[int, int], number: int) -> np.ndarray:
    return draw(np.random.default_rng([sum(map(ord, draw.__name__)), number]), shape)


def launched(arguments: list[str], *, kept: Path, tree: Path, seconds: int) -> dict[str, Any]:
    """What one launch printed; what it did not reach in so many processor seconds is said.

    Args:
        arguments: of `launch.py`.
        kept: folder of compiled programs.
        tree: working tree whose `mmd` is launched.
        seconds: of the processor allowed.
    """
    done = subprocess.run(
        [sys.executable, "-P", str(LAUNCH), *arguments, "--seconds", str(seconds)],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": str(kept)},
        cwd=tree,
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode > 0:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    if not lines:
        return {"not_reached_in": seconds}
    wants_highs = "--highs" in arguments
    return lines[0] | ({"highs": lines[1] if len(lines) > 1 else {"not_reached_in": seconds}} if wants_highs else {})


def launches(case: Case, *, tree: Path, prefix: str = "") -> dict[str, Any]:
    """The two launches of one game by one version; HiGHS solves in the first one of ours."""
    with tempfile.TemporaryDirectory() as name:
        arguments, highs = case.arguments(Path(name)), [] if prefix else ["--highs"]
        launch = partial(launched, kept=Path(name) / "programs", tree=tree, seconds=MOST_SECONDS[case.group])
        found = {f"{prefix}first": launch([*arguments, *highs])}
        first = found[f"{prefix}first"]
        compiled = {first.get("method"), first.get("iterate")} != {"interior"}
        if "not_reached_in" not in first and (compiled or first["seconds"]["solved"] <= LONG):
            found[f"{prefix}again"] = launch(arguments)
    return found


def alone(case: Case) -> dict[str, Any]:
    """One game solved in this process, by the default and by HiGHS."""
    game = case.game()
    begun = time.process_time()
    solution = mmd.solve(game, tolerance=case.tolerance)
    taken = time.process_time() - begun
    exploitability = mmd.certify(game, solution.policy.probabilities).exploitability
    return {
        "tolerance": case.tolerance,
        "seconds": {"alone": round(taken, 4)},
        "converged": bool(solution.converged and exploitability <= case.tolerance),
        "exploitability": exploitability,
        "method": solution.algorithm["name"],
        "iterate": solution.iterate,
        "iterations": solution.iterations,
        "highs": launch.by_highs(game, case.tolerance),
    }


def launch_seconds(run: dict[str, Any] | None) -> float:
    """Processor seconds from the start of the process to the solution; infinite where that was not reached."""
    return run["seconds"]["solved"] if run and run.get("converged") else np.inf


def solve_seconds(run: dict[str, Any]) -> float:
    """Those of `mmd.solve` alone, without its imports."""
    return run["seconds"]["alone"] if run.get("converged") else np.inf


def highs_seconds(run: dict[str, Any]) -> float:
    """Processor seconds of HiGHS alone, without its imports, until it is as exact; infinite where it never is."""
    found = run["highs"]
    return found["alone"] if found.get("exploitability", np.inf) <= run["tolerance"] else np.inf


def highs_launch(run: dict[str, Any]) -> float:
    """Those of a launch with HiGHS: imports, building and its attempts."""
    return run["seconds"]["built"] + sum(run["highs"]["attempts"]) if highs_seconds(run) < np.inf else np.inf


def main() -> None:
    """Measure what is missing, store after every game, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a working tree of version 0.1.0: launch this one")
    parser.add_argument("--groups", nargs="+", default=list(MOST_SECONDS), choices=list(MOST_SECONDS))
    parser.add_argument("--kinds", nargs="+", help="only these")
    parser.add_argument("--here", action="store_true", help="only what is not launched, in this process")
    parser.add_argument("--page", action="store_true", help="only write the page from what is stored")
    asked = parser.parse_args()
    if asked.here:
        mmd.solve(games.load("kuhn_poker"), tolerance=TOLERANCE)  # so that no import counts
    elif not (asked.page or asked.before or asked.groups == ["trees"]):
        here = [sys.executable, "-m", "benchmarks.device.cold_start", "--here", *sys.argv[1:]]
        subprocess.run(here, check=True, env=os.environ | ONE_THREAD)
    for case in () if asked.page else cases():
        if case.group in asked.groups and (not asked.kinds or case.kind in asked.kinds):
            _measure(case, here=asked.here, before=asked.before)
    if not asked.here:
        PAGE.write_text(page(json.loads((RESULTS / f"{NAME}.json").read_text())))


def _measure(case: Case, *, here: bool, before: Path | None) -> None:
    """Measure and store what is missing of one game."""
    seen = _stored().get(case.key, {})
    if here:
        if case.group == "trees" or "alone" in seen:
            return
        found = {"alone": alone(case)}
    else:
        compiled = "alone" in seen and {seen["alone"]["method"], seen["alone"]["iterate"]} != {"interior"}
        prefix = "before_" if before else ""
        if f"{prefix}first" in seen or not (case.is_early or (compiled and not before)):
            return
        found = launches(case, tree=before or RESULTS.parents[1], prefix=prefix)
    stored = _stored()
    stored[case.key] = stored.get(case.key, {}) | found
    order = [other.key for other in cases()]
    store(NAME, {"games": {k: stored[k] for k in order if k in stored}, "environment": environment()})
    print(case.key, {name: (run.get("converged"), run.get("seconds")) for name, run in found.items()}, flush=True)


def _stored() -> dict[str, Any]:
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["games"] if path.exists() else {}


# -------------------------------------------------------------------- the page

HEADER = ("first launch", "again", "0.1.0: first", "0.1.0: again", "HiGHS", "solving alone", "HiGHS alone")
PAGE_TEXT = """# Cold start

By `python -m benchmarks.device.cold_start`, from `benchmarks/results/cold_start.json`: processor seconds from
launching Python to an exploitability of 1e-9, certified (1e-9 in payoff units, of matrices 1e-9 of the largest
payoff), on one core that others used as well. Imports, building the game and compiling are in them; `import jax` is
about {jax:.1f} s of each. The first launch finds no compiled program on disk, the second ("again") those that the
first one kept. HiGHS is `scipy.optimize.linprog` on the sparse sequence form (`mmd.solve_exactly`), until an
attempt is certified to the same tolerance, its launch with the same imports. Solving alone is the same once more in
that process, without imports.

{converged}

{highs}

{before}

## Trees of the race

{trees}

## Drawn games

One game of each kind was launched; of solving alone the median and, in brackets, the largest.

{drawn}

The 54 matrices are 100 x 100 and 60 x 200; the random games have 2 to 200 actions and scales from 1e-6 to 1e6
(`python -m benchmarks.claims.random_games`). In a perturbed tree every payoff is multiplied by its own draw from
(0.8, 1.2), seeds 0 to 19.
"""


def page(stored: dict[str, Any]) -> str:
    """The page, Markdown."""
    measured = stored["games"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, runs in measured.items():
        group, kind, _ = key.split("/")
        groups.setdefault((group, kind), []).append(runs)
    return PAGE_TEXT.format(
        jax=float(
            np.nanmedian([runs["first"]["seconds"].get("jax", np.nan) for runs in measured.values() if "first" in runs])
        ),
        converged=_converged(measured),
        highs=_highs(measured),
        before=_before(measured),
        trees=_table(
            ("game", *HEADER),
            [_tree(kind, runs[0]) for (group, kind), runs in groups.items() if group == "trees"],
        ),
        drawn=_table(
            ("games", "kind", "converged", *HEADER),
            [_drawn(group, kind, runs) for (group, kind), runs in groups.items() if group != "trees"],
        ),
    )


def _converged(measured: dict[str, Any]) -> str:
    missed = [key for key, runs in measured.items() if not _solved(runs).get("converged")]
    by_group = (sum(key.startswith(f"{group}/") for key in measured) for group in MOST_SECONDS)
    counts = ", ".join(f"{n} {NAMES[group]}" for n, group in zip(by_group, MOST_SECONDS, strict=True))
    return f"**Games**: {counts}. " + (f"Not reached: {', '.join(missed)}." if missed else "All converge.")


def _highs(measured: dict[str, Any]) -> str:
    solved = {key: _solved(runs) for key, runs in measured.items() if _solved(runs).get("converged")}
    ratios = {key: solve_seconds(first) / highs_seconds(first) for key, first in solved.items()}
    slower = {key: ratio for key, ratio in ratios.items() if ratio > 1}
    trees = {key.split("/")[1]: ratio for key, ratio in ratios.items() if key.startswith("trees/")}
    beyond = [f"{name} ({ratio:.1f} times)" for name, ratio in trees.items() if ratio > WITHIN]
    far = (
        f"More than {WITHIN} times as long as HiGHS: {', '.join(beyond)}."
        if beyond
        else f"No tree takes {WITHIN} times."
    )
    faster = [name for name, ratio in trees.items() if ratio <= 1]
    return (
        f"**HiGHS is faster** in solving alone on {len(slower)} of these {len(ratios)} games, and on all trees of the "
        f"race but {_list(faster)}. {far}"
    )


def _before(measured: dict[str, Any]) -> str:
    both = {key: runs for key, runs in measured.items() if "before_first" in runs and "first" in runs}
    slower = [k for k, runs in both.items() if launch_seconds(runs["first"]) > launch_seconds(runs["before_first"])]
    again = {
        key: launch_seconds(runs["again"]) / launch_seconds(runs["before_again"])
        for key, runs in both.items()
        if "again" in runs and "before_again" in runs
    }
    twice = [f"{key} ({ratio:.1f} times)" for key, ratio in again.items() if ratio > MOST_TIMES]
    unreached = [key for key, runs in both.items() if launch_seconds(runs["before_first"]) == np.inf]
    return (
        f"**Version 0.1.0** was launched on {len(both)} of them. Slower than it on the first launch: {_list(slower)}. "
        f"More than {MOST_TIMES} times as long again: {_list(twice)}. It did not reach 1e-9 on {len(unreached)}: "
        f"{_list(unreached)}."
    )


def _solved(runs: dict[str, Any]) -> dict[str, Any]:
    """What solving alone took: in a process with others, or in a launch of a tree of the race."""
    return runs.get("alone") or runs["first"]


def _tree(kind: str, runs: dict[str, Any]) -> tuple[str, ...]:
    first = runs["first"]
    return (
        kind,
        *(_launch(runs.get(run)) for run in ("first", "again", "before_first", "before_again")),
        _seconds(highs_launch(first)),
        _seconds(solve_seconds(first)),
        _seconds(highs_seconds(first)),
    )


def _drawn(group: str, kind: str, of_kind: list[dict[str, Any]]) -> tuple[str, ...]:
    solved = [_solved(runs) for runs in of_kind]
    early: dict[str, Any] = next((runs for runs in of_kind if "first" in runs), {})
    return (
        NAMES[group],
        kind,
        f"{sum(bool(one.get('converged')) for one in solved)} of {len(solved)}",
        *(_launch(early.get(run)) for run in ("first", "again", "before_first", "before_again")),
        _seconds(highs_launch(early["first"])) if early else "",
        _spread([solve_seconds(one) for one in solved]),
        _spread([highs_seconds(one) for one in solved]),
    )


def _launch(run: dict[str, Any] | None) -> str:
    """Seconds of a launch; where the tolerance was not reached, that."""
    if run is None:
        return ""
    if "not_reached_in" in run:
        return f"not reached in {run['not_reached_in']} s"
    return (
        _seconds(launch_seconds(run))
        if run["converged"]
        else f"not reached, ended after {run['seconds']['solved']:.0f} s"
    )


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}" if seconds < np.inf else "not reached"


def _spread(seconds: list[float]) -> str:
    return f"{_seconds(float(np.median(seconds)))} ({_seconds(max(seconds))})"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(header), *map(tuple, rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


if __name__ == "__main__":
    main()
