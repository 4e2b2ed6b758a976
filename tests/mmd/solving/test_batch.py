"""Batches of matrix games: each game gets what it would get alone, with a certificate of its own."""

from collections.abc import Callable

import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import games
import mmd
from mmd.algorithms import load
from mmd.algorithms.contract import Algorithm
from mmd.algorithms.pcfr_plus import PredictiveCFRPlus
from mmd.game.game import Game, GameError
from mmd.game.padded import Matrices, padded_game
from mmd.measure.certificate import certify, certify_matrices
from mmd.measure.solution import Status
from mmd.solving import batch
from mmd.solving.crossover import polish_matrices
from tests.mmd.solving.host_algorithms import LinearProgram

BIASED = np.array([[0.0, -1, 3], [1, 0, -1], [-3, 1, 0]])  # equilibrium (0.2, 0.6, 0.2)


def antisymmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    matrix = rng.uniform(-0.5, 0.5, (n, n))
    return (matrix - matrix.T) / 2


# ------------------------------------------------------------------ padding


def after(algorithm: Algorithm, game: Game, steps: int) -> list[np.ndarray]:
    """Both log-policies after some steps from uniform play."""
    algorithm = algorithm.resolve(Game.from_matrix(np.zeros((2, 2))))

    def run(game: Game) -> tuple[jax.Array, ...]:
        start = tuple(jnp.asarray(player.uniform()) for player in game.players)
        state = jax.lax.fori_loop(0, steps, lambda _, s: algorithm.step(game, s), algorithm.init(game, start))
        return algorithm.policy(game, state).log_policy

    return [np.asarray(log) for log in jax.jit(run)(game)]


@pytest.mark.parametrize(
    "algorithm",
    [
        load("pcfr+")(),
        mmd.Auto(),
        mmd.MagneticMirrorDescent(eta=0.2, alpha=0.1, magnet=mmd.Refresh(every=7)),
    ],
    ids=lambda algorithm: algorithm.name,
)
def test_no_algorithm_notices_the_padding(algorithm: Algorithm, rng: np.random.Generator) -> None:
    """A 3 x 5 game inside 7 x 8 arrays, 25 steps: what exists is the same, what does not is never played."""
    payoffs = rng.normal(size=(3, 5))
    alone = after(algorithm, Game.from_matrix(payoffs).astype(jnp.float64), steps=25)
    inside = np.zeros((7, 8))
    inside[:3, :5] = payoffs
    inside[3:] = inside[:, 5:] = 9.0  # of actions that do not exist: must never be read
    there = jnp.arange(7) < 3, jnp.arange(8) < 5
    game = padded_game(jnp.asarray(inside), *there, Game.from_matrix(inside).description)
    for mine, padded in zip(alone, after(algorithm, game, steps=25), strict=True):
        np.testing.assert_allclose(padded[: len(mine)], mine, rtol=0, atol=1e-11)
        assert np.isneginf(padded[len(mine) :]).all()


def test_a_game_gets_in_a_batch_what_it_gets_alone(rng: np.random.Generator) -> None:
    """Unpolished after 200 iterations, whatever the other games and their order are."""
    matrices = [rng.normal(size=rng.integers(1, 9, size=2)) for _ in range(40)]
    together = mmd.solve_many(matrices, max_iterations=200, tolerance=0.0, polish=False)
    order = rng.permutation(40)
    shuffled = mmd.solve_many([matrices[i] for i in order], max_iterations=200, tolerance=0.0, polish=False)
    for place, i in enumerate(order[:6]):
        alone = mmd.solve_many([matrices[i]], max_iterations=200, tolerance=0.0, polish=False)[0]
        for other in (together[int(i)], shuffled[place]):
            assert other.iterations == alone.iterations
            np.testing.assert_allclose(other.nash_conv, alone.nash_conv, rtol=0, atol=1e-12)
            for mine, theirs in zip(alone.policy.probabilities, other.policy.probabilities, strict=True):
                np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-9)


