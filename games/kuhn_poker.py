"""Kuhn poker (Kuhn 1950): one card each, one bet.

Both players ante 1 and are dealt one card. Player 0 passes or bets 1, then player 1, then player 0 once more if it
passed and was bet at. After a bet, to pass is to fold and to bet is to call; otherwise the higher card wins the pot.
With three cards the value is -1/18.

An infoset is named after the card and the betting so far, as in "K|pb".

Letters: n states, as in `games.frontier`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from games.compile import CHANCE, TERMINAL
from games.frontier import game_of
from mmd.game.game import Game, GameError

RANKS = "A23456789TJQK"  # the ace is low: a deck of three is J, Q, K
ACTIONS = ("pass", "bet")
BETTING = ("", "p", "b", "pb", "pp", "bp", "bb", "pbp", "pbb")
PLAYER = np.array([0, 1, 1, 0, *[TERMINAL] * 5])
NEXT = np.array([[1, 2], [4, 3], [5, 6], [7, 8]])  # from the betting that is not over
FOLDED = np.array([0, 0, 0, 0, 0, 1, 0, -1, 0])  # to whom the pot goes without a showdown: 1 is player 0
STAKE = np.array([1, 1, 1, 1, 1, 1, 2, 1, 2])


def game(cards: int = 3) -> Game:
    """Kuhn poker with a deck of `cards` ranks, the highest of A23456789TJQK.

    Raises:
        GameError: fewer than 2 or more than 13 cards.
    """
    if not 2 <= cards <= len(RANKS):
        raise GameError(f"kuhn_poker: expected 2 to {len(RANKS)} cards, got {cards}")
    return game_of(KuhnPoker(cards))


class States(NamedTuple):
    """The betting, as a number into `BETTING`, and the cards [n, 2], -1 before they are dealt."""

    betting: Int[np.ndarray, " n"]
    cards: Int[np.ndarray, "n 2"]


@dataclass(frozen=True)
class KuhnPoker:
    """The rules, for a deck of `cards` cards; chance moves by dealing player 0's card, then player 1's."""

    cards: int

    @property
    def name(self) -> str:
        """The game's name."""
        return f"kuhn_poker:cards={self.cards}"

    def initial(self) -> States:
        """Nothing dealt."""
        return States(np.zeros(1, np.int64), np.full((1, 2), -1))

    def player(self, states: States) -> Int[np.ndarray, " n"]:
        """Chance deals, then players alternate."""
        return np.where(states.cards[:, 1] < 0, CHANCE, PLAYER[states.betting])

    def legal(self, states: States) -> Bool[np.ndarray, "n M"]:
        """Chance deals any card that player 0 does not hold; players pass or bet."""
        move = np.arange(max(self.cards, len(ACTIONS)))
        deals = (move < self.cards) & (move != states.cards[:, :1])
        return np.where(states.cards[:, 1:] < 0, deals, move < len(ACTIONS))

    def next(self, states: States, moves: Int[np.ndarray, " n"]) -> States:
        """Deal a card or add to the betting."""
        first, second = states.cards.T
        cards = np.where(first < 0, moves, first), np.where((first >= 0) & (second < 0), moves, second)
        bets = NEXT[states.betting, np.minimum(moves, 1)]  # a card may be any number
        return States(np.where(second < 0, 0, bets), np.stack(cards, axis=1))

    def seen(self, states: States) -> Int[np.ndarray, " n"]:
        """The own card and the betting."""
        own = states.cards[np.arange(len(states.cards)), np.maximum(PLAYER[states.betting], 0)]
        return (1 + own) * len(BETTING) + states.betting

    def payoff(self, states: States) -> Float[np.ndarray, " n"]:
        """The ante, and the bet if it was called, from loser to winner."""
        showdown = np.sign(states.cards[:, 0] - states.cards[:, 1])
        folded = FOLDED[states.betting]
        return STAKE[states.betting] * np.where(folded, folded, showdown).astype(np.float64)

    def infoset(self, moves: list[int]) -> str:
        """The own card and the betting."""
        betting = "".join(ACTIONS[move][0] for move in moves[2:])
        return f"{RANKS[-self.cards :][moves[len(betting) % 2]]}|{betting}"

    def action(self, move: int) -> str:
        """Pass or bet."""
        return ACTIONS[move]
