"""The self-play methods against their published updates, written again in NumPy; feedback; what is refused."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import games
import mmd
from games import matrix
from mmd import algorithms
from mmd.algorithms._selfplay import SelfPlay
from tests.claims.reference import trajectory
from tests.selfplay import CYCLE, LOG_START, MARGINS, START, gap, iterates

STEPS = 20
A = np.random.default_rng(3).uniform(-1, 1, (3, 4))  # a game of two players that have nothing in common
X, Y = np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.4, 0.2, 0.3])
MU, NU = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.2, 0.3, 0.1])
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
METHODS = (
    *("self-play", "online-ipo", "nash-md", "inpo", "omwu", "onpo", "egpo", "mpo", "comal"),
    *("gabp", "asymmetric", "halpern"),
)


def with_root(*policies: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.log(np.concatenate([[1.0], p])) for p in policies)


MAGNET = {"magnet": mmd.Fixed(with_root(MU, NU))}


def normal(p: np.ndarray) -> np.ndarray:
    return p / p.sum()


def simplex(p: np.ndarray) -> np.ndarray:
    """Euclidean projection, by bisection on what is subtracted."""
    low, high = p.min() - 1, p.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(p - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(p - low, 0)


def q(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return A @ y, -A.T @ x


def self_play(eta: float) -> Pairs:
    x, y = X, Y
    while True:
        u, v = q(x, y)
        x, y = normal(x * np.exp(eta * u)), normal(y * np.exp(eta * v))
        yield x, y


def online_ipo(eta: float, alpha: float) -> Pairs:
    """Gradient of E (h - E h*)^2 over pairs from pi, by its definition: every pair, its weight, its slope."""
    theta = [np.log(X), np.log(Y)]
    while True:
        pi = [normal(np.exp(t)) for t in theta]
        for p, payoff, mu in zip((0, 1), q(*pi), (MU, NU), strict=True):
            score = alpha * np.log(pi[p] / mu) - payoff  # alpha times what the square compares
            pairs = pi[p][:, None] * pi[p][None, :] * (score[:, None] - score[None, :])
            theta[p] = theta[p] - eta * pairs.sum(axis=1)
        yield normal(np.exp(theta[0])), normal(np.exp(theta[1]))


def nash_md(alpha: float) -> Pairs:
    x, y, t = X, Y, 0
    while True:
        eta = 2 / (alpha * (t + 2))
        x, y = (normal(p ** (1 - eta * alpha) * m ** (eta * alpha)) for p, m in ((x, MU), (y, NU)))
        u, v = q(x, y)
        x, y, t = normal(x * np.exp(eta * u)), normal(y * np.exp(eta * v)), t + 1
        yield x, y


def inpo(alpha: float) -> Pairs:
    x, y, t = X, Y, 1
    while True:
        inverse = alpha * (t + 2) / 2  # the paper's eta
        u, v = q(x, y)
        x = normal(np.exp(u / inverse) * MU ** (alpha / inverse) * x ** (1 - alpha / inverse))
        y = normal(np.exp(v / inverse) * NU ** (alpha / inverse) * y ** (1 - alpha / inverse))
        t += 1
        yield x, y


def omwu(eta: float) -> Pairs:
    """In two steps, with a centre, as ONPO is written."""
    cx, cy, (u, v) = X, Y, q(X, Y)
    while True:
        x, y = normal(cx * np.exp(eta * u)), normal(cy * np.exp(eta * v))
        yield x, y
        u, v = q(x, y)
        cx, cy = normal(cx * np.exp(eta * u)), normal(cy * np.exp(eta * v))


def egpo(eta: float, alpha: float) -> Pairs:
    x, y = X, Y
    while True:
        at = x, y
        for _ in range(2):
            u, v = q(*at)
            at = (
                normal(x ** (1 - eta * alpha) * (MU * np.exp(u / alpha)) ** (eta * alpha)),
                normal(y ** (1 - eta * alpha) * (NU * np.exp(v / alpha)) ** (eta * alpha)),
            )
        x, y = at
        yield x, y


def mpo(eta: float, alpha: float, every: int) -> Pairs:
    x, y, mx, my, k = X, Y, MU, NU, 0
    while True:
        u, v = q(x, y)
        x = normal((x * mx ** (eta * alpha) * np.exp(eta * u)) ** (1 / (1 + eta * alpha)))
        y = normal((y * my ** (eta * alpha) * np.exp(eta * v)) ** (1 / (1 + eta * alpha)))
        k += 1
        mx, my = (x, y) if k % every == 0 else (mx, my)
        yield x, y


def comal(eta: float, alpha: float, first: float, shrink: float) -> Pairs:
    x, y, mx, my, n, age = X, Y, MU, NU, 0, 0

    def cost(p: np.ndarray, m: np.ndarray) -> float:
        return alpha * float(p @ np.log(p / m))

    while True:
        u, v = q(x, y)
        best = alpha * (np.log(mx @ np.exp(u / alpha)) + np.log(my @ np.exp(v / alpha)))
        if age and best - x @ u + cost(x, mx) - y @ v + cost(y, my) <= first * shrink**n:
            mx, my, n, age = x, y, n + 1, 0
        x = normal(x ** (1 - eta * alpha) * mx ** (eta * alpha) * np.exp(eta * u))
        y = normal(y ** (1 - eta * alpha) * my ** (eta * alpha) * np.exp(eta * v))
        age += 1
        yield x, y


def gabp(eta: float, alpha: float, every: int) -> Pairs:
    x, y, sx, sy, k, t = X, Y, X, Y, 1, 0
    while True:
        u, v = q(x, y)
        ax, ay = (k * sx + X) / (k + 1), (k * sy + Y) / (k + 1)
        x, y = simplex(x + eta * (u - alpha * (x - ax))), simplex(y + eta * (v - alpha * (y - ay)))
        t += 1
        if t % every == 0:
            sx, sy, k = x, y, k + 1
        yield x, y


def asymmetric(eta: float, alpha: float) -> Pairs:
    """In the paper's terms x minimises x^T M y; M = -A for the row player's run, A^T for the column player's."""
    x, y, other_y, other_x = X, Y, Y, X
    while True:
        x = simplex(x - eta * (-A @ other_y + alpha * x))
        other_y = simplex(other_y + eta * (-A).T @ x)
        y = simplex(y - eta * (A.T @ other_x + alpha * y))
        other_x = simplex(other_x + eta * A @ y)
        yield x, y


