"""Rules on arrays, and the game they describe: its tree is expanded ply by ply, one NumPy step for all states of a ply.

`games.rules` is for a game that is to be read, this is for one that is to be built fast: the states after t moves (the
frontier) are rows of arrays, and no Python runs per node. An infoset is what its player knows: its own moves, in order,
and what it has `seen`. Recall is therefore perfect by construction, and the states of an infoset may have different
depth. Each infoset is numbered after the sequence above it, so infosets are numbered by the number of own moves before
them. With A as in `games.compile`,

    A[s0, s1] = sum of reach(z) * u0(z) over the plays z in which s0 and s1 are the last own sequences.

Chance is uniform over its outcomes; a game without that needs `games.rules`.

Letters: n states of a frontier; M moves; N nodes of the tree, a ply after the other; I infosets; S sequences.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from games.compile import CHANCE, TERMINAL
from games.labels import LazyLabels
from games.memory import GIB, machine_memory
from mmd.game.game import Description, Game, GameError, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

States = Any  # a NamedTuple of arrays whose first axis is n
BYTES_PER_NODE = 230  # peak: 125 to 224 measured
SAMPLE = 2_000  # states of a frontier, to estimate the next one


@runtime_checkable
class ArrayRules(Protocol):
    """The rules of a game for n states at once. Moves, of players and of chance, are numbers from 0 to M - 1."""

    @property
    def name(self) -> str:
        """The game's name."""
        ...

    def initial(self) -> States:
        """The state before the first move, n = 1."""
        ...

    def player(self, states: States) -> Int[np.ndarray, " n"]:
        """Who moves: 0, 1, `CHANCE` or `TERMINAL`."""
        ...

    def legal(self, states: States) -> Bool[np.ndarray, "n M"]:
        """The moves of players and the equally likely outcomes of chance; anything where the play is over."""
        ...

    def next(self, states: States, moves: Int[np.ndarray, " n"]) -> States:
        """The states after a legal move each."""
        ...

    def seen(self, states: States) -> Int[np.ndarray, " n"]:
        """What the player to move knows besides its own moves, as a number of at least 0; anything elsewhere."""
        ...

    def payoff(self, states: States) -> Float[np.ndarray, " n"]:
        """To player 0, where the play is over; anything elsewhere."""
        ...

    def infoset(self, moves: list[int]) -> str:
        """The name of the infoset that these moves lead to."""
        ...

    def action(self, move: int) -> str:
        """The name of a player's move."""
        ...


def game_of(rules: ArrayRules) -> Game:
    """The game that the rules describe.

    Raises:
        GameError: an infoset whose states have different moves, or a tree too large for this machine.
    """
    check_size(rules)
    tree = _expand(rules)
    sides = (_side(rules, tree, 0), _side(rules, tree, 1))
    rows, columns = (side.sequence for side in sides)
    description = Description(
        name=rules.name,
        payoff_range=float(np.ptp(tree.payoff)),
        labels=(sides[0].labels, sides[1].labels),
        plays=partial(Entries, rows, columns, tree.reach),
    )
    decided = tree.payoff != 0
    entries = Entries(rows[decided], columns[decided], (tree.reach * tree.payoff)[decided])
    return Game.from_entries((sides[0].treeplex, sides[1].treeplex), entries, description)


def count_nodes(rules: ArrayRules) -> float:
    """The number of nodes; where a frontier exceeds `SAMPLE` states, a random part stands for it, without bias.

    Source: Knuth, "Estimating the efficiency of backtrack programs" (1975), with many paths at once.
    """
    rng = np.random.default_rng(0)
    states, weight, total = rules.initial(), 1.0, 1.0
    while True:
        at, moves = np.nonzero(_legal(rules, states))
        if not len(at):
            return total
        total += weight * len(at)
        if len(at) > SAMPLE:
            kept = rng.choice(len(at), SAMPLE, replace=False)
            weight *= len(at) / SAMPLE
            at, moves = at[kept], moves[kept]
        states = rules.next(_take(states, at), moves)


