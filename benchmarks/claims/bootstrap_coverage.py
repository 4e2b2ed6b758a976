"""How often the intervals of `mmd.bootstrap` hold what they are intervals of, and what is called not unique.

    python -m benchmarks.claims.bootstrap_coverage [--tables 500] [--draws 500] [--generic 200]

A true table is drawn, comparisons are drawn from it, and `mmd.bootstrap` is asked for 95 % intervals. There are three
kinds of tables: shares of rows against columns, 2 to 8 of each, whose value is not known beforehand; shares among 3 to
8 options, whose value is 1/2 by symmetry; and such shares from ballots. A pair has 5 to 500 comparisons, one in five a
tie; there are 20 to 2,000 voters, with strict rankings. Counted are the intervals that hold the true value, and those
that hold the true probability of an action, by how large that is.

Then, elections that have many equilibria for a known reason, with the range of a probability worked out by hand, and
generic games, which have one. Results: benchmarks/results/bootstrap_coverage.json.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.report import environment, print_table, store
from mmd.game.game import Game
from mmd.measure.matrix_games import solve_all

SEED = 11
KINDS = ("rows against columns", "options", "ballots")
TIES = 0.2
RANKINGS = 12  # that voters have
SHOWN = 1e-9  # a smaller probability is 0
SIZES = {"0": 0.0, "up to 0.1": 0.1, "0.1 to 0.5": 0.5, "0.5 to 1": 1.0 - 3 * SHOWN, "1": 1.0}  # name -> the largest
BETWEEN = (0.92, 0.98)

# -------------------------------------------------------------------- coverage


def measured(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, Game]:
    """A true table, in shares, and the game of comparisons that were drawn from it."""
    if kind == "ballots":
        return from_voters(rng)
    n = int(rng.integers(3, 9))
    shape = (n, n) if kind == "options" else (int(rng.integers(2, 9)), int(rng.integers(2, 9)))
    likely = rng.beta(*((1, 1) if rng.random() < 0.5 else (3, 3)), size=shape)
    compared = np.rint(np.exp(rng.uniform(np.log(5), np.log(500), shape))).astype(int)
    drawn = rng.multinomial(compared, np.stack([(1 - TIES) * likely, (1 - TIES) * (1 - likely), TIES + 0 * likely], -1))
    wins, losses, ties = (drawn[..., i].astype(float) for i in range(3))
    true = 0.5 + (1 - TIES) * (likely - 0.5)
    if kind != "options":
        return true, games.matrix.from_counts(wins, losses, ties)
    upper = np.triu(np.ones(shape, bool), 1)
    wins, ties = np.where(upper, wins, 0) + np.where(upper, losses, 0).T, np.where(upper, ties, 0)
    true = np.where(upper, true, 0) + np.where(upper, 1 - true, 0).T + np.eye(n) / 2
    return true, games.preference.from_counts(wins, ties + ties.T)


def from_voters(rng: np.random.Generator) -> tuple[np.ndarray, Game]:
    """Voters who have one of a dozen rankings each."""
    n = int(rng.integers(3, 9))
    ranks = np.array([rng.permutation(n) + 1 for _ in range(RANKINGS)])
    shares = rng.dirichlet(np.ones(RANKINGS))
    voters = rng.multinomial(round(float(np.exp(rng.uniform(np.log(20), np.log(2000))))), shares)
    true = np.einsum("k,kij->ij", shares, ranks[:, :, None] < ranks[:, None, :]) + np.eye(n) / 2
    return true, games.preference.from_ballots(ranks[voters > 0], voters[voters > 0])


def coverage(kind: str, tables: int, draws: int, level: float = 0.95) -> dict[str, Any]:
    """Shares of intervals that hold the true value, and true probabilities, of simulated tables of a kind."""
    rng = np.random.default_rng([SEED, KINDS.index(kind)])
    value: list[bool] = []
    weights: dict[str, list[bool]] = defaultdict(list)
    for number in range(tables):
        true, game = measured(kind, rng)
        exact = solve_all(true[None])
        found = mmd.bootstrap(game, draws=draws, level=level, seed=number)
        value.append(found.value_low - SHOWN <= exact.values[0] <= found.value_high + SHOWN)
        for player, estimated in enumerate(found.weights):
            for p, low, high in zip(exact[player][0], estimated.low, estimated.high, strict=True):
                size = next(name for name, largest in SIZES.items() if p <= largest + SHOWN)
                weights[size].append(bool(low - SHOWN <= p <= high + SHOWN))
    held = {
        size: {"intervals": len(weights[size]), "hold": sum(weights[size]) / len(weights[size])} for size in weights
    }
    return {"kind": kind, "tables": tables, "draws": draws, "value": float(np.mean(value)), "probabilities": held}


# -------------------------------------------------------------------- uniqueness


def many_equilibria() -> Iterator[tuple[str, Game, int, tuple[float, float]]]:
    """Elections with more than one maximal lottery: a name, the game, an option and the range of its probability."""
    ballots, count = games.preference.from_ballots, games.preference.from_counts
    cycle = np.array([[1, 2, 3], [3, 1, 2], [2, 3, 1]])
    yield "everybody tied", count(np.ones((4, 4)) - np.eye(4)), 2, (0.0, 1.0)
    yield "two voters who disagree", ballots([[1, 2, 3], [2, 1, 3]], [1, 1]), 0, (0.0, 1.0)
    yield "two rankings turned round", ballots([[1, 2, 3, 4], [4, 3, 2, 1]], [7, 7]), 3, (0.0, 1.0)
    clone = np.column_stack([cycle, cycle[:, 0]])
    yield "Condorcet's cycle with a clone", ballots(clone, [1, 1, 1]), 0, (0.0, 1 / 3)
    both = np.column_stack([2 * cycle - 1, 2 * cycle])  # the clones behind each of the three
    yield "two tied cycles", games.preference.game(tied_cycles()), 0, (0.0, 1 / 3)
    yield (
        "three pairs of clones",
        ballots(np.vstack([both, both[:, [3, 4, 5, 0, 1, 2]]]), [1] * 6),
        4,
        (0.0, 1 / 3),
    )
    yield "a tie for the first place", count([[0, 5, 8], [5, 0, 7], [2, 3, 0]]), 1, (0.0, 1.0)


def tied_cycles() -> np.ndarray:
    """Two cycles of three, all of one tied with all of the other."""
    shares = np.full((6, 6), 0.5)
    for first, i in itertools.product((0, 3), range(3)):
        shares[first + i, first + (i + 1) % 3], shares[first + (i + 1) % 3, first + i] = 0.8, 0.2
    return shares


def flagged() -> list[dict[str, Any]]:
    """Whether each of them is called not unique, and the range that is given."""
    rows = []
    for name, game, option, expected in many_equilibria():
        found = mmd.optimal_range(game)
        given = (float(found.low[1 + option]), float(found.high[1 + option]))
        rows.append({"election": name, "unique": found.unique, "option": option, "range": given, "expected": expected})
    return rows


def falsely_flagged(count: int) -> int:
    """How many generic games are called not unique: half of them symmetric."""
    rng, wrong = np.random.default_rng([SEED, 3]), 0
    for number in range(count):
        m, n = rng.integers(2, 13, 2)
        payoffs = rng.uniform(size=(m, n))
        if number % 2:
            payoffs = np.triu(rng.uniform(-1, 1, (m, m)), 1)
            payoffs = payoffs - payoffs.T
        game = Game.from_matrix(payoffs)
        wrong += not all(mmd.optimal_range(game, player).unique for player in (0, 1))
    return wrong


def shown(held: dict[str, Any] | None) -> str:
    """A cell of the table."""
    return f"{100 * held['hold']:.1f} % of {held['intervals']}" if held else "-"


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of mmd.bootstrap.")
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--generic", type=int, default=200)
    chosen = parser.parse_args()
    results = [coverage(kind, chosen.tables, chosen.draws) for kind in KINDS]
    rows = [
        (r["kind"], f"{100 * r['value']:.1f} %", *(shown(r["probabilities"].get(size)) for size in SIZES))
        for r in results
    ]
    print_table(("tables", "value", *(f"probability {size}" for size in SIZES)), rows)
    elections, wrong = flagged(), falsely_flagged(chosen.generic)
    for row in elections:
        print(f"{row['election']}: {'unique' if row['unique'] else 'not unique'}, {row['range']}")
    print(f"{wrong} of {chosen.generic} generic games are called not unique")
    generic = {"games": chosen.generic, "called_not_unique": wrong}
    environment_ = environment()
    store(
        "bootstrap_coverage",
        {"environment": environment_, "seed": SEED, "coverage": results, "elections": elections, "generic": generic},
    )


if __name__ == "__main__":
    main()