def halpern(eta: float, a: float) -> Pairs:
    x, y, t = X, Y, 0
    while True:
        b, step = a / (t + a), eta / (t + a) ** 0.75
        u, v = q(x, y)
        x, y, t = simplex((1 - b) * x + b * X + step * u), simplex((1 - b) * y + b * Y + step * v), t + 1
        yield x, y


@pytest.mark.parametrize(
    ("name", "numbers", "written_again"),
    [
        ("self-play", {"eta": 0.7}, self_play),
        ("online-ipo", {"eta": 0.7, "alpha": 0.3}, online_ipo),
        ("nash-md", {"alpha": 0.3}, nash_md),
        ("inpo", {"alpha": 0.3}, inpo),
        ("omwu", {"eta": 0.7}, omwu),
        ("onpo", {"eta": 0.7}, omwu),
        ("egpo", {"eta": 0.7, "alpha": 0.3}, egpo),
        ("mpo", {"eta": 0.7, "alpha": 0.3, "every": 4}, mpo),
        ("comal", {"eta": 0.7, "alpha": 0.3, "first": 0.1, "shrink": 0.5}, comal),
        ("gabp", {"eta": 0.2, "alpha": 0.3, "every": 4}, gabp),
        ("asymmetric", {"eta": 0.3, "alpha": 0.2}, asymmetric),
        ("halpern", {"eta": 0.6, "anchoring": 2.0}, halpern),
    ],
)
def test_twenty_steps_are_those_of_the_published_update(
    name: str, numbers: dict, written_again: Callable[..., Pairs]
) -> None:
    chosen = dict(numbers)
    if name == "mpo":
        chosen = {"magnet": mmd.Refresh(every=chosen.pop("every"), center=with_root(MU, NU)), **chosen}
    elif name in ("online-ipo", "nash-md", "inpo", "egpo", "comal"):
        chosen |= MAGNET
    expected = written_again(**({"a" if k == "anchoring" else k: v for k, v in numbers.items()}))
    found = iterates(matrix.game(A), algorithms.load(name)(**chosen), STEPS, with_root(X, Y))
    for k in range(1, STEPS + 1):
        for at, known in zip(found, next(expected), strict=True):
            np.testing.assert_allclose(at[k], known, rtol=0, atol=1e-12, err_msg=f"{name}, step {k}")


