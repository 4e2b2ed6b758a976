"""What the theorems promise about magnetic mirror descent with a fixed magnet.

Theorem 3.4 of Sokota et al. (ICLR 2023), with the regularizer 1-strongly convex relative to the mirror map: if
`eta <= alpha / L^2`, then the simultaneous update contracts towards the equilibrium z* of the regularized game,

    KL(z*, z_k)  <=  (1 + eta alpha)^-k  KL(z*, z_0),

where L is the smoothness of the payoff operator; for a sequence-form game L = max |A_ij| (Prop. 2.4). "Linear" is a
theorem for the regularized equilibrium only.

For extragradient and optimistic steps, whose averages and last iterates approach the Nash equilibrium of the original
game, `operator_norm` is the constant that their step sizes are fractions of.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmd.game.game import Game

ROUNDING = 1e-12  # of the largest step: what a step may be longer by


def smoothness(game: Game) -> float:
    """L = max |A_ij| over the sequence-form payoffs, in payoff units (Prop. 2.4)."""
    values = game.payoff.entries().values
    return float(np.abs(values).max()) if len(values) else 0.0


def largest_step(game: Game, alpha: float) -> float:
    """The largest step size that Theorem 3.4 admits, `alpha / L^2`, in 1 / payoff units.

    Args:
        game: the game.
        alpha: regularization (> 0), in payoff units.
    """
    bound = smoothness(game)
    return alpha / bound**2 if bound > 0 else 1.0


def contraction_factor(eta: float, alpha: float) -> float:
    """The factor by which `KL(z*, z_k)` shrinks at least in every step, `1 / (1 + eta alpha)`; 1 where alpha is 0."""
    return 1.0 / (1.0 + eta * alpha)


def proven_factor(game: Game, algorithm: Mapping[str, Any]) -> float | None:
    """The factor by which a run's KL(z*, z_k) to the regularized equilibrium is proven to fall in an iteration.

    Args:
        game: the game.
        algorithm: name and resolved numbers, as a solution has them.

    Returns:
        `contraction_factor`, where the theorem speaks of such a run: `mmd` with a magnet that stays, alpha > 0 and
        eta <= alpha / L^2. None elsewhere.
    """
    magnet, numbers = algorithm.get("magnet"), [algorithm.get(name, 0.0) for name in ("eta", "alpha")]
    if algorithm.get("name") != "mmd" or not isinstance(magnet, Mapping) or magnet.get("kind") != "Fixed":
        return None
    if not all(isinstance(number, int | float) and number > 0 for number in numbers):
        return None
    eta, alpha = map(float, numbers)
    return contraction_factor(eta, alpha) if eta <= largest_step(game, alpha) * (1 + ROUNDING) else None


def operator_norm(game: Game) -> float:
    """Half the range of payoffs: `|<x - x', A (y - y')>| <= L |x - x'| |y - y'|`, in payoff units.

    In the norm `|d| = inf { sum |c_v| : d = sum c_v v over pure strategies v }` the bound holds because a difference of
    plans has coefficients that sum to 0, so that a constant added to all payoffs changes nothing. In the same norm the
    dilated entropy with unit weights is 1-strongly convex: its conjugate is the log-sum-exp over pure strategies
    (Farina, Lee, Luo, Kroer, ICML 2022), whose second derivative along g is a variance of <g, v>, at most max <g, v>^2.
    On a simplex these are the l1 norm and Pinsker's inequality.
    """
    return game.description.payoff_range / 2


def spectral_norm(game: Game) -> float:
    """Largest singular value of the payoff matrix: the Lipschitz constant of the gradients in the Euclidean norm."""
    rows, columns, values = game.payoff.entries()
    if not len(values):
        return 0.0
    matrix = np.zeros((game.row.n_sequences, game.column.n_sequences))
    matrix[rows, columns] = values
    return float(np.linalg.norm(matrix, 2))
