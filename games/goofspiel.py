"""Goofspiel (Ross 1971): two hands of the same cards bid for prizes, with imperfect information.

Both players hold the cards 1 to N. The prizes 1 to N come up one by one, in descending, ascending or random order; for
each, both play a card at the same time, and the higher card wins the prize; nobody gets it if the cards are equal.
Neither sees the other's card, only who won. The last card is played by itself. Whoever has won more in the end wins 1.
The rules are those of OpenSpiel's `goofspiel` with imp_info=True and its points_order. The game is the same for both
players, so its value is 0.

Everything is arithmetic. A play is a pair of orders in which the hands are played, and one of the prizes. In
lexicographic order, the first k cards of order i are number i // (N - k)! of all ways to play k cards, so each round
refines the arrays over pairs of beginnings [p, n, n] by repetition, and what a player knows is the prizes so far, a
beginning and the results so far. The opponent's arrays are the transposed ones.

An infoset is named after the own cards and the results so far, w(on), t(ied) or l(ost): "4 2|wt", with the prizes
before them if their order is random: "1 4 3|4 2|wt".

Letters: N cards; n beginnings of k cards, N! / (N - k)!; p beginnings of the prizes, 1 if they are in fixed order; I
infosets.
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
from mmd.game.game import Description, Game, GameError, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.treeplex import Ordering, Treeplex

MAX_CARDS = 13
RESULTS = "ltw"
ORDERS = ("descending", "ascending", "random")


def game(cards: int = 4, order: str = "descending") -> Game:
    """Goofspiel with `cards` cards each, hidden bids, and prizes in descending, ascending or random order.

    Raises:
        GameError: fewer than 2 or more than 13 cards; another order; too large for this machine.
    """
    if not 2 <= cards <= MAX_CARDS:
        raise GameError(f"goofspiel: expected 2 to {MAX_CARDS} cards, got {cards}")
    if order not in ORDERS:
        raise GameError(f"goofspiel: expected order to be one of {', '.join(ORDERS)}, got {order!r}")
    name = f"goofspiel:cards={cards},order={order}"
    check_memory(name, math.factorial(cards) ** (3 if order == "random" else 2))
    prizes = _prizes(cards, order)
    levels, rows, margin = _expand(prizes)
    treeplex, ordering = _treeplex(levels)
    names = _Names(cards, order == "random", tuple(level.known for level in levels), ordering.infosets)
    n = treeplex.n_infosets
    labels = PlayerLabels(LazyLabels(n, names.infoset), LazyLabels(n, names.actions))
    rows = ordering.sequences[rows].astype(np.int32)
    decided = margin != 0
    values = np.sign(margin[decided]) / len(prizes)
    entries = Entries(rows[decided], rows.swapaxes(1, 2)[decided], values)
    description = Description(name=name, payoff_range=2.0, labels=(labels, labels), plays=partial(_plays, prizes))
    return Game.from_entries((treeplex, treeplex), entries, description)


def _plays(prizes: Int[np.ndarray, "p N"]) -> Entries:
    """Every pair of orders is one play for each order of the prizes, which are equally likely."""
    levels, rows, _ = _expand(prizes)
    rows = _treeplex(levels)[1].sequences[rows].astype(np.int32)
    return Entries(rows.reshape(-1), rows.swapaxes(1, 2).reshape(-1), np.full(rows.size, 1 / len(prizes)))


def _prizes(cards: int, order: str) -> Int[np.ndarray, "p N"]:
    """The possible orders of the prizes, lexicographic."""
    ascending = range(1, cards + 1)
    if order == "random":
        return np.array(list(permutations(ascending)))
    return np.array([ascending if order == "ascending" else ascending[::-1]])


def _treeplex(levels: "list[_Level]") -> tuple[Treeplex, Ordering]:
    cards = len(levels) + 1
    parent = np.concatenate([level.parent for level in levels])
    n_actions = np.concatenate([np.full(len(level.parent), cards - k) for k, level in enumerate(levels)])
    return Treeplex.build(parent, n_actions)


class _Level(NamedTuple):
    """The infosets after k rounds, [I_k].

    Attributes:
        parent: parent sequence.
        known: what the player knows: `(prizes * n + beginning) * 3^k + results`, the results as digits of `RESULTS`.
    """

    parent: Int[np.ndarray, " _"]
    known: Int[np.ndarray, " _"]


def _expand(prizes: Int[np.ndarray, "p N"]) -> tuple[list[_Level], Int[np.ndarray, "p n n"], Int[np.ndarray, "p n n"]]:
    """The infosets of each round, and for each play the row's last sequence and the points it won by."""
    cards = prizes.shape[1]
    orders = np.array(list(permutations(range(1, cards + 1))))  # lexicographic
    levels: list[_Level] = []
    results = sequence = margin = np.zeros((1, 1, 1), np.int32)  # [p, n, n], as seen by the player of the rows
    n_sequences = 1
    for k in range(cards - 1):
        left = cards - k
        drawn = left if len(prizes) > 1 else 1
        results, sequence, margin = (np.repeat(array, drawn, axis=0) for array in (results, sequence, margin))
        p, n, _ = results.shape
        knows = np.arange(p * n).reshape(p, n, 1) * 3**k + results
        is_known = np.zeros(p * n * 3**k, bool)
        is_known[knows] = True
        infoset = (np.cumsum(is_known) - 1)[knows]
        parent = np.zeros(np.count_nonzero(is_known), np.int64)
        parent[infoset] = sequence
        levels.append(_Level(parent, np.flatnonzero(is_known)))
        sequence = _refine(n_sequences + left * infoset, left) + np.tile(np.arange(left), n)[:, None]
        n_sequences += left * len(parent)
        won = _compare(orders[:: math.factorial(left - 1), k])
        results = _refine(results, left) * 3 + 1 + won
        margin = _refine(margin, left) + prizes[:: len(prizes) // p, k, None, None] * won
    return levels, sequence, margin + prizes[:, -1, None, None] * _compare(orders[:, -1])


def _refine(pairs: Int[np.ndarray, "p n n"], ways: int) -> Int[np.ndarray, "p m m"]:
    """Arrays over pairs of beginnings, one card later."""
    return np.repeat(np.repeat(pairs, ways, axis=1), ways, axis=2)


def _compare(card: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n n"]:
    """1 where the row's card wins, -1 where the column's does, 0 where they are equal."""
    return np.sign(card[:, None] - card)


@dataclass(frozen=True)
class _Names:
    """The labels, the same for both players.

    Attributes:
        cards: N.
        random: whether the prizes come up in random order.
        known: for each round what the player knows, as in `_Level`.
        order: [I] position in the treeplex -> number of the infoset, counted through the rounds.
    """

    cards: int
    random: bool
    known: tuple[Int[np.ndarray, " _"], ...]
    order: Int[np.ndarray, " I"]

    def infoset(self, j: int) -> str:
        """The own cards and the results so far, after the prizes if they are random."""
        prizes, played, results = self._history(j)
        name = f"{' '.join(map(str, played))}|{results}"
        return f"{' '.join(map(str, prizes))}|{name}" if self.random else name

    def actions(self, j: int) -> tuple[str, ...]:
        """The cards in hand."""
        _, played, _ = self._history(j)
        return tuple(str(card) for card in range(1, self.cards + 1) if card not in played)

    def _history(self, j: int) -> tuple[list[int], list[int], str]:
        """Prizes, own cards and results so far: the digits of what the player knows, last to first."""
        k, place = 0, int(self.order[j])
        while place >= len(self.known[k]):
            place, k = place - len(self.known[k]), k + 1
        beginnings, code = divmod(int(self.known[k][place]), 3**k)
        prizes, beginning = divmod(beginnings, math.perm(self.cards, k))
        results = ""
        for _ in range(k):
            code, result = divmod(code, 3)
            results = RESULTS[result] + results
        return self._cards(prizes, k + 1) if self.random else [], self._cards(beginning, k), results

    def _cards(self, beginning: int, k: int) -> list[int]:
        """The first k cards of an order, by the number of the beginning."""
        choices: list[int] = []
        for left in range(self.cards - k + 1, self.cards + 1):
            beginning, choice = divmod(beginning, left)
            choices.insert(0, choice)
        hand = list(range(1, self.cards + 1))
        return [hand.pop(choice) for choice in choices]
