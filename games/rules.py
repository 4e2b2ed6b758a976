"""Rules: a game as readable host Python, and its expansion into a `Tree`.

A game is an object with a handful of small functions of a state; states are plain immutable values. `game_of` walks
every play once, depth first and without recursion, and compiles the result; a new game needs nothing but its rules.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from games import memory
from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree, compile_tree
from mmd.game.game import Game, GameError

State = TypeVar("State")
BYTES_PER_NODE = 300  # about, of what `expand` keeps; half of the machine's memory is left to the rest
NODES_BETWEEN_LOOKS = 2**16


@runtime_checkable
class Rules(Protocol[State]):
    """What a game has to say about itself."""

    @property
    def name(self) -> str:
        """The game's name, with its parameters."""
        ...

    def initial(self) -> State:
        """The state in which the game starts."""
        ...

    def player(self, state: State) -> int:
        """Who moves: 0 (row), 1 (column), `CHANCE` or `TERMINAL`."""
        ...

    def actions(self, state: State) -> Sequence[str]:
        """The legal actions where a player moves; a function of the infoset alone."""
        ...

    def chance(self, state: State) -> Sequence[tuple[Hashable, float]]:
        """Outcomes and their probabilities where chance moves."""
        ...

    def next(self, state: State, action: Any) -> State:
        """The state after an action or a chance outcome."""
        ...

    def infoset(self, state: State) -> str:
        """What the player to move knows, own actions included; one infoset is all states with the same answer."""
        ...

    def utility(self, state: State) -> tuple[float, float]:
        """Payoffs to both players at the end, in the game's own units."""
        ...


def game_of(rules: Rules) -> Game:
    """The game that the rules describe.

    Raises:
        GameError: the rules answer otherwise than `Rules` says. Or states of an infoset have different actions or
            none. Or chance probabilities do not sum to 1, payoffs have no constant sum, or a player forgets an action.
    """
    return compile_tree(expand(rules))


def expand(rules: Rules) -> Tree:
    """Every play of a game, as a tree in depth-first order.

    Raises:
        GameError: an infoset without actions, or one whose states disagree on the actions. Or rules that answer
            otherwise than `Rules` says. Or more positions than the machine has memory for, as where a play never ends.
    """
    infosets: dict[tuple[int, str], int] = {}
    infos: list[InfosetInfo] = []
    nodes: list[tuple[int, int, float, int, tuple[float, float]]] = []
    stack: list[tuple] = [(rules.initial(), -1, 0, 1.0)]
    while stack:
        _check_room(rules.name, len(nodes))
        state, parent, action, probability = stack.pop()
        player, infoset, payoffs, branches = rules.player(state), TERMINAL, (0.0, 0.0), []
        if player == TERMINAL:
            payoffs = rules.utility(state)
        elif player == CHANCE:
            infoset, branches = CHANCE, rules.chance(state)
        else:
            key = (player, rules.infoset(state))
            info = InfosetInfo(player, key[1], _actions(rules.name, player, rules.actions(state)))
            infoset = infosets.setdefault(key, len(infos))
            if infoset == len(infos):
                infos.append(info)
            _check_actions(rules.name, infos[infoset], info)
            branches = [(name, 1.0) for name in info.actions]
        nodes_before = len(nodes)
        nodes.append((parent, action, probability, infoset, payoffs))
        for i in reversed(range(len(branches))):
            try:
                outcome, likelihood = branches[i]
            except (TypeError, ValueError):
                wanted = "expected chance to return pairs of an outcome and its probability"
                raise GameError(f"{rules.name}: {wanted}, got {branches[i]!r} among them") from None
            stack.append((rules.next(state, outcome), nodes_before, i, likelihood))
    parents, actions, probabilities, members, payoffs = zip(*nodes, strict=True)
    return Tree(
        name=rules.name,
        players=("row", "column"),
        parent=np.array(parents),
        action=np.array(actions),
        infoset=np.array(members),
        probability=np.array(probabilities, np.float64),
        payoffs=_payoffs(rules.name, payoffs),
        infosets=tuple(infos),
    )


def _check_room(name: str, n_nodes: int) -> None:
    """That so many positions leave the machine half of its memory; looked at now and then."""
    if n_nodes % NODES_BETWEEN_LOOKS == 0 and 2 * BYTES_PER_NODE * n_nodes > memory.machine_memory():
        wanted = "expected plays that end in TERMINAL, and a tree that fits this machine"
        raise GameError(f"{name}: {wanted}, got more than {n_nodes:,} positions")


def _actions(name: str, player: Any, found: Any) -> tuple[str, ...]:
    """The actions of a player, as rules answer."""
    if player not in (0, 1):
        raise GameError(f"{name}: expected player to return 0, 1, CHANCE or TERMINAL, got {player!r}")
    if found is None or isinstance(found, str):
        raise GameError(f"{name}: expected actions to return a sequence of texts, got {found!r}")
    return tuple(found)


def _payoffs(name: str, found: Sequence[Any]) -> Float[np.ndarray, "N 2"]:
    """Both players' payoffs at each node."""
    for payoffs in found:
        if not (isinstance(payoffs, Sequence | np.ndarray) and len(payoffs) == 2):
            raise GameError(f"{name}: expected utility to return two numbers, one for each player, got {payoffs!r}")
    return np.array(found, np.float64)


def _check_actions(name: str, first: InfosetInfo, again: InfosetInfo) -> None:
    if not again.actions:
        raise GameError(f"{name}: information set {again.label!r} has no actions, expected at least one")
    if first.actions != again.actions:
        raise GameError(
            f"{name}: expected the same actions at every state of information set {again.label!r}, "
            f"got {', '.join(first.actions)} and {', '.join(again.actions)}"
        )
