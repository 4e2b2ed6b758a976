"""The two loops of `mpo`: written again in NumPy, the theorems of either loop, known values, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import games
import mmd
from games import matrix
from mmd import algorithms
from mmd.algorithms._primal_dual import Metric, Pull, stepped
from mmd.algorithms._two_loops import TwoLoops, brought_back
from mmd.command.cli import main
from mmd.game.game import Description
from mmd.measure import metrics, theory
from tests.claims.reference import dense_payoffs, kl_to, plan_of, quantal_response_equilibrium
from tests.selfplay import CYCLE, MARGINS, NASH

KUHN = games.load("kuhn_poker")
A = np.random.default_rng(3).uniform(-1, 1, (3, 4))
EVEN = (np.full(3, 1 / 3), np.full(4, 1 / 4))
SKEWED = (np.array([1 - 2e-6, 1e-6, 1e-6]), np.array([1e-6, 1e-6, 1e-6, 1 - 3e-6]))
STEPS, COURSE = 45, 500
Pair = tuple[np.ndarray, ...]


@jax.jit
def course(algorithm: TwoLoops, game: mmd.Game, start: Any) -> Any:
    """States 0 to `COURSE`, each leaf with a leading axis."""

    def step(state: Any, _: None) -> tuple[Any, Any]:
        return algorithm.step(game, state), state

    return jax.lax.scan(step, algorithm.init(game, start), None, COURSE + 1)[1]


def states(game: mmd.Game, algorithm: TwoLoops, start: Pair | None = None) -> Any:
    """The course, from uniform play if no start is given; one compiled program serves all payoffs of a shape."""
    on_device = dataclasses.replace(game.astype(jnp.float64), description=Description("", 0.0))
    start = start or tuple(player.uniform() for player in game.players)
    return jax.device_get(course(algorithm, on_device, tuple(map(jnp.asarray, start))))


def weighted(game: mmd.Game, p: Pair, q: Pair, weights: Pair) -> float:
    """D(p, q) with infoset weights, one sequence at a time."""
    total = 0.0
    for player, log_p, log_q, w in zip(game.players, p, q, weights, strict=True):
        of_sequence = np.repeat(w, player.n_actions)
        total += float(of_sequence @ (plan_of(player, log_p) * (log_p - log_q))[1:])
    return total


def at(pair: Pair, k: int) -> Pair:
    """The k-th of a pair of stacked arrays."""
    return tuple(one[k] for one in pair)


# -------------------------------------------------------------------- the algorithm, written again


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def with_reply(p: np.ndarray, q: np.ndarray, least: float) -> np.ndarray:
    """The best reply to payoffs q has at least that much."""
    return (lambda r: r / r.sum())(np.where(q == q.max(), np.maximum(p, least), p))


def written_again(n_steps: int, first_alpha: float, start: Pair) -> list[tuple[np.ndarray, np.ndarray, float, int]]:
    """The two loops on the matrix A by their definitions: iterates, alpha, and how often the magnet has moved."""
    x, y = start

    def measured() -> tuple[np.ndarray, float]:
        u, v = 0.8 * x + 0.2 / 3, 0.8 * y + 0.2 / 4
        w = np.array([(abs(A) @ v).max(), (u @ abs(A)).max()])
        return w / w.mean(), w.mean()

    def kl(p: np.ndarray, q: np.ndarray) -> float:
        away = np.log(p) - np.log(q)
        return float(p @ (np.expm1(-away) + away))  # no cancellation where p is near q

    def moved(p: np.ndarray, m: np.ndarray, q: np.ndarray, w: float) -> np.ndarray:
        """argmax <z, q> - alpha w KL(z, m) - w KL(z, p) / eta."""
        return softmax((np.log(p) / eta + alpha * np.log(m) + q / w) / (1 / eta + alpha))

    w, scale = measured()
    eta, alpha, mx, my = 1 / scale, first_alpha * scale, x, y
    refused = inner = moves = 0
    first, before, found = np.inf, np.inf, [(x, y, alpha, 0)]
    for k in range(n_steps):
        new_x = moved(x, mx, A @ y, w[0])
        new_y = moved(y, my, -A.T @ (2 * new_x - x), w[1])
        distance = w[0] * kl(new_x, x) + w[1] * kl(new_y, y)
        bar = distance / abs((new_x - x) @ A @ (new_y - y))
        residual, taken = np.sqrt(distance) / eta, eta <= bar or refused >= 20
        eta = min((1 - (k + 2) ** -0.3) * bar, (1 + (k + 2) ** -0.6) * eta)
        refused = 0 if taken else refused + 1
        if taken:
            x, y, inner = new_x, new_y, inner + 1
            first = residual if inner == 1 else first
            if inner > 1 and residual <= 0.3 * first:
                move = alpha * np.sqrt(w[0] * kl(x, mx) + w[1] * kl(y, my))
                if moves:
                    alpha *= np.clip(np.sqrt(0.45 * before / move), 0.5, 1 if inner < 10 else 2)
                w, mean = measured()
                gap = ((A @ y).max() - (x @ A).min()) / 2
                least = 0.1 * min(1, gap / (mean * w.max())) / (moves + 1) ** 2
                x, y = with_reply(x, A @ y, least), with_reply(y, -x @ A, least)
                mx, my, inner, moves, before = x, y, 0, moves + 1, move
        found.append((x, y, alpha, moves))
    return found


@pytest.mark.parametrize(("first_alpha", "moves", "start"), [(0.1, 4, EVEN), (0.01, 2, EVEN), (0.1, 4, SKEWED)])
def test_steps_are_those_of_the_definition(first_alpha: float, moves: int, start: Pair) -> None:
    """Step, test, step size, both loops and alpha, on a game of two players that have nothing in common.

    From the last start a move brings a best reply back.
    """
    logs = tuple(np.log(np.concatenate([[1.0], p])) for p in start)
    found = states(matrix.game(A), TwoLoops(first_alpha=first_alpha), logs)
    expected = written_again(STEPS, first_alpha, start)
    assert expected[-1][3] >= moves
    for k, (x, y, alpha, moves) in enumerate(expected):
        assert found.moves[k] == moves, f"step {k}"
        for mine, known in zip(at(found.iterate.plan, k), (x, y), strict=True):
            np.testing.assert_allclose(mine[1:], known, rtol=0, atol=1e-9, err_msg=f"step {k}")
        np.testing.assert_allclose(found.inner.alpha[k], alpha, rtol=1e-7, err_msg=f"step {k}")


def test_units_of_payoffs_change_nothing() -> None:
    """Payoffs times 2^20: the same policies to the last bit, alpha times 2^20."""
    one, other = (states(matrix.game(scale * A), TwoLoops()) for scale in (1.0, 2.0**20))
    for mine, its in zip(one.iterate.log_policy, other.iterate.log_policy, strict=True):
        np.testing.assert_array_equal(mine[:STEPS], its[:STEPS])
    np.testing.assert_array_equal(2.0**20 * one.inner.alpha[:STEPS], other.inner.alpha[:STEPS])


# -------------------------------------------------------------------- the inner loop


def test_a_loop_ends_when_its_residual_has_fallen_and_not_before() -> None:
    """Residuals of Kuhn poker computed again; within a loop magnet, metric and alpha stay."""
    found = states(KUHN, TwoLoops())
    first, length = np.inf, 0
    for k in range(COURSE):
        now, after = at(found.iterate.log_policy, k), at(found.iterate.log_policy, k + 1)
        moved = found.moves[k + 1] > found.moves[k]
        if all(np.array_equal(a, b) for a, b in zip(now, after, strict=True)):
            assert not moved  # a step that was refused
            continue
        metric = at(found.metric.infosets, k)
        residual = np.sqrt(weighted(KUHN, after, now, metric)) / found.eta[k]
        length += 1
        first = residual if length == 1 else first
        if residual < 1e-7:  # beyond, the definition of D cancels
            break
        assert moved == (length > 1 and residual <= 0.3 * first), f"step {k}"
        magnet = at(found.log_magnet, k + 1)
        if moved:
            np.testing.assert_allclose(found.solved.residual[k + 1], residual, rtol=1e-3)
            assert all(np.array_equal(m, a) for m, a in zip(magnet, after, strict=True))
            length = 0
            continue
        kept = [
            *zip(magnet, at(found.log_magnet, k), strict=True),
            *zip(at(found.metric.infosets, k + 1), metric, strict=True),
        ]
        assert all(np.array_equal(new, old) for new, old in kept)
        assert found.inner.alpha[k + 1] == found.inner.alpha[k]
    assert found.moves[-1] >= 8


def damped_fixed_point(game: mmd.Game, magnet: Pair, alpha: float, weights: Pair) -> Pair:
    """log z <- 0.9 log z + 0.1 softBR(z), by backward induction at infosets with alpha times their weight."""
    payoffs, logs = dense_payoffs(game), tuple(np.array(m) for m in magnet)
    for _ in range(4000):
        x, y = (plan_of(player, log) for player, log in zip(game.players, logs, strict=True))
        replies = []
        for player, value, mu, w in zip(game.players, (payoffs @ y, -payoffs.T @ x), magnet, weights, strict=True):
            value, reply = np.array(value), np.zeros(len(value))
            for j in reversed(range(player.n_infosets)):
                here = slice(player.first_sequence[j], player.first_sequence[j] + player.n_actions[j])
                logits = mu[here] + value[here] / (alpha * w[j])
                reply[here] = logits - np.logaddexp.reduce(logits)
                value[player.parent[j]] += alpha * w[j] * np.logaddexp.reduce(logits)
            replies.append(reply)
        step = max(np.abs(reply - log).max() for reply, log in zip(replies, logs, strict=True))
        if step < 1e-12:
            return logs
        logs = tuple(0.9 * log + 0.1 * reply for log, reply in zip(logs, replies, strict=True))
    raise AssertionError("the fixed point still moves")


@pytest.mark.parametrize("game", [KUHN, matrix.game(A)], ids=["kuhn", "matrix"])
def test_an_inner_loop_solves_its_regularized_game(game: mmd.Game) -> None:
    """With alpha as large as the range of payoffs, where a plain fixed point in another form converges as well."""
    found = states(game, TwoLoops(fall=1e-9, first_alpha=1.0))
    k = int(np.argmax(found.moves == 1))
    assert k > 2
    known = damped_fixed_point(game, at(found.log_magnet, 0), found.inner.alpha[0], at(found.metric.infosets, 0))
    for mine, its in zip(at(found.iterate.log_policy, k), known, strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-7)
    profile = metrics.Profile(*(tuple(jnp.asarray(one[k]) for one in pair) for pair in found.iterate))
    magnet, weights = (tuple(jnp.asarray(one[0]) for one in pair) for pair in (found.log_magnet, found.metric.infosets))
    on_device = game.astype(jnp.float64)
    gaps = [metrics.regularized_gap(on_device, profile, magnet, found.inner.alpha[0], w) for w in (weights, None)]
    assert abs(gaps[0]) < 1e-13
    assert gaps[1] > 1e-5  # of the game with other weights it is no equilibrium


def test_constant_steps_contract_as_the_theorem_says() -> None:
    """V = D(z*, z) / eta + <x* - x, A (y* - y)> falls by 1 / (1 + eta alpha / 2) a step, or faster.

    An extrapolation by 1 in place of 2, and the other sign in V, break it here by a tenth.
    """
    game, alpha = matrix.game(A), 0.03
    eta = 0.99 / theory.smoothness(game)
    uniform = tuple(np.asarray(player.uniform()) for player in game.players)
    star, payoffs = quantal_response_equilibrium(game, alpha, uniform), dense_payoffs(game)
    goal = tuple(plan_of(player, log) for player, log in zip(game.players, star, strict=True))
    on_device, magnet = game.astype(jnp.float64), tuple(jnp.asarray(log) for log in uniform)
    metric = Metric((jnp.ones(1), jnp.ones(1)), (jnp.ones(4), jnp.ones(5)))
    step = jax.jit(lambda at: stepped(on_device, at, Pull(magnet, metric, alpha), jnp.asarray(eta)).profile)

    def potential() -> float:
        x, y = (np.asarray(plan) for plan in profile.plan)
        return float(kl_to(game, star, profile.log_policy) / eta + (goal[0] - x) @ payoffs @ (goal[1] - y))

    rng = np.random.default_rng(1)
    start = tuple(p.normalized(jnp.asarray(rng.normal(size=p.n_sequences))) for p in on_device.players)
    profile = metrics.profile(on_device, start)
    last = begin = potential()
    for _ in range(200):
        profile = step(profile)
        now = potential()
        assert now <= last / (1 + eta * alpha / 2) + 1e-12
        last = now
    assert last < 1e-2 * begin


# -------------------------------------------------------------------- the outer loop


@pytest.mark.parametrize("spec", ["preference:cycle", "kuhn_poker"])
def test_an_exact_solution_brings_the_magnet_closer_to_the_equilibrium(spec: str) -> None:
    """In the D of each loop, by the identity of the conceptual prox, to an equilibrium of the original game."""
    game, found = games.load(spec), states(games.load(spec), TwoLoops(fall=1e-9, first_alpha=0.1))
    exact = mmd.solve_exactly(game).policy.probabilities
    star = tuple(np.log(np.maximum(p, 1e-30)) for p in exact)
    goal = tuple(plan_of(player, log) for player, log in zip(game.players, star, strict=True))
    payoffs, moves = dense_payoffs(game), 1 + np.flatnonzero(np.diff(found.moves))
    assert len(moves) >= 4
    for k in map(int, moves):
        metric, alpha = at(found.metric.infosets, k - 1), found.inner.alpha[k - 1]
        before, after = at(found.log_magnet, k - 1), at(found.log_magnet, k)
        x, y = (plan_of(player, log) for player, log in zip(game.players, after, strict=True))
        fall = weighted(game, star, before, metric) - weighted(game, star, after, metric)
        gain = goal[0] @ payoffs @ y - x @ payoffs @ goal[1]
        assert gain >= -1e-12
        np.testing.assert_allclose(alpha * (fall - weighted(game, after, before, metric)), gain, rtol=0, atol=1e-8)
        assert fall >= -1e-7
    first, last = (kl_to(game, star, at(found.log_magnet, k)) for k in (0, int(moves[-1])))
    assert last < 0.5 * first


@pytest.mark.parametrize("low", [-30.0, -1e4])
def test_an_action_that_is_extinct_and_needed_comes_back(low: float) -> None:
    """However improbable it is at the start. By its gain alone: 180 evaluations from -30, no end from -10,000."""
    start = tuple(np.array([0.0, *np.log([0.5, 0.5]), low]) for _ in range(2))
    solution = mmd.solve(CYCLE, mmd.MPO(), tolerance=1e-11, max_iterations=2000, start=start)
    assert solution.converged
    assert solution.gradient_evaluations <= 120


def test_best_replies_come_back_with_little_and_others_do_not() -> None:
    """Matching pennies with an action that never pays: 0.1 of exploitability / range, over (moves + 1)^2."""
    game = matrix.game([[1, -1], [-1, 1], [-2, -2]]).astype(jnp.float64)
    logs = (np.array([0.0, np.log1p(-2e-9), *np.log([1e-9, 1e-9])]), np.array([0.0, *np.log([0.25, 0.75])]))
    profile = metrics.profile(game, tuple(map(jnp.asarray, logs)))
    gap = (0.5 + 1.0) / 2  # the second action pays 1/2, and the first column pays 1 against the first action
    for moves in (0, 3):
        share = 0.1 * gap / 2 / (moves + 1) ** 2
        after, evaluations = brought_back(game, profile, jnp.asarray(2.0), jnp.asarray(moves))
        expected = np.array([1 - 2e-9, share, 1e-9]) / (1 - 1e-9 + share)
        np.testing.assert_allclose(after.plan[0][1:], expected, rtol=1e-7)
        np.testing.assert_allclose(after.plan[1], profile.plan[1], rtol=1e-15)
        np.testing.assert_allclose(after.gradient[1][1:], expected @ [[-1, 1], [1, -1], [2, 2]], rtol=1e-7)
        assert evaluations == 1
        assert brought_back(game, after, jnp.asarray(2.0), jnp.asarray(moves + 9))[1] == 0


def test_alpha_settles_where_a_move_leaves_the_wanted_factor() -> None:
    """Near an interior equilibrium an exact loop's move multiplies the next one by 1 / sqrt(1 + (sigma / alpha)^2).

    That is 0.45 at alpha = sigma / 1.98. In a symmetric game both weights are 1 after they are divided by their mean.
    """
    found = states(CYCLE, TwoLoops(fall=1e-4, first_alpha=0.1))
    inside = np.eye(3) - np.outer(np.sqrt(NASH), np.sqrt(NASH))
    sigma = np.linalg.svd(inside @ (np.sqrt(NASH)[:, None] * MARGINS * np.sqrt(NASH)) @ inside)[1][0]
    late = 1 + np.flatnonzero(np.diff(found.moves))[12:18]
    np.testing.assert_allclose(found.inner.alpha[late - 1], sigma / np.sqrt(0.45**-2 - 1), rtol=0.01)
    np.testing.assert_allclose(found.last_move[late] / found.last_move[late - 1], 0.45, rtol=0.02)


def test_a_magnet_that_stays_stalls_at_the_regularized_equilibrium() -> None:
    """With a fall of 0 no loop ends: the regularized gap goes to 0 and the exploitability does not."""
    start = tuple(np.log([1.0, 0.6, 0.3, 0.1]) for _ in range(2))
    stuck = mmd.solve(CYCLE, TwoLoops(fall=0.0), tolerance=1e-9, max_iterations=2000, start=start)
    assert not stuck.converged
    assert stuck.regularized_gap is not None
    assert stuck.regularized_gap < 1e-12
    assert stuck.exploitability > 1e-3
    moving = mmd.solve(CYCLE, TwoLoops(), tolerance=1e-9, max_iterations=2000, start=start)
    assert moving.converged


# -------------------------------------------------------------------- known games, from uniform play, without a number


@pytest.mark.parametrize(
    ("spec", "value", "tolerance", "budget"),
    [
        ("preference:cycle", 0.5, 1e-11, 250),
        ("kuhn_poker", -1 / 18, 1e-11, 400),
        ("liars_dice:faces=4", 0.0625, 1e-9, 420),
        ("leduc_poker", -0.0856064240, 1e-6, 40_000),
    ],
)
def test_the_last_iterate_reaches_the_nash_equilibrium(spec: str, value: float, tolerance: float, budget: int) -> None:
    """Budgets, in gradient evaluations, are twice what `anchored` takes; on Leduc poker, where rounding moves the count
    by half, four times."""
    game = games.load(spec)
    solution = mmd.solve(game, mmd.MPO(), tolerance=tolerance)
    assert solution.converged
    assert solution.iterate == "last"
    assert solution.gradient_evaluations <= budget
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=2 * tolerance + 1e-10 * (spec == "leduc_poker"))
    if game is CYCLE or spec == "preference:cycle":
        for p in solution.policy.probabilities:
            np.testing.assert_allclose(p[1:], NASH, rtol=0, atol=1e-9)


@pytest.mark.parametrize("payoffs", [np.zeros((3, 3)), np.array([[1.0, 1, 2], [0, 0, 1], [-1, 3, 1]])])
def test_games_that_leave_nothing_to_decide(payoffs: np.ndarray) -> None:
    solution = mmd.solve(payoffs, mmd.MPO(), tolerance=1e-12)
    assert solution.converged
    np.testing.assert_allclose(solution.value, payoffs[0, 0], rtol=0, atol=1e-11)


# -------------------------------------------------------------------- one name, two forms


def test_without_numbers_the_two_loops_and_with_any_the_constant_step() -> None:
    assert isinstance(mmd.MPO().resolve(KUHN), TwoLoops)
    assert isinstance(mmd.MPO(seed=1).resolve(CYCLE), TwoLoops)
    expected = {"eta": 0.4, "alpha": 0.1, "magnet": mmd.Refresh(every=100), "feedback": mmd.Exact(), "iterate": "last"}
    for name in expected:
        filled = mmd.MPO(**{name: expected[name]}).resolve(CYCLE)
        assert isinstance(filled, mmd.MPO)
        assert {one: getattr(filled, one) for one in expected} == expected
        with pytest.raises(mmd.GameError, match=f"mpo with {name} given is defined on matrix games"):
            mmd.solve(KUHN, mmd.MPO(**{name: expected[name]}))
    assert algorithms.load("mpo") is mmd.MPO


def test_a_run_that_is_resumed_is_the_run(tmp_path: Path) -> None:
    path = tmp_path / "kept.npz"
    alone = mmd.solve(CYCLE, mmd.MPO(), tolerance=1e-11)
    cut = mmd.solve(CYCLE, mmd.MPO(), tolerance=1e-11, max_iterations=40, checkpoint=path)
    assert cut.status is mmd.Status.ITERATION_LIMIT
    assert cut.exploitability > 1e-9
    resumed = mmd.solve(CYCLE, mmd.MPO(), tolerance=1e-11, checkpoint=path, resume=True)
    assert resumed.gradient_evaluations == alone.gradient_evaluations
    for mine, its in zip(resumed.policy.probabilities, alone.policy.probabilities, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_the_command_runs_it_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preference:cycle", "--tolerance", "1e-11"]
    run = ["solve", *words, "--algorithm", "mpo", "--out", str(tmp_path / "run")]
    assert main([*run, "--max-iterations", "40"]) == 3
    assert main([*run, "--resume"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["algorithm"]["name"] == "mpo"
    assert "eta" not in result["algorithm"]
    assert result["iterate"] == "last"
    assert result["regularized_gap"] is not None
    assert main(["compare", *words, "--algorithms", "mpo"]) == 0
    assert "mpo" in capsys.readouterr().out
    assert main(["solve", "kuhn_poker", "--algorithm", "mpo", "--eta", "0.1"]) == 2
    assert "give none of them" in capsys.readouterr().err
