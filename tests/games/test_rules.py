"""rules.expand: what it builds, and what it refuses."""

from typing import NamedTuple

import numpy as np
import pytest

from games.compile import CHANCE, TERMINAL
from games.rules import expand, game_of
from mmd.game.game import GameError
from tests.games import plain


class Guess:
    """Chance tosses a biased coin, the row player sees it if `seen`, and both guess; the row player wins if right."""

    name = "guess"

    def __init__(self, *, seen: bool, biased: float = 0.75) -> None:
        self.seen, self.biased = seen, biased

    def initial(self) -> tuple:
        return ()

    def player(self, state: tuple) -> int:
        return (CHANCE, 0, TERMINAL)[len(state)]

    def actions(self, state: tuple) -> tuple[str, ...]:
        return ("heads", "tails")

    def chance(self, state: tuple) -> list[tuple[str, float]]:
        return [("heads", self.biased), ("tails", 1 - self.biased)]

    def next(self, state: tuple, action: object) -> tuple:
        return (*state, action)

    def infoset(self, state: tuple) -> str:
        return state[0] if self.seen else "?"

    def utility(self, state: tuple) -> tuple[float, float]:
        return (1.0, -1.0) if state[0] == state[1] else (-1.0, 1.0)


@pytest.mark.parametrize(("seen", "value"), [(True, 1.0), (False, 0.5)])
def test_information_is_worth_what_it_is_worth(seen, value):
    """Seeing the coin wins always; guessing blindly wins with the bias, 0.75 - 0.25."""
    np.testing.assert_allclose(plain.lp_value(game_of(Guess(seen=seen))), value, rtol=0, atol=1e-12)


def test_the_tree_is_in_depth_first_order_of_the_actions():
    tree = expand(Guess(seen=True))
    assert tree.parent.tolist() == [-1, 0, 1, 1, 0, 4, 4]
    assert tree.action.tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert tree.probability.tolist() == [1, 0.75, 1, 1, 0.25, 1, 1]
    assert [info.label for info in tree.infosets] == ["heads", "tails"]


def test_an_infoset_has_the_same_actions_everywhere():
    class Cheat(Guess):
        def actions(self, state: tuple) -> tuple[str, ...]:
            return ("heads", "tails") if state[0] == "heads" else ("tails",)

    with pytest.raises(GameError) as error:
        expand(Cheat(seen=False))
    assert str(error.value) == (
        "guess: expected the same actions at every state of information set '?', got heads, tails and tails"
    )


def test_an_infoset_needs_an_action():
    class Stuck(Guess):
        def actions(self, state: tuple) -> tuple[str, ...]:
            return ()

    with pytest.raises(GameError, match="guess: information set 'heads' has no actions"):
        expand(Stuck(seen=True))


def test_chance_and_payoffs_are_checked():
    with pytest.raises(GameError, match=r"chance probabilities of at least 0, got -0.5 for outcome 2 at the root"):
        game_of(Guess(seen=True, biased=1.5))

    class Generous(Guess):
        def utility(self, state: tuple) -> tuple[float, float]:
            return (1.0, 1.0) if state[0] == state[1] else (0.0, 0.0)

    with pytest.raises(
        GameError, match="constant sum, got the sum 0 after chance 1 > tails, and 2 after chance 1 > heads"
    ):
        game_of(Generous(seen=True))


def test_forgetting_is_refused():
    """The player guesses twice and forgets its first guess."""

    class Forgetful(Guess):
        def player(self, state: tuple) -> int:
            return (CHANCE, 0, 0, TERMINAL)[len(state)]

        def infoset(self, state: tuple) -> str:
            return f"guess {len(state)}"

    with pytest.raises(GameError, match="'guess 2' of player 'row' is reached with different own histories"):
        game_of(Forgetful(seen=False))


def test_a_play_that_never_ends_is_refused(monkeypatch):
    class Endless:
        name = "endless"

        def initial(self):
            return ()

        def player(self, state):
            return 0

        def actions(self, state):
            return ("on",)

        def chance(self, state):
            return []

        def next(self, state, action):
            return state

        def infoset(self, state):
            return "here"

        def utility(self, state):
            return 0.0, 0.0

    monkeypatch.setattr("games.memory.machine_memory", lambda: 1e7)
    with pytest.raises(GameError, match=r"endless: expected plays that end in TERMINAL, .* got more than 65,536 posi"):
        expand(Endless())


def test_deep_games_do_not_recurse():
    """A centipede of 5,000 moves: whoever stops first wins, so the first player does."""

    class Node(NamedTuple):
        depth: int
        stopped: bool

    class Centipede:
        name = "centipede"

        def initial(self) -> Node:
            return Node(0, False)

        def player(self, state: Node) -> int:
            return TERMINAL if state.stopped or state.depth == 5_000 else state.depth % 2

        def actions(self, state: Node) -> tuple[str, ...]:
            return ("stop", "go")

        def chance(self, state: Node) -> list:
            raise AssertionError("there is no chance")

        def next(self, state: Node, action: object) -> Node:
            return Node(state.depth + 1, action == "stop")

        def infoset(self, state: Node) -> str:
            return str(state.depth)

        def utility(self, state: Node) -> tuple[float, float]:
            won = (1.0, -1.0)[(state.depth - 1) % 2] if state.stopped else 0.0
            return won, -won

    game = game_of(Centipede())
    assert len(game.row.levels) == len(game.column.levels) == 2_500
    entries = game.payoff.entries()
    assert len(entries.values) == 5_000
    np.testing.assert_allclose(np.sort(entries.values), np.repeat([-1.0, 1.0], 2_500))
