"""The polish: it never makes a policy worse, finishes where it should, and leaves open what the game leaves open."""

import numpy as np
import pytest

import games
import mmd
from benchmarks.claims.convergence import perturbed
from mmd.game.game import Description, Game, GameError
from mmd.game.payoff import Entries
from mmd.measure.certificate import certify
from mmd.measure.exact import solve_exactly
from mmd.solving.polish import affordable, polish
from tests.mmd.game.test_treeplex import random_treeplex
from tests.mmd.measure.test_certificate import plan_of, random_policy

Policies = tuple[np.ndarray, np.ndarray]


def near_equilibrium(game: Game, noise: Policies, share: float) -> Policies:
    """An exact equilibrium with some noise at every infoset."""
    row, column = ((1 - share) * p + share * q for p, q in zip(solve_exactly(game).probabilities, noise, strict=True))
    return row, column


def scaled(game: Game, factor: float) -> Game:
    rows, columns, values = game.payoff.entries()
    return Game.from_entries(game.players, Entries(rows, columns, factor * values), game.description)


def random_pair(rng: np.random.Generator) -> tuple[Game, Policies]:
    """A matrix or tree with ties, and policies anywhere between an equilibrium and noise."""
    if rng.random() < 0.5:
        shape = rng.choice([2, 5, 9], size=2)
        game = Game.from_matrix(rng.integers(-2, 3, size=shape) + rng.choice([0, 1e-3]) * rng.normal(size=shape))
    else:
        players = (random_treeplex(rng), random_treeplex(rng))
        shape = players[0].n_sequences, players[1].n_sequences
        matrix = rng.integers(-2, 3, size=shape) * rng.choice([1e-6, 1.0, 1e6])
        rows, columns = np.nonzero(matrix)
        entries = Entries(rows, columns, matrix[rows, columns])
        game = Game.from_entries(players, entries, Description("random", payoff_range=1.0))
    noise = random_policy(rng, game.row), random_policy(rng, game.column)
    return game, near_equilibrium(game, noise, share=10.0 ** -rng.integers(0, 7))


def test_never_worse(rng: np.random.Generator) -> None:
    """On 100 games and policies, whatever the guess was; and the report says what the certificate says."""
    accepted = 0
    for _ in range(100):
        game, policies = random_pair(rng)
        report = polish(game, policies)
        before, after = certify(game, policies).nash_conv, certify(game, report.probabilities).nash_conv
        assert after <= before
        assert (report.nash_conv_before, report.nash_conv_after) == (before, after)
        assert report.accepted == (after < before)
        if not report.accepted:
            assert report.probabilities is policies
        accepted += report.accepted
    assert accepted > 80  # these games are small: most are finished


def test_kuhn_is_finished_from_afar() -> None:
    """From where the default engine first has an exploitability of 5e-3."""
    game = games.load("kuhn_poker")
    report = polish(game, mmd.solve(game, tolerance=5e-3, polish=False).policy.probabilities)
    assert report.accepted
    assert report.nash_conv_before > 1e-4
    assert report.nash_conv_after <= 1e-15
    np.testing.assert_allclose(certify(game, report.probabilities).value, -1 / 18, rtol=0, atol=1e-15)


@pytest.fixture(scope="module")
def leduc() -> tuple[Game, Policies]:
    """Where the default engine first has an exploitability of 5e-6."""
    game = games.load("leduc_poker")
    return game, mmd.solve(game, tolerance=5e-6, polish=False).policy.probabilities


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_leduc_is_finished_in_any_unit(leduc: tuple[Game, Policies], factor: float) -> None:
    game, policies = scaled(leduc[0], factor), leduc[1]
    report = polish(game, policies)
    assert report.nash_conv_before > 1e-6 * factor
    assert report.nash_conv_after <= 1e-14 * factor
    assert report.faces == 1
    np.testing.assert_allclose(
        certify(game, report.probabilities).value, -0.0856064240780 * factor, rtol=0, atol=1e-12 * factor
    )


def test_actions_outside_the_equilibrium_get_probability_zero() -> None:
    """Biased rock, paper, scissors with a fourth action that loses to everything."""
    payoffs = np.array([[0.0, -1, 3, 9], [1, 0, -1, 9], [-3, 1, 0, 9], [-9, -9, -9, 0]])
    game = Game.from_matrix(payoffs)
    start = np.array([1, 0.21, 0.57, 0.21, 0.01])
    report = polish(game, (start, start))
    for policy in report.probabilities:
        assert policy[4] == 0.0
        np.testing.assert_allclose(policy[1:4], [0.2, 0.6, 0.2], rtol=0, atol=1e-15)


