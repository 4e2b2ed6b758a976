"""Two algorithms of the host form, as an author outside the package would write them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import linprog

from mmd.algorithms.contract import Limits, Report
from mmd.game.game import Game, HostPair
from mmd.game.policy import Policy
from mmd.game.treeplex import Treeplex
from mmd.measure.sequence_form import constraints, payoff_matrix


@dataclass(frozen=True, kw_only=True)
class LinearProgram:
    """Both players' sequence-form linear programs (Koller, Megiddo, von Stengel 1996), by HiGHS."""

    name: ClassVar[str] = "linear-program"
    keeps_best: ClassVar[bool] = True

    def resolve(self, game: Game) -> "LinearProgram":
        return self

    def run(self, game: Game, limits: Limits, report: Report) -> None:
        payoffs = payoff_matrix(game)
        row = self._optimum(game.row, game.column, payoffs)
        column = self._optimum(game.column, game.row, -payoffs.T)
        report(Policy.from_plans(game, (row, column)), iterate="last", iteration=1, gradient_evaluations=0)

    def _optimum(self, own: Treeplex, other: Treeplex, payoffs: "np.ndarray") -> np.ndarray:
        """max p_0 over plans x >= 0, E x = e, and values p of the other player's infosets with F'p <= A'x."""
        e, f = constraints(own).toarray(), constraints(other).toarray()
        right = np.eye(len(e))[0]
        found = linprog(
            c=np.concatenate([np.zeros(e.shape[1]), -np.eye(len(f))[0]]),
            A_ub=np.hstack([-payoffs.toarray().T, f.T]),
            b_ub=np.zeros(f.shape[1]),
            A_eq=np.hstack([e, np.zeros((len(e), len(f)))]),
            b_eq=right,
            bounds=[(0, None)] * e.shape[1] + [(None, None)] * len(f),
        )
        return found.x[: e.shape[1]]


@dataclass(frozen=True, kw_only=True)
class FictitiousPlay:
    """The average of best responses to the other's average (Brown 1951), both from each player's first actions.

    Attributes:
        rounds: after so many it has had enough.
    """

    name: ClassVar[str] = "fictitious-play"
    keeps_best: ClassVar[bool] = False

    rounds: int = 1_000

    def resolve(self, game: Game) -> "FictitiousPlay":
        return self

    def run(self, game: Game, limits: Limits, report: Report) -> None:
        payoffs = payoff_matrix(game)
        plans = [self._pure(player, np.zeros(player.n_sequences)) for player in game.players]
        for k in range(1, self.rounds + 1):
            policy = Policy.from_plans(game, (plans[0], plans[1]))
            if report(policy, iterate="average", iteration=k, gradient_evaluations=k):
                return
            gradients: HostPair = (payoffs @ plans[1], -(payoffs.T @ plans[0]))
            for plan, player, gradient in zip(plans, game.players, gradients, strict=True):
                plan += (self._pure(player, gradient) - plan) / (k + 1)

    def _pure(self, player: Treeplex, gradient: np.ndarray) -> np.ndarray:
        """A best response: at every infoset the first action without regret."""
        regret = gradient - constraints(player).T @ player.host_best(gradient)
        policy = np.eye(1, player.n_sequences)[0]
        for first, n in zip(player.first_sequence, player.n_actions, strict=True):
            policy[first + np.argmax(regret[first : first + n])] = 1.0
        return player.host_plan(policy)
