"""Kuhn and Leduc poker as readable rules, one state at a time: what the builders of `games` are held to."""

from dataclasses import dataclass
from typing import NamedTuple

from games.compile import CHANCE, TERMINAL

RANKS = "A23456789TJQK"
KUHN_ENDS = ("pp", "pbp", "pbb", "bp", "bb")
KUHN_ACTIONS = {"pass": "p", "bet": "b"}
SUITS = "shdc"
ANTE = 1
RAISES = (2, 4)  # chips, in the first and the second round
LEDUC_ACTIONS = {"fold": "f", "call": "c", "raise": "r"}  # a call that faces no raise is a check


class KuhnState(NamedTuple):
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

    def initial(self) -> KuhnState:
        """Nothing dealt."""
        return KuhnState()

    def player(self, state: KuhnState) -> int:
        """Chance deals, then players alternate."""
        if len(state.cards) < 2:
            return CHANCE
        return TERMINAL if state.bets in KUHN_ENDS else len(state.bets) % 2

    def actions(self, state: KuhnState) -> tuple[str, ...]:
        """Pass and bet, always."""
        return tuple(KUHN_ACTIONS)

    def chance(self, state: KuhnState) -> list[tuple[int, float]]:
        """Any card not dealt yet."""
        left = [card for card in range(self.cards) if card not in state.cards]
        return [(card, 1 / len(left)) for card in left]

    def next(self, state: KuhnState, action: int | str) -> KuhnState:
        """Deal a card or add to the betting."""
        if isinstance(action, str):
            return state._replace(bets=state.bets + KUHN_ACTIONS[action])
        return state._replace(cards=(*state.cards, action))

    def infoset(self, state: KuhnState) -> str:
        """The own card and the betting."""
        return f"{RANKS[-self.cards :][state.cards[len(state.bets) % 2]]}|{state.bets}"

    def utility(self, state: KuhnState) -> tuple[float, float]:
        """The ante, and the bet if it was called, from loser to winner."""
        first_wins = state.cards[0] > state.cards[1]
        if state.bets.endswith("bp"):
            first_wins = state.bets == "bp"
        won = 2.0 if state.bets.endswith("bb") else 1.0
        return (won, -won) if first_wins else (-won, won)


class LeducState(NamedTuple):
    """Cards dealt (player 0's, player 1's, the public one), and the betting of each round, as in ("crc", "c")."""

    cards: tuple[int, ...] = ()
    bets: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class LeducPoker:
    """The rules; card k has rank `k // suits`."""

    ranks: int
    suits: int
    raises: int = 2

    @property
    def name(self) -> str:
        """The game's name."""
        return f"leduc_poker:ranks={self.ranks},suits={self.suits},raises={self.raises}"

    def initial(self) -> LeducState:
        """Nothing dealt."""
        return LeducState()

    def player(self, state: LeducState) -> int:
        """Chance deals before each round; in a round players alternate until a fold or a call that closes it."""
        bets = state.bets[-1]
        if len(state.cards) < 2:
            return CHANCE
        if bets.endswith("f"):
            return TERMINAL
        if len(bets) > 1 and bets.endswith("c"):
            return TERMINAL if len(state.bets) == len(RAISES) else CHANCE
        return len(bets) % 2

    def actions(self, state: LeducState) -> tuple[str, ...]:
        """Call always, fold when facing a raise, raise while fewer than `raises` were made."""
        bets = state.bets[-1]
        fold = ("fold",) if bets.endswith("r") else ()
        again = ("raise",) if bets.count("r") < self.raises else ()
        return (*fold, "call", *again)

    def chance(self, state: LeducState) -> list[tuple[int, float]]:
        """Any card not dealt yet."""
        left = [card for card in range(self.ranks * self.suits) if card not in state.cards]
        return [(card, 1 / len(left)) for card in left]

    def next(self, state: LeducState, action: int | str) -> LeducState:
        """Deal a card (the third one opens the second round) or add to the betting."""
        if isinstance(action, str):
            return state._replace(bets=(*state.bets[:-1], state.bets[-1] + LEDUC_ACTIONS[action]))
        return LeducState((*state.cards, action), state.bets if len(state.cards) < 2 else (*state.bets, ""))

    def infoset(self, state: LeducState) -> str:
        """The own card, the public card and the betting."""
        own = self._card(state.cards[len(state.bets[-1]) % 2])
        public = [self._card(card) for card in state.cards[2:]]
        return "|".join([own, state.bets[0], *public, *state.bets[1:]])

    def utility(self, state: LeducState) -> tuple[float, float]:
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
