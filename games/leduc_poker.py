"""Leduc poker (Southey et al. 2005): one private card each, one public card, two rounds of betting.

Both players ante 1 and are dealt one card from `ranks` x `suits`. In each round player 0 acts first; raises are 2 in
the first round and 4 in the second, at most two a round; folding is legal only when facing a raise. After the first
round a public card is dealt. At the end a pair with the public card wins, else the higher rank; equal ranks split the
pot. The rules and the tree (cards with their suits, 9,457 nodes for 3 x 2) are those of OpenSpiel's `leduc_poker`;
its value is -0.0856064240780. How many raises a round allows can be chosen.

An infoset is named after the private card, the betting, the public card and the betting: "Ks|cr", "Ks|crc|Qh|c".

Letters: n states and M moves, as in `games.frontier`; B ways to begin a round of betting.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from games.compile import CHANCE, TERMINAL
from games.frontier import game_of
from games.kuhn_poker import RANKS
from mmd.game.game import Game, GameError

SUITS = "shdc"
ANTE = 1
RAISES = (2, 4)  # chips, in the first and the second round
MAX_RAISES = 10  # a round
ACTIONS = ("fold", "call", "raise")  # a call that faces no raise is a check


def game(ranks: int = 3, suits: int = 2, raises: int = 2) -> Game:
    """Leduc poker with the highest `ranks` of A23456789TJQK in `suits` suits and up to `raises` raises a round.

    Raises:
        GameError: fewer than 2 or more than 13 ranks; fewer than 2 or more than 4 suits; fewer than 1 or more than 10
            raises; too large for this machine.
    """
    if not 2 <= ranks <= len(RANKS):
        raise GameError(f"leduc_poker: expected 2 to {len(RANKS)} ranks, got {ranks}")
    if not 2 <= suits <= len(SUITS):
        raise GameError(f"leduc_poker: expected 2 to {len(SUITS)} suits, got {suits}")
    if not 1 <= raises <= MAX_RAISES:
        raise GameError(f"leduc_poker: expected 1 to {MAX_RAISES} raises a round, got {raises}")
    return game_of(LeducPoker(ranks, suits, raises, _betting(raises)))


class Betting(NamedTuple):
    """All ways to begin a round of betting; number 0 is to have done nothing.

    Attributes:
        text: what was done, a letter an action.
        next: [B, 3] the beginning after each action, -1 where it is not legal.
        n_raises: [B] the raises made.
        player: [B] who acts, the players taking turns.
        is_fold: [B] whether somebody has folded.
        is_over: [B] whether nobody may act any more.
    """

    text: tuple[str, ...]
    next: Int[np.ndarray, "B 3"]
    n_raises: Int[np.ndarray, " B"]
    player: Int[np.ndarray, " B"]
    is_fold: Bool[np.ndarray, " B"]
    is_over: Bool[np.ndarray, " B"]


class States(NamedTuple):
    """What is dealt and done.

    Attributes:
        cards: [n, 3] player 0's, player 1's and the public one, -1 before they are dealt; card k has rank k // suits.
        bets: [n, 2] the betting of each round, as a number of `Betting`.
    """

    cards: Int[np.ndarray, "n 3"]
    bets: Int[np.ndarray, "n 2"]


@dataclass(frozen=True)
class LeducPoker:
    """The rules; chance moves by dealing a card."""

    ranks: int
    suits: int
    raises: int
    betting: Betting

    @property
    def name(self) -> str:
        """The game's name."""
        return f"leduc_poker:ranks={self.ranks},suits={self.suits},raises={self.raises}"

    def initial(self) -> States:
        """Nothing dealt."""
        return States(np.full((1, 3), -1), np.zeros((1, 2), np.int64))

    def player(self, states: States) -> Int[np.ndarray, " n"]:
        """Chance deals before each round; in a round players alternate until a fold or a call that closes it."""
        bets, is_public = self._round(states)
        after = np.where(is_public | self.betting.is_fold[bets], TERMINAL, CHANCE)
        player = np.where(self.betting.is_over[bets], after, self.betting.player[bets])
        return np.where(states.cards[:, 1] < 0, CHANCE, player)

    def legal(self, states: States) -> Bool[np.ndarray, "n M"]:
        """Chance deals any card not dealt yet; call always, fold when facing a raise, raise while the limit allows."""
        n_cards = self.ranks * self.suits
        is_left = np.ones((len(states.cards), n_cards), bool)
        for dealt in states.cards.T:
            is_left &= np.arange(n_cards) != dealt[:, None]
        acts = np.zeros_like(is_left)
        acts[:, : len(ACTIONS)] = self.betting.next[self._round(states)[0]] >= 0
        return np.where((self.player(states) == CHANCE)[:, None], is_left, acts)

    def next(self, states: States, moves: Int[np.ndarray, " n"]) -> States:
        """Deal a card or add to the betting."""
        cards, bets = states.cards.copy(), states.bets.copy()
        is_deal = self.player(states) == CHANCE
        cards[is_deal, np.count_nonzero(cards[is_deal] >= 0, axis=1)] = moves[is_deal]
        current, is_public = self._round(states)
        acts = ~is_deal
        bets[acts, is_public[acts].astype(np.int64)] = self.betting.next[current[acts], moves[acts]]
        return States(cards, bets)

    def seen(self, states: States) -> Int[np.ndarray, " n"]:
        """The own card, the public card and the betting."""
        own = np.where(self.betting.player[self._round(states)[0]] == 0, states.cards[:, 0], states.cards[:, 1])
        n_cards, n_bets = self.ranks * self.suits, len(self.betting.text)
        known = (own + 1) * (n_cards + 1) + states.cards[:, 2] + 1
        return (known * n_bets + states.bets[:, 0]) * n_bets + states.bets[:, 1]

    def payoff(self, states: States) -> Float[np.ndarray, " n"]:
        """What the loser has put into the pot; a folder has not paid the last raise."""
        last, is_public = self._round(states)
        is_fold, chips = self.betting.is_fold[last], np.array(RAISES)
        paid = (
            ANTE + self.betting.n_raises[states.bets] @ chips - np.where(is_fold, chips[is_public.astype(np.int64)], 0)
        )
        first, second, public = (states.cards // self.suits).T
        # A pair beats every rank; the player whose turn it would be is the one who did not fold.
        first, second = (np.where(rank == public, self.ranks, rank) for rank in (first, second))
        won = np.where(is_fold, 1 - 2 * self.betting.player[last], np.sign(first - second))
        return (paid * won).astype(np.float64)

    def infoset(self, moves: list[int]) -> str:
        """The own card, the public card and the betting."""
        parts, current = [""], 0
        for move in moves[2:]:
            if self.betting.is_over[current]:
                parts, current = [*parts, self._card(move), ""], 0
            else:
                current = int(self.betting.next[current, move])
                parts[-1] = self.betting.text[current]
        return "|".join([self._card(moves[len(parts[-1]) % 2]), *parts])

    def action(self, move: int) -> str:
        """Fold, call or raise."""
        return ACTIONS[move]

    def _round(self, states: States) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The betting of the current round, and whether it is the second."""
        is_public = states.cards[:, 2] >= 0
        return np.where(is_public, states.bets[:, 1], states.bets[:, 0]), is_public

    def _card(self, card: int) -> str:
        return RANKS[-self.ranks :][card // self.suits] + SUITS[card % self.suits]


def _betting(raises: int) -> Betting:
    """Call always (it closes the round unless it opens it), fold when facing a raise, at most so many raises."""
    text, after = [""], []
    for done in text:  # which grows
        is_open = not done.endswith("f") and not (len(done) > 1 and done.endswith("c"))
        legal = (is_open and done.endswith("r"), is_open, is_open and done.count("r") < raises)
        after.append([len(text) + sum(legal[:i]) if legal[i] else -1 for i in range(len(ACTIONS))])
        text += [done + ACTIONS[i][0] for i in range(len(ACTIONS)) if legal[i]]
    return Betting(
        text=tuple(text),
        next=np.array(after),
        n_raises=np.array([done.count("r") for done in text]),
        player=np.array([len(done) % 2 for done in text]),
        is_fold=np.array([done.endswith("f") for done in text]),
        is_over=np.array([max(moves) < 0 for moves in after]),
    )
