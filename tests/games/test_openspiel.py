"""openspiel:NAME, first with a stand-in for OpenSpiel that plays our own rules, then with OpenSpiel where installed."""

import random
import sys
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker, leduc_poker, openspiel
from games.compile import CHANCE, TERMINAL
from games.rules import Rules, expand
from mmd.game import GameError
from tests.games import plain

KUHN = kuhn_poker.KuhnPoker(3)
PLAYERS = {TERMINAL: openspiel.TERMINAL_PLAYER, CHANCE: openspiel.CHANCE_PLAYER, 0: 0, 1: 1}


def action_number(index: int) -> int:
    """OpenSpiel numbers the actions of a whole game: those of an infoset ascend, with gaps."""
    return 3 * index + 1


@dataclass(frozen=True)
class State:
    """A state of our own rules that answers as a `pyspiel.State` does: moves are numbers."""

    rules: Any
    state: Any

    def current_player(self) -> int:
        return PLAYERS[self.rules.player(self.state)]

    def legal_actions(self) -> list[int]:
        return [action_number(i) for i in range(len(self.rules.actions(self.state)))]

    def chance_outcomes(self) -> list[tuple[int, float]]:
        return [(i, probability) for i, (_, probability) in enumerate(self.rules.chance(self.state))]

    def information_state_string(self) -> str:
        return self.rules.infoset(self.state)

    def action_to_string(self, action: int) -> str:
        return self.rules.actions(self.state)[self.legal_actions().index(action)]

    def child(self, action: int) -> "State":
        at_chance = self.rules.player(self.state) == CHANCE
        move = self.rules.chance(self.state)[action][0] if at_chance else self.action_to_string(action)
        return State(self.rules, self.rules.next(self.state, move))

    def returns(self) -> tuple[float, float]:
        return self.rules.utility(self.state)


def root_of(rules: Rules) -> State:
    return State(rules, rules.initial())


@pytest.mark.parametrize("rules", [kuhn_poker.KuhnPoker(4), leduc_poker.LeducPoker(2, 2)], ids=lambda rules: rules.name)
def test_the_walk_meets_every_play(rules):
    ours, walked = expand(rules), openspiel.walk(root_of(rules), rules.name)
    for field in ("parent", "action", "infoset", "probability", "payoffs"):
        np.testing.assert_array_equal(getattr(walked, field), getattr(ours, field))
    assert walked.infosets == ours.infosets


# -------------------------------------------------------------------- sizes


def test_the_walk_stops_at_its_limit():
    """Kuhn poker has 58 nodes."""
    root = root_of(KUHN)
    assert len(openspiel.walk(root, "kuhn", max_nodes=58).parent) == 58
    with pytest.raises(GameError) as error:
        openspiel.walk(root, "kuhn", max_nodes=57)
    assert str(error.value) == "kuhn has more than 57 nodes: try smaller parameters"


def test_probes_estimate_the_number_of_nodes_without_bias():
    """Kuhn poker has 58 nodes, and its plays have different lengths; the mean is tested to four standard errors."""
    root, rng = root_of(KUHN), random.Random(1)
    sizes = [openspiel._probe(root, rng, cap=10**6) for _ in range(1_000)]
    error = np.std(sizes) / np.sqrt(len(sizes))
    assert abs(np.mean(sizes) - 58) < 4 * error < 6


def test_large_trees_are_refused_before_the_walk():
    """A play of 3,000 moves with 2 actions each: 2^3001 - 1 nodes."""

    class Long:
        name = "long"

        def initial(self) -> int:
            return 0

        def player(self, state: int) -> int:
            return state % 2 if state < 3_000 else TERMINAL

        def actions(self, state: int) -> tuple[str, ...]:
            return ("left", "right")

        def next(self, state: int, action: str) -> int:
            return state + 1

    with pytest.raises(GameError) as error:
        openspiel.check_size(root_of(Long()), "long", max_nodes=1_000)
    assert str(error.value) == "long has more than about 1e+05 nodes, expected at most 1,000: try smaller parameters"
    openspiel.check_size(root_of(KUHN), "kuhn", max_nodes=58)


# -------------------------------------------------------------------- refusals


def test_without_openspiel_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(GameError) as error:
        games.load("openspiel:leduc_poker")
    assert str(error.value) == "openspiel:leduc_poker needs OpenSpiel: try pip install 'magnetic-mirror[openspiel]'"


class SpielError(RuntimeError):
    """What OpenSpiel raises."""


