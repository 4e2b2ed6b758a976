"""Online IPO: the regression of identity preference optimisation on the model's own pairs, one gradient step each.

    theta_t+1  =  theta_t + eta pi_t (r_t - <pi_t, r_t>)        r_t  =  q_t - alpha (log pi_t - log mu)

with pi = softmax(theta) and q_t the payoff of each action against pi_t. In expectation over pairs drawn from pi_t the
gradient of `(h - 1 / (2 alpha))^2`, h the difference of log ratios to mu, is this step, up to a factor that eta holds.

Source: Calandriello et al., "Human Alignment of Large Language Models through Online Preference Optimisation", ICML
2024, Prop. 4.1 and 4.2: it is the policy gradient of regularized self-play.

Proven: the stationary points are the Nash equilibria of the *regularized* game (Prop. 4.1). No rate, and no convergence
of an iterate, is proven in the paper.

Deviations: one exact gradient step a round in place of an optimiser on batches. The probabilities in front make it slow
where they are small; mirror descent on the same r_t, which EGPO's authors run under this name, is `inpo` with constant
eta.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.algorithms._selfplay import Rates, RegularizedSelfPlay, mirror
from mmd.game.game import Game, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OnlineIPO(RegularizedSelfPlay):
    """Online IPO; returns the last iterate. Eta is the step in the logits."""

    name: ClassVar[str] = "online-ipo"

    def _regularized(self, game: Game, log_policy: Pair, log_magnet: Pair, rates: Rates, keys: list[jax.Array]) -> Pair:
        asked = self._asked(game, log_policy, keys[0])
        slopes = (_slope(*seat, rates.alpha) for seat in zip(log_policy, log_magnet, asked, strict=True))
        return mirror(game, log_policy, tuple(slopes), rates.eta)


def _slope(
    log_policy: Float[Array, " S"],
    log_magnet: Float[Array, " S"],
    payoff: Float[Array, " S"],
    alpha: Float[Array, ""],
) -> Float[Array, " S"]:
    """Gradient of the regularized payoff in the logits; a step in logits is a mirror step along it."""
    rewards = payoff - alpha * (log_policy - log_magnet)
    probabilities = jnp.exp(log_policy).at[0].set(0.0)  # no logit belongs to the empty sequence
    return probabilities * (rewards - jnp.dot(probabilities, rewards))


ALGORITHM = OnlineIPO
