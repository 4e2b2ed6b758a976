"""The main job in under two minutes: certified equilibria by last iterates, of poker and of a cyclic preference game.

    python -m benchmarks.demo [--out runs/demo]

Solves Kuhn poker and `preference:cycle` to exploitability 1e-9 and Leduc poker to 1e-6 by the last iterates of `mpo`
and `anchored`, and each game exactly by the default; writes every run and the convergence figures (PNG and SVG). Exit
status 1 if a run falls short.
"""

import argparse
import sys
from pathlib import Path

import games
import mmd
from benchmarks.report import print_table
from mmd.algorithms.contract import Algorithm
from mmd.measure import run_directory

RUNS: tuple[tuple[str, str, Algorithm, float], ...] = (
    ("preference:cycle", "mpo", mmd.MPO(), 1e-9),
    ("preference:cycle", "anchored", mmd.Anchored(), 1e-9),
    ("kuhn_poker", "mpo", mmd.MPO(), 1e-9),
    ("leduc_poker", "anchored", mmd.Anchored(), 1e-6),
)
HEADER = ("game", "algorithm", "iterate", "value", "exploitability", "tolerance", "evaluations", "compile", "solve")


def main() -> int:
    """Solve, print, draw; 0 if every run reached its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where results and figures go")
    out = parser.parse_args().out
    solutions: dict[str, dict[str, mmd.Solution]] = {}
    for spec, label, algorithm, tolerance in RUNS:
        print(f"solving {spec} with {label} ...", flush=True)
        solution = mmd.solve(games.load(spec), algorithm, tolerance=tolerance)
        run_directory.save(solution, out / file_name(f"{spec}-{label}"))
        solutions.setdefault(spec, {})[label] = solution
    print()
    print_table(HEADER, [row(spec, label, s) for spec, by_name in solutions.items() for label, s in by_name.items()])
    print()
    for spec in solutions:
        print(f"exact: {mmd.solve(games.load(spec))!r}")
    lottery = solutions["preference:cycle"]["mpo"].policy.lottery()
    print("\npreference:cycle is played", ", ".join(f"{label} {share:.6f}" for label, share in lottery.items()))
    for spec, by_name in solutions.items():
        for suffix in (".png", ".svg"):
            figure = out / f"{file_name(spec)}{suffix}"
            mmd.plot_convergence(by_name, path=figure)
            print(f"wrote {figure}")
    return 0 if all(s.converged for by_name in solutions.values() for s in by_name.values()) else 1


def row(spec: str, label: str, solution: mmd.Solution) -> tuple[str, ...]:
    """One line of the table; times in seconds."""
    return (
        spec,
        label,
        solution.iterate,
        f"{solution.value:.10f}",
        f"{solution.exploitability:.2e}",
        f"{solution.tolerance:.0e}",
        f"{solution.gradient_evaluations:,}",
        f"{solution.seconds['compile']:.1f} s",
        f"{solution.seconds['solve']:.1f} s",
    )


def file_name(spec: str) -> str:
    """A spec as part of a file name."""
    return spec.replace(":", "_").replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main())