@dataclass(frozen=True)
class SpielGame:
    """A `pyspiel.Game` of our own rules, with what its type says."""

    rules: Any = KUHN
    players: int = 2
    utility: str = "zero"
    chance_mode: str = "explicit"
    provides_information_state_string: bool = True
    dynamics: str = "sequential"

    def num_players(self) -> int:
        return self.players

    def get_type(self) -> "SpielGame":
        return self

    def new_initial_state(self) -> State:
        if self.dynamics == "simultaneous":
            raise SpielError("simultaneous")
        return root_of(self.rules)


GAMES = {
    "kuhn_poker": SpielGame(),
    "kuhn_poker(players=3)": SpielGame(players=3),
    "simultaneous_kuhn": SpielGame(dynamics="simultaneous"),
    "bargaining": SpielGame(utility="general"),
    "noisy": SpielGame(chance_mode="sampled"),
    "pig": SpielGame(provides_information_state_string=False),
}


def load_game(spec: str) -> SpielGame:
    if spec not in GAMES:
        raise SpielError("Unknown parameter 'x'.\nAvailable parameters are: players")
    return GAMES[spec]


def module_of(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


@pytest.fixture
def stand_in(monkeypatch):
    """OpenSpiel as far as `load` needs it."""
    modes = SimpleNamespace(
        Utility=SimpleNamespace(ZERO_SUM="zero", CONSTANT_SUM="constant"),
        ChanceMode=SimpleNamespace(SAMPLED_STOCHASTIC="sampled"),
        Dynamics=SimpleNamespace(SIMULTANEOUS="simultaneous"),
    )
    module = module_of(
        "pyspiel",
        GameType=modes,
        SpielError=SpielError,
        registered_names=lambda: [name for name in GAMES if "(" not in name],
        load_game=load_game,
        convert_to_turn_based=lambda game: SpielGame(game.rules),
    )
    monkeypatch.setitem(sys.modules, "pyspiel", module)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("spec", ["openspiel:kuhn_poker", "openspiel:simultaneous_kuhn"])
def test_a_loaded_game_is_the_game(spec):
    game = games.load(spec)
    assert game.name == spec
    same = kuhn_poker.game(3)
    plain.assert_same_game(game, replace(same, description=replace(same.description, name=spec)))


REFUSALS = [
    ("kuhn_pokr", "OpenSpiel has no game 'kuhn_pokr', try openspiel:kuhn_poker"),
    ("kuhn_poker(x=3)", "OpenSpiel refuses: Unknown parameter 'x'."),
    ("kuhn_poker(players=3)", "expected two players, got 3"),
    ("bargaining", "expected a zero-sum game; general-sum games cannot be solved here"),
    ("noisy", "expected chance with explicit probabilities, got a game that draws by itself"),
    ("pig", "expected a game whose states say what a player knows, in an information state"),
]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("spec", "sentence"), REFUSALS)
def test_refusals_say_why(spec, sentence):
    with pytest.raises(GameError) as error:
        games.load(f"openspiel:{spec}")
    assert str(error.value) == f"openspiel:{spec}: {sentence}"


@pytest.mark.usefixtures("stand_in")
def test_a_small_machine_walks_less(monkeypatch):
    monkeypatch.setattr(openspiel, "machine_memory", lambda: 57.0 * openspiel.BYTES_PER_NODE)
    with pytest.raises(GameError, match="openspiel:kuhn_poker has more than 57 nodes"):
        games.load("openspiel:kuhn_poker")


def test_states_of_an_infoset_have_the_same_actions():
    class Cheat(kuhn_poker.KuhnPoker):
        def actions(self, state: kuhn_poker.State) -> tuple[str, ...]:
            return ("pass",) if state.cards == (0, 1) else ("pass", "bet")

    with pytest.raises(GameError) as error:
        openspiel.walk(root_of(Cheat(3)), "cheat")
    assert str(error.value) == (
        "cheat: expected the same actions at every state of information set 'J|', got pass, bet and pass"
    )


def test_an_infoset_needs_an_action():
    class Stuck(kuhn_poker.KuhnPoker):
        def actions(self, state: kuhn_poker.State) -> tuple[str, ...]:
            return ()

    with pytest.raises(GameError, match=r"stuck: information set 'J\|' has no actions"):
        openspiel.walk(root_of(Stuck(3)), "stuck")


