"""Matrix and preference games: known equilibria, units, labels, Condorcet winners, refusals."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from games import load, matrix, preference
from mmd.game.game import Game, GameError, checked_matrix
from tests.games import plain

NAN = float("nan")


def secures(game: Game, strategy: list[float]) -> float:
    """What a row strategy gets at least, in the units of the input."""
    return float((np.array(strategy) @ plain.matrix_of(game)[1:, 1:]).min()) + game.description.offset


def test_matrix_pays_the_row_player():
    """[[3, -1], [-1, 1]] has value 1/3 at (1/3, 2/3), [[0, -1, 3], [1, 0, -1], [-3, 1, 0]] has 0 at (1, 3, 1) / 5."""
    game = matrix.game([[3, -1], [-1, 1]])
    np.testing.assert_allclose(plain.lp_value(game), 1 / 3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(secures(game, [1 / 3, 2 / 3]), 1 / 3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        secures(matrix.game([[0, -1, 3], [1, 0, -1], [-3, 1, 0]]), [0.2, 0.6, 0.2]), 0, rtol=0, atol=1e-12
    )
    assert game.description.payoff_range == 4.0
    # A saddle point off the diagonal: whoever swapped rows and columns, or signs, would find another value.
    np.testing.assert_allclose(plain.lp_value(matrix.game([[1, 5, 2], [0, 9, -1]])), 1.0, rtol=0, atol=1e-12)


def test_cycle_is_the_published_game():
    """b over a and c over b by 0.9, a over c by 0.8: the equilibrium is (4, 3, 4) / 11, the value 1/2."""
    game = load("preference:cycle")
    np.testing.assert_allclose(plain.lp_value(game), 0.5, rtol=0, atol=1e-12)
    np.testing.assert_allclose(secures(game, [4 / 11, 3 / 11, 4 / 11]), 0.5, rtol=0, atol=1e-12)
    # 1/15 is the duality gap of the uniform strategies, so each loses half of it.
    np.testing.assert_allclose(secures(game, [1 / 3, 1 / 3, 1 / 3]), 0.5 - 1 / 30, rtol=0, atol=1e-12)
    assert plain.labels(game)[0].actions == (("a", "b", "c"),)
    assert game.description.facts == ("no Condorcet winner",)
    assert game.description.symmetric


def test_rock_paper_scissors_is_won_by_the_uniform_strategy_only():
    game = load("preference:rock_paper_scissors")
    np.testing.assert_allclose(secures(game, [1 / 3, 1 / 3, 1 / 3]), 0.5)
    np.testing.assert_allclose(plain.matrix_of(game)[1:, 1:], [[0, -0.5, 0.5], [0.5, 0, -0.5], [-0.5, 0.5, 0]])


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(1, 6))
def test_every_preference_game_has_value_one_half(data, n):
    upper = np.triu(data.draw(arrays(float, (n, n), elements=st.floats(0, 1))), 1)
    shares = upper + np.tril(1 - upper.T, -1) + np.eye(n) / 2
    game = preference.game(shares)
    payoffs = plain.matrix_of(game)[1:, 1:]
    np.testing.assert_array_equal(payoffs, -payoffs.T)
    np.testing.assert_allclose(payoffs, shares - 0.5, rtol=0, atol=1e-15)
    np.testing.assert_allclose(plain.lp_value(game), 0.5, rtol=0, atol=1e-9)


def test_condorcet_winner_is_reported_and_is_the_equilibrium():
    game = preference.game([[0.5, 0.4, 0.9], [0.6, 0.5, 0.55], [0.1, 0.45, 0.5]], labels=["x", "y", "z"])
    assert game.description.facts == ("y beats every other: the Condorcet winner",)
    np.testing.assert_allclose(secures(game, [0, 1, 0]), 0.5)
    tie = preference.game([[0.5, 0.5], [0.5, 0.5]], labels=["x", "y"])
    assert tie.description.facts == ("no Condorcet winner",)


def test_missing_diagonal_is_a_tie_with_oneself():
    given_ = preference.game([[0.5, 0.2], [0.8, 0.5]])
    np.testing.assert_array_equal(plain.matrix_of(preference.game([[None, 0.2], [0.8, NAN]])), plain.matrix_of(given_))


def test_labels_are_kept_apart():
    game = preference.game([[0.5, 0.2], [0.8, 0.5]], labels=["bot", "bot"])
    assert plain.labels(game)[1].actions == (("bot", "bot (2)"),)
    game = matrix.game([[1, 2]], labels=(["r"], ["c", "c"]))
    assert plain.labels(game)[0].actions == (("r",),)
    assert plain.labels(game)[1].actions == (("c", "c (2)"),)


REFUSED = [
    ([[0.5, None], [0.3, 0.5]], "'x' and 'y' were never compared"),
    ([[0.5, 0.7], [NAN, 0.5]], "'x' and 'y' were never compared"),
    ([[0.5, 0.7], [0.4, 0.5]], r"expected P \+ P.T = 1, got 0.7 \+ 0.4 for 'x' over 'y' \(row 1, column 2\)"),
    ([[0.6, 0.7], [0.3, 0.5]], r"expected P \+ P.T = 1, got 0.6 \+ 0.6 for 'x' over 'x'"),
    ([[0.5, 1.2], [-0.2, 0.5]], r"expected shares between 0 and 1, got 1.2 for 'x' over 'y'"),
    ([[0.5, float("inf")], [0.5, 0.5]], "expected shares between 0 and 1, got inf"),
    ([[0.5, 0.7, 0.1], [0.3, 0.5, 0.1]], "expected a square matrix, got 2 rows and 3 columns"),
    ([[0.5, 0.7], [0.3]], "rows of equal length"),
    ([], "non-empty matrix"),
    ([[0.5]], "expected 1 labels, got 2"),
]


@pytest.mark.parametrize(("shares", "message"), REFUSED)
def test_other_preferences_are_refused(shares, message):
    with pytest.raises(GameError, match=message):
        preference.game(shares, labels=["x", "y"])


def test_shares_may_be_rounded_to_ten_digits_but_not_to_eight():
    third = 0.3333333333
    assert preference.game([[0.5, third], [0.6666666667, 0.5]]).description.symmetric
    rounded = [[0.5, 0.33333333], [0.66666668, 0.5]]
    with pytest.raises(
        GameError, match=r"P \+ P.T = 1.*off by 1e-08; if the numbers are rounded, allow it with #sum_tol"
    ):
        preference.game(rounded)
    payoffs = plain.matrix_of(preference.game(rounded, sum_tolerance=1e-7))[1:, 1:]
    np.testing.assert_allclose(payoffs, [[0, -0.166666675], [0.166666675, 0]], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("payoffs", "message"),
    [
        ([[1, 2], [3]], "rows of equal length"),
        (np.array([["a", "b"]]), "matrix of numbers"),
        ([[1, 10**400]], "matrix of numbers, got an integer beyond 1.8e308 in row 1, column 2"),
        (np.array([[1, 2 + 1j]]), r"got \(1\+0j\) in row 1, column 1"),
        (np.array([[1, 2j], [3, 4]], object), "got 2j in row 1, column 2"),
        (np.array([[1], [np.complex64(2)]], object), "in row 2, column 1"),
        (np.array([[1, 2], [3, "4"]], object), "got '4' in row 2, column 2"),
        (np.array([["1"]]), "got '1' in row 1, column 1"),
        (np.array([[1.0, "2"]], object), "got '2' in row 1, column 2"),
        (np.array([[1, {}]], object), "got {} in row 1, column 2"),
        (np.array([["2024-01-01"]], "M8[D]"), "in row 1, column 1"),
        (np.ma.masked_equal([[1.0, 2.0], [3.0, 9.0]], 9), "the one in row 2, column 2 is masked"),
        (np.array([1, 2, 3]), r"shape \(3,\)"),
        ([[]], "non-empty"),
        ([[1, NAN]], "got nan in row 1, column 2"),
        ([[1], [None]], "got nan in row 2, column 1"),
        ([[1], [-float("inf")]], "got -inf in row 2, column 1"),
    ],
)
def test_other_matrices_are_refused(payoffs, message):
    with pytest.raises(GameError, match=message):
        matrix.game(payoffs)


@pytest.mark.parametrize(
    "payoffs",
    [
        np.array([[Fraction(1, 2), Decimal("0.25")], [None, np.float32(2)]], object),
        [[0.5, 0.25], [None, 2]],
        np.ma.array([[0.5, 0.25], [NAN, 2]]),
    ],
)
def test_every_kind_of_real_number_is_read(payoffs):
    np.testing.assert_array_equal(matrix.as_matrix(payoffs), [[0.5, 0.25], [NAN, 2]])


def test_hidden_payoffs_are_used_nowhere():
    """Also where a game is made of an array at once, without `games`."""
    for payoffs in (np.ma.masked_equal([[1.0, 9.0]], 9), np.array([[1, 1j]]), np.array([["1"]])):
        with pytest.raises(GameError, match="expected a matrix of numbers"):
            checked_matrix(payoffs)
    shares = np.ma.masked_equal([[0.5, 0.25], [0.75, 9]], 9)
    with pytest.raises(GameError, match="the one in row 2, column 2 is masked"):
        preference.game(shares)


def test_margins_must_be_antisymmetric():
    game = preference.margins([[0, 3, -1], [-3, 0, 2], [1, -2, 0]], labels=["x", "y", "z"])
    np.testing.assert_allclose(secures(game, [2 / 6, 1 / 6, 3 / 6]), 0.0, rtol=0, atol=1e-12)
    assert (game.description.offset, game.description.symmetric) == (0.0, True)
    with pytest.raises(GameError, match=r"expected A = -A.T, got 3 and -2 for 'x' over 'y' \(row 1, column 2\)"):
        preference.margins([[0, 3], [-2, 0]], labels=["x", "y"])
    with pytest.raises(GameError, match="expected finite numbers, got nan for 'x' over 'y'"):
        preference.margins([[0, NAN], [-2, 0]], labels=["x", "y"])
