"""Tree and compile_tree: a finite extensive-form game as flat arrays, and its sequence form with every check.

For a tree with perfect recall the sequence form (von Stengel 1996) is the payoff matrix over pairs of own sequences,

    A[s0, s1] = sum of reach(z) * (u0(z) - offset) over the plays z in which s0 and s1 are the last own sequences,

reach(z) the product of the chance probabilities on the way, and the offset as a rule half the constant to which the
payoffs sum. A play's
payoff is the sum of the payoffs met along it. Everything that runs along paths is pointer doubling over the parent
array, so that a tree costs O(N log depth) whatever its shape.

Letters: N nodes, P players, I infosets, S sequences.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from games.constant_sum import constant_sum
from games.labels import told_apart, unique_labels
from mmd.game.game import Description, Game, GameError, PlayerLabels, common
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

CHANCE = -1
TERMINAL = -2
PROBABILITY_TOLERANCE = 1e-9
NOBODY = "nobody"  # the opponent of the only player of a file
SHOWN_MOVES = 8


@dataclass(frozen=True)
class InfosetInfo:
    """One information set of a `Tree`.

    Attributes:
        player: who decides: 0 row, 1 column, 2, ... (files may have more players than can be solved for).
        label: its name; need not be unique.
        actions: names of the actions.
    """

    player: int
    label: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """A finite extensive-form game as flat arrays, one entry a node.

    Parents come before their children; node 0 is the root.

    Attributes:
        name: the game's name.
        players: P names.
        parent: [N] parent node, -1 at the root.
        action: [N] which action (or chance outcome) of the parent leads here; 0 at the root.
        infoset: [N] index into `infosets` at decision nodes, `CHANCE` or `TERMINAL` elsewhere.
        probability: [N] probability of the edge into the node if its parent is a chance node, else 1.
        payoffs: [N, P] payoff received on arrival at the node; a play's payoff is the sum along its path.
        infosets: the information sets.
    """

    name: str
    players: tuple[str, ...]
    parent: Int[np.ndarray, " N"]
    action: Int[np.ndarray, " N"]
    infoset: Int[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]
    payoffs: Float[np.ndarray, "N P"]
    infosets: tuple[InfosetInfo, ...]


class _Sequences(NamedTuple):
    """One player's side: its treeplex, the last own sequence [N] at each node, and its labels."""

    treeplex: Treeplex
    of_node: Int[np.ndarray, " N"]
    labels: PlayerLabels


def compile_tree(tree: Tree, sum_tolerance: float | None = None) -> Game:
    """The sequence form of a two-player constant-sum tree with perfect recall.

    `Description.offset` is half the constant to which the payoffs sum, or the middle of the row player's payoffs where
    that dwarfs their differences, so that values are in the row player's units.
    The tree may have fewer or more players, as long as at most two matter: see `two_players`.

    Args:
        tree: the game.
        sum_tolerance: how far apart the sums of the payoffs may be, for payoffs that are rounded; the row player's
            payoffs count. The default is 1e-9 of their range.

    Raises:
        GameError: the arrays are not a tree; not two players; chance probabilities negative or not summing to 1;
            payoffs not finite or without a constant sum; imperfect recall. The message names the play or the infoset.
    """
    tree = two_players(tree)
    _check_structure(tree)
    probability = _chance(tree)
    plays = np.flatnonzero(tree.infoset == TERMINAL)
    reach = _along_paths(tree.parent, probability, np.multiply)[plays]
    payoffs = _finite_payoffs(tree, plays)[reach > 0]
    plays, reach = plays[reach > 0], reach[reach > 0]  # what chance never plays counts for nothing
    constant = constant_sum(tree.name, payoffs, lambda play: _where(tree, int(plays[play])), sum_tolerance)
    payoffs = payoffs[:, 0]
    sides = tuple(_sequences(tree, player) for player in (0, 1))
    offset = common(payoffs) or constant / 2
    values = reach * (payoffs - offset)
    kept = values != 0
    rows, columns = (side.of_node[plays].astype(np.int32) for side in sides)
    description = Description(
        name=tree.name,
        payoff_range=float(payoffs.max()) - float(payoffs.min()),
        offset=offset,
        labels=(sides[0].labels, sides[1].labels),
        facts=_names_told_apart(tree),
        plays=partial(Entries, rows, columns, reach),
    )
    entries = Entries(rows[kept], columns[kept], values[kept])
    return Game.from_entries((sides[0].treeplex, sides[1].treeplex), entries, description)


# -------------------------------------------------------------------- players


