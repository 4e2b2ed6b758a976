"""RTCFR+ against a walk over all plays of Kuhn poker, and what its paper proves of the last iterate."""

import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from games import kuhn_poker, matrix
from mmd.algorithms.rtcfr_plus import RewardTransformationCFRPlus, RewardTransformationState
from mmd.game.game import Game
from mmd.game.policy import Policy, as_log
from tests.mmd.algorithms.plays import DECISIONS, PLAYS, Decision, Policies, by_infoset, states

# CFR+ circles here (Cai et al., arXiv:2311.00676); see test_cfr.
CIRCLING = np.array([[3.0, 0, -3], [0, 3, -4], [0, 0, 1]])
NEVER = 10**9


def exploitability(game: Game, state: RewardTransformationState) -> float:
    return mmd.certify(game, tuple(np.asarray(seat.policy) for seat in state.seats)).exploitability


class Walker:
    """The algorithm as the paper has it, play by play, for Kuhn poker."""

    def __init__(self, start: Policies, alpha: float, gamma: float) -> None:
        self.alpha, self.gamma = alpha, gamma
        self.matched, self.policy = dict(start), dict(start)
        self.regrets = {label: np.zeros(2) for label in start}
        self.reference = {decision: self.plan(decision) for decision in DECISIONS}

    def path(self, decision: Decision) -> list[Decision]:
        """The player's own decisions up to this one."""
        play = next(play for play in PLAYS if decision in play.decisions)
        upto = play.decisions[: play.decisions.index(decision) + 1]
        return [d for d in upto if d.player == decision.player]

    def plan(self, decision: Decision) -> float:
        return float(np.prod([self.policy[d.label][d.action] for d in self.path(decision)]))

    def value(self, decision: Decision) -> float:
        """Counterfactual: payoffs less alpha times what each own decision from here on strays from the reference."""
        me, total = decision.player, 0.0
        for play in PLAYS:
            if decision in play.decisions:
                others = play.chance * play.likelihood(self.policy, 1 - me)
                total += others * play.likelihood(self.matched, me, after=decision) * play.payoffs[me]
        for other in DECISIONS:
            path = self.path(other)
            if decision in path:
                going_on = [self.matched[d.label][d.action] for d in path[path.index(decision) + 1 :]]
                total -= self.alpha * np.prod(going_on) * (self.plan(other) - self.reference[other])
        return total

    def iterate(self, *, due: bool) -> None:
        if due:
            self.gamma /= 2
            self.reference = {decision: self.plan(decision) for decision in DECISIONS}
        for player in (0, 1):
            mine = [d for d in DECISIONS if d.player == player]
            values: Policies = {d.label: np.zeros(2) for d in mine}
            for decision in mine:
                values[decision.label][decision.action] = self.value(decision)
            for label, q in values.items():
                self.regrets[label] = np.maximum(self.regrets[label] + q - self.matched[label] @ q, 0)
            for label in values:
                r = self.regrets[label]
                self.matched[label] = r / r.sum() if r.any() else np.full(2, 0.5)
                self.policy[label] = (self.matched[label] + self.gamma) / (1 + 2 * self.gamma)


def test_ten_iterations_are_those_of_a_walk_over_plays() -> None:
    """With a large gamma, halved with a new reference before iterations 3, 6 and 9."""
    game, alpha, gamma = kuhn_poker.game(), 0.2, 1e-2
    start = as_log(Policy.random(game, seed=3))
    oracle = Walker(by_infoset(game, start), alpha, gamma)
    algorithm = RewardTransformationCFRPlus(alpha=alpha, gamma=gamma, every=3)
    for t, state in enumerate(states(game, algorithm, range(1, 11), start), start=1):
        oracle.iterate(due=t % 3 == 0)
        found = by_infoset(game, tuple(np.asarray(jnp.log(seat.policy)) for seat in state.seats))
        for label, probabilities in found.items():
            np.testing.assert_allclose(
                probabilities, oracle.policy[label], rtol=0, atol=1e-12, err_msg=f"{label} at {t}"
            )


def test_with_one_reference_the_last_iterate_converges_to_the_regularized_equilibrium() -> None:
    """Its condition, with g the payoff gradient: x is the point of the simplex nearest to r + g / alpha.

    Below the reference is uniform and gamma negligible. CFR+ itself circles on this matrix.
    """
    game, alpha = matrix.game(CIRCLING), 1.0
    (state,) = states(game, RewardTransformationCFRPlus(alpha=alpha, gamma=1e-15, every=NEVER), (20_000,))
    x, y = (seat.plan[1:] for seat in state.seats)
    for plan, gradient in ((x, CIRCLING @ y), (y, -CIRCLING.T @ x)):
        np.testing.assert_allclose(plan, nearest_in_simplex(1 / 3 + gradient / alpha), rtol=0, atol=1e-9)


def nearest_in_simplex(point: np.ndarray) -> np.ndarray:
    """Euclidean projection: subtract the threshold at which the positive parts sum to 1."""
    descending = np.sort(point)[::-1]
    thresholds = (np.cumsum(descending) - 1) / np.arange(1, len(point) + 1)
    return np.maximum(point - thresholds[np.flatnonzero(descending > thresholds)[-1]], 0)


def test_the_last_iterate_reaches_an_equilibrium_where_cfr_plus_circles() -> None:
    solution = mmd.solve(
        matrix.game(CIRCLING), RewardTransformationCFRPlus(alpha=0.5, every=50), tolerance=1e-9, max_iterations=20_000
    )
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations == solution.iterations
    np.testing.assert_allclose(solution.value, 1 / 4, rtol=0, atol=2e-9)


def test_kuhn_poker_with_the_published_settings() -> None:
    """The tuned one, and the default for as long as the paper runs it."""
    game = kuhn_poker.game()
    (tuned,) = states(game, RewardTransformationCFRPlus(alpha=0.1, every=10), (1_000,))
    assert exploitability(game, tuned) < 1e-15
    (default,) = states(game, RewardTransformationCFRPlus(), (20_000,))
    assert exploitability(game, default) < 1e-13


@pytest.mark.parametrize("name", ["alpha", "gamma", "every"])
def test_refusals(name: str) -> None:
    with pytest.raises(mmd.GameError, match=f"expected {name} > 0, got 0"):
        RewardTransformationCFRPlus(**{name: 0}).resolve(kuhn_poker.game())
