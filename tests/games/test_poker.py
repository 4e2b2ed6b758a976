"""Kuhn and Leduc poker: the builders against the rules played out, and what the literature and OpenSpiel know."""

import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker, leduc_poker
from games.compile import CHANCE, TERMINAL, Tree, compile_tree
from games.rules import expand, game_of
from mmd.game.game import GameError
from tests.games import plain
from tests.games.poker_rules import KuhnPoker, LeducPoker


@pytest.fixture(scope="module")
def kuhn() -> Tree:
    return expand(KuhnPoker(3))


@pytest.fixture(scope="module")
def leduc() -> Tree:
    return expand(LeducPoker(3, 2))


@pytest.mark.parametrize("cards", [2, 3, 5])
def test_kuhn_is_built_as_the_rules_say(cards):
    plain.assert_same_game(kuhn_poker.game(cards), game_of(KuhnPoker(cards)))


@pytest.mark.parametrize(("ranks", "suits", "raises"), [(3, 2, 2), (2, 3, 1), (2, 2, 3)])
def test_leduc_is_built_as_the_rules_say(ranks, suits, raises):
    plain.assert_same_game(leduc_poker.game(ranks, suits, raises), game_of(LeducPoker(ranks, suits, raises)))


# Nodes, terminals, infosets and sequences of each player, non-zero payoffs: counted with OpenSpiel.
SIZES = [
    (KuhnPoker(3), "kuhn_poker", 58, 30, 6, 13, 30),
    (LeducPoker(3, 2), "leduc_poker", 9_457, 5_520, 468, 1_093, 4_920),
    (LeducPoker(5, 2), "leduc_poker:ranks=5", 55_361, 32_760, 1_380, 3_221, 30_760),
]


@pytest.mark.parametrize(("rules", "spec", "nodes", "terminals", "infosets", "sequences", "entries"), SIZES)
def test_sizes_are_those_of_openspiel(rules, spec, nodes, terminals, infosets, sequences, entries):
    tree = expand(rules)
    assert (len(tree.parent), np.count_nonzero(tree.infoset == TERMINAL)) == (nodes, terminals)
    for game in (compile_tree(tree), games.load(spec)):
        assert [player.n_infosets for player in game.players] == [infosets, infosets]
        assert [player.n_sequences for player in game.players] == [sequences, sequences]
        assert len(game.payoff.entries().values) == entries


def test_raises_make_leduc_larger():
    """In a round with at most r raises each player is asked r + 1 times, after 0 to r raises, by way of a check or not.

    And 2 r + 1 ways end it without a fold: no raise, or 1 to r of them, after a check or not. So with n cards a player
    has n (r + 1) infosets in the first round and, after each of these ways, n (n - 1) (r + 1) in the second.
    """
    for raises in (1, 2, 3, 4):
        game, n = leduc_poker.game(2, 2, raises), 4
        infosets = n * (raises + 1) + (2 * raises + 1) * n * (n - 1) * (raises + 1)
        assert [player.n_infosets for player in game.players] == [infosets, infosets]
        assert game.description.payoff_range == 2 * (1 + 2 * raises + 4 * raises)


def test_values(kuhn, leduc):
    for game in (compile_tree(kuhn), kuhn_poker.game()):
        np.testing.assert_allclose(plain.lp_value(game), -1 / 18, rtol=0, atol=1e-12)
    np.testing.assert_allclose(plain.lp_value(compile_tree(leduc)), -0.0856064240780, rtol=0, atol=1e-10)
    np.testing.assert_allclose(mmd.solve_exactly(leduc_poker.game()).value, -0.0856064240780, rtol=0, atol=1e-10)


def test_uniform_policy_loses_the_known_amount(kuhn, leduc):
    np.testing.assert_allclose(plain.exploitability(kuhn, plain.uniform(kuhn)), 11 / 24, rtol=0, atol=1e-12)
    np.testing.assert_allclose(plain.exploitability(leduc, plain.uniform(leduc)), 2.373611, rtol=0, atol=5e-7)


def test_payoffs_in_chips():
    kuhn, leduc = kuhn_poker.game(), leduc_poker.game()
    assert kuhn.description.payoff_range == 4.0  # an ante and a bet, won or lost
    assert leduc.description.payoff_range == 26.0  # 1 + 2 * 2 + 2 * 4 = 13 chips, won or lost
    np.testing.assert_allclose(abs(kuhn.payoff.entries().values).max(), 1 / 3)
    np.testing.assert_allclose(abs(leduc.payoff.entries().values).max(), 13 / 120)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1 / 3])
def test_kuhns_published_equilibria_cannot_be_exploited(kuhn, alpha):
    """The family of Kuhn 1950: bet the jack with alpha, the king with 3 alpha, call with the queen with alpha + 1/3."""
    bets = {
        (0, "J|"): alpha,
        (0, "Q|"): 0.0,
        (0, "K|"): 3 * alpha,
        (0, "J|pb"): 0.0,
        (0, "Q|pb"): alpha + 1 / 3,
        (0, "K|pb"): 1.0,
        (1, "J|p"): 1 / 3,
        (1, "Q|p"): 0.0,
        (1, "K|p"): 1.0,
        (1, "J|b"): 0.0,
        (1, "Q|b"): 1 / 3,
        (1, "K|b"): 1.0,
    }
    profile = [np.array([1 - bets[i.player, i.label], bets[i.player, i.label]]) for i in kuhn.infosets]
    np.testing.assert_allclose(plain.expected_payoffs(kuhn, profile), [-1 / 18, 1 / 18], rtol=0, atol=1e-12)
    np.testing.assert_allclose(plain.exploitability(kuhn, profile), 0.0, rtol=0, atol=1e-12)


