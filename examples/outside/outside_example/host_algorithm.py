"""An algorithm with its own loop, here of one step: a matrix game by one call of another solver.

    max v   s.t.   x^T A >= v,   sum x = 1,   x >= 0

has the value as its optimum, the row player's strategy in x, and the column player's as the multipliers of the
inequalities (von Neumann 1928; Dantzig 1951). SciPy's HiGHS solves it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import linprog

import mmd


@dataclass(frozen=True, kw_only=True)
class LinearProgram:
    """The linear program of a matrix game. Returns an equilibrium, or says that the solver found none."""

    name: ClassVar[str] = "outside_host_algorithm"
    keeps_best: ClassVar[bool] = True

    def resolve(self, game: mmd.Game) -> "LinearProgram":
        """A tree is refused."""
        if not game.is_matrix:
            raise mmd.GameError(f"{self.name}: expected a matrix game, got the tree {game.name}")
        return self

    def run(self, game: mmd.Game, limits: mmd.Limits, report: mmd.Report) -> None:
        """One report: what HiGHS has found."""
        entries, shape = game.payoff.entries(), [player.n_sequences for player in game.players]
        payoffs = np.zeros(shape)
        np.add.at(payoffs, (entries.rows, entries.columns), entries.values)
        payoffs = payoffs[1:, 1:]  # without the empty sequences
        m, n = payoffs.shape
        found = linprog(
            np.append(np.zeros(m), -1.0),  # of (x, v)
            A_ub=np.column_stack([-payoffs.T, np.ones(n)]),
            b_ub=np.zeros(n),
            A_eq=np.append(np.ones(m), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * m + [(None, None)],
        )
        if found.x is None:
            raise mmd.GameError(f"{self.name}: {game.name}: {found.message}")
        plans = np.append(1.0, found.x[:m]), np.append(1.0, -found.ineqlin.marginals)
        report(mmd.Policy.from_plans(game, plans), iterate="last", iteration=1, gradient_evaluations=1)
