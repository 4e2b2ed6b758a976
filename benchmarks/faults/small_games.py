"""Small matrix games whose payoffs reach from 1e-12 to 1e12: is what is called converged right?

    python -m benchmarks.faults.small_games [--count 2000]

All equilibria of a game of up to 4 x 4 are found in fractions. With an equilibrium (x, y) and the value v, what is at
stake in play is s = sum x_i y_j |A_ij - v|; where that is 0, the smallest positive loss by another action; of several
equilibria, the largest s. A run may say "converged" only if its value is within max(1e-6 s, 8 units in the last place
of v); at most 5 % of the runs may say that the precision does not suffice, and none whose payoffs span less than six
decades once their common constant is taken out. Results: benchmarks/results/small_games.json.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

import mmd
from benchmarks.report import environment, print_table, store
from mmd.game.game import Game, common
from mmd.measure.exact import solve_exactly

KINDS = ("plain", "duplicated", "extreme", "integers", "constant", "scaled rows")
DECADES = (0, 1, 3, 6, 12, 24)
CONSTANTS = (1.0, 1e3, 1e6, 1e9, 1e12)
LARGEST = 1e12

Matrix = Sequence[Sequence[Fraction]]


class Equilibrium(NamedTuple):
    """A pair of optimal strategies, and what every action is worth against them, exactly."""

    row: list[Fraction]
    column: list[Fraction]
    value: Fraction
    to_row: list[Fraction]
    to_column: list[Fraction]


def draw(seed: int) -> tuple[str, np.ndarray]:
    """A random payoff matrix with entries of at most 1e12: its kind and its entries."""
    rng = np.random.default_rng(seed)
    kind, decades = KINDS[seed % len(KINDS)], int(rng.choice(DECADES))
    m, n = rng.integers(2, 5, 2)
    payoffs = rng.choice([-1.0, 1.0], (m, n)) * 10.0 ** rng.uniform(-decades / 2, decades / 2, (m, n))
    if decades < max(DECADES):
        payoffs *= rng.uniform(0.1, 1, (m, n))
    if kind == "duplicated":
        payoffs[rng.integers(m)], payoffs[:, rng.integers(n)] = payoffs[rng.integers(m)], payoffs[:, rng.integers(n)]
    elif kind == "extreme":
        payoffs[rng.integers(m), rng.integers(n)] *= 10.0 ** rng.integers(6, 13)
    elif kind == "integers":
        payoffs = np.round(payoffs)
    elif kind == "constant":
        payoffs += rng.choice(CONSTANTS) * rng.choice([-1, 1])
    elif kind == "scaled rows":
        payoffs[rng.integers(m)] *= 1e6
    return kind, np.clip(payoffs, -LARGEST, LARGEST)


def decades_spanned(payoffs: np.ndarray) -> float:
    """Decades between the smallest and the largest payoff that is not 0, their common constant taken out."""
    sizes = np.abs(payoffs - common(payoffs))
    return float(np.log10(sizes.max() / sizes[sizes > 0].min())) if sizes.any() else 0.0


def equilibria(payoffs: np.ndarray) -> Iterator[Equilibrium]:
    """The equilibria with square supports, in fractions; every game has one (Shapley, Snow 1950)."""
    exact = [[Fraction(value) for value in row] for row in payoffs.tolist()]
    m, n = payoffs.shape
    for size in range(1, min(m, n) + 1):
        for rows, columns in itertools.product(*(itertools.combinations(range(k), size) for k in (m, n))):
            block = [[exact[i][j] for j in columns] for i in rows]
            column, row = _equalising(block), _equalising([list(line) for line in zip(*block, strict=True)])
            if column is None or row is None:
                continue
            x, y = _spread(row, rows, m), _spread(column, columns, n)
            to_row = [sum((a * b for a, b in zip(line, y, strict=True)), Fraction(0)) for line in exact]
            to_column = [sum((exact[i][j] * x[i] for i in range(m)), Fraction(0)) for j in range(n)]
            if max(to_row) == min(to_column):
                yield Equilibrium(x, y, max(to_row), to_row, to_column)


def stake(payoffs: np.ndarray, found: Sequence[Equilibrium]) -> Fraction:
    """The largest s of the module docstring."""
    return max(_stake(payoffs, one) for one in found)


def _stake(payoffs: np.ndarray, one: Equilibrium) -> Fraction:
    cells = np.ndenumerate(payoffs)
    met = sum((one.row[i] * one.column[j] * abs(Fraction(v) - one.value) for (i, j), v in cells), Fraction(0))
    losses = [one.value - v for v in one.to_row if v < one.value] + [
        v - one.value for v in one.to_column if v > one.value
    ]
    return met or min(losses, default=Fraction(0))


def _spread(strategy: list[Fraction], support: tuple[int, ...], n: int) -> list[Fraction]:
    whole = [Fraction(0)] * n
    for probability, action in zip(strategy, support, strict=True):
        whole[action] = probability
    return whole


def _equalising(block: Matrix) -> list[Fraction] | None:
    """The column strategy that makes all rows of a square block worth the same; None if there is not just one."""
    size = len(block)
    lines = [[*row, Fraction(-1), Fraction(0)] for row in block] + [[Fraction(1)] * size + [Fraction(0), Fraction(1)]]
    for k in range(size + 1):
        pivot = next((i for i in range(k, size + 1) if lines[i][k]), None)
        if pivot is None:
            return None
        lines[k], lines[pivot] = lines[pivot], lines[k]
        for i in range(size + 1):
            if i != k and lines[i][k]:
                factor = lines[i][k] / lines[k][k]
                lines[i] = [a - factor * b for a, b in zip(lines[i], lines[k], strict=True)]
    strategy = [lines[i][-1] / lines[i][i] for i in range(size)]
    return strategy if min(strategy) >= 0 else None


def allowed_error(payoffs: np.ndarray, found: Sequence[Equilibrium]) -> Fraction:
    """How far the value of a converged run may be from the truth."""
    units = Fraction(float(np.spacing(abs(float(found[0].value)))))
    return max(Fraction(1, 10**6) * stake(payoffs, found), 8 * units)


def compare(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Solve draws by the default, alone and as one batch, and by `solve_exactly`, and compare with the truth."""
    draws = [draw(seed) for seed in seeds]
    many = mmd.solve_many([payoffs for _, payoffs in draws])
    return [
        {"seed": seed} | _compared(kind, payoffs, (many.statuses[place], float(many.values[place])))
        for place, (seed, (kind, payoffs)) in enumerate(zip(seeds, draws, strict=True))
    ]