def play(tree: Tree, *moves: int | str) -> list[float]:
    """Payoffs after outcomes of chance (by number) and actions (by name)."""
    node, below = 0, plain.children(tree)
    for move in moves:
        infoset = tree.infoset[node]
        number = move if infoset == CHANCE else tree.infosets[infoset].actions.index(str(move))
        node = below[node][int(number)]
    assert tree.infoset[node] == TERMINAL
    return tree.payoffs[node].tolist()


# Cards 0 to 5 are Js Jh Qs Qh Ks Kh; a dealt card is taken out, so later numbers shift down.
SHOWDOWNS = [
    ((4, 0, "call", "call", 0, "call", "call"), [-1, 1]),  # K J, then Jh: the pair wins
    ((4, 0, "call", "call", 1, "call", "call"), [1, -1]),  # K J, then Qs: the high card wins
    ((2, 2, "raise", "call", 3, "raise", "raise", "call"), [0, 0]),  # Qs Qh, then Kh: equal ranks split
    ((4, 2, "raise", "raise", "call", 3, "raise", "raise", "call"), [13, -13]),  # Ks Qs, then Kh: 1 + 2 * 2 + 2 * 4
    ((4, 2, "raise", "fold"), [1, -1]),  # the second player loses its ante
    ((4, 2, "call", "raise", "raise", "fold"), [3, -3]),  # ... and the raise that it made
    ((4, 2, "call", "raise", "fold"), [-1, 1]),
    ((4, 2, "raise", "call", 0, "call", "raise", "fold"), [-3, 3]),  # the ante and one small raise
    ((4, 2, "raise", "call", 0, "raise", "raise", "fold"), [-7, 7]),  # ... and one big raise
]


@pytest.mark.parametrize(("moves", "payoffs"), SHOWDOWNS)
def test_leduc_pays_by_the_rules(leduc, moves, payoffs):
    assert play(leduc, *moves) == payoffs


def test_leduc_actions_are_legal(leduc):
    """Fold only when facing a raise, at most two raises a round."""
    actions = {info.label: info.actions for info in leduc.infosets}
    assert actions["Ks|"] == ("call", "raise")
    assert actions["Ks|r"] == ("fold", "call", "raise")
    assert actions["Ks|rr"] == ("fold", "call")
    assert actions["Ks|cc|Jh|c"] == ("call", "raise")
    assert max(label.split("|")[1].count("r") for label in actions) == 2


def test_suits_mean_nothing_to_the_payoffs(leduc):
    """Swapping spades and hearts in the names of all sequences leaves the payoff matrix as it is."""
    game = compile_tree(leduc)
    payoffs, swaps = plain.matrix_of(game), []
    for player, labels in zip(game.players, plain.labels(game), strict=True):
        at = dict(zip(labels.infosets, player.first_sequence, strict=True))
        swap = np.zeros(player.n_sequences, int)
        for label, first, n in zip(labels.infosets, player.first_sequence, player.n_actions, strict=True):
            swap[first : first + n] = at[label.translate(str.maketrans("sh", "hs"))] + np.arange(n)
        swaps.append(swap)
    assert not np.array_equal(payoffs, payoffs[:, swaps[1]])
    np.testing.assert_allclose(payoffs[np.ix_(*swaps)], payoffs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("cards", [1, 14])
def test_kuhn_refuses_other_decks(cards):
    with pytest.raises(GameError, match=f"kuhn_poker: expected 2 to 13 cards, got {cards}"):
        kuhn_poker.game(cards)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((1, 2, 2), "2 to 13 ranks, got 1"),
        ((3, 5, 2), "2 to 4 suits, got 5"),
        ((3, 2, 0), "1 to 10 raises a round, got 0"),
        ((3, 2, 11), "1 to 10 raises a round, got 11"),
    ],
)
def test_leduc_refuses_other_games(parameters, message):
    with pytest.raises(GameError, match=f"leduc_poker: expected {message}"):
        leduc_poker.game(*parameters)


def test_the_builders_walk_no_tree():
    small, large = (plain.python_calls(lambda n=ranks: leduc_poker.game(n)) for ranks in (3, 7))
    assert large < 2 * small  # where the tree is 17 times as large


def test_larger_decks_keep_the_theory():
    """Kuhn poker with two cards: the king bets and is never called, so the first player neither wins nor loses."""
    np.testing.assert_allclose(plain.lp_value(kuhn_poker.game(2)), 0.0, rtol=0, atol=1e-12)
    assert plain.labels(kuhn_poker.game(13))[0].infosets[0] == "A|"
    assert list(plain.labels(kuhn_poker.game(3))[0].infosets[:3]) == ["J|", "Q|", "K|"]
