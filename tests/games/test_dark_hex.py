"""Dark hex: the builder against the rules played out, and sizes and values known from OpenSpiel."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

import games
import mmd
from games import dark_hex, frontier
from games.compile import TERMINAL
from games.rules import expand, game_of
from mmd.game.game import GameError
from tests.games import plain

Cell = tuple[int, int]
TOUCHING = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))


@dataclass(frozen=True)
class DarkHex:
    """The rules; a state is all tries so far, each with its player and whether it succeeded."""

    rows: int
    columns: int
    rules: str

    @property
    def name(self) -> str:
        return f"dark_hex:rows={self.rows},columns={self.columns},rules={self.rules}"

    def initial(self) -> tuple:
        return ()

    def stones(self, state: tuple, player: int) -> set[Cell]:
        return {cell for who, cell, succeeded in state if who == player and succeeded}

    def wins(self, state: tuple, player: int) -> bool:
        """Whether a walk over the player's stones leads from its first edge to its last."""
        stones, axis = self.stones(state, player), player
        last = (self.rows, self.columns)[axis] - 1
        reached = pending = {cell for cell in stones if cell[axis] == 0}
        while pending:
            pending = {(r + dr, c + dc) for r, c in pending for dr, dc in TOUCHING} & stones - reached
            reached = reached | pending
        return any(cell[axis] == last for cell in reached)

    def player(self, state: tuple) -> int:
        if not state:
            return 0
        who, _, succeeded = state[-1]
        if self.wins(state, who):
            return TERMINAL
        return who if self.rules == "classical" and not succeeded else 1 - who

    def cells(self, state: tuple) -> dict[str, Cell]:
        tried = {cell for who, cell, _ in state if who == self.player(state)}
        board = itertools.product(range(self.rows), range(self.columns))
        return {f"{'abc'[c]}{r + 1}": (r, c) for r, c in board if (r, c) not in tried}

    def actions(self, state: tuple) -> tuple[str, ...]:
        return tuple(self.cells(state))

    def chance(self, state: tuple) -> list:
        raise AssertionError("there is no chance")

    def next(self, state: tuple, action: str) -> tuple:
        player, cell = self.player(state), self.cells(state)[action]
        return (*state, (player, cell, cell not in self.stones(state, 1 - player)))

    def infoset(self, state: tuple) -> str:
        player = self.player(state)
        told = [f"{'abc'[c]}{r + 1}{'' if won else 'x'}" if who == player else "?" for who, (r, c), won in state]
        return " ".join([("black:", "white:")[player], *told])

    def utility(self, state: tuple) -> tuple[float, float]:
        return (1.0, -1.0) if self.wins(state, 0) else (-1.0, 1.0)


@pytest.mark.parametrize("rules", ["abrupt", "classical"])
def test_arrays_build_the_game_of_the_rules(rules):
    plain.assert_same_game(dark_hex.game(2, 2, rules), game_of(DarkHex(2, 2, rules)))


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2)])
def test_connected_edges_are_those_of_a_walk(rows, columns):
    """Of every set of stones, for both players: it matters whose the edges are, and which cells touch."""
    board, rules = list(itertools.product(range(rows), range(columns))), DarkHex(rows, columns, "abrupt")
    for player in (0, 1):
        connects = dark_hex.connects(rows, columns, player)
        for stones, expected in enumerate(connects):
            state = tuple((player, cell, True) for c, cell in enumerate(board) if stones >> c & 1)
            assert rules.wins(state, player) == expected


# Nodes, plays, infosets, sequences and non-zero payoffs that OpenSpiel 2.0.2 counts, and the value and the uniform
# policy's exploitability there, for dark_hex(board_size=2,gameversion=adh) and cdh.
KNOWN = [
    ("abrupt", (471, 234), (59, 35), (89, 81), 234, 1 / 2, 5 / 12),
    ("classical", (441, 216), (33, 101), (77, 169), 216, 1.0, 5 / 8),
]


@pytest.mark.parametrize(("rules", "nodes", "infosets", "sequences", "entries", "value", "uniform"), KNOWN)
def test_sizes_and_values_are_those_of_openspiel(rules, nodes, infosets, sequences, entries, value, uniform):
    tree, game = expand(DarkHex(2, 2, rules)), games.load(f"dark_hex:rules={rules}")
    assert (len(tree.parent), np.count_nonzero(tree.infoset == TERMINAL)) == nodes
    assert tuple(player.n_infosets for player in game.players) == infosets
    assert tuple(player.n_sequences for player in game.players) == sequences
    assert len(game.payoff.entries().values) == entries
    np.testing.assert_allclose(mmd.solve_exactly(game).value, value, rtol=0, atol=1e-12)
    policy = [np.append(1.0, np.repeat(1 / p.n_actions, p.n_actions)) for p in game.players]
    np.testing.assert_allclose(mmd.certify(game, tuple(policy)).exploitability, uniform, rtol=0, atol=1e-12)


def test_larger_boards_have_openspiels_sizes():
    """Those of dark_hex(num_rows=3,num_cols=2,gameversion=adh)."""
    game = dark_hex.game(3, 2)
    assert [player.n_infosets for player in game.players] == [5_811, 3_363]
    assert [player.n_sequences for player in game.players] == [8_629, 7_707]
    assert len(game.payoff.entries().values) == 122_032


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (3, 3)])
def test_exactly_one_player_connects_a_full_board(shape):
    """Hex cannot be drawn (Gale 1979)."""
    black, white = (dark_hex.connects(*shape, player) for player in (0, 1))
    np.testing.assert_array_equal(black, ~white[::-1])  # the other's stones are the complement: all bits inverted


def test_the_builder_walks_no_tree():
    small, large = (plain.python_calls(lambda n=rows: dark_hex.game(n, 2)) for rows in (2, 3))
    assert large < 2 * small  # where the tree is 500 times as large


REFUSALS = [
    ("rows=1", "dark_hex: expected at least 2 x 2 and at most 12 cells, got 1 x 2"),
    ("rows=4,columns=4", "dark_hex: expected at least 2 x 2 and at most 12 cells, got 4 x 4"),
    ("rules=dark", "dark_hex: expected rules to be abrupt or classical, got 'dark'"),
    ("rows=3,columns=3", "dark_hex:rows=3,columns=3,rules=abrupt has about 2"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSALS)
def test_refusals(parameters, message, monkeypatch):
    monkeypatch.setattr(frontier, "machine_memory", lambda: 24 * frontier.GIB)
    with pytest.raises(GameError) as error:
        games.load(f"dark_hex:{parameters}")
    assert str(error.value).startswith(message)