def _compared(kind: str, payoffs: np.ndarray, in_batch: tuple[mmd.Status, float]) -> dict[str, Any]:
    """One draw, whose status and value in the batch are given."""
    found = list(equilibria(payoffs))
    value, allowed = found[0].value, allowed_error(payoffs, found)
    solution = mmd.solve(Game.from_matrix(payoffs))
    outcomes = {
        "solve": (solution.status, solution.value),
        "solve_many": in_batch,
        "solve_exactly": (mmd.Status.CONVERGED, solve_exactly(Game.from_matrix(payoffs)).value),
    }
    return {
        "kind": kind,
        "shape": payoffs.shape,
        "decades": decades_spanned(payoffs),
        "status": {name: status.name for name, (status, _) in outcomes.items()},
        "wrong": {
            name: status is mmd.Status.CONVERGED and abs(Fraction(got) - value) > allowed
            for name, (status, got) in outcomes.items()
        },
        "iterate": solution.iterate,
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Small matrix games over 24 decades, against fractions.")
    parser.add_argument("--count", type=int, default=2_000)
    results = compare(range(parser.parse_args().count))
    rows = []
    for kind in KINDS:
        of_kind = [r for r in results if r["kind"] == kind]
        statuses = Counter(r["status"]["solve"] for r in of_kind)
        narrow = sum(r["status"]["solve"] != "CONVERGED" and r["decades"] < 6 for r in of_kind)
        wrong = sum(any(r["wrong"].values()) for r in of_kind)
        counts = (len(of_kind), statuses["CONVERGED"], statuses["PRECISION"], narrow, wrong)
        rows.append((kind, *(str(count) for count in counts)))
    print_table(("kind", "games", "converged", "precision", "not converged under six decades", "wrong"), rows)
    statuses = Counter(r["status"]["solve"] for r in results)
    unusual = [r for r in results if any(r["wrong"].values()) or set(r["status"].values()) != {"CONVERGED"}]
    counts = {"games": len(results), "statuses": statuses, "iterates": Counter(r["iterate"] for r in results)}
    store("small_games", {"environment": environment(), **counts, "results": unusual})


if __name__ == "__main__":
    main()
