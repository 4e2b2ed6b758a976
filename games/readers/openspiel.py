"""OpenSpiel's games: `openspiel:NAME(parameters)` as a `mmd.Game`, and policies to OpenSpiel and back.

The tree is walked once, state by state, and compiled as any other. Infosets are the states with the same
`information_state_string`, actions are in the order of `legal_actions`, and games with simultaneous moves are first
made sequential by OpenSpiel's own `convert_to_turn_based`.

Before the walk, random probes estimate the size of the tree: a play drawn uniformly, move by move, that meets branching
factors b1, b2, ... estimates the number of nodes as 1 + b1 + b1 b2 + ..., without bias (Knuth 1975). Cut off at
`PROBE_CAP` = 100 times the limit L, the mean of 400 probes is bounded, so by Chernoff's inequality it exceeds
`PROBE_MARGIN` = 5 times L with probability below 1e-6 where the tree has at most L nodes: a refusal is no accident.

Nothing here imports OpenSpiel before it is used. Checked with version 2.0.2.

Sources: OpenSpiel (Lanctot et al. 2019); Knuth, "Estimating the efficiency of backtrack programs" (1975).
"""

import difflib
import importlib
import random
import statistics
from array import array
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree, compile_tree
from games.memory import check_memory, machine_memory
from mmd.game.game import Game, GameError

PREFIX = "openspiel:"
CHANCE_PLAYER, TERMINAL_PLAYER = -1, -4  # pyspiel.PlayerId
MAX_NODES = 10_000_000  # a minute or two of walking
BYTES_PER_NODE = 600  # peak, compiled: 170 to 530 measured
PROBES, PROBE_CAP, PROBE_MARGIN = 400, 100, 5
PROBE_LENGTH = 1_000  # moves


@runtime_checkable
class State(Protocol):
    """What is asked of a `pyspiel.State`."""

    def current_player(self) -> int:
        """0, 1, `CHANCE_PLAYER` or `TERMINAL_PLAYER`."""
        ...

    def legal_actions(self) -> Sequence[int]:
        """Actions of the player to move, ascending."""
        ...

    def chance_outcomes(self) -> Sequence[tuple[int, float]]:
        """Outcomes and their probabilities."""
        ...

    def information_state_string(self) -> str:
        """All that the player to move knows."""
        ...

    def action_to_string(self, action: int) -> str:
        """The name of an action of the player to move."""
        ...

    def child(self, action: int) -> "State":
        """The state after an action or outcome."""
        ...

    def returns(self) -> Sequence[float]:
        """Payoffs to both players at the end."""
        ...


@runtime_checkable
class BehavioralPolicy(Protocol):
    """What is asked of a `mmd.Policy`."""

    @property
    def game(self) -> Game:
        """Whose infosets it belongs to."""
        ...

    @property
    def probabilities(self) -> tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]:
        """Probability of each action at its infoset, in treeplex order."""
        ...


def load(spec: str) -> Game:
    """The two-player constant-sum game of perfect recall that OpenSpiel has under a name.

    Args:
        spec: `NAME` or `NAME(parameter=value,...)`, as for `pyspiel.load_game`.

    Raises:
        GameError: OpenSpiel is not installed, has no such game, or has one that cannot be solved here: not for two
            players, general-sum, of imperfect recall, without explicit chance or information states, or too large.
    """
    name = PREFIX + spec
    pyspiel = _import("pyspiel", name)
    try:
        root = _sequential(pyspiel, spec).new_initial_state()
        max_nodes = int(min(MAX_NODES, machine_memory() / BYTES_PER_NODE))
        check_size(root, name, max_nodes)
        tree = walk(root, name, max_nodes)
    except pyspiel.SpielError as error:
        raise GameError(f"{name}: OpenSpiel refuses: {str(error).partition(chr(10))[0]}") from None
    check_memory(name, int(np.count_nonzero(tree.infoset == TERMINAL)))
    return compile_tree(tree)


