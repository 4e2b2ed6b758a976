"""Extragradient Preference Optimization (EGPO): look where the regularized step leads, come back, step from there.

    pi'_t    prop. to  pi_t^(1 - eta alpha) mu^(eta alpha) exp(eta q(pi_t))
    pi_t+1   prop. to  pi_t^(1 - eta alpha) mu^(eta alpha) exp(eta q(pi'_t))                      two evaluations a step

Source: Zhou, Fazel, Du, "Extragradient Preference Optimization (EGPO): Beyond Last-Iterate Convergence for Nash
Learning from Human Feedback", COLM 2025, and its authors' code; the update is the predictive one of Cen, Wei, Chi,
NeurIPS 2021.

Proven: for small enough constant eta the *last* iterate converges linearly to the Nash equilibrium of the *regularized*
game; with alpha small enough for an accuracy, polynomially to the *original* one; robust to noise.

Deviations: with a magnet that moves, which the paper does not have, the target is the original game and nothing is
proven. The default step is the mirror descent step of MMD's largest; the paper's own are in its benchmark's units.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay
from mmd.game.game import Game, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class EGPO(RegularizedSelfPlay):
    """EGPO; returns the last iterate."""

    name: ClassVar[str] = "egpo"
    evaluations: ClassVar[int] = 2

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        ahead = self._magnetic(game, log_policy, log_magnet, self._asked(game, log_policy, keys[0]), rates)
        return self._magnetic(game, log_policy, log_magnet, self._asked(game, ahead, keys[1]), rates)


ALGORITHM = EGPO
