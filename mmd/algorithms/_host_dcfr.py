"""The steps of `dcfr` on the host: no program is compiled, so rough policies of large games come in seconds.

Numbers, order of updates and average are those of `mmd.algorithms.dcfr`, which says what is proven of them. NumPy and
SciPy; an iteration takes about as long as a compiled one where a game has many payoffs.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mmd.algorithms.contract import AVERAGE, ITERATES, Limits, Report
from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.game.treeplex import HostSweeps

FALLEN = 0.25  # of the exploitability reported last: when the next report is due


@dataclass(frozen=True, kw_only=True)
class HostDiscountedCFR:
    """Discounted CFR with the numbers that its paper recommends; returns the quadratically weighted average."""

    name: ClassVar[str] = "dcfr"
    keeps_best: ClassVar[bool] = True

    def resolve(self, game: Game) -> "HostDiscountedCFR":
        """Nothing to fill in."""
        return self

    def run(self, game: Game, limits: Limits, report: Report) -> None:
        """Report uniform play, then the average when it is four times as good, when it may do, and the last one."""
        run = _Run(game)
        reported = run.exploitability()
        status = report(run.average(), iterate=ITERATES[AVERAGE], iteration=0, gradient_evaluations=0)
        while status is None and run.t < limits.max_iterations:
            run.step()
            ends = run.t == limits.max_iterations
            if run.t % limits.check_every and not ends:
                continue
            now = run.exploitability()
            enough = limits.tolerance is None or now <= limits.tolerance
            if ends or enough or limits.time_limit is not None or now <= FALLEN * reported:
                reported = min(now, reported)
                status = report(run.average(), iterate=ITERATES[AVERAGE], iteration=run.t, gradient_evaluations=run.t)


class _Run:
    """Both players' regrets, policies, plans and average plans, after t iterations."""

    def __init__(self, game: Game) -> None:
        from mmd.measure.sequence_form import payoff_matrix  # brings SciPy, which would slow the start of every command

        self.game, self.t, self.weights = game, 0, 0.0
        self.sweeps = tuple(HostSweeps(player) for player in game.players)
        payoffs = payoff_matrix(game)
        self.gains = payoffs, (-payoffs.T).tocsr()
        self.policies = [np.exp(player.uniform()) for player in game.players]
        self.plans = [sweeps.plan(policy) for sweeps, policy in zip(self.sweeps, self.policies, strict=True)]
        self.regrets = [np.zeros_like(plan) for plan in self.plans]
        self.averages = [np.array(plan) for plan in self.plans]

    def step(self) -> None:
        """One update of the row player, then one of the column player against the row's new plan."""
        self.t += 1
        self.weights += self.t**2
        for player, sweeps in enumerate(self.sweeps):
            gradient = self.gains[player] @ self.plans[1 - player]
            total = self.regrets[player] + sweeps.regrets(gradient, self.policies[player])
            kept = self.t**1.5 / (self.t**1.5 + 1)
            self.regrets[player] = total * np.where(total > 0, kept, 0.5)
            self.policies[player] = sweeps.proportional(self.regrets[player])
            self.plans[player] = sweeps.plan(self.policies[player])
            self.averages[player] += self.t**2 / self.weights * (self.plans[player] - self.averages[player])

    def exploitability(self) -> float:
        """Of the averages."""
        gradients: list[Float[np.ndarray, " S"]] = [self.gains[p] @ self.averages[1 - p] for p in range(2)]
        return sum(sweeps.best(g) for sweeps, g in zip(self.sweeps, gradients, strict=True)) / 2

    def average(self) -> Policy:
        """The averages as a policy."""
        return Policy.from_plans(self.game, (self.averages[0], self.averages[1]))
