"""An algorithm: magnetic mirror descent in turns; the column player answers the row player's new policy.

    log x+  ~  log x + eta alpha log mu + eta A y          log y+  ~  log y + eta alpha log nu - eta A^T x+

both divided by 1 + eta alpha, which is `Treeplex.magnetic_step`. The magnet is where the run starts.

Proven: a fixed point is the equilibrium of the game regularized towards the start (a QRE), whatever eta is. That turns
converge to it for a small eta is measured here, not proven.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import mmd

Pair = tuple[Array, ...]  # the row player's, the column player's


class State(NamedTuple):
    """Log-policies of both players, now and at the start."""

    iteration: Array
    gradient_evaluations: Array
    log_policy: Pair
    magnet: Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Alternating:
    """Magnetic mirror descent in turns. Returns the last iterate.

    Attributes:
        eta: step size, in 1 / payoff units, > 0.
        alpha: regularization towards the start, in payoff units, > 0.
    """

    name: ClassVar[str] = "outside_algorithm"
    keeps_best: ClassVar[bool] = False  # return the newest policy, not the best one measured

    eta: float = 0.1
    alpha: float = 0.1

    def resolve(self, game: mmd.Game) -> "Alternating":
        """Nothing depends on the game; this is where numbers are checked."""
        for name in ("eta", "alpha"):
            if not getattr(self, name) > 0:
                raise mmd.GameError(f"expected {name} > 0, got {getattr(self, name)}")
        return self

    def init(self, game: mmd.Game, log_policy: Pair) -> State:
        """At the start the iterate is the magnet."""
        zero, start = jnp.zeros((), int), tuple(jnp.asarray(log) for log in log_policy)
        return State(zero, zero, start, start)

    def step(self, game: mmd.Game, state: State) -> State:
        """The row player moves, then the column player."""
        row = self._moved(game, state, 0, game.column.top_down(state.log_policy[1]))
        column = self._moved(game, state, 1, game.row.top_down(row))
        return State(state.iteration + 1, state.gradient_evaluations + 1, (row, column), state.magnet)

    def _moved(self, game: mmd.Game, state: State, player: int, opponent_plan: Array) -> Array:
        own, gradient = game.players[player], game.gradient(player, opponent_plan)
        weights = jnp.ones(own.n_infosets, gradient.dtype)
        return own.magnetic_step(
            state.log_policy[player], state.magnet[player], gradient, self.eta, self.alpha, weights
        )

    def policy(self, game: mmd.Game, state: State) -> mmd.Candidate:
        """The last iterate, its NashConv by two best responses, and its value."""
        x, y = (player.top_down(log) for player, log in zip(game.players, state.log_policy, strict=True))
        gains = game.gradient(0, y), game.gradient(1, x)
        nash_conv = game.row.best_response(gains[0])[0] + game.column.best_response(gains[1])[0]
        return mmd.Candidate(state.log_policy, nash_conv, jnp.dot(x, gains[0]), jnp.asarray(mmd.LAST))

    def diagnostics(self, game: mmd.Game, state: State) -> mmd.Diagnostics:
        """Nothing more is measured."""
        nan = jnp.full((), jnp.nan, state.log_policy[0].dtype)
        return mmd.Diagnostics(nan, nan)
