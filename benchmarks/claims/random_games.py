"""200 random matrix games of six kinds, sizes 2 to 200, scales 1e-6 to 1e6: the default against HiGHS.

    python -m benchmarks.claims.random_games [--count 200]

The claim is about honesty first: no run may say "converged" whose exploitability, recomputed here in extended
precision, is above its tolerance. Games that the default does not solve within its iteration limit are listed. Results:
benchmarks/results/random_games.json.
"""

import argparse
from collections import Counter
from typing import Any

import numpy as np

import mmd
from benchmarks.report import environment, print_table, store
from mmd.game.game import Game
from mmd.measure.exact import solve_exactly

KINDS = ("uniform", "antisymmetric", "tournament", "duplicated", "ties", "rectangular")
RELATIVE_TOLERANCE = 1e-9


def draw(seed: int) -> tuple[str, np.ndarray]:
    """A random payoff matrix: its kind and its entries."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    n = int(np.round(np.exp(rng.uniform(np.log(2), np.log(200)))))
    square = rng.uniform(-1, 1, (n, n))
    if kind == "antisymmetric":
        square = (square - square.T) / 2
    elif kind == "tournament":
        square = np.triu(rng.integers(-1, 2, (n, n)), 1).astype(float)
        square = square - square.T
    elif kind == "duplicated":
        index = rng.integers(0, max(1, n // 2), n)
        square = square[np.ix_(index, index)]
    elif kind == "ties":
        square = np.full((n, n), rng.uniform(-1, 1))
    elif kind == "rectangular":
        square = rng.uniform(-1, 1, (n, int(rng.integers(2, 201))))
    return kind, square * 10.0 ** rng.uniform(-6, 6)


def extended_exploitability(payoffs: np.ndarray, policy: mmd.Policy) -> float:
    """Half the duality gap, in long double."""
    exact = payoffs.astype(np.longdouble)
    x, y = (p[1:].astype(np.longdouble) for p in policy.probabilities)
    return float(((exact @ y).max() - (x @ exact).min()) / 2)


def compare(seed: int) -> dict[str, Any]:
    """Solve one draw both ways."""
    kind, payoffs = draw(seed)
    scale = float(np.abs(payoffs).max()) or 1.0  # a tournament of two may be all ties
    game = Game.from_matrix(payoffs, name=f"{kind} {seed}")
    solution = mmd.solve(game, tolerance=RELATIVE_TOLERANCE * scale)
    exploitability = extended_exploitability(payoffs, solution.policy)
    return {
        "seed": seed,
        "kind": kind,
        "shape": payoffs.shape,
        "scale": scale,
        "method": solution.algorithm["name"],
        "status": solution.status.name,
        "false_converged": solution.converged and exploitability > solution.tolerance * (1 + 1e-6),
        "exploitability_of_scale": exploitability / scale,
        "value_error_of_scale": abs(solution.value - solve_exactly(game).value) / scale,
        "gradient_evaluations": solution.gradient_evaluations,
        "seconds": solution.seconds["solve"],
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Random matrix games, by the default and by HiGHS.")
    parser.add_argument("--count", type=int, default=200)
    results = [compare(seed) for seed in range(parser.parse_args().count)]
    rows = []
    for kind in KINDS:
        of_kind = [r for r in results if r["kind"] == kind]
        statuses = Counter(r["status"] for r in of_kind)
        rows.append(
            (
                kind,
                str(len(of_kind)),
                str(statuses["CONVERGED"]),
                str(sum(r["false_converged"] for r in of_kind)),
                f"{max(r['value_error_of_scale'] for r in of_kind):.0e}",
                f"{np.median([r['gradient_evaluations'] for r in of_kind]):.0f}",
                f"{max(r['gradient_evaluations'] for r in of_kind)}",
            )
        )
    header = ("kind", "games", "converged", "false", "worst value error / scale", "median evaluations", "most")
    print_table(header, rows)
    for r in (r for r in results if r["status"] != "CONVERGED"):
        reached = f"{r['exploitability_of_scale']:.1e} of the scale"
        print(f"not reached: {r['kind']} {r['shape']}, seed {r['seed']}: {reached}")
    store("random_games", {"environment": environment(), "tolerance_of_scale": RELATIVE_TOLERANCE, "results": results})


if __name__ == "__main__":
    main()
