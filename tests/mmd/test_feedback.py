"""Feedback: expectations over every sample that can be drawn and every verdict that can be given."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from games import matrix, preference
from mmd.feedback import draw

A = np.random.default_rng(5).uniform(-1, 1, (2, 3))
GAME = matrix.game(A).astype(jnp.float64)
Y = np.array([0.5, 0.3, 0.2])
SHARES = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.3], [0.2, 0.7, 0.5]])
CYCLE = preference.game(SHARES).astype(jnp.float64)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("player", [0, 1])
def test_sampled_opponents_are_unbiased(n: int, player: int) -> None:
    """The mean over all 3^n (2^n) samples, each with its probability, is the payoff gradient."""
    opponent = Y if player == 0 else np.array([0.7, 0.3])
    feedback, total = mmd.Sampled(opponents=n), 0.0
    for sample in itertools.product(range(len(opponent)), repeat=n):
        probability = np.prod(opponent[list(sample)])
        total = total + probability * feedback.against(GAME, player, 1 + jnp.array(sample))
    expected = A @ opponent if player == 0 else -A.T @ opponent
    np.testing.assert_allclose(total, [0.0, *expected], rtol=0, atol=1e-15)


def test_opponents_are_drawn_from_the_plan(key: jax.Array) -> None:
    """Counts of 100,000 draws within five standard deviations; an action without mass never comes."""
    plan = np.array([1.0, 0.5, 0.0, 0.3, 0.2])
    counts = np.bincount(np.asarray(draw(jnp.asarray(plan), 100_000, key)), minlength=5)
    assert counts[0] == counts[2] == 0
    expected = 100_000 * plan[[1, 3, 4]]
    assert (np.abs(counts[[1, 3, 4]] - expected) <= 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("bias", "ties"), [(0.0, 0.0), (0.0, 0.25), (0.1, 0.0), (0.1, 0.5), (0.4, 0.25), (-0.3, 0.0)])
def test_the_mean_verdict(bias: float, ties: float) -> None:
    """Over both orders and a fine grid of coins, on which every threshold lies, the mean is `Judge.mean`."""
    judge = mmd.NoisyJudge(order_bias=bias, ties=ties)
    shares = jnp.linspace(0, 1, 11)
    coins = (jnp.arange(400.0) + 0.5) / 400  # thresholds are multiples of 1 / 400
    verdicts = [
        judge.verdict(shares[:, None], jnp.full((11, 400), first), jnp.broadcast_to(coins, (11, 400)))
        for first in (True, False)
    ]
    assert set(np.unique(np.concatenate(verdicts))) <= {0.0, 0.5, 1.0}
    np.testing.assert_allclose(np.mean(verdicts, axis=(0, 2)), judge.mean(shares), rtol=0, atol=1e-12)
    inside = np.abs(bias) <= np.minimum(shares, 1 - shares) + 1e-12
    scaled = 0.5 + (1 - ties) * (shares - 0.5)
    np.testing.assert_allclose(judge.mean(shares)[inside], scaled[inside], rtol=0, atol=1e-12)
    np.testing.assert_allclose(judge.mean(shares) + judge.mean(1 - shares), 1, rtol=0, atol=1e-12)
    if bias:
        assert np.abs(judge.mean(shares) - scaled)[~inside].min() > 0.01  # clipping is where order leaves a bias


def test_a_judge_sees_the_preference() -> None:
    """Row: P[action, opponent]; column: P of its answer over the row player's, which is 1 - P."""
    judge, opponents = mmd.NoisyJudge(samples=3), 1 + jnp.arange(3)
    np.testing.assert_allclose(judge.preference(CYCLE, 0, opponents)[:, 1:], SHARES.T, rtol=0, atol=1e-15)
    np.testing.assert_allclose(judge.preference(CYCLE, 1, opponents)[:, 1:], 1 - SHARES, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("player", "both"), [(0, False), (1, True)])
def test_a_judge_estimates_the_gradient_of_its_mean(key: jax.Array, both: bool, player: int) -> None:
    """20,000 estimates average to M(P) y - 1/2 within five standard errors."""
    judge = mmd.NoisyJudge(samples=2, order_bias=0.3, ties=0.2, both_orders=both)
    plan = jnp.concatenate([jnp.ones(1), jnp.asarray(Y)])
    found = jax.jit(jax.vmap(lambda k: judge.gradient(CYCLE, player, plan, k)))(jax.random.split(key, 20_000))
    shares = SHARES if player == 0 else 1 - SHARES.T
    expected = np.concatenate([[0.0], np.asarray(judge.mean(jnp.asarray(shares))) @ Y - 0.5])
    error = np.abs(np.asarray(found).mean(axis=0) - expected)
    assert (error <= 5 * np.asarray(found).std(axis=0) / np.sqrt(20_000)).all()


def test_exact_feedback_is_the_payoff_gradient(key: jax.Array) -> None:
    plan = jnp.concatenate([jnp.ones(1), jnp.asarray(Y)])
    np.testing.assert_array_equal(mmd.Exact().gradient(GAME, 0, plan, key), GAME.gradient(0, plan))