def two_players(tree: Tree) -> Tree:
    """The same tree for the two players who matter.

    Of more players those are left out, from the last, who never move and are paid 0 at every node. The only player of a
    tree gets an opponent who never moves and who pays what that player receives.

    Raises:
        GameError: more than two players move or are paid.
    """
    movers = {info.player for info in tree.infosets}
    idle = [p for p in range(len(tree.players)) if p not in movers and not tree.payoffs[:, p].any()]
    left_out = idle[::-1][: max(len(tree.players) - 2, 0)]
    kept = [p for p in range(len(tree.players)) if p not in left_out]
    if len(kept) == 1:
        return replace(tree, players=(*tree.players, NOBODY), payoffs=np.hstack([tree.payoffs, -tree.payoffs]))
    if len(kept) != 2:
        raise GameError(f"{tree.name}: expected two players, got {len(tree.players)} ({', '.join(tree.players)})")
    if not left_out:
        return tree
    infosets = tuple(replace(info, player=kept.index(info.player)) for info in tree.infosets)
    return replace(tree, players=tuple(tree.players[p] for p in kept), payoffs=tree.payoffs[:, kept], infosets=infosets)


# -------------------------------------------------------------------- checks


def _check_structure(tree: Tree) -> None:
    """Parents before children, one child an action, at least one node an infoset."""
    n, parent, action = len(tree.parent), tree.parent[1:], tree.action[1:]
    if n == 0 or tree.parent[0] != -1 or not ((parent >= 0) & (parent < np.arange(1, n))).all():
        raise GameError(f"{tree.name}: expected node 0 to be the root and every other node to come after its parent")
    unused = np.setdiff1d(np.arange(len(tree.infosets)), tree.infoset)
    if unused.size:
        raise GameError(f"{tree.name}: no node belongs to {_name(tree, int(unused[0]))}")
    children = np.bincount(parent, minlength=n)
    n_actions = np.array([len(info.actions) for info in tree.infosets] + [0, 0])  # the last two: TERMINAL and CHANCE
    expected = np.where(tree.infoset == CHANCE, children, n_actions[tree.infoset])
    wrong = children != expected
    order = np.lexsort((action, parent))
    rank = np.arange(n - 1) - (np.cumsum(children) - children)[parent[order]]
    wrong[parent[order][action[order] != rank]] = True
    if wrong.any():
        raise GameError(f"{tree.name}: expected one child for each action {_where(tree, int(wrong.argmax()))}")


def _chance(tree: Tree) -> Float[np.ndarray, " N"]:
    """`Tree.probability`, checked to be at least 0 and to sum to 1 at every chance node, then scaled to that sum."""
    by_chance = np.append(False, tree.infoset[tree.parent[1:]] == CHANCE)
    bad = by_chance & ~(tree.probability >= 0)
    if bad.any():
        node = int(bad.argmax())
        raise GameError(
            f"{tree.name}: expected chance probabilities of at least 0, got {tree.probability[node]:g} "
            f"for outcome {tree.action[node] + 1} {_where(tree, int(tree.parent[node]))}"
        )
    total = np.bincount(tree.parent[by_chance], tree.probability[by_chance], minlength=len(tree.parent))
    bad = (tree.infoset == CHANCE) & ~(np.abs(total - 1) <= PROBABILITY_TOLERANCE)
    if bad.any():
        node = int(bad.argmax())
        raise GameError(
            f"{tree.name}: expected chance probabilities that sum to 1, got {total[node]:.12g} {_where(tree, node)}"
        )
    return np.where(by_chance, tree.probability / np.where(by_chance, total[tree.parent], 1.0), tree.probability)


def _finite_payoffs(tree: Tree, plays: Int[np.ndarray, " Z"]) -> Float[np.ndarray, "Z 2"]:
    """Both players' payoffs of each play."""
    with np.errstate(over="ignore", invalid="ignore"):
        totals = _along_paths(tree.parent, tree.payoffs, np.add)[plays]
    bad = ~np.isfinite(totals).all(axis=1)
    if bad.any():
        play = int(bad.argmax())
        raise GameError(f"{tree.name}: expected finite payoffs, got {totals[play]} {_where(tree, int(plays[play]))}")
    return totals


# -------------------------------------------------------------------- sequences


