"""Token trees: the game of complete sequences in another form, held to the matrix game and to the rules played out."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

import games
import mmd
from games import memory, preference, token_tree
from games.compile import TERMINAL
from games.rules import game_of
from mmd.game.game import GameError
from tests.games import plain


def shares(n: int, seed: int) -> np.ndarray:
    above = np.triu(np.random.default_rng(seed).uniform(-0.5, 0.5, (n, n)), 1)
    return 0.5 + above - above.T


@dataclass(frozen=True)
class TokenTree:
    """The rules: player 0 writes, then player 1 without having seen it."""

    preferences: np.ndarray
    vocabulary: int
    length: int
    name: str = "token_tree"

    def initial(self) -> tuple[str, ...]:
        return ()

    def player(self, state: tuple[str, ...]) -> int:
        return TERMINAL if len(state) == 2 * self.length else len(state) // self.length

    def actions(self, state: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(token) for token in range(self.vocabulary))

    def chance(self, state: tuple[str, ...]) -> list:
        raise AssertionError("there is no chance")

    def next(self, state: tuple[str, ...], action: str) -> tuple[str, ...]:
        return (*state, action)

    def infoset(self, state: tuple[str, ...]) -> str:
        return " ".join(["<s>", *state[len(state) // self.length * self.length :]])

    def utility(self, state: tuple[str, ...]) -> tuple[float, float]:
        complete = list(product(map(str, range(self.vocabulary)), repeat=self.length))
        first, second = complete.index(state[: self.length]), complete.index(state[self.length :])
        share = self.preferences[first, second]
        return share, 1 - share


@pytest.mark.parametrize(("vocabulary", "length"), [(2, 1), (2, 3), (3, 2), (5, 1)])
def test_arithmetic_builds_the_game_of_the_rules(vocabulary, length):
    preferences = shares(vocabulary**length, seed=vocabulary)
    built = token_tree.from_preference(preferences, vocabulary, length)
    plain.assert_same_game(built, game_of(TokenTree(preferences, vocabulary, length)))


@pytest.mark.parametrize(("vocabulary", "length"), [(2, 3), (3, 2), (2, 4)])
def test_an_equilibrium_at_the_leaves_is_one_of_the_matrix_and_the_other_way_round(vocabulary, length):
    """The plan of a policy is the product of its choices along a path: at the leaves, a distribution over sequences."""
    n = vocabulary**length
    for seed in range(5):
        preferences = shares(n, seed)
        flat = preference.game(preferences)
        tree = token_tree.from_preference(preferences, vocabulary, length)
        leaves = mmd.solve_exactly(tree).plans[0][-n:]
        np.testing.assert_allclose(leaves.sum(), 1.0, rtol=0, atol=1e-12)
        assert (leaves @ preferences).min() >= 0.5 - 1e-9  # a maximal lottery: it loses to no sequence
        lottery = mmd.solve_exactly(flat).plans[0][1:]
        plan = np.zeros(tree.row.n_sequences)
        plan[-n:] = lottery
        for j in reversed(range(tree.row.n_infosets)):
            first, count = tree.row.first_sequence[j], tree.row.n_actions[j]
            plan[tree.row.parent[j]] += plan[first : first + count].sum()
        np.testing.assert_allclose(plan[0], 1.0, rtol=0, atol=1e-12)
        assert tree.column.n_sequences == len(plan)
        worst = (plan @ plain.matrix_of(tree))[-n:].min()
        np.testing.assert_allclose(worst, 0.0, rtol=0, atol=1e-9)
        for game in (flat, tree):
            np.testing.assert_allclose(mmd.solve_exactly(game).value, 0.5, rtol=0, atol=1e-9)


def test_a_cycle_written_in_two_tokens():
    """Rock 00, paper 01, scissors 10, and 11 that loses to all: a third each, so the first token is 0 with 2/3."""
    preferences = [[0.5, 0, 1, 1], [1, 0.5, 0, 1], [0, 1, 0.5, 1], [0, 0, 0, 0.5]]
    solution = mmd.solve_exactly(token_tree.from_preference(preferences, 2, 2))
    for chosen in solution.probabilities:  # empty; 0, 1; 00, 01; 10, 11
        np.testing.assert_allclose(chosen, [1, 2 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 0], rtol=0, atol=1e-9)


def test_sizes():
    """V + ... + V^L sequences besides the empty one, 1 + ... + V^(L - 1) infosets, a payoff for each unequal pair."""
    for vocabulary, length in [(2, 5), (3, 3), (10, 2)]:
        game, n = token_tree.game(vocabulary, length), vocabulary**length
        assert game.row.n_sequences == game.column.n_sequences == sum(vocabulary**t for t in range(length + 1))
        assert game.row.n_infosets == game.column.n_infosets == sum(vocabulary**t for t in range(length))
        assert len(game.payoff.entries().values) == n * (n - 1)


def test_the_default_is_worth_solving():
    """No sequence is preferred to every other, the equilibrium mixes five, and uniform play is exploitable."""
    game = games.load("token_tree")
    assert game.description.facts == ("no Condorcet winner",)
    assert np.count_nonzero(mmd.solve_exactly(game).plans[0][-9:] > 1e-6) == 5
    uniform = np.append(1.0, np.full(12, 1 / 3))
    assert mmd.certify(game, (uniform, uniform)).exploitability > 0.05
    again, other = (plain.matrix_of(games.load(f"token_tree:seed={seed}")) for seed in (1, 2))
    np.testing.assert_array_equal(again, plain.matrix_of(game))
    assert not np.isclose(other, again).all()


def test_matrices_of_another_size_are_refused():
    with pytest.raises(GameError, match=r"^token_tree: expected preferences between 2\^2 = 4 sequences, got 3 x 3$"):
        token_tree.from_preference(shares(3, 0), 2, 2)
    with pytest.raises(GameError, match=r"expected P \+ P.T = 1, got .* for '<s> 0 0' over '<s> 0 1'"):
        token_tree.from_preference(np.triu(shares(4, 0)), 2, 2)


REFUSALS = [
    ("vocabulary=1", "token_tree: expected 2 to 100,000 tokens, got 1"),
    ("length=0", "token_tree: expected sequences of 1 to 20 tokens, got 0"),
    ("vocabulary=100000,length=20", "token_tree:vocabulary=100000,length=20,seed=1 has 1e+200 payoffs"),
    ("vocabulary=10,length=5", "token_tree:vocabulary=10,length=5,seed=1 has 1e+10 payoffs"),
    ("seed=-1", "token_tree: expected a seed of at least 0, got -1"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSALS)
def test_refusals(parameters, message, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 24 * memory.GIB)
    with pytest.raises(GameError) as error:
        games.load(f"token_tree:{parameters}")
    assert str(error.value).startswith(message)
