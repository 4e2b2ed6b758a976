"""Optimistic mirror descent with the dilated entropy: the gradient seen last is expected to come again.

    z_k    =  argmax_z  <z, g(z_k-1)> - D(z, c_k) / eta
    c_k+1  =  argmax_z  <z, g(z_k)>   - D(z, c_k) / eta                    both players simultaneously, z_0 = c_1

One gradient evaluation a step; `_mirror` defines g and D and adapts the step. With constant eta it is one update,
`z_k+1 = argmax_z <z, 2 g(z_k) - g(z_k-1)> - D(z, z_k) / eta`. On trees this is called dilated optimistic multiplicative
weights (DOMWU), on a matrix optimistic multiplicative weights (OMWU).

Sources: Popov 1980; Rakhlin & Sridharan 2013; Farina, Kroer, Sandholm, "Optimistic Regret Minimization for
Extensive-Form Games via Dilated Distance-Generating Functions", NeurIPS 2019; Lee, Kroer, Luo, "Last-iterate
Convergence in Extensive-Form Games", NeurIPS 2021.

Proven: with a constant step that is small enough and a unique equilibrium the *last* iterate z_k converges linearly
(Lee et al. 2021), at a rate that depends on the game and can be arbitrarily slow. With constant
`eta <= (sqrt 2 - 1) / L`, L of `mmd.measure.theory.operator_norm`, the average of the z has NashConv at most
`max_u D(u, c_1) / sum eta`: with m = eta L, a = |z_k - c_k| and b_k = |c_k - z_k-1| a step's error is at most
m (a + b_k) b_k+1 - (a^2 + b_k+1^2) / 2, and these sum to at most 0 if m^2 + 2 m <= 1. With an adapted step the bound
holds as long as every step passed its test; nothing is proven for the last iterate, which is measured to converge.

Deviations: the papers' steps are constant, and tuned; Lee et al. admit 1 / 8 over the number of sequences, at payoffs
of at most 1. `adaptive=False` with `eta` is the published method. The entropy's weights are 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from mmd.algorithms._mirror import MirrorMethod
from mmd.game.game import Game, Pair
from mmd.measure.metrics import Profile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Optimistic(MirrorMethod):
    """Optimistic mirror descent; returns the last iterate, or the average."""

    name: ClassVar[str] = "optimistic"
    admissible: ClassVar[float] = 2**0.5 - 1
    evaluations: ClassVar[int] = 1

    def _iterate(self, game: Game, ahead: Profile, center: Pair) -> Profile:
        return ahead


ALGORITHM = Optimistic
