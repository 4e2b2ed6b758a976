"""Battleship: the builder against the rules played out, and sizes and values known from OpenSpiel."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

import games
import mmd
from games import battleship, frontier
from games.compile import TERMINAL
from games.rules import expand, game_of
from mmd.game.game import Game, GameError
from tests.games import plain

Cell = tuple[int, int]
Moves = tuple[tuple[str, Cell], ...]  # ("h" or "v", first cell of a ship) or ("", cell shot at)


@dataclass(frozen=True)
class Battleship:
    """The rules; a state is all moves so far."""

    rows: int = 2
    columns: int = 2
    ships: tuple[int, ...] = (1, 2)
    values: tuple[float, ...] = (1.0, 2.0)
    shots: int = 2
    repeats: bool = False

    @property
    def name(self) -> str:
        ships, values = ("+".join(f"{number:g}" for number in numbers) for numbers in (self.ships, self.values))
        return (
            f"battleship:rows={self.rows},columns={self.columns},ships={ships},values={values},"
            f"shots={self.shots},repeats={self.repeats}"
        )

    def initial(self) -> Moves:
        return ()

    def cells(self, ship: int, way: str, first: Cell) -> frozenset[Cell]:
        row, column = first
        return frozenset((row, column + i) if way == "h" else (row + i, column) for i in range(self.ships[ship]))

    def fleet(self, state: Moves, player: int) -> list[frozenset[Cell]]:
        placed = state[: 2 * len(self.ships)][player::2]
        return [self.cells(ship, *move) for ship, move in enumerate(placed)]

    def fired(self, state: Moves, player: int) -> list[Cell]:
        return [cell for _, cell in state[2 * len(self.ships) :][player::2]]

    def sunk(self, state: Moves, player: int) -> list[bool]:
        return [ship <= set(self.fired(state, 1 - player)) for ship in self.fleet(state, player)]

    def player(self, state: Moves) -> int:
        if len(state) >= 2 * len(self.ships) and any(all(self.sunk(state, player)) for player in (0, 1)):
            return TERMINAL
        return TERMINAL if len(state) == 2 * (len(self.ships) + self.shots) else len(state) % 2

    def placements(self, fleet: list[frozenset[Cell]]) -> list[tuple[str, Cell]]:
        """Where the next ship can go such that all others can follow."""
        board = set(itertools.product(range(self.rows), range(self.columns)))
        ship, found = len(fleet), []
        for way, first in itertools.product("hv" if self.ships[ship] > 1 else "h", sorted(board)):
            cells = self.cells(ship, way, first)
            if cells <= board and not cells & frozenset().union(*fleet):
                after = [*fleet, cells]
                if len(after) == len(self.ships) or self.placements(after):
                    found.append((way, first))
        return found

    def moves(self, state: Moves) -> dict[str, tuple[str, Cell]]:
        player = len(state) % 2
        if len(state) < 2 * len(self.ships):
            found = self.placements(self.fleet(state, player))
        else:
            board = itertools.product(range(self.rows), range(self.columns))
            found = [("", cell) for cell in board if self.repeats or cell not in self.fired(state, player)]
        return {self.text(move): move for move in found}

    def text(self, move: tuple[str, Cell]) -> str:
        way, (row, column) = move
        return f"{way}{'abcdef'[column]}{row + 1}"

    def actions(self, state: Moves) -> tuple[str, ...]:
        return tuple(self.moves(state))

    def chance(self, state: Moves) -> list:
        raise AssertionError("there is no chance")

    def next(self, state: Moves, action: str) -> Moves:
        return (*state, self.moves(state)[action])

    def result(self, before: list[Cell], shot: Cell, fleet: list[frozenset[Cell]]) -> str:
        for ship in fleet:
            if shot in ship:
                return "s" if ship <= {*before, shot} else "h"
        return "w"

    def infoset(self, state: Moves) -> str:
        player, told = len(state) % 2, []
        fleet = self.fleet(state, 1 - player)
        shots: list[list[Cell]] = [[], []]
        for i, move in enumerate(state[2 * len(self.ships) :]):
            own = i % 2 == player
            told.append(self.text(move) + self.result(shots[player], move[1], fleet) if own else f"({self.text(move)})")
            shots[i % 2].append(move[1])
        placed = state[: 2 * len(self.ships)][player::2]
        return f"{' '.join(map(self.text, placed))}|{' '.join(told)}"

    def utility(self, state: Moves) -> tuple[float, float]:
        lost = [
            sum(v for v, sunk in zip(self.values, self.sunk(state, player), strict=True) if sunk) for player in (0, 1)
        ]
        return lost[1] - lost[0], lost[0] - lost[1]


def build(rules: Battleship) -> Game:
    family, _, parameters = rules.name.partition(":")
    assert family == "battleship"
    return games.load(f"battleship:{parameters}")


# Each with the nodes, plays, infosets, sequences and non-zero payoffs that OpenSpiel 2.0.2 counts and the value and the
# uniform policy's exploitability there, for battleship(board_height=ROWS,board_width=COLUMNS,ship_sizes=[...],
# ship_values=[...],num_shots=SHOTS,allow_repeated_shots=REPEATS).
KNOWN = [
    (Battleship(), (13_685, 9_216), (397, 1_189), (1_197, 3_597), 5_632, 0.0, 1 / 6),
    (Battleship(2, 2, (1,), (1,)), (1_573, 1_072), (53, 109), (165, 341), 496, 1 / 8, 0.0),
    (Battleship(2, 2, (2,), (1,)), (3_029, 2_048), (133, 337), (405, 1_029), 448, 1 / 16, 1 / 12),
    (Battleship(1, 3, (1, 1), (1, 2)), (2_011, 1_080), (118, 166), (244, 352), 792, 1 / 3, 0.0),
    (Battleship(1, 2, (1, 1), (1, 2), 2, True), (103, 48), (13, 15), (25, 29), 40, 3 / 2, 3 / 4),
    (Battleship(2, 2, (2,), (1,), 3), (10_069, 5_568), (1_413, 1_873), (2_965, 4_101), 3_264, 5 / 16, 1 / 4),
]


@pytest.mark.parametrize(("rules", "nodes", "infosets", "sequences", "entries", "value", "uniform"), KNOWN)
def test_sizes_and_values_are_those_of_openspiel(rules, nodes, infosets, sequences, entries, value, uniform):
    tree, game = expand(rules), build(rules)
    assert (len(tree.parent), np.count_nonzero(tree.infoset == TERMINAL)) == nodes
    assert tuple(player.n_infosets for player in game.players) == infosets
    assert tuple(player.n_sequences for player in game.players) == sequences
    assert len(game.payoff.entries().values) == entries
    np.testing.assert_allclose(mmd.solve_exactly(game).value, value, rtol=0, atol=1e-12)
    policy = [np.append(1.0, np.repeat(1 / p.n_actions, p.n_actions)) for p in game.players]
    np.testing.assert_allclose(mmd.certify(game, tuple(policy)).exploitability, uniform, rtol=0, atol=1e-12)


# A ship longer than the board is wide; one that leaves no room for the next at some cells; hits before a ship sinks.
SHAPES = [
    Battleship(2, 2, (2,), (1.0,), 1),
    Battleship(1, 3, (1, 2), (1.0, 2.0)),
    Battleship(3, 1, (2, 1), (1.5, 1.0)),
    Battleship(1, 4, (1, 2), (1.0, 0.25), 1),
    Battleship(1, 2, (2,), (1.0,), 3, True),
    Battleship(1, 2, (1, 1), (1.0, 2.0), 2, True),
]


@pytest.mark.parametrize("rules", SHAPES, ids=lambda rules: rules.name)
def test_arrays_build_the_game_of_the_rules(rules):
    plain.assert_same_game(build(rules), game_of(rules))


def test_one_shot_each_at_two_cells():
    """Worked out by hand: the first shot hits with 1/2 and ends the play, else the second one does: 1/2 - 1/4."""
    np.testing.assert_allclose(mmd.solve_exactly(battleship.game(1, 2, "1", "1", 1)).value, 1 / 4, rtol=0, atol=1e-12)


def test_the_builder_walks_no_tree():
    small, large = (plain.python_calls(lambda n=shots: battleship.game(2, 2, "1+2", "1+2", n)) for shots in (1, 3))
    assert large < 2 * small  # where the tree is 50 times as large


REFUSALS = [
    ("rows=0", "battleship: expected at least 1 x 1 and at most 36 cells, got 0 x 2"),
    ("columns=19", "battleship: expected at least 1 x 1 and at most 36 cells, got 2 x 19"),
    ("ships=one", "battleship: expected ships to be numbers such as 1+2, got 'one'"),
    ("ships=1.5+2", "battleship: expected ships of at least one cell, as in 1+2, got '1.5+2'"),
    ("ships=0+2", "battleship: expected ships of at least one cell, as in 1+2, got '0+2'"),
    ("ships=1", "battleship: expected a value of at least 0 for each of '1', got '1+2'"),
    ("values=1+-2", "battleship: expected a value of at least 0 for each of '1+2', got '1+-2'"),
    ("values=1+inf", "battleship: expected a value of at least 0 for each of '1+2', got '1+inf'"),
    ("ships=2+3", "battleship: expected ships that fit on 2 x 2 cells, got lengths [2, 3]"),
    ("shots=5", "battleship: expected at least 1 shot and at most 4, as no cell is shot at twice, got 5"),
    ("shots=0,repeats=true", "battleship: expected at least 1 shot, got 0"),
    ("rows=6,columns=6,ships=1+1+1,values=1+1+1", "battleship: expected at most 10,000 fleets, got more"),
    (
        "rows=3,columns=3,shots=4",
        "battleship:rows=3,columns=3,ships=1+2,values=1+2,shots=4,repeats=False has about 7",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSALS)
def test_refusals(parameters, message, monkeypatch):
    monkeypatch.setattr(frontier, "machine_memory", lambda: 24 * frontier.GIB)
    with pytest.raises(GameError) as error:
        games.load(f"battleship:{parameters}")
    assert str(error.value).startswith(message)