def check_size(rules: ArrayRules) -> None:
    """Refuse a game that this machine cannot build.

    Raises:
        GameError: the estimate exceeds the memory of the machine.
    """
    n_nodes = count_nodes(rules)
    needed, there = BYTES_PER_NODE * n_nodes, machine_memory()
    if needed > there:
        raise GameError(
            f"{rules.name} has about {n_nodes:.2g} nodes and needs about {needed / GIB:.2g} GiB to build, "
            f"but this machine has {there / GIB:.3g} GiB: try a smaller game"
        )


# -------------------------------------------------------------------- the tree


class _Links(NamedTuple):
    """How the nodes hang together.

    Attributes:
        parent: [N] parent node; the root is its own.
        move: [N] the move that leads here; 0 at the root.
        first_child: [N] the first of the children, which are consecutive.
        n_moves: [N] how many there are.
    """

    parent: Int[np.ndarray, " N"]
    move: Int[np.ndarray, " N"]
    first_child: Int[np.ndarray, " N"]
    n_moves: Int[np.ndarray, " N"]

    def before(self, node: int) -> list[int]:
        """The moves that lead to a node."""
        moves: list[int] = []
        while node:
            moves.insert(0, int(self.move[node]))
            node = int(self.parent[node])
        return moves

    def after(self, node: int) -> list[int]:
        """The moves that can be made there."""
        first = int(self.first_child[node])
        return self.move[first : first + int(self.n_moves[node])].tolist()


class _Tree(NamedTuple):
    """Every play of a game; Z of the N nodes end one.

    Attributes:
        links: how the nodes hang together.
        player: [N] who moves.
        seen: [N] as in `ArrayRules`.
        last: [2, N] the node after the own last move of each player, 0 where it has not moved.
        own: [2, N] how many moves each player has made.
        ends: [Z] the nodes that end plays.
        reach: [Z] probability that chance plays along.
        payoff: [Z] to player 0.
    """

    links: _Links
    player: Int[np.ndarray, " N"]
    seen: Int[np.ndarray, " N"]
    last: Int[np.ndarray, "2 N"]
    own: Int[np.ndarray, "2 N"]
    ends: Int[np.ndarray, " Z"]
    reach: Float[np.ndarray, " Z"]
    payoff: Float[np.ndarray, " Z"]


class _Ply(NamedTuple):
    """The nodes after t moves; attributes as in `_Tree`, `reach` also where the play goes on."""

    parent: Int[np.ndarray, " n"]
    move: Int[np.ndarray, " n"]
    n_moves: Int[np.ndarray, " n"]
    player: Int[np.ndarray, " n"]
    seen: Int[np.ndarray, " n"]
    last: Int[np.ndarray, "2 n"]
    own: Int[np.ndarray, "2 n"]
    reach: Float[np.ndarray, " n"]
    payoff: Float[np.ndarray, " n"]


def _expand(rules: ArrayRules) -> _Tree:
    """All plies."""
    none = np.zeros((2, 1), np.int32)
    states, parent, move, last, own, reach = rules.initial(), none[0], none[0], none, none, np.ones(1)
    plies: list[_Ply] = []
    first = 0  # node of the ply
    while len(parent):
        legal, player = _legal(rules, states), rules.player(states).astype(np.int8)
        n_moves = np.count_nonzero(legal, axis=1).astype(np.int32)
        plies.append(_Ply(parent, move, n_moves, player, rules.seen(states), last, own, reach, rules.payoff(states)))
        at, move = (index.astype(np.int32) for index in np.nonzero(legal))
        nodes = first + len(parent) + np.arange(len(at), dtype=np.int32)
        moved = np.arange(2)[:, None] == player[at]
        first, parent = first + len(parent), first + at
        last, own = np.where(moved, nodes, last[:, at]), own[:, at] + moved
        reach = reach[at] / np.where(player == CHANCE, n_moves, 1)[at]
        states = rules.next(_take(states, at), move)
    nodes = _Ply(*(np.concatenate(arrays, axis=-1) for arrays in zip(*plies, strict=True)))
    ends = np.flatnonzero(nodes.player == TERMINAL)
    links = _Links(nodes.parent, nodes.move, 1 + np.cumsum(nodes.n_moves) - nodes.n_moves, nodes.n_moves)
    return _Tree(links, *nodes[3:7], ends, nodes.reach[ends], nodes.payoff[ends])