def test_one_program_serves_an_octave_of_sizes(rng: np.random.Generator) -> None:
    first = [antisymmetric(rng, n) for n in range(9, 16)] * 20 + [antisymmetric(rng, 16)]
    mmd.solve_many(first, tolerance=1e-9)
    before = batch._advance._cache_size()
    assert mmd.solve_many([antisymmetric(rng, n) for n in (14, 9)], tolerance=1e-9).converged.all()
    assert batch._advance._cache_size() == before


# ------------------------------------------------------------------ equilibria

MATRICES = st.tuples(
    hypothesis.extra.numpy.arrays(
        np.int8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(-3, 3)
    ),
    st.sampled_from([1e-100, 1e-6, 1.0, 1e6, 1e100]),
)


def value_by_linear_program(matrix: np.ndarray) -> float:
    largest = np.abs(matrix).max() or 1.0
    return mmd.solve_exactly(Game.from_matrix(matrix / largest)).value * largest


@settings(max_examples=10)
@given(st.lists(MATRICES, min_size=1, max_size=12))
def test_values_are_those_of_the_linear_program(drawn: list[tuple[np.ndarray, float]]) -> None:
    """Small integers: ties, dominated actions, saddle points, constants; and payoffs of any scale."""
    matrices = [scale * matrix for matrix, scale in drawn]
    solutions = mmd.solve_many(matrices, max_iterations=20_000)
    assert solutions.converged.all(), solutions
    for matrix, solution in zip(matrices, solutions, strict=True):
        certificate = certify(solution.game, solution.policy.probabilities)
        largest = float(np.abs(matrix).max())
        assert certificate.exploitability <= 1e-11 * np.ptp(matrix) + 1e-15 * largest
        np.testing.assert_allclose(solution.value, value_by_linear_program(matrix), rtol=0, atol=1e-10 * largest)


def test_near_ties_are_solved_or_said_not_to_be(rng: np.random.Generator) -> None:
    """Integers with noise of 1e-5: the value is off by no more than the certified NashConv, converged or not."""
    matrices = [rng.integers(-3, 4, size=rng.integers(1, 8, size=2)) for _ in range(100)]
    matrices = [matrix + 1e-5 * rng.normal(size=matrix.shape) for matrix in matrices]
    solutions = mmd.solve_many(matrices, max_iterations=512)
    assert solutions.converged.mean() > 0.6
    for matrix, solution in zip(matrices, solutions, strict=True):
        assert solution.converged == (solution.exploitability <= solution.tolerance)
        assert abs(solution.value - value_by_linear_program(matrix)) <= solution.nash_conv + 1e-12


@pytest.mark.parametrize(
    ("payoffs", "row", "column", "value"),
    [
        ([[3.0]], [1.0], [1.0], 3.0),
        ([[2.0, 1.0, 5.0]], [1.0], [0.0, 1.0, 0.0], 1.0),
        ([[2.0], [1.0], [5.0]], [0.0, 0.0, 1.0], [1.0], 5.0),
        ([[1.0, 2.0], [0.0, 1.0]], [1.0, 0.0], [1.0, 0.0], 1.0),  # a dominated row and column
        (BIASED, [0.2, 0.6, 0.2], [0.2, 0.6, 0.2], 0.0),
        (1e-200 * BIASED, [0.2, 0.6, 0.2], [0.2, 0.6, 0.2], 0.0),
        (1e200 * BIASED, [0.2, 0.6, 0.2], [0.2, 0.6, 0.2], 0.0),
        ([[1.0, -1.0], [-1.0, 1.0]], [0.5, 0.5], [0.5, 0.5], 0.0),
    ],
)
def test_known_equilibria(payoffs: list, row: list, column: list, value: float) -> None:
    solution = mmd.solve_many([np.array(payoffs)])[0]
    assert solution.converged
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=1e-14 * np.abs(payoffs).max())
    for found, known in zip(solution.policy.probabilities, (row, column), strict=True):
        np.testing.assert_allclose(found[1:], known, rtol=0, atol=1e-13)


@pytest.mark.parametrize("payoffs", [np.zeros((3, 4)), np.full((4, 2), 0.3), np.full((3, 3), -1e9)])
def test_a_game_without_choices_that_matter_is_solved_at_once(payoffs: np.ndarray) -> None:
    solution = mmd.solve_many([payoffs])[0]
    assert solution.converged
    np.testing.assert_allclose(solution.value, payoffs[0, 0], rtol=1e-15)


