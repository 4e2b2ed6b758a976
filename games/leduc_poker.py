"""Leduc poker (Southey et al. 2005): one private card each, one public card, two rounds of betting.

Both players ante 1 and are dealt one card from `ranks` x `suits`. In each round player 0 acts first; raises are 2 in
the first round and 4 in the second, at most two a round; folding is legal only when facing a raise. After the first
round a public card is dealt. At the end a pair with the public card wins, else the higher rank; equal ranks split the
pot. The rules and the tree (cards with their suits, 9,457 nodes for 3 x 2) are those of OpenSpiel's `leduc_poker`;
its value is -0.0856064240780.

An infoset is named after the private card, the betting, the public card and the betting: "Ks|cr", "Ks|crc|Qh|c".
"""

from dataclasses import dataclass
from typing import NamedTuple

from games.compile import CHANCE, TERMINAL
from games.kuhn_poker import RANKS
from games.rules import game_of
from mmd.game import Game, GameError

SUITS = "shdc"
ANTE = 1
RAISES = (2, 4)  # chips, in the first and the second round
MAX_RAISES = 2  # a round
ACTIONS = {"fold": "f", "call": "c", "raise": "r"}  # a call that faces no raise is a check


def game(ranks: int = 3, suits: int = 2) -> Game:
    """Leduc poker with the highest `ranks` of A23456789TJQK in `suits` suits.

    Raises:
        GameError: fewer than 2 or more than 13 ranks; fewer than 2 or more than 4 suits.
    """
    if not 2 <= ranks <= len(RANKS):
        raise GameError(f"leduc_poker: expected 2 to {len(RANKS)} ranks, got {ranks}")
    if not 2 <= suits <= len(SUITS):
        raise GameError(f"leduc_poker: expected 2 to {len(SUITS)} suits, got {suits}")
    return game_of(LeducPoker(ranks, suits))


class State(NamedTuple):
    """Cards dealt (player 0's, player 1's, the public one), and the betting of each round, as in ("crc", "c")."""

    cards: tuple[int, ...] = ()
    bets: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class LeducPoker:
    """The rules; card k has rank `k // suits`."""

    ranks: int
    suits: int

    @property
    def name(self) -> str:
        """The game's name."""
        return f"leduc_poker:ranks={self.ranks},suits={self.suits}"

    def initial(self) -> State:
        """Nothing dealt."""
        return State()

    def player(self, state: State) -> int:
        """Chance deals before each round; in a round players alternate until a fold or a call that closes it."""
        bets = state.bets[-1]
        if len(state.cards) < 2:
            return CHANCE
        if bets.endswith("f"):
            return TERMINAL
        if len(bets) > 1 and bets.endswith("c"):
            return TERMINAL if len(state.bets) == len(RAISES) else CHANCE
        return len(bets) % 2

    def actions(self, state: State) -> tuple[str, ...]:
        """Call always, fold when facing a raise, raise while fewer than two were made."""
        bets = state.bets[-1]
        fold = ("fold",) if bets.endswith("r") else ()
        again = ("raise",) if bets.count("r") < MAX_RAISES else ()
        return (*fold, "call", *again)

    def chance(self, state: State) -> list[tuple[int, float]]:
        """Any card not dealt yet."""
        left = [card for card in range(self.ranks * self.suits) if card not in state.cards]
        return [(card, 1 / len(left)) for card in left]

    def next(self, state: State, action: int | str) -> State:
        """Deal a card (the third one opens the second round) or add to the betting."""
        if isinstance(action, str):
            return state._replace(bets=(*state.bets[:-1], state.bets[-1] + ACTIONS[action]))
        return State((*state.cards, action), state.bets if len(state.cards) < 2 else (*state.bets, ""))

    def infoset(self, state: State) -> str:
        """The own card, the public card and the betting."""
        own = self._card(state.cards[len(state.bets[-1]) % 2])
        public = [self._card(card) for card in state.cards[2:]]
        return "|".join([own, state.bets[0], *public, *state.bets[1:]])

    def utility(self, state: State) -> tuple[float, float]:
        """What the loser has put into the pot; a folder has not paid the last raise."""
        last = state.bets[-1]
        paid = ANTE + sum(RAISES[i] * bets.count("r") for i, bets in enumerate(state.bets))
        if last.endswith("f"):
            paid -= RAISES[len(state.bets) - 1]
            sign = 1 if len(last) % 2 == 0 else -1  # players alternate, so player 1 makes the even moves
        else:
            first, second = (self._strength(card, state.cards[2]) for card in state.cards[:2])
            sign = (first > second) - (first < second)
        return float(sign * paid), float(-sign * paid)

    def _card(self, card: int) -> str:
        return RANKS[-self.ranks :][card // self.suits] + SUITS[card % self.suits]

    def _strength(self, card: int, public: int) -> tuple[bool, int]:
        return card // self.suits == public // self.suits, card // self.suits