def _sequences(tree: Tree, player: int) -> _Sequences:
    """A player's treeplex, with perfect recall checked.

    Recall is perfect exactly if all nodes of an infoset have the same last own sequence: by induction over the infosets
    above, the whole own history is then the same.
    """
    mine = np.array([info.player == player for info in tree.infosets] + [False, False], bool)
    own = np.flatnonzero(mine)
    n_actions = np.array([len(tree.infosets[j].actions) for j in own], np.int64)
    local = np.cumsum(mine) - 1
    first = 1 + np.cumsum(n_actions) - n_actions
    last_edge = _nearest(tree.parent, np.append(False, mine[tree.infoset[tree.parent[1:]]]))
    taken = last_edge > 0
    sequence = np.zeros(len(tree.parent), np.int64)
    sequence[taken] = first[local[tree.infoset[tree.parent[last_edge[taken]]]]] + tree.action[last_edge[taken]]
    nodes = np.flatnonzero(mine[tree.infoset])
    infoset_of_node = local[tree.infoset[nodes]]
    _, where_first = np.unique(infoset_of_node, return_index=True)
    parent = sequence[nodes[where_first]]
    forgetful = np.flatnonzero(sequence[nodes] != parent[infoset_of_node])
    if forgetful.size:
        one, other = nodes[where_first[infoset_of_node[forgetful[0]]]], nodes[forgetful[0]]
        _refuse_imperfect_recall(tree, int(one), int(other))
    treeplex, ordering = Treeplex.build(parent, n_actions)
    infosets = [tree.infosets[j] for j in own[ordering.infosets]]
    return _Sequences(treeplex, ordering.sequences[sequence], _labels(infosets))


def _labels(infosets: list[InfosetInfo]) -> PlayerLabels:
    names = unique_labels(info.label for info in infosets)
    unique = {actions: unique_labels(actions) for actions in {info.actions for info in infosets}}
    return PlayerLabels(names, tuple(unique[info.actions] for info in infosets))


def _names_told_apart(tree: Tree) -> tuple[str, ...]:
    """What the game says of labels that a player's infosets share, or the actions of an infoset."""
    infosets = ([info.label for info in tree.infosets if info.player == player] for player in (0, 1))
    return told_apart(*infosets, *dict.fromkeys(info.actions for info in tree.infosets))


def _refuse_imperfect_recall(tree: Tree, one: int, other: int) -> NoReturn:
    """Raise for two nodes of one infoset whose player's own histories differ."""
    infoset = int(tree.infoset[one])
    above = _nearest(tree.parent, tree.infoset == infoset)[tree.parent[[one, other]]]
    if (tree.infoset[above] == infoset).any():
        raise GameError(f"{tree.name}: a play meets {_name(tree, infoset)} twice; solvable games have perfect recall")
    raise GameError(
        f"{tree.name}: expected perfect recall, but {_name(tree, infoset)} is reached with different own histories, "
        f"{_where(tree, one)} and {_where(tree, other)}"
    )


# -------------------------------------------------------------------- paths


def _along_paths(parent: Int[np.ndarray, " N"], values: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """Fold the values met from the root to each node, itself included."""
    ancestor, values = parent.copy(), values.copy()
    inner = np.flatnonzero(ancestor >= 0)
    while inner.size:
        values[inner] = combine(values[inner], values[ancestor[inner]])
        ancestor[inner] = ancestor[ancestor[inner]]
        inner = inner[ancestor[inner] >= 0]
    return values


def _nearest(parent: Int[np.ndarray, " N"], marked: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The nearest marked node at or above each node; the root where there is none."""
    nearest = np.where(marked, np.arange(len(parent)), np.maximum(parent, 0))
    while True:
        further = nearest[nearest]
        if (further == nearest).all():
            return nearest
        nearest = further


def _name(tree: Tree, infoset: int) -> str:
    info = tree.infosets[infoset]
    label = info.label.strip() or str(infoset + 1)
    return f"information set {label!r} of player {tree.players[info.player]!r}"


def _action(tree: Tree, infoset: int, action: int) -> str:
    label = tree.infosets[infoset].actions[action]
    return " ".join(label.split()) or str(action + 1)


def _where(tree: Tree, node: int) -> str:
    """A readable address of a node: the moves that lead to it."""
    moves: list[str] = []
    while tree.parent[node] >= 0 and len(moves) < SHOWN_MOVES:
        infoset, action = int(tree.infoset[tree.parent[node]]), int(tree.action[node])
        at_chance = infoset == CHANCE
        moves.append(f"chance {action + 1}" if at_chance else _action(tree, infoset, action))
        node = int(tree.parent[node])
    start = "... > " if tree.parent[node] >= 0 else ""
    return f"after {start}{' > '.join(reversed(moves))}" if moves else "at the root"
