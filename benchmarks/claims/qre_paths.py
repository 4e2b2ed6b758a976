"""Quantal response equilibria over alpha: how long a path takes, how far it gets, and whether plain NumPy agrees.

    python -m benchmarks.claims.qre_paths [--games leduc_poker ...]

`mmd.qre_path` from the payoff range down to 1e-4 of it (1e-3 on Leduc poker), four alphas a decade, in one process,
compiling included. Every equilibrium is then compared with another form of the same fixed point, in NumPy and SciPy: a
root of `log z - log BR(z)`, where BR are both players' regularized best responses by backward induction, one infoset at
a time; by Powell's hybrid method, on Leduc poker by Newton's with GMRES. A root is looked for from the equilibrium
found, so a difference says how far that is from one. Results: benchmarks/results/qre_paths.json.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import scipy.optimize

import games
import mmd
from benchmarks.claims.theorem_rates import MATRICES
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.game.treeplex import Treeplex
from mmd.measure.sequence_form import payoff_matrix

SMALLEST = {
    "kuhn_poker": 1e-4,
    f"{MATRICES}/biased_rps.csv": 1e-4,
    f"{MATRICES}/uniform_13x16.csv": 1e-4,
    "preference:cycle": 1e-4,
    "leduc_poker": 1e-3,
}
PER_DECADE = 4
DENSE = 200  # unknowns up to which the root finder takes differences for its Jacobian


def soft_best_response(space: Treeplex, gradient: np.ndarray, alpha: float) -> np.ndarray:
    """Log-policy of argmax <x, g> - alpha KL(x, uniform), one infoset at a time."""
    value, log_policy = np.array(gradient, np.float64), np.zeros(space.n_sequences)
    for j in reversed(range(space.n_infosets)):
        at = slice(space.first_sequence[j], space.first_sequence[j] + space.n_actions[j])
        logits = value[at] / alpha - np.log(space.n_actions[j])
        log_z = np.logaddexp.reduce(logits)
        log_policy[at] = logits - log_z
        value[space.parent[j]] += alpha * log_z
    return log_policy


def plan_of(space: Treeplex, log_policy: np.ndarray) -> np.ndarray:
    """Realisation probabilities, one infoset at a time."""
    plan = np.ones(space.n_sequences)
    for j in range(space.n_infosets):
        at = slice(space.first_sequence[j], space.first_sequence[j] + space.n_actions[j])
        plan[at] = plan[space.parent[j]] * np.exp(log_policy[at])
    return plan


def difference(found: mmd.QuantalResponse) -> float:
    """Largest difference of a realisation probability from that of the root nearby."""
    game, alpha = found.game, found.alpha
    (row, column), matrix = game.players, payoff_matrix(game)
    split = row.n_sequences

    def residual(logs: np.ndarray) -> np.ndarray:
        x, y = plan_of(row, logs[:split]), plan_of(column, logs[split:])
        own = soft_best_response(row, matrix @ y, alpha), soft_best_response(column, -(matrix.T @ x), alpha)
        return logs - np.concatenate(own)

    begin = np.concatenate([np.log(np.maximum(p, 1e-300)) for p in found.policy.probabilities])
    begin = begin - residual(begin)  # logarithms of probabilities too small for the solver are as a best response says
    if len(begin) <= DENSE:
        root = scipy.optimize.root(residual, begin, tol=1e-14).x
    else:
        root = scipy.optimize.newton_krylov(residual, begin, f_tol=1e-11, method="gmres")
    assert np.abs(residual(root)).max() < 1e-7, found
    plans = plan_of(row, root[:split]), plan_of(column, root[split:])
    ours = (player.host_plan(p) for player, p in zip(game.players, found.policy.probabilities, strict=True))
    return max(float(np.abs(plan - own).max()) for plan, own in zip(plans, ours, strict=True))


def measure(spec: str) -> dict[str, Any]:
    """One path."""
    game, decades = games.load(spec), -np.log10(SMALLEST[spec])
    shares = np.geomspace(1, SMALLEST[spec], 1 + round(PER_DECADE * decades))
    clock, begun = time.perf_counter(), time.process_time()
    path = mmd.qre_path(game, game.description.payoff_range * shares)
    spent = time.process_time() - begun
    return {
        "game": spec,
        "payoff_range": game.description.payoff_range,
        "smallest_share": SMALLEST[spec],
        "processor_seconds": spent,
        "seconds": time.perf_counter() - clock,
        "alphas": [
            {
                "share": float(share),
                "converged": one.converged,
                "status": one.status,
                "regularized_gap": one.regularized_gap,
                "residual": one.residual,
                "exploitability": one.exploitability,
                "iterations": one.iterations,
                "difference": difference(one),
            }
            for share, one in zip(shares, path, strict=True)
        ],
        "environment": environment(),
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="*", default=list(SMALLEST), choices=list(SMALLEST))
    path = RESULTS / "qre_paths.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    for spec in parser.parse_args().games:
        stored[spec] = measure(spec)
        store("qre_paths", stored)
    print_table(
        ("game", "alphas", "smallest", "converged", "processor s", "iterations", "largest difference from NumPy"),
        [
            (
                spec,
                str(len(one["alphas"])),
                f"{one['smallest_share']:g}",
                str(sum(alpha["converged"] for alpha in one["alphas"])),
                f"{one['processor_seconds']:.1f}",
                f"{sum(alpha['iterations'] for alpha in one['alphas']):,}",
                f"{max(alpha['difference'] for alpha in one['alphas']):.1e}",
            )
            for spec, one in stored.items()
        ],
    )


if __name__ == "__main__":
    main()
