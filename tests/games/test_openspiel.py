"""openspiel:NAME, first with a stand-in for OpenSpiel that has Kuhn poker, then with OpenSpiel where installed."""

import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker
from games.compile import CHANCE, TERMINAL
from games.readers import openspiel
from mmd.game.game import GameError
from tests.games import plain

PASS, BET = 1, 4  # OpenSpiel numbers the actions of a whole game: those of an infoset ascend, with gaps
CARDS, ENDS = "JQK", ("pp", "pbp", "pbb", "bp", "bb")


@dataclass(frozen=True)
class Kuhn:
    """A state of Kuhn poker that answers as a `pyspiel.State` does: moves are numbers."""

    dealt: tuple[int, ...] = ()
    bets: str = ""

    def current_player(self) -> int:
        if len(self.dealt) < 2:
            return openspiel.CHANCE_PLAYER
        return openspiel.TERMINAL_PLAYER if self.bets in ENDS else len(self.bets) % 2

    def legal_actions(self) -> list[int]:
        return [PASS, BET]

    def chance_outcomes(self) -> list[tuple[int, float]]:
        left = [card for card in range(3) if card not in self.dealt]
        return [(card, 1 / len(left)) for card in left]

    def information_state_string(self) -> str:
        return f"{CARDS[self.dealt[len(self.bets) % 2]]}|{self.bets}"

    def action_to_string(self, action: int) -> str:
        return {PASS: "pass", BET: "bet"}[action]

    def child(self, action: int) -> "Kuhn":
        if len(self.dealt) < 2:
            return replace(self, dealt=(*self.dealt, action))
        return replace(self, bets=self.bets + {PASS: "p", BET: "b"}[action])

    def returns(self) -> tuple[float, float]:
        first_wins = self.bets == "bp" if self.bets.endswith("bp") else self.dealt[0] > self.dealt[1]
        won = 2.0 if self.bets.endswith("bb") else 1.0
        return (won, -won) if first_wins else (-won, won)


def test_the_walk_is_depth_first_in_the_order_of_the_moves():
    """The first deal is J to player 0 and Q to player 1: 3 + 2 moves of chance and players lead to the first end."""
    tree = openspiel.walk(Kuhn(), "kuhn")
    assert tree.parent[:9].tolist() == [-1, 0, 1, 2, 3, 3, 5, 5, 2]
    assert tree.action[:9].tolist() == [0, 0, 0, 0, 0, 1, 0, 1, 1]
    assert [info.label for info in tree.infosets[:4]] == ["J|", "Q|p", "J|pb", "Q|b"]
    assert tree.infoset[:9].tolist() == [CHANCE, CHANCE, 0, 1, TERMINAL, 2, TERMINAL, TERMINAL, 3]
    np.testing.assert_allclose(tree.probability[:4], [1, 1 / 3, 1 / 2, 1])
    assert tree.payoffs[[4, 6, 7]].tolist() == [[-1, 1], [-1, 1], [-2, 2]]


# -------------------------------------------------------------------- sizes


def test_the_walk_stops_at_its_limit():
    """Kuhn poker has 58 nodes."""
    root = Kuhn()
    assert len(openspiel.walk(root, "kuhn", max_nodes=58).parent) == 58
    with pytest.raises(GameError) as error:
        openspiel.walk(root, "kuhn", max_nodes=57)
    assert str(error.value) == "kuhn has more than 57 nodes: try smaller parameters"


def test_probes_estimate_the_number_of_nodes_without_bias():
    """Kuhn poker has 58 nodes, and its plays have different lengths; the mean is tested to four standard errors."""
    root, rng = Kuhn(), random.Random(1)
    sizes = [openspiel._probe(root, rng, cap=10**6) for _ in range(1_000)]
    error = np.std(sizes) / np.sqrt(len(sizes))
    assert abs(np.mean(sizes) - 58) < 4 * error < 6