def test_only_games_from_there_have_policies_there():
    game = games.load("kuhn_poker")
    with pytest.raises(GameError, match="expected a game loaded from openspiel:NAME, got kuhn_poker:cards=3"):
        openspiel.tabular_policy(mmd.Policy.random(game, seed=0))


# -------------------------------------------------------------------- policies


class TabularPolicy:
    """An `open_spiel.python.policy.TabularPolicy`: a row for each infoset of either player, in an order of its own."""

    def __init__(self, game: SpielGame) -> None:
        states = sorted(self._decisions(game.new_initial_state()), key=lambda s: s.information_state_string()[::-1])
        self.states = list({s.information_state_string(): s for s in states}.values())
        self.state_lookup = {s.information_state_string(): row for row, s in enumerate(self.states)}
        self.states_per_player = [
            [key for key, row in self.state_lookup.items() if self.states[row].current_player() == player]
            for player in (0, 1)
        ]
        self.legal_actions_mask = np.array([[i in s.legal_actions() for i in range(5)] for s in self.states])
        self.action_probability_array = self.legal_actions_mask / 2

    def _decisions(self, state: State) -> list[State]:
        moves = [move for move, _ in openspiel._moves(state, state.current_player())]
        below = [s for move in moves for s in self._decisions(state.child(move))]
        return below if state.current_player() < 0 else [state, *below]

    def action_probabilities(self, state: State, player: int) -> dict[int, float]:
        assert state.current_player() == player
        row = self.action_probability_array[self.state_lookup[state.information_state_string()]]
        return {action: row[action] for action in state.legal_actions() if row[action] > 0}


def test_policies_keep_their_places(stand_in, monkeypatch):
    module = module_of("open_spiel.python.policy", TabularPolicy=TabularPolicy)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    game = games.load("openspiel:kuhn_poker")
    policy = mmd.Policy.random(game, seed=0)
    always_bet = mmd.Policy(game, tuple(np.append(1.0, np.tile([0.0, 1.0], p.n_infosets)) for p in game.players))
    for sent in (policy, always_bet):
        tabular = openspiel.tabular_policy(sent)
        for _, infoset, action, probability in sent.table():
            number = action_number(["pass", "bet"].index(action))
            assert tabular.action_probability_array[tabular.state_lookup[infoset], number] == probability
        for back, there in zip(openspiel.probabilities_of(game, tabular), sent.probabilities, strict=True):
            np.testing.assert_array_equal(back, there)


# -------------------------------------------------------------------- with OpenSpiel

REAL = [
    "kuhn_poker",
    "leduc_poker(suit_isomorphism=True)",
    "liars_dice(dice_sides=3)",
    "matrix_rpsw",
    "goofspiel(num_cards=3,imp_info=True,points_order=descending)",
    "dark_hex(num_rows=2,num_cols=2)",
]


@pytest.mark.peers
@pytest.mark.parametrize("spec", REAL)
def test_openspiel_finds_the_same_nash_conv(spec):
    pytest.importorskip("pyspiel", reason="OpenSpiel is not installed")
    exploitability = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    game = games.load(f"openspiel:{spec}")
    policy = mmd.Policy.random(game, seed=0)
    tabular = openspiel.tabular_policy(policy)
    ours = mmd.certify(game, policy.probabilities).nash_conv
    np.testing.assert_allclose(exploitability.nash_conv(tabular.game, tabular), ours, rtol=0, atol=1e-10)
    for back, there in zip(openspiel.probabilities_of(game, tabular), policy.probabilities, strict=True):
        np.testing.assert_array_equal(back, there)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kuhn_pokr", "openspiel:kuhn_pokr: OpenSpiel has no game 'kuhn_pokr', try openspiel:kuhn_poker"),
        ("kuhn_poker(players=3)", "openspiel:kuhn_poker(players=3): expected two players, got 3"),
        ("bargaining", "openspiel:bargaining: expected a zero-sum game; general-sum games cannot be solved here"),
        ("chess", "openspiel:chess has more than about 1e+09 nodes, expected at most 10,000,000"),
        ("dark_hex_ir(num_rows=2,num_cols=2)", "openspiel:dark_hex_ir(num_rows=2,num_cols=2): expected perfect recall"),
    ],
)
def test_openspiel_games_that_cannot_be_solved(spec, message):
    pytest.importorskip("pyspiel", reason="OpenSpiel is not installed")
    with pytest.raises(GameError) as error:
        games.load(f"openspiel:{spec}")
    assert str(error.value).startswith(message)
