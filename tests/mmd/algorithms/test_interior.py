"""The interior point: weak duality at every iterate, known values, its linear algebra against dense algebra."""

from typing import Any

import numpy as np
import pytest

import games
import mmd
from mmd.algorithms._central_path import Prepared, path
from mmd.algorithms._interior_matrices import equilibria
from mmd.algorithms._newton import WAYS, NotSolvable
from mmd.algorithms.interior import Interior
from mmd.game.game import Game
from mmd.game.padded import Matrices
from mmd.game.payoff import Entries
from mmd.measure.certificate import certify, certify_matrices
from mmd.measure.exact import solve_exactly

TREES = {
    "kuhn_poker": -1 / 18,
    "kuhn_poker:cards=4": None,
    "leduc_poker": -0.085606424078,
    "goofspiel": 0.0,
    "liars_dice:faces=3": None,
    "liars_dice:faces=4": 1 / 16,
    "battleship": 0.0,
    "dark_hex": 0.5,
    "token_tree:vocabulary=2,length=2": 0.5,
}


def perturbed(game: Game, seed: int) -> Game:
    """The game with every payoff times a draw from (0.8, 1.2)."""
    rows, columns, values = game.payoff.entries()
    drawn = values * np.random.default_rng(seed).uniform(0.8, 1.2, len(values))
    return Game.from_entries(game.players, Entries(rows, columns, drawn), game.description)


@pytest.mark.parametrize("name", TREES)
def test_known_values(name: str) -> None:
    game = games.load(name)
    solution = mmd.solve(game, Interior())
    assert solution.converged
    assert solution.iterate == "interior"
    exact = TREES[name] if TREES[name] is not None else solve_exactly(game).value
    assert abs(solution.value - exact) <= 1e-10


@pytest.mark.parametrize("seed", range(4))
def test_a_perturbed_tree_is_solved_as_the_linear_program_solves_it(seed: int) -> None:
    game = perturbed(games.load("leduc_poker"), seed)
    solution = mmd.solve(game, Interior())
    assert solution.converged
    assert solution.iterations <= 40
    assert abs(solution.value - solve_exactly(game).value) <= 1e-9


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "preference:cycle"])
def test_the_gap_bounds_the_nash_conv_of_every_iterate(name: str) -> None:
    """Weak duality: feasible slacks say what a best response is at most worth."""
    game = games.load(name)
    program, scale = Prepared.of(game).program, np.abs(game.payoff.entries().values).max()
    points = list(path(Prepared.of(game)))
    assert len(points) > 4
    for point in points:
        if point.gap < 1e-11:  # both are rounding
            break
        policy = mmd.Policy.from_plans(game, program.plans(point))
        nash_conv = certify(game, policy).nash_conv / scale
        assert 0 < nash_conv <= point.gap * (1 + 1e-6)
        np.testing.assert_allclose(program.constraints @ point.v, program.right, atol=1e-9)
        slack = program.transposed @ point.t + program.skew @ point.v
        np.testing.assert_allclose(point.s, np.where(program.free, slack, 0.0), atol=1e-8 * max(1.0, slack.max()))
        assert min(point.v.min(), point.s[program.free].min()) > 0
    assert points[-1].gap < 1e-12


def test_the_newton_system_is_solved_by_every_way_of_choosing_pivots(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared.of(games.load("kuhn_poker"))
    program, newton = prepared.program, prepared.newton
    rng = np.random.default_rng(0)
    theta = np.where(program.free, 10 ** rng.uniform(-8, 8, len(program.free)), 1.0)
    n, m = len(theta), len(program.right)
    c = program.constraints.toarray()
    dense = np.block([[np.diag(theta) + program.skew.toarray(), c.T], [-c, np.zeros((m, m))]])
    right = rng.normal(size=n + m)
    for way in WAYS:
        monkeypatch.setattr("mmd.algorithms._newton.WAYS", (way,))
        newton.factor(theta)
        found = newton.solve(right)
        assert np.abs(dense @ found - right).max() <= 1e-10 * np.abs(dense).max(initial=1.0, where=dense < 1e9)
        np.testing.assert_allclose(found, np.linalg.solve(dense, right), rtol=1e-5, atol=1e-8 * np.abs(found).max())


def test_a_singular_system_is_said_to_be_one() -> None:
    newton = Prepared.of(games.load("kuhn_poker")).newton
    with pytest.raises(NotSolvable, match="singular"):
        newton.factor(np.full(newton.n_sequences, np.nan))


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "goofspiel", "liars_dice:faces=4", "battleship"])
def test_an_infoset_is_eliminated_after_its_sequences_and_the_work_is_foreseen(name: str) -> None:
    prepared = Prepared.of(games.load(name))
    program, newton = prepared.program, prepared.newton
    place = np.argsort(newton.order)
    entries = program.constraints.tocoo()
    acts = entries.data > 0
    n = len(program.free)
    assert (place[entries.col[acts]] < place[n + entries.row[acts]]).all()
    newton.factor(np.where(program.free, np.random.default_rng(1).uniform(0.1, 10, n), 1.0))
    assert newton.way == 0
    factors = newton.factors.L.nnz + newton.factors.U.nnz
    assert 0.8 <= newton.work.entries / factors <= 3.5


