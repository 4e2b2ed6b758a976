"""The quantities of a game by plain recursion over the nodes of its tree, and its value by a dense linear program.

Nothing here uses the compiled arrays of `mmd` except `lp_value`, which reads the sequence form as numbers.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.optimize import linprog

from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree
from mmd.game.game import Game, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

Profile = list[np.ndarray]  # for each infoset of a tree, the probabilities of its actions


def uniform(tree: Tree) -> Profile:
    return [np.full(len(info.actions), 1 / len(info.actions)) for info in tree.infosets]


def children(tree: Tree) -> list[list[int]]:
    result: list[list[int]] = [[] for _ in tree.parent]
    for node in range(1, len(tree.parent)):
        result[tree.parent[node]].append(node)
    return result


def edge_probability(tree: Tree, node: int, profile: Profile) -> float:
    infoset = tree.infoset[tree.parent[node]]
    return float(tree.probability[node] if infoset == CHANCE else profile[infoset][tree.action[node]])


def expected_payoffs(tree: Tree, profile: Profile) -> np.ndarray:
    below = children(tree)

    def value(node: int) -> np.ndarray:
        later = sum((edge_probability(tree, child, profile) * value(child) for child in below[node]), np.zeros(2))
        return tree.payoffs[node] + later

    return value(0)


def best_response_value(tree: Tree, profile: Profile, player: int) -> float:
    """What `player` can get at most against the others' policies, infoset by infoset."""
    below, members = children(tree), defaultdict(list)
    reach, paid = np.ones(len(tree.parent)), tree.payoffs[:, player].copy()
    for node in range(len(tree.parent)):
        members[int(tree.infoset[node])].append(node)
        if node:
            up = tree.parent[node]
            own = tree.infoset[up] >= 0 and tree.infosets[tree.infoset[up]].player == player
            reach[node] = reach[up] * (1.0 if own else edge_probability(tree, node, profile))
            paid[node] += paid[up]

    @cache
    def best(infoset: int) -> int:
        n_actions = len(tree.infosets[infoset].actions)
        return int(np.argmax([sum(value(below[node][a]) for node in members[infoset]) for a in range(n_actions)]))

    def value(node: int) -> float:
        infoset = int(tree.infoset[node])
        if infoset == TERMINAL:
            return reach[node] * paid[node]
        if infoset != CHANCE and tree.infosets[infoset].player == player:
            return value(below[node][best(infoset)])
        return sum(value(child) for child in below[node])

    return value(0)


def exploitability(tree: Tree, profile: Profile) -> float:
    """NashConv / 2."""
    gains = [best_response_value(tree, profile, player) - expected_payoffs(tree, profile)[player] for player in (0, 1)]
    return sum(gains) / 2


def plans(tree: Tree, game: Game, profile: Profile) -> list[np.ndarray]:
    """A profile as plans of the compiled game, matched by label."""
    result = []
    for player, (treeplex, names) in enumerate(zip(game.players, labels(game), strict=True)):
        named = {info.label: p for info, p in zip(tree.infosets, profile, strict=True) if info.player == player}
        plan = np.ones(treeplex.n_sequences)
        for j, (first, n) in enumerate(zip(treeplex.first_sequence, treeplex.n_actions, strict=True)):
            plan[first : first + n] = plan[treeplex.parent[j]] * named[names.infosets[j]]
        result.append(plan)
    return result


def matrix_of(game: Game) -> np.ndarray:
    """The sequence-form payoffs [S0, S1]."""
    entries = game.payoff.entries()
    matrix = np.zeros((game.row.n_sequences, game.column.n_sequences))
    np.add.at(matrix, (entries.rows, entries.columns), entries.values)
    return matrix


def lp_value(game: Game) -> float:
    """Value of the game (von Stengel 1996): maximise v_0 over plans x and values v with F' v <= A' x."""
    row, column = (constraints(treeplex) for treeplex in game.players)
    payoffs = matrix_of(game)
    n_plan, n_values = payoffs.shape[0], column.shape[0]
    solution = linprog(
        -np.eye(n_plan + n_values)[n_plan],
        A_ub=np.hstack([-payoffs.T, column.T]),
        b_ub=np.zeros(payoffs.shape[1]),
        A_eq=np.hstack([row, np.zeros((len(row), n_values))]),
        b_eq=np.eye(len(row))[0],
        bounds=[(0, None)] * n_plan + [(None, None)] * n_values,
    )
    return -solution.fun + game.description.offset


def labels(game: Game) -> tuple[PlayerLabels, PlayerLabels]:
    assert game.description.labels is not None
    return game.description.labels