def test_what_the_face_leaves_open_is_projected_and_not_forced_to_a_vertex() -> None:
    """Paper occurs twice: any split of its 3/5 is an equilibrium, and the projection scales the split that was given.

    The metric is diag(1 / x0), in which moving a sum by d moves each part in proportion to itself.
    """
    payoffs = np.array([[0.0, -1, 3], [1, 0, -1], [1, 0, -1], [-3, 1, 0]])
    start = np.array([1, 0.21, 0.42, 0.17, 0.2])
    report = polish(Game.from_matrix(payoffs), (start, np.array([1, 0.21, 0.59, 0.2])))
    row = report.probabilities[0]
    assert report.nash_conv_after <= 1e-15
    np.testing.assert_allclose(row[[1, 4]], [0.2, 0.2], rtol=0, atol=1e-15)
    np.testing.assert_allclose(row[[2, 3]], [0.6 * 42 / 59, 0.6 * 17 / 59], rtol=1e-6)


def test_play_off_the_path_stays_as_it_was(leduc: tuple[Game, Policies]) -> None:
    """Of infosets that only a player's own error reaches, the projection of its plan says nothing."""
    game, given = leduc
    report = polish(game, given)
    for player, before, after in zip(game.players, given, report.probabilities, strict=True):
        plan = plan_of(player, after)
        unreached = np.repeat(plan[player.parent] == 0, player.n_actions)
        assert unreached.sum() > 100
        np.testing.assert_array_equal(after[1:][unreached], before[1:][unreached])
        assert np.count_nonzero(after[1:][~unreached] == 0) > 50


def test_an_equilibrium_is_left_alone() -> None:
    game = games.load("kuhn_poker")
    report = polish(game, solve_exactly(game).probabilities)
    assert not report.accepted
    assert report.faces == 0


def test_no_projection_is_begun_that_the_budget_does_not_pay(leduc: tuple[Game, Policies]) -> None:
    game, policies = leduc
    one = polish(game, policies)
    assert one.faces == 1
    short = polish(game, policies, budget=0.99 * one.modelled_seconds)
    assert short.faces == 0
    assert not short.accepted
    assert short.modelled_seconds <= 0.99 * one.modelled_seconds
    assert polish(game, policies, budget=one.modelled_seconds).accepted


def test_a_run_spends_no_more_on_it_than_its_share() -> None:
    """Near ties keep the guess wrong for long, and every try costs."""
    game = perturbed(games.load("liars_dice:faces=4"), 3)
    solution = mmd.solve(game, mmd.Restarted(), tolerance=1e-10, max_iterations=3000)
    assert solution.polish is not None
    assert len(solution.polish["tries"]) >= 4
    spent = solution.polish["modelled_seconds"]
    assert 0 < spent <= 2 * affordable(game, solution.gradient_evaluations, 0.0)
    counted = sum(int(one["faces"] > 0) for one in solution.polish["tries"])
    assert solution.polish["gradient_evaluations"] >= 4 * counted
    plain = mmd.solve(game, tolerance=1e-10, max_iterations=3000, polish=False)
    assert solution.gradient_evaluations == plain.gradient_evaluations + solution.polish["gradient_evaluations"]
    np.testing.assert_array_equal(solution.trace["nash_conv"], plain.trace["nash_conv"])  # it only looks on


def test_a_huge_game_is_not_polished(monkeypatch: pytest.MonkeyPatch) -> None:
    game = games.load("kuhn_poker")
    assert affordable(game, 0, 0.0) > 0
    assert affordable(game, 0, 0.0, time_limit=0.4) == 0.05  # at most a quarter of the limit, and half of it at once
    monkeypatch.setattr("mmd.solving.polish.MOST_PAYOFFS", 10)
    assert affordable(game, 10**9, 0.0) == 0.0
    assert mmd.solve(game, mmd.Restarted(), tolerance=1e-6).polish is None


def test_it_is_the_default_where_the_best_policy_is_returned_and_not_where_an_iterate_is() -> None:
    game = games.load("kuhn_poker")
    assert mmd.solve(game, mmd.Restarted(), tolerance=1e-12).iterate == "polished"
    assert mmd.solve(game, mmd.Restarted(), tolerance=1e-12, polish=False).polish is None
    last = mmd.solve(game, mmd.Anchored(), tolerance=1e-12)
    assert (last.iterate, last.polish) == ("last", None)
    assert mmd.solve(game, mmd.Anchored(), tolerance=1e-12, polish=True).iterate == "polished"


def test_what_is_no_policy_is_refused() -> None:
    game = Game.from_matrix(np.eye(2))
    with pytest.raises(GameError, match=r"sum to 1, got 0\.5"):
        polish(game, (np.array([1, 0.25, 0.25]), np.array([1, 0.5, 0.5])))
