"""Goofspiel: the arithmetic builder against the rules played out, sizes known from OpenSpiel, and its symmetry."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import games
import mmd
from games import goofspiel, memory
from games.compile import CHANCE, TERMINAL
from games.rules import expand, game_of
from mmd.game.game import GameError
from tests.games import plain


class State(NamedTuple):
    """The prizes so far and the cards played by each player, who do not see each other's."""

    prizes: tuple[int, ...] = ()
    played: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True)
class Goofspiel:
    """The rules, turn by turn, up to the last card, which is played by itself."""

    cards: int
    order: str = "descending"

    @property
    def name(self) -> str:
        return f"goofspiel:cards={self.cards},order={self.order}"

    def initial(self) -> State:
        return State()

    def player(self, state: State) -> int:
        first, second = map(len, state.played)
        if second == self.cards - 1:
            return TERMINAL
        return CHANCE if first == second == len(state.prizes) else first - second

    def left(self, cards: tuple[int, ...]) -> list[int]:
        return [card for card in range(1, self.cards + 1) if card not in cards]

    def actions(self, state: State) -> tuple[str, ...]:
        return tuple(map(str, self.left(state.played[self.player(state)])))

    def chance(self, state: State) -> list[tuple[int, float]]:
        left = self.left(state.prizes)
        if self.order == "random":
            return [(prize, 1 / len(left)) for prize in left]
        return [(min(left) if self.order == "ascending" else max(left), 1.0)]

    def next(self, state: State, action: int | str) -> State:
        if isinstance(action, int):
            return state._replace(prizes=(*state.prizes, action))
        first, second = state.played
        played = ((*first, int(action)), second) if self.player(state) == 0 else (first, (*second, int(action)))
        return state._replace(played=played)

    def infoset(self, state: State) -> str:
        player = self.player(state)
        own, other = state.played[player], state.played[1 - player]
        results = ("w" if a > b else "l" if a < b else "t" for a, b in zip(own, other, strict=False))
        prizes = f"{' '.join(map(str, state.prizes))}|" if self.order == "random" else ""
        return f"{prizes}{' '.join(map(str, own))}|{''.join(results)}"

    def utility(self, state: State) -> tuple[float, float]:
        hands = [(*played, *self.left(played)) for played in state.played]
        prizes = (*state.prizes, *self.left(state.prizes))
        first = sum(prize for prize, a, b in zip(prizes, *hands, strict=True) if a > b)
        second = sum(prize for prize, a, b in zip(prizes, *hands, strict=True) if b > a)
        won = float(first > second) - float(first < second)
        return won, -won


BUILT = [(2, "descending"), (4, "descending"), (5, "descending"), (4, "ascending"), (2, "random"), (3, "random")]


@pytest.mark.parametrize(("cards", "order"), BUILT)
def test_arithmetic_builds_the_game_of_the_rules(cards, order):
    plain.assert_same_game(goofspiel.game(cards, order), game_of(Goofspiel(cards, order)))


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
        assert rules.utility(State((4, 3, 2), (first, second))) == (won, -won)
    assert rules.utility(State((1, 2, 3), ((4, 1, 3), (1, 2, 4)))) == (
        -1.0,
        1.0,
    )  # 1 against 2 and 3; 2 beats 1, 3 beats 2


# Infosets and sequences of each player, non-zero payoffs: counted with OpenSpiel.
SIZES = [
    (4, "descending", 81, 175, 464),
    (5, "descending", 1_062, 2_284, 13_120),
    (4, "ascending", 81, 175, 464),
    (5, "ascending", 1_062, 2_284, 13_120),
    (3, "random", 45, 94, 156),
    (4, "random", 1_804, 3_737, 11_136),
]


@pytest.mark.parametrize(("cards", "order", "infosets", "sequences", "entries"), SIZES)
def test_sizes_are_those_of_openspiel(cards, order, infosets, sequences, entries):
    game = goofspiel.game(cards, order)
    assert [player.n_infosets for player in game.players] == [infosets, infosets]
    assert [player.n_sequences for player in game.players] == [sequences, sequences]
    assert len(game.payoff.entries().values) == entries


def test_nodes_are_those_of_openspiel():
    """1,077 with four cards, 576 of which are the ends of plays: the last card is not a decision.

    The rules here let chance bring up the prizes where their order is fixed, too, one node before each round.
    """
    tree = expand(Goofspiel(4))
    nodes = np.count_nonzero(tree.infoset != CHANCE)
    assert (nodes, np.count_nonzero(tree.infoset == TERMINAL)) == (1_077, 576)
    tree = expand(Goofspiel(3, "random"))
    assert (len(tree.parent), np.count_nonzero(tree.infoset == TERMINAL)) == (418, 216)


@pytest.mark.parametrize(
    ("cards", "order"), [(3, "descending"), (4, "descending"), (5, "descending"), (4, "ascending"), (3, "random")]
)
def test_the_game_is_the_same_for_both_players(cards, order):
    """The payoff matrix is antisymmetric, and so the value is 0."""
    game = goofspiel.game(cards, order)
    payoffs = plain.matrix_of(game)
    np.testing.assert_allclose(np.abs(payoffs).max(), 1 / 6 if order == "random" else 1, rtol=1e-12)
    np.testing.assert_array_equal(payoffs, -payoffs.T)
    np.testing.assert_allclose(mmd.solve_exactly(game).value, 0.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cards", "expected"), [(3, 2 / 3), (4, 17 / 24)])
def test_uniform_policy_loses_the_known_amount(cards, expected):
    game = goofspiel.game(cards)
    uniform = [np.append(1.0, np.repeat(1 / p.n_actions, p.n_actions)) for p in game.players]
    np.testing.assert_allclose(mmd.certify(game, tuple(uniform)).exploitability, expected, rtol=0, atol=1e-12)


def test_the_builder_walks_no_tree():
    small, large = (plain.python_calls(lambda n=cards: goofspiel.game(n)) for cards in (4, 6))
    assert large < 2 * small  # where the tree is 900 times as large


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("goofspiel:cards=1", "goofspiel: expected 2 to 13 cards, got 1"),
        ("goofspiel:cards=14", "goofspiel: expected 2 to 13 cards, got 14"),
        ("goofspiel:cards=8", "goofspiel:cards=8,order=descending has 1.63e+09 payoffs and needs about 208 GiB"),
        ("goofspiel:cards=6,order=random", "goofspiel:cards=6,order=random has 3.73e+08 payoffs"),
        ("goofspiel:order=up", "goofspiel: expected order to be one of descending, ascending, random, got 'up'"),
    ],
)
def test_refusals(spec, message, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * memory.GIB)
    with pytest.raises(GameError) as error:
        games.load(spec)
    assert str(error.value).startswith(message)
