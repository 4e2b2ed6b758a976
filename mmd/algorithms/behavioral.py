"""Magnetic mirror descent in behavioural form: at every infoset by itself, with conditional values.

    pi+_j  =  argmax_p  <p, q_j> - alpha KL(p, mu_j) - KL(p, pi_j) / eta          at all infosets simultaneously

where q_ja is the expected payoff given that infoset j is reached and action a taken, if everybody goes on with pi: what
reinforcement learning calls the action value. (`magnetic` works on the sequence form, with the dilated KL.) Two ways to
the Nash equilibrium, of which the second is the default and usually much the faster:

    annealed        alpha_t = alpha / sqrt t,  eta_t = eta / sqrt t,  uniform magnet             annealed=True
    moving magnet   mu+  prop. to  mu^(1-h) pi+^h,  alpha and eta constant                       MovingAverage(rate=h)

With constant alpha and a fixed uniform magnet the fixed point is the agent QRE (AQRE) with temperature alpha.

Source: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
Zero-Sum Games", ICLR 2023, App. G.4, H.3 and H.5, and their code. The defaults, alpha 1, eta 0.1 and h 0.05, are the
paper's for all its games, in units of the games' payoffs. Its annealed settings (alpha, eta) are (1, 1) on Kuhn poker
and dark hex, (1, 2) on liar's dice, (5, 1) on Leduc poker.

Proven: nothing on trees, where the paper measures convergence. On a matrix game it is `magnetic`, with its theorems.

Conditional values need how likely every play is (`_plays`), so a step costs two gradient evaluations. Probabilities are
kept from falling below about 1e-10, as in the authors' code, which limits the exploitability to the same order.

Deviations: none.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmd import magnets
from mmd.algorithms import _plays
from mmd.algorithms.contract import LAST, Candidate, Diagnostics
from mmd.game.game import Game, GameError, Number, Pair
from mmd.game.payoff import Dense, Sparse
from mmd.game.treeplex import Treeplex
from mmd.measure import metrics
from mmd.measure.metrics import Profile
from mmd.simplex import masked_log_softmax
from mmd.update import magnetic_step


class BehavioralState(NamedTuple):
    """The iterate and the magnet."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    iterate: Profile
    log_magnet: Pair


class Coefficients(NamedTuple):
    """Step size, regularization and the smallest probability of a step."""

    eta: Float[Array, ""]
    alpha: Float[Array, ""]
    floor: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class BehavioralMirrorDescent:
    """Behavioural-form MMD; returns the last iterate.

    Attributes:
        eta: step size, in 1 / payoff units.
        alpha: regularization towards the magnet, in payoff units.
        annealed: whether both fall as 1 / sqrt t.
        magnet: where it starts and how it moves; `MovingAverage` is the paper's.
        floor: about the smallest probability of an action.
        plays: how likely plays are; filled in by `resolve`.
    """

    name: ClassVar[str] = "mmd-behavioral"
    keeps_best: ClassVar[bool] = False
    has_gap: ClassVar[bool] = False  # an agent QRE is no equilibrium of a regularized game between the two players

    eta: Number = 0.1
    alpha: Number = 1.0
    annealed: bool = field(default=False, metadata={"static": True})
    magnet: magnets.Magnet = field(default_factory=lambda: magnets.MovingAverage(center="uniform", rate=0.05))
    floor: Number = 1e-10
    plays: Dense | Sparse | None = field(default=None, metadata={"derived": True})

    def resolve(self, game: Game) -> "BehavioralMirrorDescent":
        """Work out how likely plays are; check the numbers.

        Raises:
            GameError: eta or the floor is not positive, alpha is negative, the magnet is none of `mmd.magnets`, or the
                game does not know how likely its plays are.
        """
        if not isinstance(self.magnet, magnets.Magnet):
            raise GameError(f"expected a magnet such as mmd.MovingAverage(rate=0.05), got {self.magnet!r}")
        if not self.alpha >= 0:
            raise GameError(f"expected alpha >= 0, got {self.alpha}")
        if not self.eta > 0:
            raise GameError(f"expected eta > 0, got {self.eta}")
        if not 0 < self.floor < 1:
            raise GameError(f"expected a floor between 0 and 1, got {self.floor}")
        return replace(self, magnet=self.magnet.resolve(game), plays=_plays.probabilities(game, self.name))

    def init(self, game: Game, log_policy: Pair) -> BehavioralState:
        """Start at a policy with full support; costs one gradient evaluation."""
        at, zero = metrics.profile(game, log_policy), jnp.zeros((), int)
        return BehavioralState(zero, zero + 1, at, tuple(m.astype(at.plan[0].dtype) for m in self.magnet.start(game)))

    def step(self, game: Game, state: BehavioralState) -> BehavioralState:
        """One simultaneous update of all infosets of both players, then the magnet's move."""
        assert self.plays is not None, "resolve fills it in"
        at, iteration = state.iterate, state.iteration + 1
        fading = iteration.astype(at.plan[0].dtype) ** (-0.5 if self.annealed else 0.0)
        eta = self.eta * fading
        alpha = self.magnet.alpha(self.alpha * fading, eta, state.iteration)
        chosen = Coefficients(eta, alpha, jnp.asarray(self.floor, fading.dtype))
        reach = (
            _plays.reach(player, collected)
            for player, collected in zip(game.players, _plays.products(self.plays, at.plan), strict=True)
        )
        seats = zip(game.players, at.log_policy, state.log_magnet, at.gradient, reach, strict=True)
        log_policy = tuple(_moved(*seat, chosen) for seat in seats)
        moved = metrics.profile(game, log_policy)
        step = magnets.Step(at.log_policy, moved.plan, log_policy, eta * alpha)
        log_magnet = self.magnet.moved(game, state.log_magnet, step, iteration)
        return BehavioralState(iteration, state.gradient_evaluations + 2, moved, log_magnet)

    def policy(self, game: Game, state: BehavioralState) -> Candidate:
        """The last iterate."""
        at = state.iterate
        return Candidate(
            at.log_policy, metrics.nash_conv(game, at.gradient), metrics.value(at), jnp.full((), LAST, int)
        )

    def diagnostics(self, game: Game, state: BehavioralState) -> Diagnostics:
        """None: an agent QRE is no equilibrium of a regularized game between the two players."""
        nan = jnp.full((), jnp.nan, state.iterate.plan[0].dtype)
        return Diagnostics(nan, nan)


def _moved(
    player: Treeplex,
    log_policy: Float[Array, " S"],
    log_magnet: Float[Array, " S"],
    gradient: Float[Array, " S"],
    reach: Float[Array, " I"],
    chosen: Coefficients,
) -> Float[Array, " S"]:
    """The update at every infoset, with the counterfactual values that the current policy gives."""

    def rule(q: Array, reach: Array, current: Array, magnet: Array) -> tuple[Array, Array]:
        exists = ~jnp.isneginf(q)
        expected = jnp.sum(jnp.where(exists, jnp.exp(current) * q, 0.0), axis=-1)
        conditional = q / jnp.where(reach > 0, reach, 1.0)[:, None]  # where nobody gets, q is 0
        moved, _ = magnetic_step(current, magnet, conditional, chosen.eta, chosen.alpha)
        return expected, masked_log_softmax(jnp.maximum(moved, jnp.log(chosen.floor)), exists)

    return player.bottom_up(gradient, rule, infoset=(reach,), sequence=(log_policy, log_magnet))[1]


ALGORITHM = BehavioralMirrorDescent
