"""Many matrix games at once, ranges over all equilibria, the equilibrium of maximal entropy, and intervals."""

import numpy as np
import pytest
from scipy.stats import binom

import games
import mmd
from mmd.game.game import Game, GameError
from mmd.measure import matrix_games
from mmd.measure.bootstrap import COLUMNS
from mmd.measure.matrix_games import solve_all
from tests.games import plain

CYCLE = np.array([[1, 2, 3], [3, 1, 2], [2, 3, 1]])  # ballots of Condorcet's paradox
CLONE = games.preference.from_ballots(np.column_stack([CYCLE, CYCLE[:, 0]]), [30, 30, 30], labels="abcd")


def payoffs_of(kind: str, rng: np.random.Generator, count: int) -> np.ndarray:
    m, n = (int(rng.integers(1, 12)) for _ in range(2))
    payoffs = rng.uniform(-1, 1, (count, m, n))
    if kind == "ties":
        return np.rint(payoffs)
    if kind == "duplicates":
        return payoffs[:, rng.integers(0, m, m)][:, :, rng.integers(0, n, n)]
    if kind == "tournaments":
        signs = np.triu(rng.integers(-1, 2, (count, m, m)), 1).astype(float)
        return signs - signs.swapaxes(1, 2)
    return payoffs * 10.0 ** rng.uniform(-6, 6) + rng.uniform(-3, 3)


@pytest.mark.parametrize("kind", ["uniform", "ties", "duplicates", "tournaments"])
def test_many_games_are_solved_to_rounding(kind: str, rng: np.random.Generator) -> None:
    """What the row player gets at least is what the column player pays at most, on the payoffs as given."""
    for _ in range(12):
        payoffs = payoffs_of(kind, rng, 30)
        found = solve_all(payoffs)
        for strategies in (found.row, found.column):
            assert (strategies >= 0).all()
            np.testing.assert_allclose(strategies.sum(axis=1), 1, rtol=0, atol=1e-12)
        span = np.maximum(np.ptp(payoffs, axis=(1, 2)), 1e-300)
        least = np.einsum("gm,gmn->gn", found.row, payoffs).min(axis=1)
        most = np.einsum("gmn,gn->gm", payoffs, found.column).max(axis=1)
        assert ((most - least) / span).max() < 1e-9
        np.testing.assert_allclose((found.values - least) / span, 0, rtol=0, atol=1e-9)


