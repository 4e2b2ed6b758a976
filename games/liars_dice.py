"""Liar's dice: each player rolls in secret, and they outbid each other until one calls the other a liar.

A bid `3x4` says that at least three dice of both players together show a four. Player 0 bids first; every bid is
higher than the last, by quantity or else by face. The highest face is wild: it counts as any face. The call `liar`
ends the game: the bidder wins 1 if the bid is true, else the caller does. The rules are those of OpenSpiel's
`liars_dice`; with one die each and 3, 4, 5, 6 faces the values are 1/9, 1/16, 0.008, -0.0271317829457.

Everything is arithmetic. As bids only rise, the bids so far are a set, a number m of as many bits as there are bids.
Every m except 0 ends one play for each deal, and the last own sequences of that play belong to m and the own hand
alone: the caller's, to call after m, and the bidder's, to bid the highest bit of m. So a player has one sequence for
each non-empty m and hand, and the payoff matrix, sorted by m, is block diagonal with blocks of hands by hands.

An infoset is named after the own dice and the bids so far: "2 6|1x3 2x3".

Letters: B bids; M = 2^B sets of bids; H hands; I infosets.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from games.labels import LazyLabels
from games.memory import check_memory
from mmd.game.game import Description, Game, GameError, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

MAX_FACES = 20
MAX_DICE = 5
KEPT_PLAYS = 2**20  # plays of a game that keeps how likely each is; of a larger one that is worked out when asked for


def game(faces: int = 6, dice: int = 1) -> Game:
    """Liar's dice with `dice` dice of `faces` faces for each player; the highest face is wild.

    Raises:
        GameError: fewer than 2 or more than 20 faces; fewer than 1 or more than 5 dice; too large for this machine.
    """
    if not 2 <= faces <= MAX_FACES:
        raise GameError(f"liars_dice: expected 2 to {MAX_FACES} faces, got {faces}")
    if not 1 <= dice <= MAX_DICE:
        raise GameError(f"liars_dice: expected 1 to {MAX_DICE} dice for each player, got {dice}")
    rules = _Rules(faces, dice)
    name = f"liars_dice:faces={faces},dice={dice}"
    n_hands = math.comb(faces + dice - 1, dice)
    check_memory(name, (2**rules.n_bids - 1) * n_hands**2)
    (row, column), entries = _sequence_form(rules)
    labels = (row.labels, column.labels)
    kept = len(entries.values) <= KEPT_PLAYS
    plays = partial(_likely, entries) if kept else partial(_plays, rules)
    description = Description(name=name, payoff_range=2.0, labels=labels, plays=plays)
    return Game.from_entries((row.treeplex, column.treeplex), entries, description)


class _Rules(NamedTuple):
    faces: int
    dice: int

    @property
    def n_bids(self) -> int:
        """B."""
        return 2 * self.dice * self.faces

    def bid(self, number: int) -> str:
        """The name of a bid."""
        return f"{number // self.faces + 1}x{number % self.faces + 1}"


def _sequence_form(rules: "_Rules") -> tuple[tuple["_Side", "_Side"], Entries]:
    """Both players, and the payoffs; every play has a pair of last sequences to itself."""
    hands = np.array(list(combinations_with_replacement(range(1, rules.faces + 1), rules.dice)))
    sides = (_side(rules, 0, hands), _side(rules, 1, hands))
    made = np.arange(1, 2**rules.n_bids)
    # [M - 1, H, H]; the last bidder is player 0 after an odd number of bids.
    values = _payoffs(rules, hands)[np.bitwise_count(made) % 2, _bit_length(made) - 1]
    shape = values.shape
    rows = np.broadcast_to(sides[0].sequence[1:, :, None], shape).reshape(-1)
    columns = np.broadcast_to(sides[1].sequence[1:, None, :], shape).reshape(-1)
    return sides, Entries(rows, columns, values.reshape(-1))


def _plays(rules: "_Rules") -> Entries:
    """How likely each play is made by chance."""
    return _likely(_sequence_form(rules)[1])


def _likely(entries: Entries) -> Entries:
    """The same of the payoffs: somebody wins 1."""
    return entries._replace(values=np.abs(entries.values))


class _Side(NamedTuple):
    """One player: its treeplex, its last sequence [M, H] once the play is over, and its labels."""

    treeplex: Treeplex
    sequence: Int[np.ndarray, "M H"]
    labels: PlayerLabels


@dataclass(frozen=True)
class _Names:
    """The labels of one player.

    Attributes:
        rules: faces and dice.
        hands: [H, dice] the dice of each hand.
        made: [I / H] the sets of bids after which the player moves.
        order: [I] position in the treeplex -> place in `made` x `hands`.
    """

    rules: _Rules
    hands: Int[np.ndarray, "H dice"]
    made: Int[np.ndarray, " _"]
    order: Int[np.ndarray, " I"]

    def infoset(self, j: int) -> str:
        """The own dice and the bids so far."""
        place, hand = divmod(int(self.order[j]), len(self.hands))
        made = int(self.made[place])
        bids = [self.rules.bid(b) for b in range(made.bit_length()) if made >> b & 1]
        return f"{' '.join(map(str, self.hands[hand]))}|{' '.join(bids)}"

    def actions(self, j: int) -> tuple[str, ...]:
        """All higher bids and, if there is a bid, the call."""
        made = int(self.made[self.order[j] // len(self.hands)])
        bids = tuple(self.rules.bid(b) for b in range(made.bit_length(), self.rules.n_bids))
        return (*bids, "liar") if made else bids


def _side(rules: _Rules, player: int, hands: Int[np.ndarray, "H dice"]) -> _Side:
    """A player's sequences, first numbered by set of bids and hand, then in treeplex order."""
    made = np.arange(2**rules.n_bids)
    used = _bit_length(made)  # how many bids are no longer open
    before = made - (1 << used >> 1)  # without the last bid
    to_move = np.bitwise_count(made) % 2 == player
    own, bid = np.flatnonzero(to_move), np.flatnonzero(~to_move)  # in the latter the player has just bid
    n_actions = np.repeat(rules.n_bids - used[own] + (own > 0), len(hands))
    first = np.zeros((len(made), len(hands)), np.int64)
    first[own] = (1 + np.cumsum(n_actions) - n_actions).reshape(-1, len(hands))
    sequence = np.zeros_like(first)
    sequence[own] = first[own] + (rules.n_bids - used[own])[:, None]  # the call comes after the bids
    sequence[bid] = first[before[bid]] + (used[bid] - 1 - used[before[bid]])[:, None]
    sequence[0] = 0  # the empty sequence: nothing was bid, so nothing can be called
    treeplex, ordering = Treeplex.build(sequence[before[own]].reshape(-1), n_actions)
    names = _Names(rules, hands, own, ordering.infosets)
    labels = PlayerLabels(LazyLabels(len(n_actions), names.infoset), LazyLabels(len(n_actions), names.actions))
    return _Side(treeplex, ordering.sequences[sequence].astype(np.int32), labels)


def _payoffs(rules: _Rules, hands: Int[np.ndarray, "H dice"]) -> Float[np.ndarray, "2 B H H"]:
    """What player 0 wins times the probability of the deal, by last bidder (player 1, player 0), last bid and hands."""
    quantity, face = np.divmod(np.arange(rules.n_bids)[:, None, None], rules.faces)  # counted from 0
    matches = np.count_nonzero((hands == face + 1) | (hands == rules.faces), axis=-1)  # [B, H]
    true = matches[:, :, None] + matches[:, None, :] > quantity
    rolls = [math.factorial(rules.dice) / math.prod(math.factorial(n) for n in np.bincount(hand)) for hand in hands]
    probability = np.array(rolls) / rules.faces**rules.dice
    bidder_wins = np.where(true, 1.0, -1.0) * probability[:, None] * probability
    return np.stack([-bidder_wins, bidder_wins])


def _bit_length(numbers: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
