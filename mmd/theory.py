"""What the theorems promise about magnetic mirror descent with a fixed magnet.

Theorem 3.4 of Sokota et al. (ICLR 2023), with the regulariser 1-strongly convex relative to the mirror map: if
`eta <= alpha / L^2`, then the simultaneous update contracts towards the equilibrium z* of the regularised game,

    KL(z*, z_k)  <=  (1 + eta alpha)^-k  KL(z*, z_0),

where L is the smoothness of the payoff operator; for a sequence-form game L = max |A_ij| (Prop. 2.4). "Linear" is a
theorem for the regularised equilibrium only. Nothing here speaks about the Nash equilibrium of the original game.
"""

import numpy as np

from mmd.game import Game


def smoothness(game: Game) -> float:
    """L = max |A_ij| over the sequence-form payoffs, in payoff units (Prop. 2.4)."""
    values = game.payoff.entries().values
    return float(np.abs(values).max()) if len(values) else 0.0


def largest_step(game: Game, alpha: float) -> float:
    """The largest step size that Theorem 3.4 admits, `alpha / L^2`, in 1 / payoff units.

    Args:
        game: the game.
        alpha: regularisation (> 0), in payoff units.
    """
    bound = smoothness(game)
    return alpha / bound**2 if bound > 0 else 1.0


def contraction_factor(eta: float, alpha: float) -> float:
    """The factor by which `KL(z*, z_k)` shrinks at least in every step, `1 / (1 + eta alpha)`; 1 where alpha is 0."""
    return 1.0 / (1.0 + eta * alpha)