def test_hundreds_of_random_games_are_exact(rng: np.random.Generator) -> None:
    """Preference games of the sizes of elections, to the default tolerance; each certified by the general code."""
    matrices = [antisymmetric(rng, n) for n in rng.integers(3, 16, size=300)]
    solutions = mmd.solve_many(matrices)
    assert solutions.converged.all()
    assert np.mean(np.array(solutions.iterates) == "interior") > 0.8
    assert solutions.iterations.max() <= 20
    for matrix, solution in zip(matrices[:50], solutions[:50], strict=True):
        certificate = certify(Game.from_matrix(matrix), solution.policy.probabilities)
        np.testing.assert_allclose(certificate.nash_conv, solution.nash_conv, rtol=0, atol=1e-15)
        assert solution.exploitability <= 1e-11 * np.ptp(matrix)


# ------------------------------------------------------------------ the polish and the certificate


def test_the_polish_never_makes_a_game_worse(rng: np.random.Generator) -> None:
    """From anywhere; and the NashConv it reports is the certificate's."""
    games_ = Matrices.of([rng.integers(-2, 3, size=rng.integers(1, 8, size=2)).astype(float) for _ in range(300)])
    row, column = (rng.exponential(size=there.shape) * there for there in games_.exist)
    given_ = row / row.sum(axis=1, keepdims=True), column / column.sum(axis=1, keepdims=True)
    before = certify_matrices(games_.payoffs, games_.exist, given_).nash_conv
    polished = polish_matrices(games_, given_, np.zeros(300))
    after_ = certify_matrices(games_.payoffs, games_.exist, polished.strategies).nash_conv
    assert (after_ <= before).all()
    np.testing.assert_allclose(polished.nash_conv, after_, rtol=0, atol=1e-14)
    assert (after_ < 1e-13).mean() > 0.4  # from noise, without a single iteration


def test_the_polish_projects_in_the_metric_of_the_divergence() -> None:
    """Paper occurs twice: moving a sum moves each part in proportion to itself, as in `mmd.solving.polish`."""
    payoffs = np.array([[0.0, -1, 3], [1, 0, -1], [1, 0, -1], [-3, 1, 0]])
    start = np.array([[0.21, 0.42, 0.17, 0.2]]), np.array([[0.21, 0.59, 0.2, 0.0]])
    row, column = polish_matrices(Matrices.of([payoffs]), start, np.zeros(1)).strategies
    np.testing.assert_allclose(row, [[0.2, 0.6 * 42 / 59, 0.6 * 17 / 59, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(column, [[0.2, 0.6, 0.2, 0.0]], rtol=0, atol=1e-15)


def test_certificates_agree_with_the_one_of_a_game(rng: np.random.Generator) -> None:
    matrices = [rng.normal(size=rng.integers(1, 7, size=2)) + 5 for _ in range(50)]
    arrays = Matrices.of(matrices)
    row, column = (there * rng.exponential(size=there.shape) for there in arrays.exist)
    strategies = row / row.sum(axis=1, keepdims=True), column / column.sum(axis=1, keepdims=True)
    many = certify_matrices(arrays.payoffs, arrays.exist, strategies)
    for i, matrix in enumerate(matrices):
        x, y = (np.concatenate([[1.0], p[i, :n]]) for p, n in zip(strategies, matrix.shape, strict=True))
        one = certify(Game.from_matrix(matrix), (x, y))
        np.testing.assert_allclose(many.values[i], one.value, rtol=1e-14)
        for gains, gain in zip(many.best_response_gains, one.best_response_gains, strict=True):
            np.testing.assert_allclose(gains[i], gain, rtol=0, atol=1e-14)


@pytest.mark.parametrize("row", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0]])
def test_what_is_no_strategy_gets_no_certificate(row: list[float]) -> None:
    arrays = Matrices(np.ones((1, 2, 2)), np.ones((1, 2), bool), np.array([[True, False]]))
    certify_matrices(arrays.payoffs, arrays.exist, (np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])))
    with pytest.raises(GameError, match="game 0, the row player"):
        certify_matrices(arrays.payoffs, arrays.exist, (np.array([row]), np.array([[1.0, 0.0]])))
    with pytest.raises(GameError, match="game 0, the column player"):
        certify_matrices(arrays.payoffs, arrays.exist, (np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]])))


