"""Dark hex: the connection game with stones that the opponent does not see.

On a rhombus of hexagonal cells player 0 wants to connect the first row with the last by its stones, player 1 the first
column with the last; exactly one of them succeeds once the board is full (Gale 1979). Cell (r, c) touches (r, c - 1),
(r, c + 1), (r - 1, c), (r - 1, c + 1), (r + 1, c - 1) and (r + 1, c). A player sees its own stones. If it tries a cell
that the opponent has taken, it learns that, and by the classical rules tries again, by the abrupt ones loses its turn.
The winner wins 1. The rules are those of OpenSpiel's `dark_hex` with gameversion=adh (abrupt) or cdh (classical), where
players also know how many tries the opponent has made. On 2 x 2 cells the values are 1/2 and 1. (On larger boards
OpenSpiel's classical players forget how many they were at earlier own moves; here recall is perfect.)

An infoset is named after what its player saw of all tries, in order: its own cells, an x marking those that failed, and
a question mark for each try of the opponent, as in "black: a1 ? b2x"; player 0 is black.

Letters: n states, as in `games.frontier`; C cells.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from games.compile import TERMINAL
from games.frontier import game_of
from mmd.game.game import Game, GameError

MAX_CELLS = 12
RULES = ("abrupt", "classical")


def game(rows: int = 2, columns: int = 2, rules: str = "abrupt") -> Game:
    """Dark hex on `rows` x `columns` cells; who tries a taken cell loses its turn (abrupt) or tries again (classical).

    Raises:
        GameError: fewer than 2 rows or columns or more than 12 cells; other rules; too large for this machine.
    """
    if min(rows, columns) < 2 or rows * columns > MAX_CELLS:
        raise GameError(f"dark_hex: expected at least 2 x 2 and at most {MAX_CELLS} cells, got {rows} x {columns}")
    if rules not in RULES:
        raise GameError(f"dark_hex: expected rules to be {' or '.join(RULES)}, got {rules!r}")
    return game_of(DarkHex(rows, columns, rules, np.stack([connects(rows, columns, player) for player in (0, 1)])))


class States(NamedTuple):
    """Sets of cells are numbers, cell c is bit c.

    Attributes:
        stones: [n, 2] of each player.
        tried: [n, 2] by each player.
        tries: [n] made by both.
        player: [n] who moves, or `TERMINAL`.
    """

    stones: Int[np.ndarray, "n 2"]
    tried: Int[np.ndarray, "n 2"]
    tries: Int[np.ndarray, " n"]
    player: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class DarkHex:
    """The rules.

    Attributes:
        rows, columns, rules: as in `game`.
        wins: [2, 2^C] whether a set of stones connects the edges of each player.
    """

    rows: int
    columns: int
    rules: str
    wins: Bool[np.ndarray, "2 _"]

    @property
    def name(self) -> str:
        """The game's name."""
        return f"dark_hex:rows={self.rows},columns={self.columns},rules={self.rules}"

    def initial(self) -> States:
        """An empty board."""
        nothing = np.zeros((1, 2), np.int64)
        return States(nothing, nothing, nothing[0, :1], nothing[0, :1])

    def player(self, states: States) -> Int[np.ndarray, " n"]:
        """Who moves."""
        return states.player

    def legal(self, states: States) -> Bool[np.ndarray, "n M"]:
        """All cells that the player has not tried."""
        tried = _of(states.player, states.tried)
        return (tried[:, None] >> np.arange(self.rows * self.columns)) & 1 == 0

    def next(self, states: States, moves: Int[np.ndarray, " n"]) -> States:
        """Put a stone, or learn that there is one."""
        player, cell = states.player, 1 << moves.astype(np.int64)
        is_free = _of(1 - player, states.stones) & cell == 0
        mine = np.arange(2) == player[:, None]
        stones = states.stones | np.where(mine & is_free[:, None], cell[:, None], 0)
        tried = states.tried | np.where(mine, cell[:, None], 0)
        turn = np.where(is_free | (self.rules == "abrupt"), 1 - player, player)
        is_over = self.wins[player, _of(player, stones)]
        return States(stones, tried, states.tries + 1, np.where(is_over, TERMINAL, turn))

    def seen(self, states: States) -> Int[np.ndarray, " n"]:
        """Which tries failed, as the stones that the others became, and the number of all tries."""
        return states.tries << (self.rows * self.columns) | _of(states.player, states.stones)

    def payoff(self, states: States) -> Float[np.ndarray, " n"]:
        """1 from loser to winner."""
        return np.where(self.wins[0, states.stones[:, 0]], 1.0, -1.0)

    def infoset(self, moves: list[int]) -> str:
        """What the player saw of all tries."""
        taken: set[int] = set()
        told: tuple[list[str], list[str]] = (["black:"], ["white:"])
        player = 0
        for move in moves:
            failed = move in taken
            taken.add(move)
            told[player].append(self.action(move) + "x" * failed)
            told[1 - player].append("?")
            player = player if failed and self.rules == "classical" else 1 - player
        return " ".join(told[player])

    def action(self, move: int) -> str:
        """A cell: its column as a letter, its row as a number."""
        row, column = divmod(move, self.columns)
        return f"{chr(ord('a') + column)}{row + 1}"


def _of(player: Int[np.ndarray, " n"], pairs: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
    """The player's entry of each pair; player 1's where the play is over."""
    return np.where(player == 0, pairs[:, 0], pairs[:, 1])


def connects(rows: int, columns: int, player: int) -> Bool[np.ndarray, " _"]:
    """[2^C] for each set of cells, whether it connects the first row (column) with the last for player 0 (1)."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    line, last = ((row, rows - 1), (column, columns - 1))[player]
    down, right = row[:, None] - row, column[:, None] - column
    touches = np.abs(down) + np.abs(right) + np.abs(down + right) == 2
    stones = (np.arange(2 ** len(row))[:, None] >> np.arange(len(row))) & 1 == 1
    reached = stones & (line == 0)
    for _ in row:
        reached |= stones & (reached @ touches)
    return (reached & (line == last)).any(axis=1)
