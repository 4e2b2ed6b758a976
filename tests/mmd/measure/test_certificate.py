"""The certificate against known exploitabilities and against all pure strategies, one by one."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import games
from mmd.game.game import Description, Game, GameError, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.policy import Policy
from mmd.game.treeplex import Treeplex
from mmd.measure import certificate
from mmd.measure.certificate import certify
from mmd.measure.metrics import exploitability

SEEDS = st.integers(0, 2**32 - 1)
CONDORCET = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])  # COMAL's game: equilibrium (4, 3, 4) / 11


def random_treeplex(rng: np.random.Generator) -> Treeplex:
    """Up to five infosets, each below a random earlier sequence; some players never move."""
    n_actions = rng.integers(1, 4, size=rng.integers(0, 6))
    first = 1 + np.cumsum(n_actions) - n_actions
    return Treeplex.build(np.array([rng.integers(0, start) for start in first], np.int64), n_actions)[0]


def random_game(rng: np.random.Generator) -> tuple[Game, np.ndarray]:
    """A game with payoffs at random pairs of sequences, and its sequence-form matrix."""
    players = (random_treeplex(rng), random_treeplex(rng))
    matrix = rng.normal(size=(players[0].n_sequences, players[1].n_sequences))
    matrix *= rng.random(matrix.shape) < 0.7
    rows, columns = np.nonzero(matrix)
    entries = Entries(rows, columns, matrix[rows, columns])
    return Game.from_entries(players, entries, Description("random", payoff_range=1.0)), matrix


def random_policy(rng: np.random.Generator, treeplex: Treeplex) -> np.ndarray:
    policy = np.ones(treeplex.n_sequences)
    for first, n in zip(treeplex.first_sequence, treeplex.n_actions, strict=True):
        policy[first : first + n] = rng.dirichlet(np.ones(n))
    return policy


def plan_of(treeplex: Treeplex, policy: np.ndarray) -> np.ndarray:
    """Realisation probabilities by the definition, one infoset at a time."""
    plan = np.ones(treeplex.n_sequences)
    for parent, first, n in zip(treeplex.parent, treeplex.first_sequence, treeplex.n_actions, strict=True):
        plan[first : first + n] = plan[parent] * policy[first : first + n]
    return plan


def pure_plans(treeplex: Treeplex) -> Iterator[np.ndarray]:
    for choice in itertools.product(*(range(n) for n in treeplex.n_actions)):
        policy = np.zeros(treeplex.n_sequences)
        policy[treeplex.first_sequence + np.array(choice, np.int64)] = 1.0
        yield plan_of(treeplex, policy)


def uniform(game: Game) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(game.row.uniform()), np.exp(game.column.uniform())


def chain(depth: int, payoffs: np.ndarray) -> Game:
    """One player stops at a level, receiving its payoff, or goes on; after the last level nothing."""
    row = Treeplex.build(2 * np.arange(depth), np.full(depth, 2))[0]
    nobody = Treeplex.build(np.zeros(0, np.int64), np.zeros(0, np.int64))[0]
    stops = Entries(1 + 2 * np.arange(depth), np.zeros(depth, np.int64), payoffs)
    return Game.from_entries((row, nobody), stops, Description("chain", payoff_range=float(np.ptp(payoffs))))


@pytest.mark.parametrize(
    ("spec", "value", "exploitability"), [("kuhn_poker", 1 / 8, 11 / 24), ("leduc_poker", -0.078125, 2.373611111)]
)
def test_uniform_play_has_the_published_exploitability(spec: str, value: float, exploitability: float) -> None:
    game = games.load(spec)
    found = certify(game, uniform(game))
    np.testing.assert_allclose(found.exploitability, exploitability, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.value, value, rtol=0, atol=1e-14)
    assert found.exploitability == found.nash_conv / 2


@given(SEEDS)
def test_gains_are_those_of_the_best_pure_strategy(seed: int) -> None:
    """A best response may be taken pure, so enumerating pure plans is the definition."""
    rng = np.random.default_rng(seed)
    game, matrix = random_game(rng)
    policies = random_policy(rng, game.row), random_policy(rng, game.column)
    x, y = plan_of(game.row, policies[0]), plan_of(game.column, policies[1])
    value = x @ matrix @ y
    found = certify(game, policies)
    gains = (
        max(pure @ matrix @ y for pure in pure_plans(game.row)) - value,
        value - min(x @ matrix @ pure for pure in pure_plans(game.column)),
    )
    np.testing.assert_allclose(found.value, value, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.best_response_gains, gains, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.nash_conv, sum(gains), rtol=0, atol=1e-13)


def test_the_equilibrium_of_a_preference_cycle_has_no_gains() -> None:
    game = Game.from_matrix(CONDORCET - 0.5, offset=0.5)
    lottery = np.array([1, 4 / 11, 3 / 11, 4 / 11])
    found = certify(game, (lottery, lottery))
    assert found.nash_conv < 1e-15
    np.testing.assert_allclose(found.value, 0.5, rtol=0, atol=1e-15)
    np.testing.assert_allclose(certify(game, uniform(game)).nash_conv, 1 / 15, rtol=0, atol=1e-15)


def test_players_and_signs_are_not_interchangeable() -> None:
    """Changing places and signs together is the same game seen from the other side; one of them alone is another."""
    payoffs = np.array([[3.0, -1], [-1, 1]])  # equilibrium (1, 2) / 3 for both, value 1/3
    mixed, pure = np.array([1, 1 / 3, 2 / 3]), np.array([1.0, 1, 0])
    ours = certify(Game.from_matrix(payoffs), (pure, mixed))
    mirrored = certify(Game.from_matrix(-payoffs.T), (mixed, pure))
    np.testing.assert_allclose(ours.value, 1 / 3)
    np.testing.assert_allclose(mirrored.value, -1 / 3)
    np.testing.assert_allclose(ours.best_response_gains, [0, 4 / 3], rtol=0, atol=1e-15)
    np.testing.assert_allclose(mirrored.best_response_gains, [4 / 3, 0], rtol=0, atol=1e-15)
    flipped = certify(Game.from_matrix(-payoffs), (pure, mixed))
    np.testing.assert_allclose(flipped.best_response_gains, [0, 8 / 3], rtol=0, atol=1e-15)


@given(SEEDS, st.integers(-6, 6))
def test_everything_is_in_payoff_units(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    payoffs, scale = rng.normal(size=(4, 5)), 2.0 ** (3 * exponent)
    policies = random_policy(rng, Treeplex.simplex(4)), random_policy(rng, Treeplex.simplex(5))
    one = certify(Game.from_matrix(payoffs), policies)
    scaled = certify(Game.from_matrix(payoffs * scale, offset=7.0), policies)
    assert scaled.best_response_gains == tuple(scale * gain for gain in one.best_response_gains)
    np.testing.assert_allclose(scaled.value, scale * one.value + 7, rtol=1e-14, atol=0)


def test_deep_trees() -> None:
    """Stopping at the best of 2,500 levels; uniform play stops at level k with probability 2^-(k + 1)."""
    payoffs = np.random.default_rng(3).normal(size=2_500)
    game = chain(2_500, payoffs)
    found = certify(game, uniform(game))
    value = payoffs @ 2.0 ** -np.arange(1.0, 2_501)
    np.testing.assert_allclose(found.value, value, rtol=1e-14)
    np.testing.assert_allclose(found.best_response_gains, [payoffs.max() - value, 0], rtol=0, atol=1e-14)


def test_probabilities_are_scaled_to_sum_one() -> None:
    game = Game.from_matrix(CONDORCET)
    row, column = uniform(game)
    found, exact = certify(game, (row * (1 + 9e-7), column)), certify(game, (row, column))
    np.testing.assert_allclose(found.best_response_gains, exact.best_response_gains, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.value, exact.value, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (np.nan, "the column player, infoset 'Jack'.*>= 0, got nan"),
        (-1e-9, "the column player, infoset 'Jack'.*>= 0, got -1e-09"),
        (0.5 + 2e-6, "the column player, infoset 'Jack'.*sum to 1, got 1.000002"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(entry: float, message: str) -> None:
    players = Treeplex.simplex(2), Treeplex.build(np.zeros(2, np.int64), np.array([2, 2]))[0]
    labels = (
        PlayerLabels(("start",), (("l", "r"),)),
        PlayerLabels(("Queen", "Jack"), (("l", "r"), ("l", "r"))),
    )
    entries = Entries(np.array([1]), np.array([1]), np.array([1.0]))
    game = Game.from_entries(players, entries, Description("cards", payoff_range=1.0, labels=labels))
    row, column = uniform(game)
    column[4] = entry
    with pytest.raises(GameError, match=message):
        certify(game, (row, column))


def test_wrong_lengths_are_refused() -> None:
    game = Game.from_matrix(np.zeros((2, 3)))
    with pytest.raises(GameError, match=r"the row player has 3 sequences.*shape \(4,\)"):
        certify(game, (np.ones(4), np.ones(4)))


CYCLE = games.load("preference:cycle")
THIRDS = np.array([1, 1 / 3, 1 / 3, 1 / 3])
PURE = np.array([1.0, 0, 1, 0])


def logs(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


@pytest.mark.parametrize("check", [certify, lambda *given: SimpleNamespace(exploitability=exploitability(*given))])
def test_a_policy_its_probabilities_and_their_logarithms_are_one_policy(check: Callable[..., Any]) -> None:
    """Uniform play of the cycle is exploited by 1/30; against b, c gains 0.4, and b gains 1/30 from thirds."""
    for row, column, expected in ((THIRDS, THIRDS, 1 / 30), (PURE, THIRDS, (1 / 30 + 0.4) / 2)):
        for policy in (Policy(CYCLE, (row, column)), (row, column), (logs(row), logs(column)), (row, logs(column))):
            assert check(CYCLE, policy).exploitability == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("check", [certify, exploitability])
@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ((THIRDS * 1.1, THIRDS), "sum to 1.*got 1.1"),
        ((THIRDS, np.zeros(4)), "sum to 1.*got 3"),
        ((THIRDS, np.array([0, -1.0, -1, -1])), "sum to 1.*got 1.1036"),
        ((np.array([1, 1.5, -0.5, 0]), THIRDS), "expected probabilities >= 0, got -0.5"),
        ((THIRDS, np.full(4, np.nan)), "expected probabilities >= 0, got nan"),
        (THIRDS, "expected a mmd.Policy, or a pair of arrays.*, got ndarray"),
        ((0.5, 0.5), "expected a mmd.Policy, or a pair of arrays.*, got tuple"),
        (SimpleNamespace(policy=None), "expected a mmd.Policy.*, got SimpleNamespace: use its .policy"),
    ],
)
def test_what_is_no_policy_is_refused_by_both_checks(
    check: Callable[..., Any], policy: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the types of arguments, which only tests check
    with pytest.raises(GameError, match=sentence):
        check(CYCLE, policy)


def test_a_negative_gain_is_reported_and_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the best responses were wrong, no policy would be called an equilibrium for it."""
    game = games.load("kuhn_poker")
    monkeypatch.setattr(certificate, "_best_response", lambda treeplex, gradients: (gradients[..., 0], gradients * 0))
    with pytest.raises(RuntimeError, match="cannot be negative"):
        certify(game, uniform(game))


