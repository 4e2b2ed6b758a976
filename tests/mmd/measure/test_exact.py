"""The linear program against known equilibria, closed forms, and the independent certificate."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import games
from mmd.game.game import Game
from mmd.game.policy import behaviour, labels_of
from mmd.measure.certificate import certify
from mmd.measure.exact import optimal_range, solve_exactly
from mmd.measure.sequence_form import constraints, payoff_matrix
from tests.mmd.measure.test_certificate import plan_of, random_game, random_policy

SEEDS = st.integers(0, 2**32 - 1)
KNOWN = {
    "published in the MMD paper": ([[0, -1, 3], [1, 0, -3], [-3, 3, 0]], [3 / 7, 3 / 7, 1 / 7], 0),
    "of the MMD authors' code": ([[0, -3, 3], [3, 0, -1], [-3, 1, 0]], [1 / 7, 3 / 7, 3 / 7], 0),
    "biased rock, paper, scissors": ([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], [1 / 5, 3 / 5, 1 / 5], 0),
    "COMAL's preference game": ([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]], [4 / 11, 3 / 11, 4 / 11], 0.5),
    "two by two": ([[3, -1], [-1, 1]], [1 / 3, 2 / 3], 1 / 3),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_equilibria_of_matrix_games(name: str) -> None:
    """They are unique, and the same for both players."""
    payoffs, equilibrium, value = KNOWN[name]
    game = Game.from_matrix(np.array(payoffs, np.float64))
    solution = solve_exactly(game)
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=1e-15)
    for player in (0, 1):
        np.testing.assert_allclose(solution.probabilities[player][1:], equilibrium, rtol=0, atol=1e-14)
        np.testing.assert_allclose(solution.plans[player][1:], equilibrium, rtol=0, atol=1e-14)
        for end in optimal_range(game, player):
            np.testing.assert_allclose(end[1:], equilibrium, rtol=0, atol=1e-9)


def test_a_game_may_be_an_array_or_a_name() -> None:
    assert abs(solve_exactly([[2.0, -1.0], [-1.0, 1.0]]).value - 0.2) < 1e-12
    assert abs(solve_exactly("kuhn_poker").value + 1 / 18) < 1e-12


@pytest.mark.parametrize(("spec", "value"), [("kuhn_poker", -1 / 18), ("leduc_poker", -0.0856064240780)])
def test_known_values_of_trees(spec: str, value: float) -> None:
    game = games.load(spec)
    solution = solve_exactly(game)
    np.testing.assert_allclose(solution.value, value, rtol=0, atol=1e-13)
    assert solution.certificate.nash_conv < 1e-14 * game.description.payoff_range
    assert solution.nash_conv == 2 * solution.exploitability == solution.certificate.nash_conv
    assert certify(game, solution.policy).value == pytest.approx(value, abs=1e-13)
    for player, plan, policy in zip(game.players, solution.plans, solution.probabilities, strict=True):
        np.testing.assert_allclose(plan_of(player, policy), plan, rtol=0, atol=1e-13)


def test_the_optimal_strategies_of_kuhn_poker() -> None:
    """Kuhn (1950): the first player bets Jack with any probability up to 1/3, the King three times as often, and calls
    with the Queen 1/3 more often; the second player has only one optimal strategy."""
    game = games.load("kuhn_poker")
    names, actions = labels_of(game)[0].infosets, labels_of(game)[0].actions
    low, high = optimal_range(game, 0)
    for infoset, ends in {"J|": (0, 1 / 3), "Q|": (0, 0), "K|": (0, 1), "Q|pb": (1 / 3, 2 / 3)}.items():
        j = names.index(infoset)
        bet = game.row.first_sequence[j] + actions[j].index("bet")
        np.testing.assert_allclose((low[bet], high[bet]), ends, rtol=0, atol=1e-8)
    low, high = optimal_range(game, 1)
    np.testing.assert_allclose(low, high, rtol=0, atol=1e-8)
    np.testing.assert_allclose(np.unique(low.round(8)), [0, 0.33333333, 0.66666667, 1], rtol=0, atol=1e-8)


def test_the_range_of_a_duplicated_action_is_what_it_may_share() -> None:
    payoffs = np.array([[0.0, -1, 3], [1, 0, -1], [1, 0, -1], [-3, 1, 0]])
    low, high = optimal_range(Game.from_matrix(payoffs), 0)
    np.testing.assert_allclose(low[1:], [0.2, 0, 0, 0.2], rtol=0, atol=1e-9)
    np.testing.assert_allclose(high[1:], [0.2, 0.6, 0.6, 0.2], rtol=0, atol=1e-9)
    low, high = optimal_range(Game.from_matrix(payoffs), 1)
    np.testing.assert_allclose([low[1:], high[1:]], [[0.2, 0.6, 0.2]] * 2, rtol=0, atol=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=4))
@example([0.0, 0.0, 0.0, 2.2e-313])  # a subnormal number, whose reciprocal overflows
def test_two_by_two_games_have_a_closed_form(entries: list[float]) -> None:
    """The value is a saddle point, or det / (a + d - b - c) without one (von Neumann, Morgenstern 1944)."""
    a, b, c, d = entries
    lower, upper = max(min(a, b), min(c, d)), min(max(a, c), max(b, d))
    value = lower if lower == upper else (a * d - b * c) / (a + d - b - c)
    solved = solve_exactly(Game.from_matrix(np.array([[a, b], [c, d]])))
    np.testing.assert_allclose(solved.value, value, rtol=0, atol=1e-10 * max(1.0, np.max(np.abs(entries))))


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Uniform, Gaussian, tied or antisymmetric payoffs of any scale, some of whose rows and columns occur twice."""
    rng = np.random.default_rng(draw(SEEDS))
    shape = draw(st.integers(1, 25)), draw(st.integers(1, 25))
    kind = draw(st.sampled_from(["uniform", "gaussian", "ties", "constant", "tournament"]))
    if kind == "uniform":
        payoffs = rng.uniform(size=shape)
    elif kind == "gaussian":
        payoffs = rng.normal(size=shape)
    elif kind == "ties":
        payoffs = rng.integers(-1, 2, size=shape).astype(np.float64)
    elif kind == "constant":
        payoffs = np.full(shape, rng.normal())
    else:
        wins = np.triu(rng.choice([-1.0, 1.0], size=(shape[0], shape[0])), 1)
        payoffs = wins - wins.T
    if draw(st.booleans()):
        payoffs = payoffs[rng.integers(0, len(payoffs), size=len(payoffs))]
    return payoffs * 10.0 ** draw(st.integers(-6, 6))