KINDS = {
    "normal": lambda rng: rng.normal(size=(7, 9)),
    "tall": lambda rng: rng.normal(size=(12, 3)),
    "antisymmetric": lambda rng: (lambda a: a - a.T)(rng.normal(size=(8, 8))),
    "far from 0": lambda rng: 1e6 + rng.normal(size=(6, 6)),
    "one action": lambda rng: rng.normal(size=(1, 5)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_form_finds_the_equilibria_of_the_linear_program(kind: str) -> None:
    """Generic games have one equilibrium, so strategies can be compared, not values alone."""
    rng = np.random.default_rng(5)
    matrices = [KINDS[kind](rng) for _ in range(6)]
    found = equilibria(Matrices.of(matrices))
    for at, matrix in enumerate(matrices):
        exact = solve_exactly(Game.from_matrix(matrix))
        for mine, theirs in zip(found.strategies, exact.policy.probabilities, strict=True):
            np.testing.assert_allclose(mine[at, : len(theirs) - 1], theirs[1:], atol=1e-6)
            assert not mine[at, len(theirs) - 1 :].any()


def test_the_dense_form_says_what_it_reached_on_ties() -> None:
    """With many equilibria the numbers in X differ by twenty decades; what comes out is still near one."""
    rng = np.random.default_rng(6)
    matrices = Matrices.of([rng.integers(-1, 2, (5, 6)).astype(float) for _ in range(50)])
    found = equilibria(matrices)
    nash_conv = certify_matrices(matrices.payoffs, matrices.exist, found.strategies).nash_conv
    assert np.median(nash_conv) <= 1e-9
    assert nash_conv.max() <= 1e-4


def test_a_batch_needs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmd.solving.batch._Program", None)
    rng = np.random.default_rng(7)
    games_ = [rng.normal(size=(rng.integers(1, 12), rng.integers(1, 12))) for _ in range(60)]
    games_ += [rng.integers(-1, 2, (4, 4)).astype(float) for _ in range(60)]
    solutions = mmd.solve_many(games_)
    assert solutions.converged.all()
    assert solutions.algorithm["name"] == "interior"
    for game, value in zip(games_, solutions.values, strict=True):
        assert abs(solve_exactly(Game.from_matrix(game)).value - value) <= 1e-9


@pytest.mark.parametrize(
    ("n_own", "expected"),
    [(0, "nobody decides"), (1, "one player decides")],
)
def test_games_in_which_somebody_decides_nothing(n_own: int, expected: str) -> None:
    matrix = np.array([[1.0, 3.0, 2.0]])[:, : 1 + 2 * n_own]
    solution = mmd.solve(Game.from_matrix(matrix), Interior())
    assert solution.converged, expected
    assert abs(solution.value - 1.0) <= 1e-11


def test_limits_are_heeded() -> None:
    game = games.load("leduc_poker")
    stopped = mmd.solve(game, Interior(), max_iterations=3)
    assert (stopped.status, stopped.iterations, len(stopped.trace)) == (mmd.Status.ITERATION_LIMIT, 3, 4)
    coarse = mmd.solve(game, Interior(), tolerance=1e-2)
    assert coarse.converged
    assert 1e-4 < coarse.exploitability <= 1e-2


@pytest.mark.parametrize(
    ("limits", "status"), [({"max_iterations": 6}, "ITERATION_LIMIT"), ({"tolerance": 0.0}, "ENDED")]
)
def test_a_game_that_is_rarely_certified_ends_with_its_last_point(
    limits: dict[str, Any], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large game only some iterates are certified; the one at which it ends always is, with what it is worth."""
    monkeypatch.setattr("mmd.algorithms.interior.LARGE", 0)
    game = games.load("leduc_poker")
    points = list(path(Prepared.of(game)))
    solution = mmd.solve(game, Interior(), **limits)
    last = limits.get("max_iterations", len(points) - 1)
    assert len(solution.trace) < len(points)  # some were left out
    assert solution.iterations == solution.trace["iteration"][-1] == last
    assert solution.status is mmd.Status[status]
    found = certify(game, solution.policy)
    assert (solution.value, solution.nash_conv) == (found.value, found.nash_conv)
    gap = points[last].gap * np.abs(game.payoff.entries().values).max()
    assert found.nash_conv <= max(gap, 1e-13)  # weak duality at the very last point
    assert abs(found.value - TREES["leduc_poker"]) <= found.nash_conv + 1e-10
    for player, p in zip(game.players, solution.policy.probabilities, strict=True):
        assert p.min() >= 0
        np.testing.assert_allclose(np.bincount(player.owner[1:], p[1:]), 1.0, rtol=1e-12)


def test_it_ends_by_itself_where_float64_ends() -> None:
    """24 decades of payoffs: no factorisation resolves them, and nothing is called converged that is not."""
    matrix = np.array([[1e12, 1e-12, -1.0], [-1e-12, 1.0, 3e-13], [0.5, -1e6, 1e-9]])
    solution = mmd.solve(Game.from_matrix(matrix), Interior(), tolerance=1e-16)
    assert solution.status in {mmd.Status.ENDED, mmd.Status.PRECISION, mmd.Status.CONVERGED}
    assert solution.converged == (solution.exploitability <= 1e-16)
