"""How far a policy profile is from equilibrium: best responses, NashConv, exploitability, regularized gap.

For plans x, y the payoff gradients are g0 = A y and g1 = -A^T x. Player p gains at most `max_x' <x', g_p> - <x, g_p>`
by deviating, and because the game is zero-sum <x, g0> + <y, g1> = 0, so

    NashConv = max_x' <x', g0> + max_y' <y', g1>        exploitability = NashConv / 2

(OpenSpiel's convention; NashConv is also the duality gap). Both are >= 0, and 0 exactly at an equilibrium. The
*regularized gap* is the duality gap of another game, the one in which both players also pay `alpha KL(., magnet)`; it
says nothing about the exploitability in the original game.

Everything here is traceable. The numbers on a `Solution` come from `mmd.measure.certificate` instead.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.game.game import Game, HostPair, Pair, as_game
from mmd.game.policy import Policy, fitting
from mmd.game.treeplex import Treeplex


class Profile(NamedTuple):
    """Policies of both players with what follows from them.

    Attributes:
        log_policy: [S0], [S1] log behavioural policies.
        plan: [S0], [S1] realisation probabilities.
        gradient: [S0], [S1] payoff gradients (A y, -A^T x).
    """

    log_policy: Pair
    plan: Pair
    gradient: Pair


def profile(game: Game, log_policy: Pair) -> Profile:
    """The profile of a pair of policies; costs one gradient evaluation."""
    plan = (game.row.top_down(log_policy[0]), game.column.top_down(log_policy[1]))
    return Profile(log_policy, plan, (game.gradient(0, plan[1]), game.gradient(1, plan[0])))


def best_response(game: Game, player: int, opponent_plan: Float[Array, " T"]) -> tuple[Array, Array]:
    """Value of a player's best response to a plan, and the regret [S] (<= 0) of each of its sequences."""
    return game.players[player].best_response(game.gradient(player, opponent_plan))


def nash_conv(game: Game, gradient: Pair) -> Float[Array, ""]:
    """NashConv of the profile whose payoff gradients are given: two best-response sweeps, no product with A."""
    return game.row.best_response(gradient[0])[0] + game.column.best_response(gradient[1])[0]


def exploitability(game: Game | Any, policy: Policy | Pair | HostPair) -> float:
    """Exploitability (NashConv / 2) of a policy, in payoff units, computed in float64.

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them.
        policy: a `Policy`, or a pair of arrays [S0], [S1] of probabilities or of log-probabilities, as for `certify`.

    Raises:
        GameError: there is no such game, or the policy does not fit it.
    """
    game = as_game(game)
    with jax.enable_x64(True):
        log_policy = tuple(jnp.asarray(log) for log in fitting(game, policy, "policy"))
        game = game.astype(jnp.float64)
        return float(nash_conv(game, profile(game, log_policy).gradient)) / 2


def value(at: Profile) -> Float[Array, ""]:
    """Expected payoff of the row player, x^T A y (the game's offset left out)."""
    return jnp.dot(at.plan[0], at.gradient[0])


def regularized_best_response(
    player: Treeplex,
    gradient: Float[Array, " S"],
    log_magnet: Float[Array, " S"],
    alpha: Float[Array, ""] | float,
    weights: Float[Array, " I"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, " S"]]:
    """`max_x <x, gradient> - alpha KL(x, magnet)` and its maximiser as a log-policy (dilated KL; weights 1 if None).

    It is the magnetic step from the magnet itself with eta = 1 / alpha and no further regularization.
    """
    w = jnp.ones(player.n_infosets, gradient.dtype) if weights is None else weights
    response = player.magnetic_step(log_magnet, log_magnet, gradient, 1.0 / alpha, 0.0, w)
    plan = player.top_down(response)
    repeated = None if weights is None else player.over_sequences(w)
    return jnp.dot(plan, gradient) - alpha * player.bregman(plan, response, log_magnet, repeated), response


def regularized_gap(
    game: Game, at: Profile, log_magnet: Pair, alpha: Float[Array, ""] | float, weights: Pair | None = None
) -> Float[Array, ""]:
    """Duality gap of the game in which each player also pays `alpha KL(., magnet)`.

    0 exactly at that game's equilibrium (a QRE). Source: Sokota et al. 2023, section 2 and eq. 7. Needs alpha > 0.

    Args:
        game: the game.
        at: the profile.
        log_magnet: [S0], [S1] the magnet.
        alpha: regularization, in payoff units.
        weights: [I0], [I1] infoset weights of the dilated KL; 1 if None.
    """
    gap = jnp.zeros((), at.plan[0].dtype)
    each = zip(game.players, *at, log_magnet, (None, None) if weights is None else weights, strict=True)
    for player, log_policy, plan, gradient, magnet, w in each:
        best, _ = regularized_best_response(player, gradient, magnet, alpha, w)
        repeated = None if w is None else player.over_sequences(w)
        gap += best - jnp.dot(plan, gradient) + alpha * player.bregman(plan, log_policy, magnet, repeated)
    return gap
