"""Rules on arrays: infosets, sizes and refusals, on a game small enough to be worked out by hand."""

import tracemalloc
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import games
import mmd
from games import dark_hex, frontier
from games.compile import CHANCE, TERMINAL
from mmd.game.game import GameError
from tests.games import plain


class States(NamedTuple):
    """Moves so far; -1 before they are made."""

    sleep: np.ndarray
    hidden: np.ndarray
    guess: np.ndarray


@dataclass(frozen=True)
class Sleep:
    """Player 0 hides a coin, chance lets up to two nights pass, and player 1 guesses it and wins 1 if it is right.

    A night is a move of chance, 0 to wake up and 1 to sleep on, so the guess is the third or the fourth move. With a
    `clock` player 1 knows which nights it slept. The `careless` rules forbid it some guesses in some states.
    """

    clock: bool = False
    careless: bool = False
    name: str = "sleep"

    def initial(self) -> States:
        return States(np.zeros(1, np.int64), np.full(1, -1), np.full(1, -1))

    def player(self, states: States) -> np.ndarray:
        awake = np.where(states.guess < 0, 1, TERMINAL)
        return np.where(states.hidden < 0, 0, np.where((states.sleep < 2) & (states.sleep >= 0), CHANCE, awake))

    def legal(self, states: States) -> np.ndarray:
        forced = self.careless & (states.sleep == 2) & (states.hidden == 0)
        return np.stack([np.ones_like(forced), ~forced], axis=1)

    def next(self, states: States, moves: np.ndarray) -> States:
        player = self.player(states)
        sleep = np.where(player == CHANCE, np.where(moves == 1, states.sleep + 1, -1 - states.sleep), states.sleep)
        hidden, guess = np.where(player == 0, moves, states.hidden), np.where(player == 1, moves, states.guess)
        return States(sleep, hidden, guess)

    def seen(self, states: States) -> np.ndarray:
        return states.sleep + 3 if self.clock else np.zeros_like(states.sleep)

    def payoff(self, states: States) -> np.ndarray:
        return np.where(states.guess == states.hidden, -1.0, 1.0)

    def infoset(self, moves: list[int]) -> str:
        if not moves:
            return "hide"
        return f"after nights {moves[1:]}" if self.clock else "guess"

    def action(self, move: int) -> str:
        return ("heads", "tails")[move]


def test_an_infoset_can_have_states_of_different_depth():
    """Without a clock player 1 has one infoset, reached by two or three moves, and the game is matching pennies."""
    game = frontier.game_of(Sleep())
    assert [list(names.infosets) for names in plain.labels(game)] == [["hide"], ["guess"]]
    assert plain.labels(game)[1].actions[0] == ("heads", "tails")
    np.testing.assert_allclose(plain.matrix_of(game)[1:, 1:], [[-1, 1], [1, -1]], rtol=0, atol=1e-15)


def test_what_is_seen_tells_infosets_apart():
    """With a clock there are three: awake after one night with 1/2, after two with 1/4, and never woken with 1/4."""
    game = frontier.game_of(Sleep(clock=True))
    assert (game.row.n_infosets, game.column.n_infosets) == (1, 3)
    payoffs = plain.matrix_of(game)[1:, 1:].reshape(2, 3, 2)
    np.testing.assert_allclose(sorted(payoffs[0, :, 1]), [1 / 4, 1 / 4, 1 / 2], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(payoffs[0], -payoffs[1])
    np.testing.assert_allclose(mmd.solve_exactly(game).value, 0.0, rtol=0, atol=1e-12)


def test_states_of_an_infoset_have_the_same_actions():
    with pytest.raises(GameError) as error:
        frontier.game_of(Sleep(careless=True))
    assert str(error.value) == (
        "sleep: expected the same actions at every state of information set 'guess', got heads and heads, tails"
    )


def test_nodes_are_counted():
    """Exactly while all frontiers are small, and within a few percent where only a part of them is looked at."""
    assert frontier.count_nodes(Sleep()) == 1 + 2 + 4 + 8 + 8
    rules = dark_hex.DarkHex(3, 2, "abrupt", np.stack([dark_hex.connects(3, 2, player) for player in (0, 1)]))
    np.testing.assert_allclose(frontier.count_nodes(rules), 245_243, rtol=0.05)  # OpenSpiel's count


@pytest.mark.parametrize("spec", ["leduc_poker:ranks=5", "dark_hex:rows=3", "battleship:shots=3"])
def test_the_estimate_of_memory_is_not_exceeded(spec, monkeypatch):
    counted = []
    monkeypatch.setattr(frontier, "check_size", lambda rules: counted.append(frontier.count_nodes(rules)))
    games.load(spec)  # what is allocated once and for all
    tracemalloc.start()
    games.load(spec)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 * frontier.BYTES_PER_NODE * counted[0] <= peak <= frontier.BYTES_PER_NODE * counted[0]


def test_a_tree_too_large_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(frontier, "machine_memory", lambda: 10.0 * frontier.BYTES_PER_NODE)
    with pytest.raises(GameError, match=r"^sleep has about 23 nodes and needs about .* GiB to build, but this machine"):
        frontier.game_of(Sleep())