def _import(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise GameError(f"{name} needs OpenSpiel: try pip install 'magnetic-mirror[openspiel]'") from None


def _sequential(pyspiel: ModuleType, spec: str) -> Any:
    """The `pyspiel.Game` of a spec, made turn-based, or the reason why it cannot be solved here."""
    known, family = pyspiel.registered_names(), spec.partition("(")[0].strip()
    if family not in known:  # load_game would list all names on stderr
        close = difflib.get_close_matches(family, known, n=1, cutoff=0)[0]
        raise GameError(f"{PREFIX}{spec}: OpenSpiel has no game {family!r}, try {PREFIX}{close}")
    game = pyspiel.load_game(spec)
    kind, modes = game.get_type(), pyspiel.GameType
    if game.num_players() != 2:
        raise GameError(f"{PREFIX}{spec}: expected two players, got {game.num_players()}")
    if kind.utility not in (modes.Utility.ZERO_SUM, modes.Utility.CONSTANT_SUM):
        raise GameError(f"{PREFIX}{spec}: expected a zero-sum game; general-sum games cannot be solved here")
    if kind.chance_mode == modes.ChanceMode.SAMPLED_STOCHASTIC:
        raise GameError(f"{PREFIX}{spec}: expected chance with explicit probabilities, got a game that draws by itself")
    if not kind.provides_information_state_string:
        raise GameError(
            f"{PREFIX}{spec}: expected a game whose states say what a player knows, in an information state"
        )
    if kind.dynamics == modes.Dynamics.SIMULTANEOUS:
        return pyspiel.convert_to_turn_based(game)
    return game


# -------------------------------------------------------------------- the tree


def check_size(root: State, name: str, max_nodes: int) -> None:
    """Refuse a tree that random probes show to be larger than `max_nodes`; see above.

    Raises:
        GameError: the mean probe exceeds `PROBE_MARGIN * max_nodes`.
    """
    rng = random.Random(0)
    size = statistics.fmean(_probe(root, rng, PROBE_CAP * max_nodes) for _ in range(PROBES))
    if size > PROBE_MARGIN * max_nodes:
        raise GameError(
            f"{name} has more than about {size:.0e} nodes, expected at most {max_nodes:,}: try smaller parameters"
        )


def _probe(state: State, rng: random.Random, cap: int) -> int:
    """Knuth's estimate of the number of nodes from one play, at most `cap`; breaking off a long play only lowers it."""
    size = width = 1
    for _ in range(PROBE_LENGTH):
        moves = [move for move, _ in _moves(state, state.current_player())]
        if not moves or size >= cap:
            break
        width *= len(moves)
        size += width
        state = state.child(rng.choice(moves))
    return min(size, cap)


def _moves(state: State, player: int) -> list[tuple[int, float]]:
    """What can happen next, with the probability of chance's outcomes and 1 for actions."""
    if player == TERMINAL_PLAYER:
        return []
    if player == CHANCE_PLAYER:
        return list(state.chance_outcomes())
    return [(action, 1.0) for action in state.legal_actions()]


def walk(root: State, name: str, max_nodes: int = MAX_NODES) -> Tree:
    """Every play from a state on, as a tree in depth-first order.

    Args:
        root: the initial state.
        name: of the tree.
        max_nodes: when to give up.

    Raises:
        GameError: more nodes than that; an infoset without actions, or one whose states disagree on the actions.
    """
    parents, actions, members, odds, payoffs = (array(kind) for kind in "qqqdd")
    infosets = _Infosets(name)
    pending: list[tuple[State, int, int, int, float]] = [(root, 0, -1, 0, 1.0)]
    while pending:
        state, move, parent, index, probability = pending.pop()
        if parent >= 0:
            state = state.child(move)
        player, node = state.current_player(), len(parents)
        if node >= max_nodes:
            raise GameError(f"{name} has more than {max_nodes:,} nodes: try smaller parameters")
        moves = _moves(state, player)
        parents.append(parent)
        actions.append(index)
        odds.append(probability)
        if player == TERMINAL_PLAYER:
            members.append(TERMINAL)
            payoffs.extend(state.returns())
            continue
        members.append(CHANCE if player == CHANCE_PLAYER else infosets.number(state, player, [m for m, _ in moves]))
        payoffs.extend((0.0, 0.0))
        for i in reversed(range(len(moves))):
            pending.append((state, moves[i][0], node, i, moves[i][1]))
    return Tree(
        name=name,
        players=("row", "column"),
        parent=np.frombuffer(parents, np.int64),
        action=np.frombuffer(actions, np.int64),
        infoset=np.frombuffer(members, np.int64),
        probability=np.frombuffer(odds),
        payoffs=np.frombuffer(payoffs).reshape(-1, 2),
        infosets=tuple(infosets.infos),
    )


class _Infosets:
    """Numbers the infosets as they are met."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.infos: list[InfosetInfo] = []
        self._known: dict[tuple[int, str], tuple[int, list[int]]] = {}

    def number(self, state: State, player: int, legal: list[int]) -> int:
        """The number of a state's infoset, whose actions must be the same each time."""
        label = state.information_state_string()
        number, first = self._known.setdefault((player, label), (len(self.infos), legal))
        if number == len(self.infos):
            self.infos.append(InfosetInfo(player, label, tuple(map(state.action_to_string, legal))))
        if not legal:
            raise GameError(f"{self.name}: information set {label!r} has no actions, expected at least one")
        if legal != first:
            raise GameError(
                f"{self.name}: expected the same actions at every state of information set {label!r}, "
                f"got {', '.join(map(state.action_to_string, legal))} and {', '.join(self.infos[number].actions)}"
            )
        return number


# -------------------------------------------------------------------- policies


def tabular_policy(policy: BehavioralPolicy) -> Any:
    """A policy as OpenSpiel's own, of the (turn-based) game that `load` walked.

    Args:
        policy: a `mmd.Policy`, such as `solution.policy`, of a game loaded from `openspiel:...`.

    Returns:
        An `open_spiel.python.policy.TabularPolicy`.

    Raises:
        GameError: the game is not from OpenSpiel, or OpenSpiel is not installed.
    """
    tabular, places = _places(policy.game)
    for place in places:
        chosen = policy.probabilities[place.player][place.sequences]
        tabular.action_probability_array[place.row, place.legal] = chosen
    return tabular


def probabilities_of(game: Game, policy: Any) -> tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]:
    """A policy of OpenSpiel's as the probabilities that `mmd.Policy(game, ...)` takes.

    Args:
        game: loaded from `openspiel:...`.
        policy: an `open_spiel.python.policy.Policy` of that game, such as a solver's `average_policy()`.

    Raises:
        GameError: the game is not from OpenSpiel, or OpenSpiel is not installed.
    """
    row, column = (np.ones(player.n_sequences) for player in game.players)
    tabular, places = _places(game)
    for place in places:
        chosen = policy.action_probabilities(tabular.states[place.row], place.player)
        (row, column)[place.player][place.sequences] = [chosen.get(action, 0.0) for action in place.legal]
    return row, column


class _Place(NamedTuple):
    """Where an infoset is: a player's sequences of ours, and a row and actions of an OpenSpiel table."""

    player: int
    sequences: slice
    row: int
    legal: list[int]


def _places(game: Game) -> tuple[Any, list[_Place]]:
    """OpenSpiel's uniform policy of a game loaded from there, and the place of every infoset in it."""
    if not game.name.startswith(PREFIX) or game.description.labels is None:
        raise GameError(f"expected a game loaded from {PREFIX}NAME, got {game.name}")
    spiel_game = _sequential(_import("pyspiel", game.name), game.name.removeprefix(PREFIX))
    tabular = _import("open_spiel.python.policy", game.name).TabularPolicy(spiel_game)
    places = []
    for player, (treeplex, labels) in enumerate(zip(game.players, game.description.labels, strict=True)):
        rows = {key.strip(): tabular.state_lookup[key] for key in tabular.states_per_player[player]}
        ends = treeplex.first_sequence + treeplex.n_actions
        for label, first, end in zip(labels.infosets, treeplex.first_sequence, ends, strict=True):
            legal = np.flatnonzero(tabular.legal_actions_mask[rows[label]]).tolist()
            places.append(_Place(player, slice(first, end), rows[label], legal))
    return tabular, places
