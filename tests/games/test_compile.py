"""compile_tree against plain recursion on random trees, and its refusals."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree, compile_tree
from games.labels import unique_labels
from mmd.game.game import GameError
from tests.games import plain


def tree(parent, action, infoset, payoffs, *, infosets, probability=None, players=("Ann", "Bob")) -> Tree:
    n = len(parent)
    return Tree(
        name="test",
        players=players,
        parent=np.array(parent),
        action=np.array(action),
        infoset=np.array(infoset),
        probability=np.ones(n) if probability is None else np.array(probability, float),
        payoffs=np.array(payoffs, float),
        infosets=tuple(InfosetInfo(player, label, tuple(actions)) for player, label, actions in infosets),
    )


def pennies(win=1.0, constant=0.0) -> Tree:
    """Matching pennies: Ann wins where the coins match."""
    leaf = [(win, constant - win), (-win, constant + win), (-win, constant + win), (win, constant - win)]
    return tree(
        [-1, 0, 0, 1, 1, 2, 2],
        [0, 0, 1, 0, 1, 0, 1],
        [0, 1, 1, TERMINAL, TERMINAL, TERMINAL, TERMINAL],
        [(0, 0), (0, 0), (0, 0), *leaf],
        infosets=[(0, "hers", "ht"), (1, "his", "ht")],
    )


def chain(depth: int) -> Tree:
    """Players alternate; each may stop, which ends the play, or go on."""
    nodes = np.arange(2 * depth + 1)
    decision = (nodes % 2 == 0) & (nodes < 2 * depth)
    ends = np.where(decision, 0.0, nodes % 7 - 3.0)
    return Tree(
        name="chain",
        players=("Ann", "Bob"),
        parent=np.where(nodes == 0, -1, (nodes - 1) // 2 * 2),
        action=np.where(nodes == 0, 0, 1 - nodes % 2),
        infoset=np.where(decision, nodes // 2, TERMINAL),
        probability=np.ones(len(nodes)),
        payoffs=np.stack([ends, -ends], axis=1),
        infosets=tuple(InfosetInfo(k % 2, str(k), ("stop", "go")) for k in range(depth)),
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), constant=st.sampled_from([0.0, 1.0, -7.5]))
def test_sequence_form_pays_what_the_tree_pays(seed, constant):
    """x' A y + offset is the expected payoff of the row player, for any policies, wherever in the tree it is paid."""
    rng = np.random.default_rng(seed)
    random = plain.random_tree(rng, constant)
    game = compile_tree(random)
    profile = [rng.dirichlet(np.ones(len(info.actions))) for info in random.infosets]
    row, column = plain.plans(random, game, profile)
    value = row @ plain.matrix_of(game) @ column + game.description.offset
    expected = plain.expected_payoffs(random, profile)
    np.testing.assert_allclose(value, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(value, constant - expected[1], rtol=0, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_value_is_between_what_each_player_can_secure(seed):
    """The LP value of the compiled game is at most each best response's payoff in the tree, for any policies."""
    rng = np.random.default_rng(seed)
    random = plain.random_tree(rng, 2.0)
    value = plain.lp_value(compile_tree(random))
    for _ in range(5):
        profile = [rng.dirichlet(np.ones(len(info.actions))) for info in random.infosets]
        assert plain.best_response_value(random, profile, 0) >= value - 1e-9
        assert plain.best_response_value(random, profile, 1) >= 2.0 - value - 1e-9


@pytest.mark.parametrize("constant", [0.0, 10.0, -3.0])
def test_constant_sum_keeps_the_units_of_the_row_player(constant):
    game = compile_tree(pennies(win=3.0, constant=constant))
    assert game.description.offset == constant / 2
    assert game.description.payoff_range == 6.0
    np.testing.assert_allclose(plain.lp_value(game), 0.0, rtol=0, atol=1e-12)


def test_order_of_infosets_in_the_input_does_not_matter():
    """Reversing the numbering of the infosets leaves values and labels where they belong."""
    random = plain.random_tree(np.random.default_rng(3), 0.0)
    n = len(random.infosets)
    renumbered = replace(
        random,
        infoset=np.where(random.infoset >= 0, n - 1 - random.infoset, random.infoset),
        infosets=random.infosets[::-1],
    )
    np.testing.assert_allclose(
        plain.lp_value(compile_tree(renumbered)), plain.lp_value(compile_tree(random)), rtol=0, atol=1e-12
    )


def test_a_game_without_decisions_is_worth_its_payoff():
    leaf = tree([-1], [0], [TERMINAL], [(2.5, 1.5)], infosets=[])
    game = compile_tree(leaf)
    assert game.description.offset == 2.5  # a constant of all payoffs is taken out of them
    np.testing.assert_allclose(plain.matrix_of(game), [[0.0]])


def test_a_chain_of_5000_decisions_compiles_in_two_seconds():
    start = time.perf_counter()
    game = compile_tree(chain(5000))
    assert time.perf_counter() - start < 2.0
    assert (game.row.n_infosets, game.column.n_infosets) == (2500, 2500)
    assert len(game.row.levels) == 2500
    # Stopping at decision k pays the k-th end: it is the entry of "stop" at k and the sequence that leads there.
    stops = [label.index("stop") for label in plain.labels(game)[0].actions]
    assert set(stops) == {0}
    entries = game.payoff.entries()
    of_row_stops = entries.values[np.isin(entries.rows, game.row.first_sequence)]
    ends = chain(5000).payoffs[1:-1:4, 0]
    np.testing.assert_allclose(np.sort(of_row_stops), np.sort(ends[ends != 0]))


def refused(broken: Tree) -> str:
    with pytest.raises(GameError) as error:
        compile_tree(broken)
    return str(error.value)


def test_three_players_are_refused_by_name():
    payoffs = np.zeros((7, 3))
    payoffs[5, 2] = 1
    three = replace(pennies(), players=("Ann", "Bob", "Cem"), payoffs=payoffs)
    assert refused(three) == "test: expected two players, got 3 (Ann, Bob, Cem)"
    mover = replace(pennies().infosets[1], player=2)
    moving = replace(
        pennies(), players=three.players, infosets=(pennies().infosets[0], mover), payoffs=payoffs * [1, 1, 0]
    )
    moving.payoffs[5, 1] = 1
    assert refused(moving) == "test: expected two players, got 3 (Ann, Bob, Cem)"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_third_player_who_never_moves_and_is_never_paid_is_left_out(at):
    two = pennies(win=3.0, constant=1.0)
    three = replace(
        two,
        players=tuple(np.insert(np.array(two.players, object), at, "Cem")),
        payoffs=np.insert(two.payoffs, at, 0.0, axis=1),
        infosets=tuple(replace(info, player=info.player + (at <= info.player)) for info in two.infosets),
    )
    plain.assert_same_game(compile_tree(three), compile_tree(two))


def test_the_only_player_of_a_tree_is_paid_by_nobody():
    """One player who chooses between 3 and 5 gets 5; the opponent has no information set."""
    alone = tree(
        [-1, 0, 0], [0, 0, 1], [0, TERMINAL, TERMINAL], [[0], [3], [5]], infosets=[(0, "x", "ab")], players=("A",)
    )
    game = compile_tree(alone)
    assert [player.n_infosets for player in game.players] == [1, 0]
    payoffs = plain.matrix_of(game)[1:] + game.description.offset
    np.testing.assert_allclose(payoffs, [[3], [5]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(plain.lp_value(game), 5, rtol=0, atol=1e-12)


def test_rounded_payoffs_are_read_with_a_tolerance():
    rounded = replace(
        pennies(), payoffs=pennies().payoffs + np.array([1 / 3, 0.666666]) * (pennies().infoset < 0)[:, None]
    )
    rounded.payoffs[6] = (4 / 3, -0.333333)
    message = refused(rounded)
    assert "the sum 0.999999333333 after h > h, and 1.00000033333 after t > t, which differ by 1e-06" in message
    assert message.endswith("; if the numbers are rounded, allow it with #sum_tolerance=2e-06")
    np.testing.assert_allclose(plain.lp_value(compile_tree(rounded, sum_tolerance=2e-6)), 1 / 3, rtol=0, atol=1e-12)


def test_general_sum_names_two_plays_that_differ():
    game = pennies()
    payoffs = game.payoffs.copy()
    payoffs[4] = (-1, 3)
    assert refused(replace(game, payoffs=payoffs)) == (
        "test: expected payoffs with a constant sum, got the sum 0 after h > h, and 2 after h > t, "
        "which differ by 2; general-sum games cannot be solved here"
    )


def test_constant_sum_is_judged_relative_to_the_payoffs():
    game = pennies(win=1e9, constant=0.0)
    payoffs = game.payoffs.copy()
    payoffs[4, 1] += 0.5
    assert compile_tree(replace(game, payoffs=payoffs)).description.offset == 0.0
    small = pennies(win=1e-9, constant=0.0)
    payoffs = small.payoffs.copy()
    payoffs[4, 1] += 1e-15
    assert "constant sum" in refused(replace(small, payoffs=payoffs))


@pytest.mark.parametrize("payoff", [np.nan, np.inf, -np.inf])
def test_payoffs_that_are_not_finite_are_refused_with_the_play(payoff):
    game = pennies()
    payoffs = game.payoffs.copy()
    payoffs[6] = (payoff, -payoff)
    assert "expected finite payoffs, got" in refused(replace(game, payoffs=payoffs))
    assert refused(replace(game, payoffs=payoffs)).endswith("after t > t")


def test_payoffs_that_overflow_along_a_play_are_refused():
    game = pennies()
    payoffs = np.where(game.payoffs > 0, 1e308, -1e308)
    payoffs[:3] = (1e308, -1e308)
    assert "expected finite payoffs" in refused(replace(game, payoffs=payoffs))


def lottery(probabilities) -> Tree:
    n = len(probabilities)
    return tree(
        [-1, *[0] * n],
        [0, *range(n)],
        [CHANCE, *[TERMINAL] * n],
        np.zeros((n + 1, 2)),
        infosets=[],
        probability=[1, *probabilities],
    )


def test_chance_must_sum_to_one():
    assert refused(lottery([0.5, 0.25])) == "test: expected chance probabilities that sum to 1, got 0.75 at the root"
    assert "sum to 1, got 0 at the root" in refused(lottery([]))
    assert compile_tree(lottery([1 / 3, 1 / 3, 1 / 3])).description.payoff_range == 0.0


@pytest.mark.parametrize("probability", [-0.5, np.nan])
def test_chance_probabilities_are_not_negative(probability):
    assert refused(lottery([1 - probability, probability])).startswith(
        "test: expected chance probabilities of at least 0, got"
    )


def test_imperfect_recall_names_the_infoset_and_the_player():
    """Ann moves twice and forgets her first move."""
    forgetful = tree(
        [-1, 0, 0, 1, 1, 2, 2],
        [0, 0, 1, 0, 1, 0, 1],
        [0, 1, 1, *[TERMINAL] * 4],
        np.zeros((7, 2)),
        infosets=[(0, "first", ("up", "down")), (0, "second", ("left", "right"))],
    )
    assert refused(forgetful) == (
        "test: expected perfect recall, but information set 'second' of player 'Ann' is reached with different own "
        "histories, after up and after down"
    )


def test_forgetting_what_was_known_is_imperfect_recall():
    """Ann plays the same action after two different infosets, and then cannot tell which one it was."""
    forgetful = tree(
        [-1, 0, 0, 1, 2, 3, 3, 4, 4],
        [0, 0, 1, 0, 0, 0, 1, 0, 1],
        [CHANCE, 0, 1, 2, 2, *[TERMINAL] * 4],
        np.zeros((9, 2)),
        infosets=[(0, "low", ("on",)), (0, "high", ("on",)), (0, "later", ("left", "right"))],
        probability=[1, 0.5, 0.5, *[1] * 6],
    )
    assert "'later' of player 'Ann' is reached with different own histories" in refused(forgetful)


def test_one_infoset_twice_on_a_play_is_refused():
    absent_minded = tree(
        [-1, 0, 0, 1, 1],
        [0, 0, 1, 0, 1],
        [0, 0, TERMINAL, TERMINAL, TERMINAL],
        np.zeros((5, 2)),
        infosets=[(1, "crossing", ("stay", "exit"))],
    )
    message = "a play meets information set 'crossing' of player 'Bob' twice"
    assert message in refused(absent_minded)
    between = tree(
        [-1, 0, 0, 1, 1, 3, 3],
        [0, 0, 1, 0, 1, 0, 1],
        [0, 1, TERMINAL, 0, TERMINAL, TERMINAL, TERMINAL],
        np.zeros((7, 2)),
        infosets=[(1, "crossing", ("stay", "exit")), (1, "other", ("stay", "exit"))],
    )
    assert message in refused(between)


def test_nodes_without_the_right_children_are_refused():
    game = pennies()
    short = replace(game, infosets=(InfosetInfo(0, "hers", tuple("htx")), game.infosets[1]))
    assert refused(short) == "test: expected one child for each action at the root"
    action = game.action.copy()
    action[6] = 0
    assert refused(replace(game, action=action)) == "test: expected one child for each action after t"


def test_children_before_their_parents_are_refused():
    parent = pennies().parent.copy()
    parent[1] = 4
    assert "every other node to come after its parent" in refused(replace(pennies(), parent=parent))


def test_unused_infosets_are_refused():
    idle = replace(pennies(), infosets=(*pennies().infosets, InfosetInfo(1, "idle", ("x",))))
    assert refused(idle) == "test: no node belongs to information set 'idle' of player 'Bob'"


def test_labels_stay_apart():
    assert unique_labels(["B", "A", "B", "", "B (2)", "B", " "]) == ("B", "A", "B (3)", "4", "B (2)", "B (4)", "7")
    game = pennies()
    same = replace(game, infosets=(InfosetInfo(0, "", ("", "")), InfosetInfo(1, "x", ("h", "h"))))
    labels = plain.labels(compile_tree(same))
    assert labels[0].infosets == ("1",)
    assert labels[0].actions == (("1", "2"),)
    assert labels[1].actions == (("h", "h (2)"),)


@given(st.lists(st.text(alphabet="ab ()2", max_size=6)))
def test_unique_labels_loses_none(labels):
    assert len(set(unique_labels(labels))) == len(labels)
