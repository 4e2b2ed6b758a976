"""Gradient evaluations to a given exploitability on Kuhn and Leduc poker, and on perturbed copies of Leduc.

    python -m benchmarks.claims.convergence

One gradient evaluation is one pair (A y, A^T x); refused steps, averages at restarts and weight refreshes (with |A|)
count.
From the uniform policy, no flags. The ten copies multiply every payoff entry by a draw from U(0.8, 1.2): nothing was
tuned on them. Results: benchmarks/results/convergence.json.
"""

import time
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.report import environment, print_table, store
from mmd.algorithms.contract import Algorithm
from mmd.game.game import Game
from mmd.game.payoff import Entries

MARKS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12)
COPIES, BUDGET = 10, 6000


def evaluations_to(solution: mmd.Solution, mark: float) -> int | None:
    """Gradient evaluations when the exploitability was first at most `mark`; None if it never was."""
    reached = np.flatnonzero(solution.trace["exploitability"] <= mark)
    return int(solution.trace["gradient_evaluations"][reached[0]]) if len(reached) else None


def exploitability_at(solution: mmd.Solution, evaluations: int) -> float:
    """Exploitability of the policy that would have been returned after so many gradient evaluations."""
    within = np.flatnonzero(solution.trace["gradient_evaluations"] <= evaluations)
    return float(solution.trace["exploitability"][within[-1]])


def perturbed(game: Game, seed: int, size: float = 0.2) -> Game:
    """The same tree with every payoff entry multiplied by U(1 - size, 1 + size)."""
    entries = game.payoff.entries()
    noise = np.random.default_rng(seed).uniform(1 - size, 1 + size, len(entries.values))
    return Game.from_entries(
        game.players, Entries(entries.rows, entries.columns, entries.values * noise), game.description
    )


def run(spec: str, algorithm: Algorithm, tolerance: float, *, polish: bool = False) -> dict[str, Any]:
    """One line of the table."""
    solution = mmd.solve(games.load(spec), algorithm, tolerance=tolerance, polish=polish)
    return {
        "game": spec,
        "algorithm": algorithm.name + (" + polish" if polish else ""),
        "iterate": solution.iterate,
        "converged": solution.converged,
        "value": solution.value,
        "exploitability": solution.exploitability,
        "gradient_evaluations": solution.gradient_evaluations,
        "seconds": solution.seconds,
        "evaluations_to": {f"{mark:.0e}": evaluations_to(solution, mark) for mark in MARKS},
        "polish": solution.polish,
    }


def main() -> None:
    """Measure, print, store."""
    runs = [
        run("kuhn_poker", mmd.Restarted(), 1e-12),
        run("kuhn_poker", mmd.Anchored(), 1e-12),
        run("leduc_poker", mmd.Restarted(), 1e-9),
        run("leduc_poker", mmd.Anchored(), 1e-9),
        run("leduc_poker", mmd.Restarted(), 1e-13, polish=True),
    ]
    print_table(
        (
            "game",
            "algorithm",
            "iterate",
            "value",
            "exploitability",
            *(f"to {mark:.0e}" for mark in MARKS),
            "evaluations",
        ),
        [
            (
                r["game"],
                r["algorithm"],
                r["iterate"],
                f"{r['value']:.13f}",
                f"{r['exploitability']:.1e}",
                *(str(n or "-") for n in r["evaluations_to"].values()),
                str(r["gradient_evaluations"]),
            )
            for r in runs
        ],
    )
    leduc = games.load("leduc_poker")
    begun = time.perf_counter()
    certificate = mmd.solve_exactly(leduc).certificate
    linear_program = {"seconds": time.perf_counter() - begun, "exploitability": certificate.exploitability}
    seconds, gap = linear_program["seconds"], linear_program["exploitability"]
    print(f"\nlinear program (HiGHS) on Leduc: {seconds:.2f} s to exploitability {gap:.0e}")
    limits = {"tolerance": 0.0, "max_iterations": BUDGET}
    copies = [mmd.solve(perturbed(leduc, seed), mmd.Restarted(), polish=False, **limits) for seed in range(COPIES)]
    reached = sorted(exploitability_at(solution, BUDGET) for solution in copies)
    print(f"\nexploitability of `restarted` after {BUDGET} evaluations on {COPIES} perturbed copies of Leduc:")
    print("  " + ", ".join(f"{e:.1e}" for e in reached) + f"; median {np.median(reached):.1e}")
    polished = sorted(
        mmd.solve(perturbed(leduc, seed), mmd.Restarted(), **limits).exploitability for seed in range(COPIES)
    )
    print("with the polish:\n  " + ", ".join(f"{e:.1e}" for e in polished))
    perturbation = {"copies": COPIES, "evaluations": BUDGET, "exploitability": reached, "median": np.median(reached)}
    perturbation["polished"] = polished
    store(
        "convergence",
        {
            "environment": environment(),
            "runs": runs,
            "leduc_linear_program": linear_program,
            "perturbed_leduc": perturbation,
        },
    )


if __name__ == "__main__":
    main()
