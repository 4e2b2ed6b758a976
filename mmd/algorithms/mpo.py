"""Magnetic Preference Optimization (MPO) in its tabular form: MMD whose magnet is copied from the last iterate.

    pi_k+1  =  argmax_pi  <pi, q_k> - alpha KL(pi, mu) - KL(pi, pi_k) / eta        mu <- pi every so many steps

It is `magnetic` with `Refresh`, step for step, with feedback that may be noisy. As there eta is the step of the
magnetic update, not of mirror descent.

Source: Wang et al., "Magnetic Preference Optimization: Achieving Last-iterate Convergence for Language Model
Alignment", ICLR 2025, sections 3 and 4.

Proven: between two moves of the magnet, linear convergence of the *last* iterate to the Nash equilibrium of the
*regularised* game for eta <= alpha / L^2. Each copy of an exact regularised equilibrium brings the magnet closer, in
KL, to every Nash equilibrium of the *original* game at once, to one of which the sequence converges: no rate is known,
and none is proven for a magnet that moves before the inner game is solved. Copied every step it is mirror descent of
step eta / (1 + eta alpha), and circles.

Deviations: the period and the numbers are ours (eta 0.4, alpha 0.1, every 100 steps, for payoffs of about 1/2); the
paper's are for language models. One of its players is frozen within a step, as here.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import jax

from mmd import magnets
from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay, magnetic
from mmd.game.game import Game, Number, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MPO(RegularizedSelfPlay):
    """Magnetic Preference Optimization; returns the last iterate. Eta is the step of the magnetic update."""

    name: ClassVar[str] = "mpo"

    eta: Number = 0.4
    magnet: magnets.Magnet = field(default_factory=lambda: magnets.Refresh(every=100))

    def _check_pull(self, eta: Number) -> None:
        """Any eta will do: the magnetic step never passes the magnet."""

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        asked = self._asked(game, log_policy, keys[0])
        return magnetic(game, (log_policy, log_magnet), asked, *rates)


ALGORITHM = MPO
