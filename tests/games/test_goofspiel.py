"""Goofspiel: the arithmetic builder against the rules played out, sizes known from OpenSpiel, and its symmetry."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import games
import mmd
from games import goofspiel, memory
from games.compile import TERMINAL
from games.rules import expand, game_of
from mmd.game import GameError
from tests.games import plain


class State(NamedTuple):
    """The cards played by each player; player 1 does not see what player 0 has already played in a round."""

    played: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True)
class Goofspiel:
    """The rules, turn by turn, up to the last card, which is played by itself."""

    cards: int

    @property
    def name(self) -> str:
        return f"goofspiel:cards={self.cards}"

    def initial(self) -> State:
        return State()

    def player(self, state: State) -> int:
        first, second = map(len, state.played)
        return TERMINAL if second == self.cards - 1 else first - second

    def left(self, state: State, player: int) -> list[int]:
        return [card for card in range(1, self.cards + 1) if card not in state.played[player]]

    def actions(self, state: State) -> tuple[str, ...]:
        return tuple(map(str, self.left(state, self.player(state))))

    def chance(self, state: State) -> list:
        raise AssertionError("there is no chance")

    def next(self, state: State, action: str) -> State:
        first, second = state.played
        return State(((*first, int(action)), second) if self.player(state) == 0 else (first, (*second, int(action))))

    def infoset(self, state: State) -> str:
        player = self.player(state)
        own, other = state.played[player], state.played[1 - player]
        results = ("w" if a > b else "l" if a < b else "t" for a, b in zip(own, other, strict=False))
        return f"{' '.join(map(str, own))}|{''.join(results)}"

    def utility(self, state: State) -> tuple[float, float]:
        hands = [(*state.played[player], *self.left(state, player)) for player in (0, 1)]
        prizes = range(self.cards, 0, -1)
        first = sum(prize for prize, a, b in zip(prizes, *hands, strict=True) if a > b)
        second = sum(prize for prize, a, b in zip(prizes, *hands, strict=True) if b > a)
        won = float(first > second) - float(first < second)
        return won, -won


@pytest.mark.parametrize("cards", [2, 3, 4, 5])
def test_arithmetic_builds_the_game_of_the_rules(cards):
    plain.assert_same_game(goofspiel.game(cards), game_of(Goofspiel(cards)))


def test_the_oracle_pays_by_the_rules():
    """Prizes 4, 3, 2, and 1 for the last card."""
    rules = Goofspiel(4)
    for first, second, won in [
        ((4, 1, 2), (3, 4, 1), 1),  # 4 and 2, and then 3 beats 2; the other wins 3
        ((4, 1, 2), (3, 2, 4), 0),  # 4, and then 3 beats 1; the other wins 3 and 2
        ((1, 2, 3), (2, 3, 4), -1),  # 4, 3 and 2 are lost
        ((4, 3, 2), (4, 3, 2), 0),
        ((1, 2, 3), (1, 3, 2), -1),  # nobody wins 4 or 1, and 2 is less than 3
    ]:
        assert rules.utility(State((first, second))) == (won, -won)


# Infosets and sequences of each player, non-zero payoffs: counted with OpenSpiel.
@pytest.mark.parametrize(("cards", "infosets", "sequences", "entries"), [(4, 81, 175, 464), (5, 1_062, 2_284, 13_120)])
def test_sizes_are_those_of_openspiel(cards, infosets, sequences, entries):
    game = goofspiel.game(cards)
    assert [player.n_infosets for player in game.players] == [infosets, infosets]
    assert [player.n_sequences for player in game.players] == [sequences, sequences]
    assert len(game.payoff.entries().values) == entries


def test_nodes_are_those_of_openspiel():
    """1,077 of them with four cards, 576 of which are the ends of plays: the last card is not a decision."""
    tree = expand(Goofspiel(4))
    assert (len(tree.parent), np.count_nonzero(tree.infoset == TERMINAL)) == (1_077, 576)


@pytest.mark.parametrize("cards", [3, 4, 5])
def test_the_game_is_the_same_for_both_players(cards):
    """The payoff matrix is antisymmetric, and so the value is 0."""
    game = goofspiel.game(cards)
    payoffs = plain.matrix_of(game)
    assert np.abs(payoffs).max() == 1
    np.testing.assert_array_equal(payoffs, -payoffs.T)
    np.testing.assert_allclose(mmd.solve_exactly(game).value, 0.0, atol=1e-12)


@pytest.mark.parametrize(("cards", "expected"), [(3, 2 / 3), (4, 17 / 24)])
def test_uniform_policy_loses_the_known_amount(cards, expected):
    game = goofspiel.game(cards)
    uniform = [np.append(1.0, np.repeat(1 / p.n_actions, p.n_actions)) for p in game.players]
    np.testing.assert_allclose(mmd.certify(game, tuple(uniform)).exploitability, expected, atol=1e-12)


def test_the_builder_walks_no_tree():
    small, large = (plain.python_calls(lambda n=cards: goofspiel.game(n)) for cards in (4, 6))
    assert large < 2 * small  # where the tree is 900 times as large


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("goofspiel:cards=1", "goofspiel: expected 2 to 13 cards, got 1"),
        ("goofspiel:cards=14", "goofspiel: expected 2 to 13 cards, got 14"),
        ("goofspiel:cards=8", "goofspiel:cards=8 has 1.63e+09 payoffs and needs about 204 GiB to build"),
    ],
)
def test_refusals(spec, message, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * memory.GIB)
    with pytest.raises(GameError) as error:
        games.load(spec)
    assert str(error.value).startswith(message)