# ------------------------------------------------------------------ what is returned, and what is refused


def test_solutions_are_a_sequence_of_solutions() -> None:
    """Games keep their labels and units; arrays are in the order of the batch."""
    cycle = games.load("preference:cycle")
    solutions = mmd.solve_many([BIASED, cycle, np.eye(5)], tolerance=1e-12)
    assert len(solutions) == 3
    assert [s.game.row.n_sequences - 1 for s in solutions] == [3, 3, 5]
    assert solutions[1].game is cycle
    assert solutions[-2].policy.lottery() == pytest.approx({"a": 4 / 11, "b": 3 / 11, "c": 4 / 11}, abs=1e-12)
    np.testing.assert_allclose(solutions.values, [0, 0.5, 0.2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        solutions.lotteries[:2], [[0.2, 0.6, 0.2, 0, 0], [4 / 11, 3 / 11, 4 / 11, 0, 0]], rtol=1e-9
    )
    assert np.isnan(solutions.lotteries[2]).all()  # of a game that is not symmetric
    assert solutions.converged.all()
    assert "3 games by interior (not mirror descent), 3 converged" in repr(solutions)
    assert [s.value for s in solutions[1:]] == [solutions[1].value, solutions[2].value]
    with pytest.raises(IndexError):
        solutions[3]
    with pytest.raises(GameError, match="as many rows as columns"):
        _ = mmd.solve_many([np.ones((2, 3))]).lotteries


def test_each_solution_names_the_method_that_found_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Games that the interior point leaves are found by pcfr+ where that comes closer; by it alone none is."""
    rng = np.random.default_rng(3)
    matrices = [rng.integers(-3, 4, rng.integers(1, 8, 2)) + 0.0 for _ in range(40)]
    matrices = [matrix + 1e-5 * rng.normal(size=matrix.shape) for matrix in matrices]
    monkeypatch.setattr("mmd.solving.batch.affordable", lambda game: False)  # no exact vertex of what was found before
    both = mmd.solve_many(matrices, tolerance=0.0, max_iterations=96)
    monkeypatch.setattr("mmd.solving.batch._Run.until_done", lambda run, *_: run.interrupt())
    alone = mmd.solve_many(matrices, tolerance=0.0, max_iterations=96)
    replaced = (both.row != alone.row).any(axis=1) | (both.column != alone.column).any(axis=1)
    assert 0 < replaced.sum() < len(matrices)
    assert both.methods == ["pcfr+" if by_pcfr else "interior" for by_pcfr in replaced]
    assert [solution.algorithm["name"] for solution in both] == both.methods
    assert repr(both).startswith("Solutions(40 games by interior (not mirror descent) and pcfr+, ")
    assert alone[0].method == "interior (not mirror descent)"


METHODS = [
    load(name) for name in ("asymmetric", "halpern", "gabp", "omwu", "inpo", "online-ipo", "comal", "iterative-dpo")
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_methods_have_in_a_batch_the_settings_that_each_game_gives_them(method: Callable[..., Algorithm]) -> None:
    """Two 3-cycles in different units, and a game of another shape: as `mmd.solve` has them, at the same iterations."""
    cycle = games.load("preference:cycle")
    shares = np.array([[0.5, 0.6, 0.45], [0.4, 0.5, 0.7], [0.55, 0.3, 0.5]])
    weak, wide = games.preference.game(shares), games.preference.game(np.pad(shares, (0, 2), constant_values=0.5))
    together = mmd.solve_many([cycle, weak, wide], method(), tolerance=0.0, max_iterations=32, polish=False)
    for game, found in zip((cycle, weak, wide), together, strict=True):
        alone = mmd.solve(game, method(), tolerance=0.0, max_iterations=32)
        start = mmd.certify(game, tuple(np.exp(player.uniform()) for player in game.players))
        np.testing.assert_allclose(found.nash_conv, min(alone.nash_conv, start.nash_conv), rtol=1e-9, atol=1e-13)
        if alone.nash_conv < start.nash_conv:
            mine, theirs = found.policy.probabilities, alone.policy.probabilities
            np.testing.assert_allclose(np.concatenate(mine), np.concatenate(theirs), rtol=0, atol=1e-9)


def test_ctrl_c_ends_a_batch_with_what_has_been_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    easy, hard = [BIASED] * 5, [rng.normal(size=(30, 30)) for _ in range(3)]
    check, calls = batch._Run._check, [0]

    def interrupted(run: batch._Run, *arguments: object) -> None:
        check(run, *arguments)
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(batch._Run, "_check", interrupted)
    found = mmd.solve_many([*hard, *easy], PredictiveCFRPlus(iterate="last"), tolerance=1e-9, polish=False)
    assert Status.INTERRUPTED in found.statuses
    assert set(found.statuses) <= {Status.INTERRUPTED, Status.CONVERGED}
    for solution in found:
        certificate = certify(solution.game, solution.policy.probabilities)
        np.testing.assert_allclose(solution.nash_conv, certificate.nash_conv, rtol=0, atol=1e-13)


def test_limits_are_kept_and_named() -> None:
    hard = [np.random.default_rng(0).normal(size=(30, 30))]
    pcfr = PredictiveCFRPlus(iterate="last")
    short = mmd.solve_many(hard, pcfr, max_iterations=48, polish=False)[0]
    assert (short.status, short.iterations, short.converged) == (Status.ITERATION_LIMIT, 48, False)
    assert 0 < short.exploitability < mmd.solve_many(hard, max_iterations=0)[0].exploitability
    assert mmd.solve_many(hard, pcfr, time_limit=1e-9, polish=False)[0].status is Status.TIME_LIMIT
    shorter = mmd.solve_many(hard, max_iterations=4)[0]
    assert (shorter.status, shorter.iterations) == (Status.ITERATION_LIMIT, 4)


def test_an_iterate_that_is_no_number_ends_its_game_alone() -> None:
    """The other game of the batch goes on, and the first keeps its last finite strategy."""
    algorithm = mmd.MagneticMirrorDescent(eta=100.0, alpha=0.5)
    wild, tame = mmd.solve_many([1e307 * BIASED, BIASED], algorithm, max_iterations=32, polish=False)
    assert wild.status is Status.NONFINITE
    assert np.isfinite(wild.nash_conv)
    assert tame.status is Status.ITERATION_LIMIT
    assert tame.algorithm["eta"] == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mmd.solve_many([]), "at least one game"),
        (lambda: mmd.solve_many([np.ones((2, 2)), games.load("kuhn_poker")]), "game 1 of the batch: expected a matrix"),
        (lambda: mmd.solve_many([np.ones((2, 2)), np.ones(3)]), "game 1 of the batch: expected a non-empty matrix"),
        (lambda: mmd.solve_many(BIASED), "a sequence of games, got one: put it in a list"),
        (lambda: mmd.solve_many([np.eye(2) * 1j]), "game 0 of the batch: expected a matrix of numbers"),
        (lambda: mmd.solve_many([np.array([[np.nan]])]), "game 0 of the batch: expected finite payoffs"),
        (lambda: mmd.solve_many([np.array([[1.7e308, -1.7e308]])]), "whose range float64 can hold"),
        (lambda: mmd.solve_many([BIASED], tolerance=-1.0), "a tolerance >= 0"),
        (lambda: mmd.solve_many([BIASED], max_iterations=-1), "max_iterations >= 0"),
        (lambda: mmd.solve_many([BIASED], time_limit=0.0), "a time limit > 0"),
        (lambda: mmd.solve_many([BIASED], mmd.Auto), "an algorithm such as"),
        (lambda: batch._check_algorithm(LinearProgram()), "runs on the host, and solve_many compiles its method"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(GameError, match=message):
        call()
