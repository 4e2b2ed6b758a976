"""Battleship: both players hide a fleet and shoot in turn at the other's cells.

The players place their ships one by one, in turn and unseen by the other; ships do not overlap. Then player 0 shoots at
a cell, then player 1, and so on, `shots` each. A shot falls into the water, hits a ship, or sinks it: the last of its
cells that was not hit. The shooter learns which of these, its opponent sees the cell. Whoever has lost all ships ends
the play. Each player receives the values of the ships it sank less those of the ships it lost. The rules are those of
OpenSpiel's `battleship` with loss_multiplier=1, under which it is zero-sum.

On 2 x 2 cells with two shots each, uniform play is an equilibrium if there is one ship of one cell. The default adds a
ship of two cells: its value is 0, and the uniform policy is exploitable by 1/6.

An infoset is named after the own ships, a letter for their direction and the first cell, and the shots: the own ones
with their results (w, h, s), the other's in brackets: "ha1 va2|b1w (a1)".

Letters: n states and M moves, as in `games.frontier`; C cells; K ships; F ways to place the first ships of a fleet.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from games.compile import TERMINAL
from games.frontier import game_of
from mmd.game.game import Game, GameError

MAX_CELLS = 36
MAX_FLEETS = 10_000  # pairs of them would be 1e8 nodes before the first shot
RESULTS = "whs"


def game(
    rows: int = 2, columns: int = 2, ships: str = "1+2", values: str = "1+2", shots: int = 2, *, repeats: bool = False
) -> Game:
    """Battleship on `rows` x `columns` cells: the ships' lengths and values, and how often each player shoots.

    Args:
        rows, columns: of each player's board.
        ships: lengths in cells, as in "1+2", in the order in which they are placed.
        values: what each ship is worth, as in "1+2".
        shots: of each player.
        repeats: whether a cell may be shot at again.

    Raises:
        GameError: an empty board or more than 36 cells; ships that are not such a list or do not fit on the board;
            fewer than 1 shot, or more than cells without repeats; too large for this machine.
    """
    if min(rows, columns) < 1 or rows * columns > MAX_CELLS:
        raise GameError(f"battleship: expected at least 1 x 1 and at most {MAX_CELLS} cells, got {rows} x {columns}")
    lengths, worth = _numbers("ships", ships), _numbers("values", values)
    if not all(length >= 1 and length.is_integer() for length in lengths):
        raise GameError(f"battleship: expected ships of at least one cell, as in 1+2, got {ships!r}")
    if len(worth) != len(lengths) or not all(0 <= value < math.inf for value in worth):
        raise GameError(f"battleship: expected a value of at least 0 for each of {ships!r}, got {values!r}")
    if shots < 1 or (shots > rows * columns and not repeats):
        most = "" if repeats else f" and at most {rows * columns}, as no cell is shot at twice"
        raise GameError(f"battleship: expected at least 1 shot{most}, got {shots}")
    fleets = _fleets(rows, columns, [int(length) for length in lengths])
    text = (
        "+".join(repr(number).removesuffix(".0").replace("e+", "e") for number in numbers)
        for numbers in (lengths, worth)
    )
    name = "battleship:rows={},columns={},ships={},values={},shots={},repeats={}"
    name = name.format(rows, columns, *text, shots, repeats)
    return game_of(Battleship(name, columns, fleets, np.array(worth), shots, repeats))


class Fleets(NamedTuple):
    """All ways to place the first ships of a fleet, from none (number 0) to all.

    Attributes:
        next: [F, 2 C] the way after placing the next ship, to the right or down from each cell; -1 where that does not
            fit, or leaves no room for the ships to come.
        cells: [F, K] the cells of each ship, cell c as bit c; 0 before it is placed.
    """

    next: Int[np.ndarray, "F _"]
    cells: Int[np.ndarray, "F K"]


class States(NamedTuple):
    """What happened, by player.

    Attributes:
        moves: [n] how many were made.
        fleet: [n, 2] own ships, as a number of `Fleets`.
        shots: [n, 2] the cells shot at, as bits.
        cell: [n, 2] the last of them, -1 before the first.
        result: [n, 2] of that shot, as a number into `RESULTS`.
    """

    moves: Int[np.ndarray, " n"]
    fleet: Int[np.ndarray, "n 2"]
    shots: Int[np.ndarray, "n 2"]
    cell: Int[np.ndarray, "n 2"]
    result: Int[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Battleship:
    """The rules. Moves are to place a ship to the right from each cell, or down, and to shoot: M = 3 C.

    Attributes:
        name: the game's name.
        columns: of the board.
        fleets: where ships can be.
        values: [K] what they are worth.
        shots, repeats: as in `game`.
    """

    name: str
    columns: int
    fleets: Fleets
    values: Float[np.ndarray, " K"]
    shots: int
    repeats: bool

    @property
    def n_cells(self) -> int:
        """C."""
        return self.fleets.next.shape[1] // 2

    @property
    def n_placed(self) -> int:
        """The moves until all ships are placed, 2 K."""
        return 2 * len(self.values)

    def initial(self) -> States:
        """Two empty boards."""
        nothing = np.zeros((1, 2), np.int64)
        return States(nothing[:, 0], nothing, nothing, nothing - 1, nothing)

    def player(self, states: States) -> Int[np.ndarray, " n"]:
        """Players take turns until all shots are fired or a fleet is lost."""
        is_lost = self._sunk(states).all(axis=-1).any(axis=-1) & (states.moves >= self.n_placed)
        is_over = is_lost | (states.moves == self.n_placed + 2 * self.shots)
        return np.where(is_over, TERMINAL, states.moves % 2)

    def legal(self, states: States) -> Bool[np.ndarray, "n M"]:
        """Place the next ship, or else shoot at a cell, a new one if there are no repeats."""
        at, player = np.arange(len(states.moves)), states.moves % 2
        places = self.fleets.next[states.fleet[at, player]] >= 0
        is_shot = (states.shots[at, player][:, None] >> np.arange(self.n_cells)) & 1 == 1
        shoots = (states.moves >= self.n_placed)[:, None] & (self.repeats | ~is_shot)
        return np.concatenate([places, shoots], axis=1)

    def next(self, states: States, moves: Int[np.ndarray, " n"]) -> States:
        """Place a ship, or shoot and learn the result."""
        at, player = np.arange(len(moves)), states.moves % 2
        fleet, shots, cell, result = (field.copy() for field in states[1:])
        places, fires = moves < 2 * self.n_cells, moves >= 2 * self.n_cells
        fleet[at[places], player[places]] = self.fleets.next[fleet[at, player][places], moves[places]]
        at, player = at[fires], player[fires]
        target = moves[fires].astype(np.int64) - 2 * self.n_cells
        cell[at, player] = target
        shots[at, player] |= 1 << target
        ships = self.fleets.cells[fleet[at, 1 - player]]
        is_hit, is_sunk = ships & (1 << target)[:, None] != 0, ships & ~shots[at, player][:, None] == 0
        result[at, player] = (is_hit * (1 + is_sunk)).max(axis=1, initial=0)
        return States(states.moves + 1, fleet, shots, cell, result)

    def seen(self, states: States) -> Int[np.ndarray, " n"]:
        """The result of the own last shot and the cell of the other's; earlier ones were seen before earlier moves."""
        at, player = np.arange(len(states.moves)), states.moves % 2
        return states.result[at, player] * (self.n_cells + 1) + states.cell[at, 1 - player] + 1

    def payoff(self, states: States) -> Float[np.ndarray, " n"]:
        """The values of player 1's ships that sank less those of player 0's."""
        lost = self._sunk(states) @ self.values
        return lost[:, 1] - lost[:, 0]

    def infoset(self, moves: list[int]) -> str:
        """The own ships and all shots."""
        player, n_placed = len(moves) % 2, self.n_placed
        fleet = 0
        for move in moves[1 - player : n_placed : 2]:
            fleet = int(self.fleets.next[fleet, move])
        ships, shots, told = self.fleets.cells[fleet].tolist(), 0, []
        for i, move in enumerate(moves[n_placed:]):
            if i % 2 == player:
                target = 1 << (move - 2 * self.n_cells)
                shots |= target
                result = max((1 + (ship & ~shots == 0)) * (ship & target > 0) for ship in ships)
                told.append(self.action(move) + RESULTS[result])
            else:
                told.append(f"({self.action(move)})")
        placed = [self.action(move) for move in moves[player:n_placed:2]]
        return f"{' '.join(placed)}|{' '.join(told)}"

    def action(self, move: int) -> str:
        """A cell is its column as a letter and its row as a number; a ship's has its direction before it."""
        kind, cell = divmod(move, self.n_cells)
        row, column = divmod(cell, self.columns)
        return ("h", "v", "")[kind] + chr(ord("a") + column) + str(row + 1)

    def _sunk(self, states: States) -> Bool[np.ndarray, "n 2 K"]:
        """Whether each ship of each player is sunk."""
        return self.fleets.cells[states.fleet] & ~states.shots[:, ::-1, None] == 0


