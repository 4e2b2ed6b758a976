"""Extragradient, or mirror-prox: see where a mirror step leads, come back, and step with the gradient found there.

    w_k    =  argmax_z  <z, g(z_k)> - D(z, z_k) / eta
    z_k+1  =  argmax_z  <z, g(w_k)> - D(z, z_k) / eta                      both players simultaneously

Two gradient evaluations a step, at w_k and at z_k+1; `_mirror` defines g and D and adapts the step.

Sources: Korpelevich 1976; Nemirovski, "Prox-Method with Rate of Convergence O(1/t) for Variational Inequalities with
Lipschitz Continuous Monotone Operators and Smooth Convex-Concave Saddle Point Problems", SIAM J. Optimization 2004;
for the last iterate, Mertikopoulos et al., "Optimistic Mirror Descent in Saddle-Point Problems: Going the Extra
(-Gradient) Mile", ICLR 2019.

Proven: every step with `eta <= 1 / L`, L of `mmd.measure.theory.operator_norm`, passes the test of `_mirror`. So, with
    constant
and with adapted steps, the average of the w, weighted with eta, has NashConv at most `max_u D(u, z_0) / sum eta`, which
is O(1 / T). The last iterate z_k converges to an equilibrium with constant eta < 1 / L; no rate is proven here.

Deviations: PDLP's rule changes the step, where Nemirovski leaves it open. The entropy's weights are 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._mirror import MirrorMethod
from mmd.game.game import Game, Pair
from mmd.measure import metrics
from mmd.measure.metrics import Profile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Extragradient(MirrorMethod):
    """Mirror-prox; returns the last iterate, or the weighted average."""

    name: ClassVar[str] = "extragradient"
    admissible: ClassVar[float] = 1.0
    evaluations: ClassVar[int] = 2

    def _iterate(self, game: Game, ahead: Profile, center: Pair) -> Profile:
        return metrics.profile(game, center)


ALGORITHM = Extragradient
