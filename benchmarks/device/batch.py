"""Thousands of small games as one batch, against linear programs one by one, in the same run on the same machine.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.device.batch [--games 10000] [--large 1000] [--repeats 3]

Four questions: preference games of size 3 to 15 to 1e-9, games of size 15 to 1e-9, games of size 100 to 1e-6, and 1,000
resampled tables of the Arena. `mmd.solve_many` and `scipy.optimize.linprog` (HiGHS, one call a game, the matrix already
in memory) get the same matrices, in turns; the best of the repeats counts for both. Every solution of both is certified
by `mmd.measure.certificate.certify_matrices`. Settings of `mmd.solve_many` were chosen on other draws.

The generators: antisymmetric uniform noise; finite battles of a Bradley-Terry model with an intransitive plane beside
it, as in model tables; rankings by voters near candidates in a plane; rankings without any structure; tournaments of
wins, draws and losses.

One thread of BLAS: the matrices are far too small for two. Results: benchmarks/results/batch.json.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

import mmd
from benchmarks.claims.lottery_study import ARENA, resampled, table
from benchmarks.claims.real_data import DATA
from benchmarks.report import environment, print_table, store
from mmd.game.padded import Matrices, alike
from mmd.measure.certificate import certify_matrices

SEED = 20_240_329  # not the draws on which the settings were looked at
Matrix = np.ndarray


def uniform(n: int, rng: np.random.Generator) -> Matrix:
    """Antisymmetric noise, intransitive."""
    payoffs = rng.uniform(-0.5, 0.5, (n, n))
    return (payoffs - payoffs.T) / 2


def model_table(n: int, rng: np.random.Generator) -> Matrix:
    """Shares of finite battles between models with a strength and a style."""
    strength, style = rng.normal(0, 0.5, n), rng.normal(0, 0.7, (n, 2))
    turn = style[:, :1] * style[None, :, 1] - style[:, 1:] * style[None, :, 0]
    pairs = np.triu_indices(n, 1)
    battles = rng.integers(24, 1500, len(pairs[0]))
    wins = rng.binomial(battles, 1 / (1 + np.exp(-(strength[:, None] - strength + turn)[pairs])))
    payoffs = np.zeros((n, n))
    payoffs[pairs] = wins / battles - 0.5
    return payoffs - payoffs.T


def spatial_election(n: int, rng: np.random.Generator) -> Matrix:
    """Majority margins of voters who rank by noisy distance."""
    voters = rng.normal(size=(rng.integers(50, 2000), 2))
    distance = ((voters[:, None] - 0.5 * rng.normal(size=(n, 2))) ** 2).sum(axis=2)
    return margins(distance + rng.gumbel(size=distance.shape))


def impartial_election(n: int, rng: np.random.Generator) -> Matrix:
    """Majority margins of voters who rank at random."""
    return margins(rng.random((rng.integers(11, 200), n)))


def tournament(n: int, rng: np.random.Generator) -> Matrix:
    """Wins, draws and losses."""
    payoffs = np.triu(rng.integers(-1, 2, (n, n)), 1).astype(float)
    return payoffs - payoffs.T


def margins(ranks: Matrix) -> Matrix:
    """Share of voters who rank i before j, less the share who rank j before i."""
    before = (ranks[:, :, None] < ranks[:, None]).mean(axis=0)
    return before - before.T


GENERATORS = (uniform, model_table, spatial_election, impartial_election, tournament)


def linear_program(payoffs: Matrix) -> tuple[Matrix, Matrix]:
    """Both optimal strategies: the primal solution and its multipliers."""
    m, n = payoffs.shape
    objective = np.append(np.zeros(m), -1.0)
    result = linprog(
        objective,
        A_ub=np.hstack([-payoffs.T, np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(m), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * m + [(None, None)],
        method="highs",
    )
    row, column = np.maximum(result.x[:m], 0), np.maximum(-result.ineqlin.marginals, 0)
    return row / row.sum(), column / column.sum()


def exploitability(matrices: list[Matrix], row: list[Matrix], column: list[Matrix]) -> Matrix:
    """Certified, of strategies that may be filled up with zeros."""
    found = np.zeros(len(matrices))
    for group in alike(matrices):
        arrays = Matrices.of([matrices[i] for i in group])
        pairs = (np.zeros(arrays.rows.shape), np.zeros(arrays.columns.shape))
        for into, given, axis in ((pairs[0], row, 0), (pairs[1], column, 1)):
            for place, i in enumerate(group):
                n = matrices[i].shape[axis]
                into[place, :n] = given[i][:n]
        found[group] = certify_matrices(arrays.payoffs, arrays.exist, pairs).nash_conv / 2
    return found


class Seconds(NamedTuple):
    """What a run took: by the clock, and of processors, which other programs disturb less."""

    wall: float
    processor: float


def timed(runs: list[Callable[[], Any]], repeats: int) -> tuple[list[Seconds], list[Any]]:
    """The shortest times of each, taken in turns, and what each returned at last."""
    taken, returned = np.full((repeats, len(runs), 2), np.inf), [None] * len(runs)
    for repeat in range(repeats):
        for i, run in enumerate(runs):
            wall, processor = time.perf_counter(), time.process_time()
            returned[i] = run()
            taken[repeat, i] = time.perf_counter() - wall, time.process_time() - processor
    return [Seconds(*best) for best in taken.min(axis=0).tolist()], returned


def compare(name: str, matrices: list[Matrix], tolerance: float, repeats: int) -> dict[str, Any]:
    """One batch against linear programs."""
    (first_call,), (first,) = timed([lambda: mmd.solve_many(matrices, tolerance=tolerance)], 1)
    (ours, theirs), (solutions, optima) = timed(
        [
            lambda: mmd.solve_many(matrices, tolerance=tolerance),
            lambda: [linear_program(matrix) for matrix in matrices],
        ],
        repeats,
    )
    certified = exploitability(matrices, list(solutions.row), list(solutions.column))
    exact = exploitability(matrices, [row for row, _ in optima], [column for _, column in optima])
    return {
        "name": name,
        "games": len(matrices),
        "tolerance": tolerance,
        "converged": int(solutions.converged.sum()),
        "within_tolerance_when_certified_again": int((certified <= tolerance).sum()),
        "largest_exploitability": float(certified.max()),
        "median_exploitability": float(np.median(certified)),
        "linprog_within_tolerance": int((exact <= tolerance).sum()),
        "linprog_largest_exploitability": float(exact.max()),
        "polished": sum(iterate == "polished" for iterate in solutions.iterates),
        "iterations": {str(n): int((solutions.iterations == n).sum()) for n in np.unique(solutions.iterations)},
        "faces_a_game": float(solutions.faces.mean()),
        "seconds": {"first_call": first_call.wall, "batch": ours.wall, "linprog": theirs.wall},
        "compile_seconds": first.seconds["compile"],
        "processor_seconds": {"first_call": first_call.processor, "batch": ours.processor, "linprog": theirs.processor},
        "repeats": repeats,
        "times_faster": theirs.wall / ours.wall,
        "times_faster_with_compilation": theirs.wall / first_call.wall,
        "times_less_processor_time": theirs.processor / ours.processor,
        "times_less_processor_time_with_compilation": theirs.processor / first_call.processor,
    }


def work(result: dict[str, Any], size: int) -> dict[str, float]:
    """What the iterations must at least read and compute: two products with A a step, 8 bytes and 2 flops a payoff."""
    steps = sum(int(n) * count for n, count in result["iterations"].items())
    products = 2.0 * steps * size**2
    return {"game_iterations": steps, "payoff_bytes": 8 * products, "flops": 2 * products}


def bootstrap(tables: int, repeats: int) -> dict[str, Any]:
    """The Arena's cyclic subset, resampled."""
    arena = table(DATA / ARENA)
    draws = resampled(arena, tables, np.random.default_rng(SEED))
    solutions = mmd.solve_many(draws, tolerance=1e-9)
    (seconds,), _ = timed([lambda: mmd.solve_many(draws, tolerance=1e-9)], repeats)
    return {
        "tables": tables,
        "size": len(arena.labels),
        "converged": int(solutions.converged.sum()),
        "seconds": seconds.wall,
        "processor_seconds": seconds.processor,
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Batches of small games against linear programs one by one.")
    parser.add_argument("--games", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    rng = np.random.default_rng(SEED)
    small = [GENERATORS[i % len(GENERATORS)](int(rng.integers(3, 16)), rng) for i in range(chosen.games)]
    large = [GENERATORS[i % len(GENERATORS)](100, rng) for i in range(chosen.large)]
    of_15 = [GENERATORS[i % len(GENERATORS)](15, rng) for i in range(chosen.large)]
    results = [compare("size 3 to 15", small, 1e-9, chosen.repeats)]
    arena = bootstrap(1_000, chosen.repeats)
    if large:
        results.append(compare("size 15", of_15, 1e-9, chosen.repeats))
        results.append(compare("size 100", large, 1e-6, 1))
    for result, size in zip(results, (12, 15, 100), strict=False):
        result["at_least"] = work(result, size)
    print_table(
        ("games", "number", "tolerance", "converged", "batch, s", "linprog, s", "faster", "compiling too", "processor"),
        [
            (
                r["name"],
                f"{r['games']:,}",
                f"{r['tolerance']:.0e}",
                f"{r['converged']:,}",
                f"{r['seconds']['batch']:.2f}",
                f"{r['seconds']['linprog']:.2f}",
                f"{r['times_faster']:.1f}",
                f"{r['times_faster_with_compilation']:.1f}",
                f"{r['times_less_processor_time']:.1f}",
            )
            for r in results
        ],
    )
    print(f"\n{arena['tables']} resampled Arena tables: {arena['seconds']:.2f} s, {arena['converged']} converged")
    store("batch", {"environment": environment(), "results": results, "arena_bootstrap": arena})


if __name__ == "__main__":
    main()
