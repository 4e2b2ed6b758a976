"""Magnetic Mirror Descent (MMD), exactly as published.

    z_{k+1} = argmax_z  <z, F(z_k)> - alpha KL(z, magnet) - KL(z, z_k) / eta          both players simultaneously

Source: Sokota, D'Orazio, Kolter, Loizou, Lanctot, Mitliagkas, Brown, Kroer, "A Unified Approach to Reinforcement
Learning, Quantal Response Equilibria, and Two-Player Zero-Sum Games", ICLR 2023, eq. 7, 12 and App. C.3. On trees KL
is the dilated one with unit weights. With `Refresh` it is the tabular form of Magnetic Preference Optimization (Wang
et al., ICLR 2025).

Proven: with a fixed magnet and `eta <= alpha / L^2` the last iterate converges linearly to the equilibrium of the
*regularized* game (Theorem 3.4; `mmd.measure.theory`). With a magnet that jumps to the exact regularized equilibrium
each time, the sequence of those equilibria converges to a Nash equilibrium of the original game, no rate known. Not
proven: any rate for the original game.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mmd import magnets
from mmd.algorithms.contract import LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure import metrics, theory
from mmd.measure.metrics import Profile


class MagneticState(NamedTuple):
    """The iterate and the magnet."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    iterate: Profile
    log_magnet: Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MagneticMirrorDescent:
    """MMD with a constant step; returns the last iterate.

    Attributes:
        eta: step size, in 1 / payoff units; None for the largest that the theorem admits, `alpha / max|A|^2`.
        alpha: regularization towards the magnet, in payoff units; 0 is plain mirror descent (which cycles).
        magnet: where the magnet starts and how it moves. The default centre, "dilated", is the paper's; the uniform
            policy is a different magnet with a different QRE.
    """

    name: ClassVar[str] = "mmd"
    keeps_best: ClassVar[bool] = False

    eta: Number = None
    alpha: Number = 0.1
    magnet: magnets.Magnet = field(default_factory=magnets.Fixed)

    def resolve(self, game: Game) -> "MagneticMirrorDescent":
        """Fill in the step size; check the numbers.

        Raises:
            GameError: alpha is negative, eta is not positive, or alpha is 0 and eta is not given.
        """
        if not isinstance(self.magnet, magnets.Magnet):
            raise GameError(f"expected a magnet such as mmd.Fixed() or mmd.Refresh(every=200), got {self.magnet!r}")
        if not self.alpha >= 0:
            raise GameError(f"expected alpha >= 0, got {self.alpha}")
        if self.eta is None and self.alpha == 0:
            raise GameError("expected a step size with alpha = 0: the theorem's default alpha / L^2 is 0; give eta")
        eta = theory.largest_step(game, self.alpha) if self.eta is None else self.eta
        if not eta > 0:
            raise GameError(f"expected eta > 0, got {eta}")
        return replace(self, eta=eta, magnet=self.magnet.resolve(game))

    def init(self, game: Game, log_policy: Pair) -> MagneticState:
        """Start at [S0] and [S1] log-policies with full support."""
        at = metrics.profile(game, log_policy)
        zero = jnp.zeros((), int)
        dtype = log_policy[0].dtype
        return MagneticState(zero, zero + 1, at, tuple(m.astype(dtype) for m in self.magnet.start(game)))

    def step(self, game: Game, state: MagneticState) -> MagneticState:
        """One simultaneous update, then the magnet's move."""
        alpha = self.magnet.alpha(self.alpha, self.eta, state.iteration)
        moved = metrics.profile(
            game,
            tuple(
                player.magnetic_step(log_policy, log_magnet, gradient, self.eta, alpha, jnp.ones(player.n_infosets))
                for player, log_policy, log_magnet, gradient in zip(
                    game.players, state.iterate.log_policy, state.log_magnet, state.iterate.gradient, strict=True
                )
            ),
        )
        iteration = state.iteration + 1
        step = magnets.Step(state.iterate.log_policy, moved.plan, moved.log_policy, self.eta * alpha)
        log_magnet = self.magnet.moved(game, state.log_magnet, step, iteration)
        return MagneticState(iteration, state.gradient_evaluations + 1, moved, log_magnet)

    def policy(self, game: Game, state: MagneticState) -> Candidate:
        """The last iterate, with its NashConv and value in payoff units."""
        at = state.iterate
        return Candidate(
            at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), LAST, int)
        )

    def diagnostics(self, game: Game, state: MagneticState) -> Diagnostics:
        """The duality gap of the game regularized towards the current magnet, in payoff units."""
        alpha = self.magnet.alpha(self.alpha, self.eta, state.iteration)
        gap = metrics.regularized_gap(game, state.iterate, state.log_magnet, alpha)
        return Diagnostics(gap if self.magnet.regularizes else gap * jnp.nan, gap * jnp.nan)


ALGORITHM = MagneticMirrorDescent
