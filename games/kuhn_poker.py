"""Kuhn poker (Kuhn 1950): one card each, one bet.

Both players ante 1 and are dealt one card. Player 0 passes or bets 1, then player 1, then player 0 once more if it
passed and was bet at. After a bet, to pass is to fold and to bet is to call; otherwise the higher card wins the pot.
With three cards the value is -1/18.

An infoset is named after the card and the betting so far, as in "K|pb".
"""

from dataclasses import dataclass
from typing import NamedTuple

from games.compile import CHANCE, TERMINAL
from games.rules import game_of
from mmd.game import Game, GameError

RANKS = "A23456789TJQK"  # the ace is low: a deck of three is J, Q, K
ENDS = ("pp", "pbp", "pbb", "bp", "bb")
ACTIONS = {"pass": "p", "bet": "b"}


def game(cards: int = 3) -> Game:
    """Kuhn poker with a deck of `cards` ranks, the highest of A23456789TJQK.

    Raises:
        GameError: fewer than 2 or more than 13 cards.
    """
    if not 2 <= cards <= len(RANKS):
        raise GameError(f"kuhn_poker: expected 2 to {len(RANKS)} cards, got {cards}")
    return game_of(KuhnPoker(cards))


class State(NamedTuple):
    """Cards dealt so far (player 0's first) and the betting, as in "pb"."""

    cards: tuple[int, ...] = ()
    bets: str = ""


@dataclass(frozen=True)
class KuhnPoker:
    """The rules, for a deck of `cards` cards."""

    cards: int

    @property
    def name(self) -> str:
        """The game's name."""
        return f"kuhn_poker:cards={self.cards}"

    def initial(self) -> State:
        """Nothing dealt."""
        return State()

    def player(self, state: State) -> int:
        """Chance deals, then players alternate."""
        if len(state.cards) < 2:
            return CHANCE
        return TERMINAL if state.bets in ENDS else len(state.bets) % 2

    def actions(self, state: State) -> tuple[str, ...]:
        """Pass and bet, always."""
        return tuple(ACTIONS)

    def chance(self, state: State) -> list[tuple[int, float]]:
        """Any card not dealt yet."""
        left = [card for card in range(self.cards) if card not in state.cards]
        return [(card, 1 / len(left)) for card in left]

    def next(self, state: State, action: int | str) -> State:
        """Deal a card or add to the betting."""
        if isinstance(action, str):
            return state._replace(bets=state.bets + ACTIONS[action])
        return state._replace(cards=(*state.cards, action))

    def infoset(self, state: State) -> str:
        """The own card and the betting."""
        return f"{RANKS[-self.cards :][state.cards[len(state.bets) % 2]]}|{state.bets}"

    def utility(self, state: State) -> tuple[float, float]:
        """The ante, and the bet if it was called, from loser to winner."""
        first_wins = state.cards[0] > state.cards[1]
        if state.bets.endswith("bp"):
            first_wins = state.bets == "bp"
        won = 2.0 if state.bets.endswith("bb") else 1.0
        return (won, -won) if first_wins else (-won, won)
