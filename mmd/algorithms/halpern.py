"""Halpern's anchor with steps for noise: one gradient a step, pulled back to the start ever more weakly.

    z_t+1  =  Proj( (1 - b_t) z_t + b_t z_0 + eta_t q(z_t) )        b_t = a / (t + a)        eta_t = eta / (t + a)^(3/4)

for both players, t = 0, 1, 2, ..., a = 2. (`anchored` is this package's own engine with a magnet of that kind.)

Source: Kim & Alacaoglu, 2026, on monotone games with noisy gradients; the iteration is Halpern's (1967).

Proven: with eta = 1 / H, H^2 = L^2 + 2 B^2, L the spectral norm of the payoffs and B a bound on the noise, the *last*
iterate has expected gap O(t^(-1/4)) at any time t, to a Nash equilibrium of the *original* game, without knowing a
horizon.

Deviations: none. The default eta is 1 / L, which is right without noise; give 1 / H with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, logs, plans, projected
from mmd.game.game import Game, Number, Pair
from mmd.measure.theory import spectral_norm


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HalpernAnchor(SelfPlay):
    """Halpern iteration with fading steps; returns the last iterate. Eta is the first step's, times a^(3/4).

    Attributes:
        anchoring: a, at least 2.
    """

    name: ClassVar[str] = "halpern"

    anchoring: Number = 2.0

    def _default_eta(self, game: Game) -> Number:
        return 1.0 / (spectral_norm(game) or 1.0)

    def _start(self, game: Game, log_policy: Pair) -> Pair:
        return plans(log_policy)

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Pair]:
        now, asked = plans(state.log_policy), self._asked(game, state.log_policy, keys[0])
        t = state.iteration.astype(now[0].dtype) + self.anchoring
        share, eta = self.anchoring / t, self.eta * t**-0.75
        moved = tuple(
            projected((1 - share) * x + share * start + eta * q)
            for x, start, q in zip(now, state.memory, asked, strict=True)
        )
        return logs(moved), state.memory


ALGORITHM = HalpernAnchor