def _numbers(what: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split("+")]
    except ValueError:
        raise GameError(f"battleship: expected {what} to be numbers such as 1+2, got {text!r}") from None


def _fleets(rows: int, columns: int, lengths: list[int]) -> Fleets:
    """Ship by ship; ways that leave no room for the others are found from the last ship back."""
    cells, nexts, first = [np.zeros((1, len(lengths)), np.int64)], [], 1
    for k, length in enumerate(lengths):
        ship = _placements(rows, columns, length)
        is_free = (cells[k].sum(axis=1)[:, None] & ship == 0) & (ship > 0)  # ships do not overlap: a sum is a union
        at, where = np.nonzero(is_free)
        if len(at) > MAX_FLEETS:
            raise GameError(f"battleship: expected at most {MAX_FLEETS:,} fleets, got more: try a smaller board")
        cells.append(cells[k][at])
        cells[-1][:, k] = ship[where]
        nexts.append(np.full(is_free.shape, -1))
        nexts[k][at, where] = first + np.arange(len(at))
        first += len(at)
    nexts.append(np.full((len(cells[-1]), 2 * rows * columns), -1))
    start = first - len(cells[-1])  # of the ways with all ships
    is_possible = np.arange(first) >= start
    for after in reversed(nexts[:-1]):
        after[~is_possible[after]] = -1
        start -= len(after)
        is_possible[start : start + len(after)] = (after >= 0).any(axis=1)
    if not is_possible[0]:
        raise GameError(f"battleship: expected ships that fit on {rows} x {columns} cells, got lengths {lengths}")
    return Fleets(np.concatenate(nexts), np.concatenate(cells))


def _placements(rows: int, columns: int, length: int) -> Int[np.ndarray, " _"]:
    """[2 C] the cells of a ship to the right from each cell, and down; 0 where it does not fit.

    A ship of one cell has one direction, so that no placement occurs twice.
    """
    cell = np.arange(rows * columns)
    right, down = (np.left_shift(1, cell[:, None] + step * np.arange(length)).sum(axis=1) for step in (1, columns))
    fits_right, fits_down = cell % columns + length <= columns, (cell // columns + length <= rows) & (length > 1)
    return np.concatenate([np.where(fits_right, right, 0), np.where(fits_down, down, 0)])