def test_large_trees_are_refused_before_the_walk():
    """A play of 3,000 moves with 2 actions each: 2^3001 - 1 nodes."""

    @dataclass(frozen=True)
    class Long(Kuhn):
        depth: int = 0

        def current_player(self) -> int:
            return self.depth % 2 if self.depth < 3_000 else openspiel.TERMINAL_PLAYER

        def child(self, action: int) -> Kuhn:
            return Long(depth=self.depth + 1)

    with pytest.raises(GameError) as error:
        openspiel.check_size(Long(), "long", max_nodes=1_000)
    assert str(error.value) == "long has more than about 1e+05 nodes, expected at most 1,000: try smaller parameters"
    openspiel.check_size(Kuhn(), "kuhn", max_nodes=58)


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
    """A `pyspiel.Game` of Kuhn poker, with what its type says."""

    players: int = 2
    utility: str = "zero"
    chance_mode: str = "explicit"
    provides_information_state_string: bool = True
    dynamics: str = "sequential"

    def num_players(self) -> int:
        return self.players

    def get_type(self) -> "SpielGame":
        return self

    def new_initial_state(self) -> Kuhn:
        if self.dynamics == "simultaneous":
            raise SpielError("simultaneous")
        return Kuhn()


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
        convert_to_turn_based=lambda game: SpielGame(),
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
    class Cheat(Kuhn):
        def legal_actions(self) -> list[int]:
            return [PASS] if self.dealt == (0, 1) else [PASS, BET]

    with pytest.raises(GameError) as error:
        openspiel.walk(Cheat(), "cheat")
    assert str(error.value) == (
        "cheat: expected the same actions at every state of information set 'J|', got pass, bet and pass"
    )


def test_an_infoset_needs_an_action():
    class Stuck(Kuhn):
        def legal_actions(self) -> list[int]:
            return []

    with pytest.raises(GameError, match=r"stuck: information set 'J\|' has no actions"):
        openspiel.walk(Stuck(), "stuck")


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

    def _decisions(self, state: Kuhn) -> list[Kuhn]:
        moves = [move for move, _ in openspiel._moves(state, state.current_player())]
        below = [s for move in moves for s in self._decisions(state.child(move))]
        return below if state.current_player() < 0 else [state, *below]

    def action_probabilities(self, state: Kuhn, player: int) -> dict[int, float]:
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
            number = {"pass": PASS, "bet": BET}[action]
            assert tabular.action_probability_array[tabular.state_lookup[infoset], number] == probability
        for back, there in zip(openspiel.probabilities_of(game, tabular), sent.probabilities, strict=True):
            np.testing.assert_array_equal(back, there)


# -------------------------------------------------------------------- our families beside OpenSpiel's trees

STORED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "openspiel_counts.json"
COMPARED = {result["game"]: result for result in json.loads(STORED.read_text("utf-8"))["results"]}
EVERY_FAMILY = {"kuhn_poker", "leduc_poker", "battleship", "dark_hex:rules=abrupt", "dark_hex:rules=classical"} | {
    *(f"liars_dice:faces={faces}" for faces in (3, 4, 5, 6)),
    *(f"goofspiel:cards={cards}" for cards in (4, 5)),
}


def test_every_family_was_found_equal():
    assert set(COMPARED) >= EVERY_FAMILY
    assert all(value is True for result in COMPARED.values() for value in result["equal"].values())


@pytest.mark.parametrize("name", COMPARED)
def test_what_was_compared_is_still_what_is_built(name):
    game, stored = games.load(name), COMPARED[name]
    assert [player.n_infosets for player in game.players] == stored["infosets"]
    assert [player.n_sequences for player in game.players] == stored["sequences"]
    assert [len(game.payoff.entries().values)] == stored["payoffs"]
    uniform = tuple(np.exp(player.uniform()) for player in game.players)
    np.testing.assert_allclose(mmd.certify(game, uniform).nash_conv, stored["uniform_nash_conv"], rtol=0, atol=1e-10)


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