def test_a_game_that_stalls_is_solved_by_itself(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    payoffs = rng.uniform(size=(3, 4, 5))
    values = solve_all(payoffs).values
    monkeypatch.setattr(matrix_games, "PIVOTS", 0)
    np.testing.assert_allclose(solve_all(payoffs).values, values, rtol=0, atol=1e-12)


# -------------------------------------------------------------------- all equilibria


def test_ranges_say_whether_an_equilibrium_is_unique() -> None:
    """A clone may take any part of its original's third; the cycle alone has one equilibrium."""
    found = mmd.optimal_range(CLONE)
    np.testing.assert_allclose(found.low[1:], [0, 1 / 3, 1 / 3, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.high[1:], 1 / 3, rtol=0, atol=1e-9)
    assert not found.unique
    for player in (0, 1):
        assert mmd.optimal_range("preference:cycle", player).unique


def test_maximal_entropy_of_clones_and_ties() -> None:
    clones = mmd.maximal_entropy(CLONE)
    for probabilities in clones.probabilities:
        np.testing.assert_allclose(probabilities[1:], [1 / 6, 1 / 3, 1 / 3, 1 / 6], rtol=0, atol=1e-6)
    assert mmd.certify(CLONE, clones).exploitability < 1e-12
    tied = mmd.maximal_entropy(Game.from_matrix(np.zeros((3, 5))))
    for probabilities, n in zip(tied.probabilities, (3, 5), strict=True):
        np.testing.assert_allclose(probabilities[1:], 1 / n, rtol=0, atol=1e-6)


def test_maximal_entropy_at_the_edge_of_the_optimal_strategies() -> None:
    """Row strategies are optimal if they play the first action with 0.6 or more: the others share what is left."""
    game = Game.from_matrix(np.array([[0.0, 0.4], [0.0, -0.6], [0.0, -0.6]]))
    policy = mmd.maximal_entropy(game)
    np.testing.assert_allclose(policy.probabilities[0][1:], [0.6, 0.2, 0.2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(policy.probabilities[1][1:], [1, 0], rtol=0, atol=1e-9)
    assert mmd.certify(game, policy).exploitability < 1e-12


def test_no_other_equilibrium_has_more_entropy(rng: np.random.Generator) -> None:
    """Mixtures with equilibria that random objectives pick; so has the gradient of the entropy at its maximum."""
    signs = np.triu(rng.integers(-1, 2, (9, 9)), 1).astype(float)
    game = Game.from_matrix(signs - signs.T)
    assert not mmd.optimal_range(game).unique
    best = mmd.maximal_entropy(game).probabilities[0][1:]
    played = best > 1e-9
    for _ in range(20):
        other = plain_equilibrium(signs - signs.T, rng)
        assert other[~played].sum() < 1e-9
        assert -(other - best)[played] @ np.log(best[played]) < 1e-6


def plain_equilibrium(payoffs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An optimal strategy of a symmetric game of value 0, the farthest in a random direction."""
    from scipy.optimize import linprog

    n = len(payoffs)
    return linprog(rng.normal(size=n), A_ub=-payoffs.T, b_ub=np.zeros(n), A_eq=np.ones((1, n)), b_eq=[1.0]).x


# -------------------------------------------------------------------- intervals


def test_one_pair_has_the_interval_of_its_binomial_distribution() -> None:
    """Its share is the value of a game without choice: 120 wins of 200."""
    found = mmd.bootstrap(games.matrix.from_counts([[120]], [[80]]), draws=4_000)
    expected = binom.ppf([0.025, 0.975], 200, 120.5 / 201) / 200
    np.testing.assert_allclose([found.value_low, found.value_high], expected, rtol=0, atol=1.5 / 200)
    np.testing.assert_allclose(found.value, 0.6, rtol=0, atol=1e-15)
    narrow = mmd.bootstrap(found.game, draws=4_000, level=0.5)
    expected = binom.ppf([0.25, 0.75], 200, 120.5 / 201) / 200
    np.testing.assert_allclose([narrow.value_low, narrow.value_high], expected, rtol=0, atol=1.5 / 200)


def test_a_saddle_point_has_the_interval_of_its_own_pair() -> None:
    """The first row and the second column are best by far, so that all other counts do not matter."""
    wins = np.array([[900, 500], [300, 100]])
    found = mmd.bootstrap(games.matrix.from_counts(wins, 1000 - wins, labels=("ab", "xy")), draws=2_000)
    expected = binom.ppf([0.025, 0.975], 1000, 0.5) / 1000
    np.testing.assert_allclose([found.value_low, found.value_high], expected, rtol=0, atol=0.003)
    assert [(row[0], row[1], *np.round(row[2:6], 9)) for row in found.table()] == [
        ("row", "a", 1, 1, 1, 1),
        ("row", "b", 0, 0, 0, 0),
        ("column", "x", 0, 0, 0, 0),
        ("column", "y", 1, 1, 1, 1),
    ]
    assert found.unique


def test_a_lottery_is_told_with_its_chance_and_its_freedom() -> None:
    """Of a clone: not unique, with its range; the value of a symmetric game is 1/2 in every table."""
    found = mmd.bootstrap(CLONE, draws=500)
    assert (found.value_low, found.value_high) == pytest.approx((0.5, 0.5), abs=1e-12)
    assert not found.unique
    assert [weights.player for weights in found.weights] == ["lottery"]
    weights = found.weights[0]
    np.testing.assert_allclose([weights.least[0], weights.most[0]], [0, 1 / 3], rtol=0, atol=1e-9)
    assert ((weights.low <= weights.measured) & (weights.measured <= weights.high)).all()
    assert 0.3 < weights.played[1] <= 1
    assert "not unique" in repr(found)
    even = mmd.bootstrap(CLONE, draws=20, maximal_entropy=True).weights[0]
    np.testing.assert_allclose(even.measured, [1 / 6, 1 / 3, 1 / 3, 1 / 6], rtol=0, atol=1e-6)
    assert [len(row) for row in found.table()] == [len(COLUMNS)] * 4


def test_the_same_seed_draws_the_same_tables() -> None:
    one, same, other = (mmd.bootstrap(CLONE, draws=50, seed=seed).weights[0].low for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_what_cannot_be_drawn_again_is_refused() -> None:
    cases = (
        (lambda: mmd.bootstrap("preference:cycle"), "does not say of how many comparisons its payoffs are"),
        (lambda: mmd.bootstrap(CLONE, draws=0), "expected at least 1 draw"),
        (lambda: mmd.bootstrap(CLONE, level=95.0), "a level between 0 and 1, got 1000 and 95.0"),
        (lambda: mmd.bootstrap(CLONE, seed=-1), "expected a seed >= 0, got -1"),
        (lambda: mmd.maximal_entropy("kuhn_poker"), "expected a matrix game"),
    )
    for given, message in cases:
        with pytest.raises(GameError, match=message):
            given()


def test_elections_of_real_data_know_their_ballots(data) -> None:
    """Burlington 2009: Andy Montroll beats every other, by margins that 8,980 ballots leave no doubt about."""
    found = mmd.bootstrap(data / "elections/us_vt_btv_2009_03_mayor.json", draws=200)
    shares = dict(zip(found.weights[0].actions, found.weights[0].low, strict=True))
    assert shares["Andy Montroll"] == pytest.approx(1, abs=1e-9)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert plain.labels(found.game)[0].actions[0] == tuple(found.weights[0].actions)
