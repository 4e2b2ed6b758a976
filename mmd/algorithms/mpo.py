"""Magnetic Preference Optimization (MPO) in its tabular form: MMD whose magnet moves to the last iterate.

    pi_k+1  =  argmax_pi  <pi, q_k> - alpha KL(pi, mu) - KL(pi, pi_k) / eta        mu <- pi, again and again

Source: Wang et al., "Magnetic Preference Optimization: Achieving Last-iterate Convergence for Language Model
Alignment", ICLR 2025, sections 3 and 4. Of the two forms here a call without numbers means the first.

`MPO()` is the two loops of `_two_loops`, on every game, matrix or tree: eta, alpha and the moves of the magnet follow
what is measured, and a move brings best replies back whose probability has become too small to return by themselves.
Proven: with constant steps the *last* iterate of an inner loop converges linearly to the equilibrium of the
*regularized* game, and an exact solution brings the magnet closer to every equilibrium of the *original* one, up to a
finite sum for what is brought back. Measured: that steps which adapt, inexact solutions and a metric and an alpha that
follow reach the equilibrium of the original game, and how fast: docs/benchmarks/two-loops.md.

`MPO(eta=..., alpha=..., magnet=..., feedback=...)`, any of them, is `magnetic` step for step on matrix games, with
feedback that may be noisy. As there eta is the step of the magnetic update, not of mirror descent. Proven: between two
moves of the magnet, linear convergence of the *last* iterate to the Nash equilibrium of the *regularized* game for
eta <= alpha / L^2. Each copy of an exact regularized equilibrium brings the magnet closer, in KL, to every Nash
equilibrium of the *original* game at once, to one of which the sequence converges: no rate is known, and none is proven
for a magnet that moves before the inner game is solved. Copied every step it is mirror descent of step
eta / (1 + eta alpha), and circles.

Deviations: the period and the numbers of the second form are ours (eta 0.4, alpha 0.1, every 100 steps, for payoffs of
about 1/2); the paper's are for language models. One of its players is frozen within a step, as in the second form.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax

from mmd import magnets
from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay, magnetic
from mmd.algorithms._two_loops import TwoLoops
from mmd.feedback import Exact
from mmd.game.game import Game, GameError, Number, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MPO(RegularizedSelfPlay):
    """Magnetic Preference Optimization; returns the last iterate.

    Without a number it is the two loops, on every game. With any of the following it is the constant step on matrix
    games, and what is not given is as below.

    Attributes:
        eta: step size of the magnetic update, in 1 / payoff units; 0.4.
        alpha: regularization towards the magnet, in payoff units; 0.1.
        magnet: where it starts and how it moves; `mmd.Refresh(every=100)`.
        feedback: what is known about payoffs; `mmd.Exact()`.
        iterate: "last" or "average", which of them is returned; the last.
    """

    name: ClassVar[str] = "mpo"

    eta: Number = None
    alpha: Number = None
    magnet: Any = None
    feedback: Any = None

    def resolve(self, game: Game) -> Any:
        """The two loops, or this algorithm with its defaults filled in.

        Raises:
            GameError: a number is given and the game is a tree, or as for `RegularizedSelfPlay`.
        """
        given = {name: getattr(self, name) for name in ("eta", "alpha", "magnet", "feedback", "iterate")}
        given = {name: value for name, value in given.items() if value is not None}
        if not given:
            return TwoLoops().resolve(game)
        if not game.is_matrix:
            raise GameError(
                f"mpo with {' and '.join(given)} given is defined on matrix games, one choice a player, and "
                f"{game.name} is a tree: give none of them, or use mmd, whose magnet may be mmd.Refresh(every=100)"
            )
        default = {"eta": 0.4, "alpha": 0.1, "magnet": magnets.Refresh(every=100), "feedback": Exact()}
        filled: RegularizedSelfPlay = replace(self, **default | given)
        return RegularizedSelfPlay.resolve(filled, game)

    def _check_pull(self, eta: Number) -> None:
        """Any eta will do: the magnetic step never passes the magnet."""

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        asked = self._asked(game, log_policy, keys[0])
        return magnetic(game, (log_policy, log_magnet), asked, *rates)


ALGORITHM = MPO