@given(matrices())
@settings(max_examples=150)
def test_random_matrices_are_solved_to_rounding(payoffs: np.ndarray) -> None:
    """The certificate is independent of the program; the mirrored game must have the opposite value."""
    game, mirrored = Game.from_matrix(payoffs), Game.from_matrix(-payoffs.T)
    solution = solve_exactly(game)
    size = float(np.max(np.abs(payoffs)))
    assert certify(game, solution.probabilities).nash_conv <= 1e-12 * size
    np.testing.assert_allclose(solve_exactly(mirrored).value, -solution.value, rtol=0, atol=2e-12 * size)


@given(SEEDS)
def test_random_trees_are_solved_to_rounding(seed: int) -> None:
    game, matrix = random_game(np.random.default_rng(seed))
    assert solve_exactly(game).certificate.nash_conv <= 1e-13 * max(1.0, float(np.max(np.abs(matrix))))


def test_value_is_in_the_units_of_the_input() -> None:
    solution = solve_exactly(Game.from_matrix(np.array([[3.0, -1], [-1, 1]]), offset=10.0))
    np.testing.assert_allclose(solution.value, 10 + 1 / 3)


@given(SEEDS)
def test_the_sequence_form_says_what_a_plan_is(seed: int) -> None:
    """E x = e for every plan; a plan and its policy determine each other; A is the game's own product."""
    rng = np.random.default_rng(seed)
    game, matrix = random_game(rng)
    np.testing.assert_array_equal(payoff_matrix(game).toarray(), matrix)
    for player in game.players:
        policy = random_policy(rng, player)
        plan = plan_of(player, policy)
        np.testing.assert_allclose(constraints(player) @ plan, np.eye(1 + player.n_infosets)[0], rtol=0, atol=1e-15)
        np.testing.assert_allclose(behaviour(player, plan, np.zeros(player.n_sequences)), policy, rtol=0, atol=1e-14)


def test_unreached_infosets_keep_the_fallback() -> None:
    row = games.load("kuhn_poker").row
    fallback = random_policy(np.random.default_rng(0), row)
    policy = fallback.copy()
    first = int(row.first_sequence[0])
    policy[first : first + 2] = [0, 1]  # bets, so what follows a pass is not reached
    plan = plan_of(row, policy)
    unreached = np.repeat(plan[row.parent] == 0, row.n_actions)
    assert unreached.sum() == 2
    found = behaviour(row, plan, np.full(row.n_sequences, 0.5))[1:]
    np.testing.assert_array_equal(found[unreached], [0.5, 0.5])
    np.testing.assert_allclose(found[~unreached], policy[1:][~unreached], rtol=0, atol=1e-15)