def test_iterative_dpo_fits_scores_to_win_rates() -> None:
    """With many inner steps a round ends at the minimum of the DPO loss: its gradient there, over all pairs, is 0."""
    alpha, shares = 0.8, MARGINS + 0.5
    found = iterates(CYCLE, algorithms.load("iterative-dpo")(alpha=alpha, inner=2000), 3)[0]
    for before, after in itertools.pairwise(found):
        ratio = np.log(after / before)
        predicted = 1 / (1 + np.exp(-alpha * (ratio[:, None] - ratio[None, :])))
        weights = before[:, None] * before[None, :]
        np.testing.assert_allclose((weights * (shares - predicted)).sum(axis=1), 0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(after.sum(), 1, rtol=0, atol=1e-13)


def test_mpo_is_magnetic_mirror_descent() -> None:
    """The same iterates as `magnetic`, whichever way the magnet moves."""
    game = matrix.game(A)
    for magnet in (mmd.Refresh(), mmd.MovingAverage(rate=0.1)):
        path = trajectory(game, mmd.MagneticMirrorDescent(eta=0.5, alpha=0.2, magnet=magnet), 60)
        found = iterates(game, algorithms.load("mpo")(eta=0.5, alpha=0.2, magnet=magnet), 60, path[0])
        for p in range(2):
            np.testing.assert_allclose(found[p], np.exp([at[p][1:] for at in path]), rtol=0, atol=1e-13)


JUDGE = mmd.NoisyJudge(samples=3, order_bias=0.1, ties=0.2, both_orders=True)


@pytest.mark.parametrize("name", [*METHODS, "iterative-dpo", "inpo by a judge"])
def test_one_model_plays_itself_and_noise_has_a_seed(name: str) -> None:
    """In a symmetric game from a symmetric start both players stay equal but for rounding, noise included.

    Two seeds at once: other noise, another path.
    """
    name, _, judged = name.partition(" ")
    algorithm = algorithms.load(name)(feedback=JUDGE if judged else mmd.Sampled(opponents=2)).resolve(CYCLE)
    on_device, start = CYCLE.astype(jnp.float64), tuple(jnp.asarray(s) for s in LOG_START)

    def last(seed: jax.Array) -> Any:
        state = dataclasses.replace(algorithm, seed=seed).init(on_device, start)
        return jax.lax.fori_loop(0, 30, lambda _, state: algorithm.step(on_device, state), state).log_policy

    rows, columns = jax.jit(jax.vmap(last))(jnp.array([1, 2, 1]))
    np.testing.assert_allclose(rows, columns, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows[0], rows[2], rtol=0, atol=1e-12)
    assert np.abs(np.exp(rows[0]) - np.exp(rows[1])).max() > 1e-6
    np.testing.assert_allclose(np.exp(rows[:, 1:]).sum(axis=1), 1, rtol=0, atol=1e-12)


def test_evaluations_and_comparisons_are_counted() -> None:
    """3 x 3 symmetric: one model, so 9 pairs, or 3 answers against n opponents; EGPO asks twice a step."""
    for feedback, calls in ((mmd.Exact(), 9), (mmd.Sampled(5), 15), (mmd.NoisyJudge(4, both_orders=True), 24)):
        assert feedback.calls(CYCLE) == calls
    assert mmd.Sampled(5).calls(matrix.game(A)) == 5 * (3 + 4)
    solution = mmd.solve(CYCLE, algorithms.load("egpo")(), tolerance=0.0, max_iterations=10)
    assert solution.gradient_evaluations == 20
    assert set(solution.algorithm) == {"name", "keeps_best", "eta", "alpha", "magnet", "feedback", "seed", "iterate"}


@pytest.mark.parametrize("name", ["comal", "asymmetric"])
def test_solve_certifies_what_converges_to_the_original_game(name: str) -> None:
    solution = mmd.solve(CYCLE, algorithms.load(name)(), tolerance=1e-10, max_iterations=20_000)
    assert solution.converged
    assert solution.iterate == "last"
    np.testing.assert_allclose(solution.policy.probabilities[0][1:], np.array([4, 3, 4]) / 11, rtol=0, atol=1e-8)


def test_the_average_is_that_of_the_policies_played() -> None:
    algorithm = algorithms.load("self-play")(eta=0.5)
    found = iterates(CYCLE, algorithm, 50)[0]
    start = mmd.Policy.from_log(CYCLE, LOG_START)
    solution = mmd.solve(CYCLE, algorithm, tolerance=0.0, max_iterations=50, start=start)
    assert solution.iterate == "average"
    np.testing.assert_allclose(solution.nash_conv, gap(MARGINS, found[:50].mean(axis=0)), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found[0], START, rtol=0, atol=1e-15)


TREE = "mmd-behavioral, mmd or optimistic"


@pytest.mark.parametrize(
    ("make", "spec", "sentence"),
    [
        (lambda: algorithms.load("inpo")(), "kuhn_poker", TREE),
        (lambda: algorithms.load("iterative-dpo")(), "rps", "fits win rates"),
        (lambda: algorithms.load("omwu")(feedback=mmd.NoisyJudge()), "rps", "needs preferences"),
        (lambda: algorithms.load("omwu")(feedback=mmd.Sampled(0)), "preference:cycle", "at least 1 of the opponents"),
        (lambda: algorithms.load("omwu")(feedback=mmd.NoisyJudge(ties=1.0)), "preference:cycle", r"ties in \[0, 1\)"),
        (lambda: algorithms.load("omwu")(feedback=mmd.NoisyJudge(order_bias=2.0)), "preference:cycle", "from -1 to 1"),
        (lambda: algorithms.load("omwu")(eta=0.0), "preference:cycle", "eta > 0"),
        (lambda: algorithms.load("omwu")(iterate="best"), "preference:cycle", "'average' or 'last'"),
        (lambda: algorithms.load("inpo")(alpha=0.0), "preference:cycle", "alpha > 0"),
        (lambda: algorithms.load("inpo")(alpha=2.0, eta=0.5), "preference:cycle", "eta alpha < 1"),
        (lambda: algorithms.load("nash-md")(alpha=2.0, eta=0.6), "preference:cycle", "eta alpha <= 1"),
        (lambda: algorithms.load("comal")(shrink=1.0), "preference:cycle", "shrink between 0 and 1"),
        (lambda: algorithms.load("comal")(magnet=mmd.Refresh()), "preference:cycle", "moves the magnet itself"),
        (lambda: algorithms.load("gabp")(every=0), "preference:cycle", "every >= 1"),
        (lambda: algorithms.load("asymmetric")(alpha=-1.0), "preference:cycle", "alpha > 0"),
        (lambda: algorithms.load("nash-mp")(), "preference:cycle", "did you mean 'nash-md'"),
    ],
)
def test_refusals(make: Callable[[], SelfPlay], spec: str, sentence: str) -> None:
    game = matrix.game([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], name="rps") if spec == "rps" else games.load(spec)
    with pytest.raises(mmd.GameError, match=sentence):
        make().resolve(game)
