"""Self-play by mirror descent: the exact limit of SPO and SPPO.

    log pi_t+1  =  log pi_t + eta q_t - log Z            q_t  =  payoff of each action against pi_t

Sources: Swamy et al., "A Minimaximalist Approach to Reinforcement Learning from Human Feedback" (SPO), ICML 2024; Wu et
al., "Self-Play Preference Optimization for Language Model Alignment" (SPPO), 2024; the update is multiplicative weights
(Freund & Schapire 1999).

Proven: the *average* iterate converges to a Nash equilibrium of the original game; its NashConv after T steps is at
most (D0 + D1) / (eta T) + eta L^2, D the largest KL to the start and L the largest payoff, which is O(1 / sqrt T) for a
step chosen with T. The last iterate circles and moves away from an equilibrium of full support.

Deviations: SPPO regresses log ratios onto win rates and leaves out log Z, as if it were eta / 2: an error of the second
order in eta, which the closed form does not have. The default step, 1 / (2 L), is ours.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, mirror
from mmd.algorithms.contract import AVERAGE
from mmd.game.game import Game, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MirrorDescent(SelfPlay):
    """Mirror descent self-play; returns the average."""

    name: ClassVar[str] = "self-play"
    guaranteed: ClassVar[int] = AVERAGE

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, tuple]:
        return mirror(game, state.log_policy, self._asked(game, state.log_policy, keys[0]), self.eta), ()


ALGORITHM = MirrorDescent