def _legal(rules: ArrayRules, states: States) -> Bool[np.ndarray, "n M"]:
    return rules.legal(states) & (rules.player(states) != TERMINAL)[:, None]


def _take(states: States, at: Int[np.ndarray, " m"]) -> States:
    return type(states)(*(field[at] for field in states))


# -------------------------------------------------------------------- a player's side


class _Side(NamedTuple):
    """One player: its treeplex, its last sequence at each end of a play, and its labels."""

    treeplex: Treeplex
    sequence: Int[np.ndarray, " Z"]
    labels: PlayerLabels


def _side(rules: ArrayRules, tree: _Tree, player: int) -> _Side:
    """A player's infosets, first numbered by own moves made, then in treeplex order."""
    nodes = np.flatnonzero(tree.player == player)
    depth = tree.own[player, nodes]
    first = np.zeros(len(tree.player), np.int32)  # sequence of the first move, at the player's nodes
    parents, members = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    n_sequences = 1
    for t in range(depth.max(initial=-1) + 1):
        here = nodes[depth == t]
        above = _last_sequence(tree, player, first, here)
        infoset, examples = _alike(above, tree.seen[here])
        _check_moves(rules, tree.links, here, here[examples][infoset])
        n_actions = tree.links.n_moves[here[examples]]
        first[here] = (n_sequences + np.cumsum(n_actions) - n_actions)[infoset]
        n_sequences += int(n_actions.sum())
        parents.append(above[examples])
        members.append(here[examples])
    examples = np.concatenate(members)
    treeplex, ordering = Treeplex.build(np.concatenate(parents), tree.links.n_moves[examples])
    names = _Names(rules, tree.links, examples[ordering.infosets])
    labels = PlayerLabels(LazyLabels(len(examples), names.infoset), LazyLabels(len(examples), names.actions))
    sequence = ordering.sequences[_last_sequence(tree, player, first, tree.ends)]
    return _Side(treeplex, sequence.astype(np.int32), labels)


def _last_sequence(
    tree: _Tree, player: int, first: Int[np.ndarray, " N"], nodes: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The player's last own sequence at nodes; 0 before its first move, where `last` is the root."""
    last = tree.last[player, nodes]
    above = tree.links.parent[last]
    return np.where(last > 0, first[above] + last - tree.links.first_child[above], 0)


def _alike(
    above: Int[np.ndarray, " n"], seen: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " I"]]:
    """The infoset of each node, which are those with the same pair of numbers, and one node of each infoset."""
    order = np.lexsort((seen, above))
    is_new = np.append(True, (np.diff(above[order]) != 0) | (np.diff(seen[order]) != 0))
    infoset = np.empty(len(order), np.int64)
    infoset[order] = np.cumsum(is_new) - 1
    return infoset, order[is_new]


def _check_moves(
    rules: ArrayRules, links: _Links, nodes: Int[np.ndarray, " n"], examples: Int[np.ndarray, " n"]
) -> None:
    """The same moves at each node as at the example of its infoset."""
    same = links.n_moves[nodes] == links.n_moves[examples]
    for k in range(links.n_moves[nodes].max()):
        there = same & (k < links.n_moves[nodes])
        mine, others = (links.move[links.first_child[at[there]] + k] for at in (nodes, examples))
        same[there] = mine == others
    if not same.all():
        node, example = (int(at[same.argmin()]) for at in (nodes, examples))
        mine, others = (", ".join(map(rules.action, links.after(at))) for at in (node, example))
        raise GameError(
            f"{rules.name}: expected the same actions at every state of information set "
            f"{rules.infoset(links.before(node))!r}, got {mine} and {others}"
        )


@dataclass(frozen=True)
class _Names:
    """The labels of one player, read off one node of each infoset: `example` [I], in treeplex order."""

    rules: ArrayRules
    links: _Links
    example: Int[np.ndarray, " I"]

    def infoset(self, j: int) -> str:
        """The name of an infoset."""
        return self.rules.infoset(self.links.before(int(self.example[j])))

    def actions(self, j: int) -> tuple[str, ...]:
        """The names of its actions."""
        return tuple(map(self.rules.action, self.links.after(int(self.example[j]))))
