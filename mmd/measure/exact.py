"""Ground truth: the equilibrium of a two-player zero-sum game by linear programming (HiGHS), in float64.

With E, F the constraint matrices of the row and the column player (`mmd.measure.sequence_form`) and e their right-hand
side,

    max_{x, q}  q_0   s.t.   E x = e,   F^T q <= A^T x,   x >= 0

has the value as its optimum, an optimal plan of the row player in x and one of the column player as the multipliers of
the inequalities. Source: Koller, Megiddo, von Stengel, "Efficient Computation of Equilibria for Extensive Two-Person
Games" (1996). Never imported by a solver: tests and reports compare with it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.optimize import OptimizeResult, linprog

from mmd.game.game import Game, as_game
from mmd.game.policy import Policy, behaviour
from mmd.game.treeplex import Treeplex
from mmd.measure.certificate import Certificate, certify
from mmd.measure.sequence_form import constraints, payoff_matrix
from mmd.measure.vertex import affordable, vertex

HIGHS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # the smallest that it takes
# Those tolerances are absolute, and entries below 1e-9 are dropped. So payoffs (max |A| = 1) and plan are multiplied by
# `units`, which buys as many digits; where HiGHS then gives up or is not exact enough, the next attempt is made.
ATTEMPTS = ((1e3, "highs-ds"), (1e3, "highs-ipm"), (1.0, "highs-ds"))
EXACT = 1e-13  # of max |A|: NashConv that ends the attempts
FACE = 1e-11  # of max |A|: how far below the value a plan still counts as optimal
NEVER_PLAYED = 1e-7  # of max |A|: a sequence that costs more is in no optimal plan
UNIQUE = 1e-6  # width of a range below which it is a point: wider than the tolerance of its linear programs


@dataclass(frozen=True)
class ExactSolution:
    """An equilibrium.

    Attributes:
        plans: [S0], [S1] optimal plans.
        probabilities: [S0], [S1] the same as behavioural policies, uniform where a plan does not reach.
        certificate: its certificate, which says how exact it is.
        game: what was solved.
    """

    plans: tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]
    probabilities: tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]
    certificate: Certificate
    game: Game

    def __repr__(self) -> str:
        return f"ExactSolution({self.game.name}: value {self.value:.10g}, exploitability {self.exploitability:.2e})"

    @property
    def policy(self) -> Policy:
        """`probabilities` as a `Policy`, with the names of infosets and actions."""
        return Policy(self.game, self.probabilities)

    @property
    def nash_conv(self) -> float:
        """Certified sum of both players' best-response gains, in payoff units."""
        return self.certificate.nash_conv

    @property
    def exploitability(self) -> float:
        """NashConv / 2, certified, in payoff units."""
        return self.certificate.exploitability

    @property
    def value(self) -> float:
        """Value of the game to the row player, in the units of the input."""
        return self.certificate.value


def solve_exactly(game: Game | Any) -> ExactSolution:
    """An equilibrium by linear programming (HiGHS), in float64.

    A small game that HiGHS does not solve accurately enough is solved in whole numbers (`mmd.measure.vertex`).

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them. Time and
            memory grow with the number of its sequences and payoffs.

    Raises:
        GameError: there is no such game.
        RuntimeError: HiGHS failed at every attempt; the message is its own.
    """
    game = as_game(game)
    scale = _Program.of(game, 0).scale
    best: ExactSolution | None = None
    for found in attempts(game):
        if best is None or found.certificate.nash_conv < best.certificate.nash_conv:
            best = found
        if best.certificate.nash_conv <= EXACT * scale and _good(best.certificate):
            break
    assert best is not None  # attempts() yields or raises
    if not _good(best.certificate) and affordable(game):
        probabilities = vertex(game, best.probabilities)
        row, column = (player.host_plan(p) for player, p in zip(game.players, probabilities, strict=True))
        return ExactSolution((row, column), probabilities, certify(game, probabilities), game)
    return best


def attempts(game: Game) -> Iterator[ExactSolution]:
    """What HiGHS finds, attempt by attempt: the next is made once it is asked for.

    Args:
        game: as `solve_exactly`.

    Raises:
        RuntimeError: HiGHS failed at every attempt; the message is its own.
    """
    return (_solution(game, optimum) for optimum in _Program.of(game, 0).optimal())


def _good(certificate: Certificate) -> bool:
    """Whether the default tolerance is met."""
    return certificate.exploitability <= certificate.default_tolerance


class OptimalRange(NamedTuple):
    """Smallest and largest realisation probability of each sequence of a player over all its optimal plans.

    Of a matrix game these are the probabilities of the actions, behind the empty sequence, whose probability is 1.
    """

    low: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]

    @property
    def unique(self) -> bool:
        """Whether the player has one optimal plan only: no range is wider than 1e-6."""
        return bool((self.high - self.low).max() < UNIQUE)


