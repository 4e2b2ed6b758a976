"""The set of equilibrium strategies of a matrix game, and how far a strategy is from it.

Optimal strategies of a player form a polytope, { p on the simplex : every reply of the opponent leaves it at least the
value }. The distance from a strategy x is the least KL(p, x) over it, attained at the I-projection of x (Csiszar 1975):
the quantity that the conceptual prox decreases for every equilibrium at once. Where the polytope is a point, which
`exact.optimal_range` finds out, it is KL to that point; else the projection is computed by SLSQP over the actions that
some optimal strategy plays, from float64 payoffs, to about 1e-9. Never imported by a solver.
"""

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from mmd.game.game import Game, GameError, as_game
from mmd.game.policy import Policy
from mmd.measure.exact import optimal_range, solve_exactly
from mmd.measure.sequence_form import payoff_matrix

PLAYED = 1e-7  # largest probability below which no optimal strategy plays an action
SMALLEST = 1e-15  # of a probability inside the logarithm


@dataclass(frozen=True)
class OptimalSet:
    """A player's optimal strategies in a matrix game.

    Attributes:
        payoffs: [m, n] to the player, against each reply of the opponent.
        value: what every optimal strategy guarantees.
        support: the actions that some optimal strategy plays.
        one: an optimal strategy; the only one if `unique`.
        unique: whether it is.
    """

    payoffs: Float[np.ndarray, "m n"]
    value: float
    support: np.ndarray
    one: Float[np.ndarray, " m"]
    unique: bool

    @classmethod
    def of(cls, game: Game, player: int) -> "OptimalSet":
        """The optimal strategies of a player, by linear programs.

        Raises:
            GameError: the game is a tree.
        """
        if not game.is_matrix:
            raise GameError(f"expected a matrix game, and {game.name} is a tree")
        matrix = payoff_matrix(game).toarray()[1:, 1:]
        payoffs = matrix if player == 0 else -matrix.T
        bounds = optimal_range(game, player)
        one = solve_exactly(game).plans[player][1:]
        one = one / one.sum()
        support = np.flatnonzero(bounds.high[1:] > PLAYED)
        return cls(payoffs, float((one @ payoffs).min()), support, one, bounds.unique)

    def nearest(self, strategy: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The optimal strategy p with the least KL(p, strategy); `one` where all are infinitely far."""
        at = self.support
        if self.unique or not (strategy[at] > 0).all():
            return self.one
        log_target, payoffs = np.log(strategy[at]), self.payoffs[at]

        def divergence(p: np.ndarray) -> tuple[float, np.ndarray]:
            ratio = np.log(np.maximum(p, SMALLEST)) - log_target
            return float(p @ ratio), ratio + 1.0

        found = minimize(
            divergence,
            self.one[at],
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * len(at),
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1.0, "jac": lambda p: np.ones_like(p)},
                {"type": "ineq", "fun": lambda p: p @ payoffs - self.value, "jac": lambda p: payoffs.T},
            ],
            options={"maxiter": 500, "ftol": 1e-12},
        )
        nearest = np.zeros_like(strategy)
        nearest[at] = np.maximum(found.x, 0.0)
        return nearest / nearest.sum()

    def distance(self, strategy: Float[np.ndarray, " m"]) -> float:
        """The least KL(p, strategy) over optimal p; infinite where all play what the strategy does not."""
        p = self.nearest(strategy)
        played = p > 0
        if not (strategy[played] > 0).all():
            return float("inf")
        d = np.log(strategy[played]) - np.log(p[played])
        return max(0.0, float(p[played] @ np.where(np.abs(d) < 1e-4, d * d / 2 - d**3 / 6, np.expm1(d) - d)))


def maximal_entropy(game: Game | str | os.PathLike[str]) -> Policy:
    """The equilibrium of a matrix game whose strategies are spread most: each has the largest entropy of all optimal.

    It is the I-projection of the uniform strategy onto the player's optimal strategies, so it is unique where the
    equilibrium is not. `mmd.certify` says how exact it is.

    Args:
        game: a matrix game, or its name or file.

    Raises:
        GameError: the game is a tree, or there is none.
    """
    game = as_game(game)
    found = []
    for player, space in enumerate(game.players):
        actions = space.n_sequences - 1
        nearest = OptimalSet.of(game, player).nearest(np.full(actions, 1 / actions))
        found.append(np.concatenate([[1.0], nearest]))
    return Policy(game, (found[0], found[1]))