def test_payoffs_in_parts_are_all_payoffs(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate reads a huge game part by part; however small they are, it says the same."""
    game = games.load("leduc_poker:ranks=4")
    policy = random_policy(rng, game.row), random_policy(rng, game.column)
    whole = certify(game, policy)
    listed = game.payoff.entries()
    monkeypatch.setattr("mmd.game.payoff.PART", 100)
    parts = list(game.payoff.parts())
    assert len(parts) > 10
    for one, other in zip(map(np.concatenate, zip(*parts, strict=True)), listed, strict=True):
        np.testing.assert_array_equal(one, other)
    again = certify(game, policy)
    np.testing.assert_allclose(again.best_response_gains, whole.best_response_gains, rtol=1e-13)
    np.testing.assert_allclose(again.value, whole.value, rtol=1e-13)


STAKES = {
    "both mix (1, 2) / 3": ([[3.0, -1], [-1, 1]], [1 / 3, 2 / 3], [1 / 3, 2 / 3], 32 / 27),
    "the same, 10 higher": ([[13.0, 9], [9, 11]], [1 / 3, 2 / 3], [1 / 3, 2 / 3], 32 / 27),
    "pure: the smallest loss": ([[5.0, 7], [2, 9]], [1, 0], [1, 0], 2.0),
    "a third row that is left out": ([[3.0, -1], [-1, 1], [-9, -9]], [1 / 3, 2 / 3, 0], [1 / 3, 2 / 3], 32 / 27),
    "all that is met is 0, a row is at its limit": ([[0.0, 0], [1, -1]], [1, 0], [0.5, 0.5], 0.5),
    "all that is met is 2, no column loses": ([[3.0, 2, 1], [1, 2, 3]], [0.5, 0.5], [0, 1, 0], 2 / 3),
}


@pytest.mark.parametrize(("payoffs", "row", "column", "stake"), STAKES.values(), ids=STAKES)
def test_what_is_at_stake_in_games_worked_by_hand(payoffs: list, row: list, column: list, stake: float) -> None:
    """The mean distance from the value; where it is 0, the least that another action changes. One game and a batch."""
    x, y = np.array(row, float), np.array(column, float)
    game = Game.from_matrix(np.array(payoffs))
    found = certify(game, (np.concatenate([[1], x]), np.concatenate([[1], y])))
    np.testing.assert_allclose(found.scale, stake, rtol=1e-14)
    np.testing.assert_allclose(found.default_tolerance, certificate.DEFAULT_TOLERANCE * stake, rtol=1e-14)
    there = (np.ones((1, len(x)), bool), np.ones((1, len(y)), bool))
    (many,) = certificate.default_tolerances(np.array([payoffs]), there, (x[None], y[None]))
    np.testing.assert_allclose(many, certificate.DEFAULT_TOLERANCE * stake, rtol=1e-14)


@pytest.mark.parametrize("rest", [1e-18, 1e-24])
def test_what_an_interior_iterate_leaves_beside_a_pure_equilibrium_is_not_at_stake(rest: float) -> None:
    """Leaving [[5, 7], [2, 9]] at the first row and column loses 3 or 2. The tolerance fell to rounding."""
    payoffs, x, y = np.array([[5.0, 7], [2, 9]]), np.array([1, rest]), np.array([1, 3 * rest])
    found = certify(Game.from_matrix(payoffs), (np.concatenate([[1], x]), np.concatenate([[1], y])))
    np.testing.assert_allclose(found.default_tolerance, certificate.DEFAULT_TOLERANCE * 2, rtol=1e-14)
    there = np.ones((1, 2), bool)
    (many,) = certificate.default_tolerances(payoffs[None], (there, there), (x[None], y[None]))
    np.testing.assert_allclose(many, certificate.DEFAULT_TOLERANCE * 2, rtol=1e-14)


BESIDE_PURE = {
    "what a row loses is due to a column that dies": ([[0.0, 0], [0, 1]], [0, 1], [1, 0], 1.0),
    "so is what both gain": ([[0.0, 0, 1], [0, 0, -1], [-1, 1, 0]], [1, 0, 0], [1, 0, 0], 1.0),
}


@pytest.mark.parametrize("rest", [1e-15, 1e-30, 1e-200])
@pytest.mark.parametrize(("payoffs", "row", "column", "stake"), BESIDE_PURE.values(), ids=BESIDE_PURE)
def test_the_stake_does_not_fall_with_an_iterate(
    payoffs: list, row: list, column: list, stake: float, rest: float
) -> None:
    """Beside a pure equilibrium of value 0 the tolerance fell as fast as the exploitability, and no run converged.

    The iterate still gives `rest` to an action that loses 1, and by that other actions differ by `rest`.
    """
    x, y = (np.where(np.array(pure) > 0, 1.0, rest) for pure in (row, column))
    found = certify(Game.from_matrix(np.array(payoffs)), (np.concatenate([[1], x]), np.concatenate([[1], y])))
    assert 0 < found.exploitability <= 2 * rest
    np.testing.assert_allclose(found.scale, stake, rtol=1e-12)
    there = np.ones((1, len(x)), bool)
    (many,) = certificate.default_tolerances(np.array([payoffs]), (there, there), (x[None], y[None]))
    np.testing.assert_allclose(many, certificate.DEFAULT_TOLERANCE * stake, rtol=1e-12)


def test_a_wrong_pure_policy_does_not_pass_by_a_large_payoff() -> None:
    """At the first row and column of [[1, -1], [-1e12, 1]] the column player gains 2; 1e-11 of 1e12 would pass it."""
    game = Game.from_matrix(np.array([[1.0, -1], [-1e12, 1]]))
    found = certify(game, (np.array([1.0, 1, 0]), np.array([1.0, 1, 0])))
    assert found.exploitability == 1
    assert found.scale == 2


def test_what_is_at_stake_on_a_tree() -> None:
    """Kuhn poker's equilibrium in which the first player never bets: 547 / 486, summed over the six deals by hand.

    J Q: -1. J K: -1. Q J: 1 (2/3), 2 (1/9), -1 (2/9). Q K: -2 (1/3), -1 (2/3). K J: 1 (2/3), 2 (1/3). K Q: 1.
    """
    game = games.load("kuhn_poker")
    row = [1, 1, 0, 1, 0, 1, 0, 1, 0, 2 / 3, 1 / 3, 0, 1]  # J, Q, K; then J, Q, K after a bet
    column = [1, 2 / 3, 1 / 3, 1, 0, 1, 0, 2 / 3, 1 / 3, 0, 1, 0, 1]  # J, Q, K, each after a pass and after a bet
    found = certify(game, (np.array(row), np.array(column)))
    np.testing.assert_allclose(found.value, -1 / 18, rtol=1e-14)
    np.testing.assert_allclose(found.scale, 547 / 486, rtol=1e-14)


def test_cells_of_another_game_are_not_used() -> None:
    """The stake of Kuhn poker, and not that of the same game with payoffs ten times as large."""
    game = games.load("kuhn_poker")
    found = game.payoff.entries()
    tenfold = Entries(found.rows, found.columns, 10 * found.values)
    other = certificate.cells_of(Game.from_entries(game.players, tenfold, game.description))
    assert other is not None
    policy = Policy.random(game, 0)
    assert certify(game, policy, cells=other).scale == certify(game, policy).scale
