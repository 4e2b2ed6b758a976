"""Liar's dice: the arithmetic builder against the rules played out, and sizes and values known from OpenSpiel."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import games
import mmd
from games import liars_dice, memory
from games.compile import CHANCE, TERMINAL
from games.rules import game_of
from mmd.game.game import GameError
from tests.games import plain


class State(NamedTuple):
    """All dice rolled so far, player 0's first, and the moves."""

    rolls: tuple[int, ...] = ()
    moves: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiarsDice:
    """The rules, dice rolled one by one."""

    faces: int
    dice: int = 1

    @property
    def name(self) -> str:
        return f"liars_dice:faces={self.faces},dice={self.dice}"

    @property
    def bids(self) -> list[str]:
        return [f"{n}x{face}" for n in range(1, 2 * self.dice + 1) for face in range(1, self.faces + 1)]

    def initial(self) -> State:
        return State()

    def player(self, state: State) -> int:
        if len(state.rolls) < 2 * self.dice:
            return CHANCE
        return TERMINAL if "liar" in state.moves else len(state.moves) % 2

    def actions(self, state: State) -> tuple[str, ...]:
        if not state.moves:
            return tuple(self.bids)
        return (*self.bids[self.bids.index(state.moves[-1]) + 1 :], "liar")

    def chance(self, state: State) -> list[tuple[int, float]]:
        return [(face, 1 / self.faces) for face in range(1, self.faces + 1)]

    def next(self, state: State, action: int | str) -> State:
        if isinstance(action, str):
            return state._replace(moves=(*state.moves, action))
        return state._replace(rolls=(*state.rolls, action))

    def infoset(self, state: State) -> str:
        player = len(state.moves) % 2
        own = sorted(state.rolls[player * self.dice : (player + 1) * self.dice])
        return f"{' '.join(map(str, own))}|{' '.join(state.moves)}"

    def utility(self, state: State) -> tuple[float, float]:
        quantity, face = map(int, state.moves[-2].split("x"))
        is_true = sum(roll in (face, self.faces) for roll in state.rolls) >= quantity
        bidder = len(state.moves) % 2  # the bids of player 0 have even places, so its last is followed by an odd one
        return (1.0, -1.0) if is_true == (bidder == 0) else (-1.0, 1.0)


@pytest.mark.parametrize(("faces", "dice"), [(2, 1), (3, 1), (4, 1), (2, 2)])
def test_arithmetic_builds_the_game_of_the_rules(faces, dice):
    plain.assert_same_game(liars_dice.game(faces, dice), game_of(LiarsDice(faces, dice)))


def test_the_oracle_pays_by_the_rules():
    """Six-faced dice 2 and 6: the six is wild, so there are two twos, one six and two of nothing else."""
    rules = LiarsDice(6)
    for first, second, moves, won in [
        (2, 6, "2x2 liar", 1),
        (6, 2, "2x2 liar", 1),
        (2, 6, "2x3 liar", -1),
        (2, 6, "1x6 liar", 1),
        (2, 6, "2x6 liar", -1),
        (2, 6, "1x1 2x2 liar", -1),
        (2, 6, "1x1 2x6 liar", 1),
        (6, 6, "1x3 1x5 2x6 liar", 1),
        (3, 3, "2x3 2x4 liar", 1),
    ]:
        assert rules.utility(State((first, second), tuple(moves.split()))) == (won, -won)


# Infosets and sequences of each player, non-zero payoffs: counted with OpenSpiel.
@pytest.mark.parametrize(
    ("faces", "infosets", "sequences", "entries"),
    [(4, 512, 1_021, 4_080), (5, 2_560, 5_116, 25_575), (6, 12_288, 24_571, 147_420)],
)
def test_sizes_are_those_of_openspiel(faces, infosets, sequences, entries):
    game = liars_dice.game(faces)
    assert [player.n_infosets for player in game.players] == [infosets, infosets]
    assert [player.n_sequences for player in game.players] == [sequences, sequences]
    assert len(game.payoff.entries().values) == entries


@pytest.mark.parametrize(
    ("faces", "value"),
    [(3, 1 / 9), (4, 1 / 16), (5, 0.008), (6, -0.0271317829457)],
)
def test_values(faces, value):
    np.testing.assert_allclose(mmd.solve_exactly(liars_dice.game(faces)).value, value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("faces", "expected"), [(3, 5 / 9), (4, 0.655060), (5, 0.720871), (6, 0.780744)])
def test_uniform_policy_loses_the_known_amount(faces, expected):
    game = liars_dice.game(faces)
    uniform = [np.append(1.0, np.repeat(1 / p.n_actions, p.n_actions)) for p in game.players]
    np.testing.assert_allclose(mmd.certify(game, tuple(uniform)).exploitability, expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize(("faces", "dice"), [(6, 1), (3, 2), (2, 3)])
def test_every_set_of_bids_ends_one_play_for_each_deal(faces, dice):
    """So the stakes at each set of bids sum to the probability of all deals, and no two sets share a sequence."""
    game = liars_dice.game(faces, dice)
    entries = game.payoff.entries()
    n_hands = math.comb(faces + dice - 1, dice)
    n_sets = 2 ** (2 * dice * faces) - 1
    assert len(entries.values) == n_sets * n_hands**2
    np.testing.assert_allclose(np.abs(entries.values).sum(), n_sets, rtol=1e-12)
    for at in (entries.rows, entries.columns):
        stakes = np.bincount(at, np.abs(entries.values))
        assert (np.bincount(at)[1:] == n_hands).all()
        np.testing.assert_allclose(stakes[1:].min(), faces**-dice, rtol=1e-12)  # all dice alike
    assert entries.values.max() == -entries.values.min()


def test_the_builder_walks_no_tree():
    small, large = (plain.python_calls(lambda n=faces: liars_dice.game(n)) for faces in (4, 7))
    assert large < 2 * small  # where the tree is 200 times as large


REFUSALS = [
    ("liars_dice:faces=1", "liars_dice: expected 2 to 20 faces, got 1"),
    ("liars_dice:faces=21", "liars_dice: expected 2 to 20 faces, got 21"),
    ("liars_dice:dice=0", "liars_dice: expected 1 to 5 dice for each player, got 0"),
    ("liars_dice:faces=2,dice=6", "liars_dice: expected 1 to 5 dice for each player, got 6"),
    (
        "liars_dice:faces=12",
        "liars_dice:faces=12,dice=1 has 2.42e+09 payoffs and needs about 307 GiB to build and solve",
    ),
    ("liars_dice:faces=20,dice=5", "liars_dice:faces=20,dice=5 has 2.9e+69 payoffs"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSALS)
def test_refusals(spec, message, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * memory.GIB)
    with pytest.raises(GameError) as error:
        games.load(spec)
    assert str(error.value).startswith(message)