def sequence_names(game: Game) -> list[list]:
    """Both players' sequences by name: (infoset, action), the empty one ""."""
    sequences = []
    for treeplex, names in zip(game.players, labels(game), strict=True):
        called: list = [""]
        for infoset, actions in zip(names.infosets, names.actions, strict=True):
            called += [(infoset, action) for action in actions]
        assert len(set(called)) == len(called) == treeplex.n_sequences
        sequences.append(called)
    return sequences


def by_name(game: Game) -> tuple[list[dict], dict]:
    """The game without its numbering: each player's infosets -> (parent sequence, actions); payoffs by sequences."""
    structure, sequences = [], sequence_names(game)
    for treeplex, called in zip(game.players, sequences, strict=True):
        infosets: dict = {}
        for parent, first, n in zip(treeplex.parent, treeplex.first_sequence, treeplex.n_actions, strict=True):
            actions = called[first : first + n]
            infosets[actions[0][0]] = (called[parent], tuple(action for _, action in actions))
        structure.append(infosets)
    return structure, entries_by_name(game.payoff.entries(), sequences)


def entries_by_name(entries: Entries, sequences: list[list]) -> dict:
    """Numbers by the names of both sequences; those at the same place are added."""
    found: dict = defaultdict(float)
    for row, column, value in zip(*entries, strict=True):
        found[sequences[0][row], sequences[1][column]] += float(value)
    return found


def assert_same_numbers(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[at] - value for at, value in expected.items()], 0.0, rtol=0, atol=1e-15)


def assert_same_game(one: Game, other: Game) -> None:
    """The same infosets, actions, payoffs and plays, entry by entry, whatever their numbers."""
    (structure, payoffs), (other_structure, other_payoffs) = by_name(one), by_name(other)
    assert structure == other_structure
    assert_same_numbers(payoffs, other_payoffs)
    plays = []
    for game in (one, other):
        assert game.description.plays is not None
        plays.append(entries_by_name(game.description.plays(), sequence_names(game)))
    assert_same_numbers(*plays)
    assert one.name == other.name
    assert one.description.payoff_range == other.description.payoff_range
    assert one.description.offset == other.description.offset


def python_calls(work: Callable[[], object]) -> int:
    """How many Python functions are called while working."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def constraints(treeplex: Treeplex) -> np.ndarray:
    """E with E x = (1, 0, ..., 0): the actions of an infoset sum to its parent sequence."""
    matrix = np.zeros((treeplex.n_infosets + 1, treeplex.n_sequences))
    matrix[0, 0] = 1
    for j, first in enumerate(treeplex.first_sequence):
        matrix[j + 1, treeplex.parent[j]] -= 1
        matrix[j + 1, first : first + treeplex.n_actions[j]] = 1
    return matrix


def random_tree(rng: np.random.Generator, constant: float) -> Tree:
    """A random constant-sum tree with perfect recall, chance moves and payoffs at all nodes.

    An infoset is what a player has done so far and one random bit, so that nodes of different depth and place share it.
    """
    infosets: dict[tuple, int] = {}
    infos: list[InfosetInfo] = []
    rows: list[tuple] = []

    def grow(parent: int, action: int, probability: float, depth: int, history: tuple[tuple, tuple]) -> None:
        node, kind = len(rows), rng.random()
        payoff = float(rng.normal()) if rng.random() < 0.7 else 0.0
        payoffs = (payoff, constant - payoff if node == 0 else -payoff)
        if depth == 0 or (node and kind < 0.15):
            rows.append((parent, action, TERMINAL, probability, payoffs))
            return
        if kind < 0.4:
            rows.append((parent, action, CHANCE, probability, payoffs))
            for i, p in enumerate(rng.dirichlet(np.ones(rng.integers(1, 4)))):
                grow(node, i, float(p), depth - 1, history)
            return
        player = int(rng.integers(2))
        key = (player, history[player], int(rng.integers(2)))
        if key not in infosets:
            infosets[key] = len(infos)
            infos.append(InfosetInfo(player, f"I{len(infos)}", tuple("abc"[: rng.integers(1, 4)])))
        rows.append((parent, action, infosets[key], probability, payoffs))
        for a in range(len(infos[infosets[key]].actions)):
            told = tuple((*own, (infosets[key], a)) if p == player else own for p, own in enumerate(history))
            grow(node, a, 1.0, depth - 1, (told[0], told[1]))

    grow(-1, 0, 1.0, 5, ((), ()))
    parents, actions, members, probabilities, payoffs = zip(*rows, strict=True)
    return Tree(
        "random",
        ("row", "column"),
        np.array(parents),
        np.array(actions),
        np.array(members),
        np.array(probabilities),
        np.array(payoffs),
        tuple(infos),
    )