def optimal_range(game: Game | str | os.PathLike[str], player: int = 0) -> OptimalRange:
    """Smallest and largest realisation probability of each sequence over all optimal plans of a player.

    The equilibrium is unique where both players' are (`OptimalRange.unique`); in a symmetric game they are the same.
    Sequences that cost more than 1e-7 max |A| are in no optimal plan, by complementary slackness. Plans of the others
    within 1e-11 max |A| of the value count as optimal. So a range may come out too wide, by about that over the
    smallest singular value of the payoffs in play. Takes two linear programs for each sequence that may be in play.

    Args:
        game: the game, or its name or file.
        player: 0 for the row player, 1 for the column player.

    Raises:
        GameError: no game.
        RuntimeError: HiGHS failed.
    """
    program = _Program.of(as_game(game), player)
    optimum, units = next(program.optimal())
    value, costs = -optimum.fun / units**2, optimum.lower.marginals[: program.own.n_sequences] / units
    low, high = np.zeros_like(costs), np.zeros_like(costs)
    never = costs > NEVER_PLAYED
    for s in np.flatnonzero(~never).tolist():
        low[s], high[s] = (program.extreme(s, sign, value - FACE, never) for sign in (1.0, -1.0))
    return OptimalRange(low, high)


class _Optimum(NamedTuple):
    """What HiGHS found with plan and payoffs multiplied by `units` (the multipliers y are a plan as they are)."""

    result: OptimizeResult
    units: float


class _Program(NamedTuple):
    """One player's linear program; payoffs are divided by `scale`, their largest absolute value."""

    own: Treeplex
    opponent: Treeplex
    payoffs: sparse.csr_array  # to the player, [own sequences, opponent's sequences]
    scale: float

    @classmethod
    def of(cls, game: Game, player: int) -> "_Program":
        payoffs = payoff_matrix(game)
        scale = float(np.max(np.abs(payoffs.data), initial=0.0)) or 1.0
        to_player = payoffs if player == 0 else sparse.csr_array(-payoffs.T)
        to_player.data = np.divide(to_player.data, scale)  # to_player / scale would multiply by 1 / scale: may overflow
        return cls(game.players[player], game.players[1 - player], to_player, scale)

    def optimal(self) -> Iterator[_Optimum]:
        """The optimum, once an attempt."""
        objective = np.zeros(self.own.n_sequences + 1 + self.opponent.n_infosets)
        objective[self.own.n_sequences] = -1.0
        return self._attempts(objective, -np.inf, np.zeros(self.own.n_sequences, bool))

    def extreme(self, sequence: int, sign: float, value: float, never: Bool[np.ndarray, " S"]) -> float:
        """The smallest (sign 1) or largest (sign -1) x_s over the plans of at least `value`, some sequences apart."""
        objective = np.zeros(self.own.n_sequences + 1 + self.opponent.n_infosets)
        objective[sequence] = sign
        result, units = next(self._attempts(objective, value, never))
        return float(result.x[sequence]) / units

    def _attempts(
        self, objective: Float[np.ndarray, " X"], value: float, never: Bool[np.ndarray, " S"]
    ) -> Iterator[_Optimum]:
        """Minima of an objective in (x, q) with q_0 at least `value`, and x_s 0 where s is never played.

        RuntimeError if there is none.
        """
        solved, message = False, ""
        for units, method in ATTEMPTS:
            lowest, highest = np.full(len(objective), -np.inf), np.full(len(objective), np.inf)
            lowest[: self.own.n_sequences], lowest[self.own.n_sequences] = 0.0, value * units**2
            highest[: self.own.n_sequences][never] = 0.0
            result = self._minimize(objective, np.stack([lowest, highest], axis=1), units, method)
            if result.x is None:
                message = result.message
            else:
                solved = True
                yield _Optimum(result, units)
        if not solved:
            raise RuntimeError(f"the linear program could not be solved: {message}")

    def _minimize(
        self, objective: Float[np.ndarray, " X"], bounds: Float[np.ndarray, "X 2"], units: float, method: str
    ) -> OptimizeResult:
        own, opponent = constraints(self.own), constraints(self.opponent)
        right = np.zeros(1 + self.own.n_infosets)
        right[0] = units
        return linprog(
            objective,
            A_ub=sparse.hstack([-units * self.payoffs.T, opponent.T], format="csr"),
            b_ub=np.zeros(self.opponent.n_sequences),
            A_eq=sparse.hstack([own, sparse.csr_array((len(right), 1 + self.opponent.n_infosets))], format="csr"),
            b_eq=right,
            bounds=bounds,
            method=method,
            options=HIGHS,
        )


def _solution(game: Game, optimum: _Optimum) -> ExactSolution:
    result, units = optimum
    x = np.maximum(result.x[: game.row.n_sequences] / units, 0.0)
    y = np.maximum(-result.ineqlin.marginals, 0.0)
    row = behaviour(game.row, x, np.exp(game.row.uniform()))
    column = behaviour(game.column, y, np.exp(game.column.uniform()))
    return ExactSolution((x, y), (row, column), certify(game, (row, column)), game)
