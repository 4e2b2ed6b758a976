"""Goofspiel (Ross 1971): two hands of the same cards bid for prizes, with imperfect information.

Both players hold the cards 1 to N. The prizes N, N - 1, ..., 1 come up in this order; for each, both play a card at
the same time, and the higher card wins the prize; nobody gets it if the cards are equal. Neither sees the other's
card, only who won. The last card is played by itself. Whoever has won more in the end wins 1. The rules are those of
OpenSpiel's `goofspiel` with imp_info=True and points_order=descending. The game is the same for both players, so its
value is 0.

Everything is arithmetic. A play is a pair of orders in which the hands are played. In lexicographic order, the first k
cards of order i are number i // (N - k)! of all ways to play k cards, so each round refines the arrays over pairs of
beginnings [n, n] by repetition, and what a player knows is a beginning and the results so far. The opponent's
arrays are the transposed ones.

An infoset is named after the own cards and the results so far, w(on), t(ied) or l(ost): "4 2|wt".

Letters: N cards; n beginnings of k cards, N! / (N - k)!; I infosets.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from games.labels import LazyLabels
from games.memory import check_memory
from mmd.game import Description, Entries, Game, GameError, PlayerLabels
from mmd.treeplex import Ordering, Treeplex

MAX_CARDS = 13
RESULTS = "ltw"


def game(cards: int = 4) -> Game:
    """Goofspiel with `cards` cards each, hidden bids and prizes in descending order.

    Raises:
        GameError: fewer than 2 or more than 13 cards; too large for this machine.
    """
    if not 2 <= cards <= MAX_CARDS:
        raise GameError(f"goofspiel: expected 2 to {MAX_CARDS} cards, got {cards}")
    name = f"goofspiel:cards={cards}"
    check_memory(name, math.factorial(cards) ** 2)
    levels, rows, margin = _expand(cards)
    treeplex, ordering = _treeplex(levels)
    names = _Names(cards, tuple(level.known for level in levels), ordering.infosets)
    n = treeplex.n_infosets
    labels = PlayerLabels(LazyLabels(n, names.infoset), LazyLabels(n, names.actions))
    rows = ordering.sequences[rows].astype(np.int32)
    decided = margin != 0
    entries = Entries(rows[decided], rows.T[decided], np.sign(margin[decided]).astype(np.float64))
    description = Description(name=name, payoff_range=2.0, labels=(labels, labels), plays=partial(_plays, cards))
    return Game.from_entries((treeplex, treeplex), entries, description)


def _plays(cards: int) -> Entries:
    """Every pair of orders is one play, and there is no chance."""
    levels, rows, _ = _expand(cards)
    rows = _treeplex(levels)[1].sequences[rows].astype(np.int32)
    return Entries(rows.reshape(-1), rows.T.reshape(-1), np.ones(rows.size))


def _treeplex(levels: "list[_Level]") -> tuple[Treeplex, Ordering]:
    cards = len(levels) + 1
    parent = np.concatenate([level.parent for level in levels])
    n_actions = np.concatenate([np.full(len(level.parent), cards - k) for k, level in enumerate(levels)])
    return Treeplex.build(parent, n_actions)


class _Level(NamedTuple):
    """The infosets after k rounds, [I_k].

    Attributes:
        parent: parent sequence.
        known: what the player knows: `beginning * 3^k + results`, the results as digits of `RESULTS`.
    """

    parent: Int[np.ndarray, " _"]
    known: Int[np.ndarray, " _"]


def _expand(cards: int) -> tuple[list[_Level], Int[np.ndarray, "n n"], Int[np.ndarray, "n n"]]:
    """The infosets of each round, and for each pair of orders the row's last sequence and the points it won by."""
    orders = np.array(list(permutations(range(1, cards + 1))))  # lexicographic
    levels: list[_Level] = []
    results = sequence = margin = np.zeros((1, 1), np.int32)  # [n, n], as seen by the player of the rows
    n_sequences = 1
    for k in range(cards - 1):
        left = cards - k
        knows = np.arange(len(results))[:, None] * 3**k + results
        is_known = np.zeros(len(results) * 3**k, bool)
        is_known[knows] = True
        infoset = (np.cumsum(is_known) - 1)[knows]
        parent = np.zeros(np.count_nonzero(is_known), np.int64)
        parent[infoset] = sequence
        levels.append(_Level(parent, np.flatnonzero(is_known)))
        sequence = _refine(n_sequences + left * infoset, left) + np.tile(np.arange(left), len(infoset))[:, None]
        n_sequences += left * len(parent)
        won = _compare(orders[:: math.factorial(left - 1), k])
        results = _refine(results, left) * 3 + 1 + won
        margin = _refine(margin, left) + left * won
    return levels, sequence, margin + _compare(orders[:, -1])  # the last prize is 1


def _refine(pairs: Int[np.ndarray, "n n"], ways: int) -> Int[np.ndarray, "m m"]:
    """Arrays over pairs of beginnings, one card later."""
    return np.repeat(np.repeat(pairs, ways, axis=0), ways, axis=1)


def _compare(card: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n n"]:
    """1 where the row's card wins, -1 where the column's does, 0 where they are equal."""
    return np.sign(card[:, None] - card)


@dataclass(frozen=True)
class _Names:
    """The labels, the same for both players.

    Attributes:
        cards: N.
        known: for each round what the player knows, as in `_Level`.
        order: [I] position in the treeplex -> number of the infoset, counted through the rounds.
    """

    cards: int
    known: tuple[Int[np.ndarray, " _"], ...]
    order: Int[np.ndarray, " I"]

    def infoset(self, j: int) -> str:
        """The own cards and the results so far."""
        played, results = self._history(j)
        return f"{' '.join(map(str, played))}|{results}"

    def actions(self, j: int) -> tuple[str, ...]:
        """The cards in hand."""
        played, _ = self._history(j)
        return tuple(str(card) for card in range(1, self.cards + 1) if card not in played)

    def _history(self, j: int) -> tuple[list[int], str]:
        """The own cards and the results so far: the digits of what the player knows, last to first."""
        k, place = 0, int(self.order[j])
        while place >= len(self.known[k]):
            place, k = place - len(self.known[k]), k + 1
        beginning, code = divmod(int(self.known[k][place]), 3**k)
        choices, results = [], ""
        for left in range(self.cards - k + 1, self.cards + 1):
            beginning, choice = divmod(beginning, left)
            choices.insert(0, choice)
            code, result = divmod(code, 3)
            results = RESULTS[result] + results
        hand = list(range(1, self.cards + 1))
        return [hand.pop(choice) for choice in choices], results
