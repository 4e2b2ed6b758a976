"""Notebook manners: what is shown of games, policies, traces and solutions, and that they survive pickling."""

import logging
import pickle
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import games
import llm_bridge
import mmd
from mmd.game.game import Description, Game
from tests.mmd.solving.host_algorithms import FictitiousPlay, LinearProgram

SCREEN = 4_000  # characters
PENNIES = np.array([[1.0, -1], [-1, 1]])
MATCHING_PENNIES = Game.from_matrix(PENNIES, name="<i>pennies</i>", labels=(("<b>", "tails"), ("&", "tails")))


@pytest.fixture(scope="module")
def kuhn() -> mmd.Solution:
    return mmd.solve(games.load("kuhn_poker"), LinearProgram(), tolerance=1e-9)


class Tables(HTMLParser):
    """The text of an HTML fragment, which must hold tables and nothing else, all of them closed."""

    ALLOWED = ("table", "caption", "thead", "tbody", "tr", "th", "td")

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(fragment)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        assert tag in self.ALLOWED, tag
        assert not attrs
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_a_notebook_shows_the_numbers_of_a_solution(kuhn: mmd.Solution) -> None:
    cells = Tables(kuhn._repr_html_()).cells
    shown = dict(zip(cells[1::2], cells[2::2], strict=True))
    assert shown["status"] == kuhn.status.value
    assert float(shown["value"]) == pytest.approx(-1 / 18, abs=1e-6)
    assert "linear-program" in cells
    policy = Tables(kuhn.policy._repr_html_()).cells
    assert policy[:6] == ["policy of kuhn_poker:cards=3", "player", "infoset", "action", "probability", "row"]
    assert policy[-1] == "and 12 more"  # 24 actions, of which 12 are shown


def test_a_notebook_shows_what_is_asked_for_and_runs_none_of_it() -> None:
    shown = MATCHING_PENNIES._repr_html_()
    assert "<b>" not in shown
    assert "<i>" not in shown
    cells = Tables(shown).cells
    assert cells[-8:] == ["&", "tails", "<b>", "1", "-1", "tails", "-1", "1"]


def test_a_long_trace_is_shown_from_its_first_to_its_last_check() -> None:
    found = mmd.solve(MATCHING_PENNIES, FictitiousPlay(), tolerance=1e-9, max_iterations=100)
    cells = Tables(found.trace._repr_html_()).cells
    assert cells[0] == "trace of 100 checks"
    assert "regularized_gap" not in cells  # fictitious play has none
    rows = np.array(cells[7:], float).reshape(12, 6)
    np.testing.assert_array_equal(rows[[0, -1], 0], [1, 100])
    np.testing.assert_allclose(rows[-1, 3], found.exploitability, rtol=1e-5)


def test_a_repr_fits_a_screen() -> None:
    game = games.load("leduc_poker")
    for shown in (game, game.row, game.description, game.description.labels, mmd.Policy.random(game, 0)):
        assert len(repr(shown)) < SCREEN
    assert len(repr(mmd.solve_exactly(game))) < SCREEN
    labels = games.load("kuhn_poker").description.labels
    assert labels is not None
    assert repr(labels[0].infosets) == "LazyLabels(6: ['J|', 'Q|', 'K|', 'J|pb', 'Q|pb', 'K|pb'])"
    large = games.matrix.game(np.arange(10_000.0).reshape(100, 100))
    for shown in (large, large.row, large.description, mmd.Policy.random(large, 0)):
        assert len(repr(shown)) < SCREEN


# -------------------------------------------------------------------- policy[infoset]


def test_an_infoset_is_found_by_its_label(kuhn: mmd.Solution) -> None:
    """In every equilibrium of Kuhn poker the second player calls a bet with the King and folds the Jack."""
    assert kuhn.policy["K|b"] == pytest.approx({"pass": 0, "bet": 1}, abs=1e-9)
    assert kuhn.policy["column", "J|b"] == pytest.approx({"pass": 1, "bet": 0}, abs=1e-9)
    chances = {(infoset, action): p for _, infoset, action, p in kuhn.policy.table()}
    assert chances == {(i, a): p for i in {i for i, _ in chances} for a, p in kuhn.policy[i].items()}


def test_a_label_that_names_no_infoset_is_answered_with_near_ones(kuhn: mmd.Solution) -> None:
    with pytest.raises(KeyError, match=r"kuhn_poker:cards=3 has no infoset 'K\|pp': did you mean 'K\|p'"):
        kuhn.policy["K|pp"]
    with pytest.raises(KeyError, match=r"no infoset 'K\|' of the column player: did you mean 'K\|p' or 'K\|b'"):
        kuhn.policy["column", "K|"]
    with pytest.raises(KeyError, match="expected an infoset's label, or a player of row and column before it"):
        kuhn.policy["dealer", "K|"]
    for nothing in ((), ("row",), ("row", "K|", "bet")):
        with pytest.raises(KeyError, match="expected an infoset's label, or a player of row and column before it"):
            kuhn.policy[nothing]


def test_a_label_of_both_players_needs_the_player() -> None:
    game = games.load("token_tree")
    policy = mmd.Policy.random(game, 0)
    label = policy.table()[0][1]
    with pytest.raises(KeyError, match="both players have an infoset"):
        policy[label]
    n = int(game.column.n_actions[0])
    assert list(policy["column", label].values()) == policy.probabilities[1][1 : n + 1].tolist()


# -------------------------------------------------------------------- data frames, figures, pickles, versions


class Frame:
    """What this suite needs of `pandas.DataFrame`, which may not be installed: columns by name, of one length."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = {name: list(column) for name, column in columns.items()}
        assert len({len(column) for column in self.columns.values()}) == 1


def test_tables_become_data_frames(kuhn: mmd.Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas: Any = types.ModuleType("pandas")
    pandas.DataFrame = Frame
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    policy = kuhn.policy.to_pandas().columns
    assert list(zip(*policy.values(), strict=True)) == kuhn.policy.table()
    trace = kuhn.trace.to_pandas().columns
    assert trace["exploitability"] == [kuhn.exploitability]
    row = kuhn.to_pandas().columns
    assert (row["game"], row["value"], row["converged"]) == (["kuhn_poker:cards=3"], [kuhn.value], [True])


def test_a_batch_is_a_table_with_a_row_for_each_game(monkeypatch: pytest.MonkeyPatch) -> None:
    side = np.full((2, 2), 0.5)
    found = mmd.Solutions(
        games=[PENNIES, 3 * PENNIES],
        algorithm={"name": "hand"},
        methods=["interior", "hand"],
        row=side,
        column=side,
        values=np.zeros(2),
        nash_conv=np.array([0.0, 0.5]),
        statuses=[mmd.Status.CONVERGED, mmd.Status.TIME_LIMIT],
        iterates=["polished", "last"],
        iterations=np.array([1, 2]),
        faces=np.array([1, 0]),
        tolerances=np.full(2, 1e-9),
        seconds={"compile": 1.0, "solve": 0.5},
    )
    pandas: Any = types.ModuleType("pandas")
    pandas.DataFrame = Frame
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    columns = found.to_pandas().columns
    assert columns["exploitability"] == [0.0, 0.25]
    assert columns["converged"] == [True, False]
    assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == [
        one.summary for one in found
    ]
    cells = Tables(found._repr_html_()).cells
    assert cells[0] == "2 solutions by hand and interior (not mirror descent), 1 converged"
    assert "0.25" in cells


def test_without_pandas_the_extra_is_named(kuhn: mmd.Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    sentence = re.escape("data frames need pandas: pip install 'magnetic-mirror[pandas]'")
    for table in (kuhn, kuhn.policy, kuhn.trace):
        with pytest.raises(ModuleNotFoundError, match=sentence):
            table.to_pandas()


def test_a_solution_plots_its_own_curve() -> None:
    found = mmd.solve(MATCHING_PENNIES, FictitiousPlay(), tolerance=1e-9, max_iterations=20)
    line = found.plot(x="iterations").axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), found.trace["iteration"])
    drawn, floor = np.asarray(line.get_ydata()), 2 * np.finfo(float).eps  # payoffs are 2 apart
    np.testing.assert_allclose(drawn, np.maximum(found.trace["exploitability"], floor), rtol=1e-12)
    assert line.get_label() == "fictitious-play, average iterate"


@pytest.mark.parametrize(
    "spec", ["kuhn_poker", "liars_dice:faces=3,dice=1", "goofspiel:cards=3", "token_tree", "preference:cycle"]
)
def test_a_policy_survives_pickling(spec: str) -> None:
    policy = mmd.Policy.random(games.load(spec), 1)
    again = pickle.loads(pickle.dumps(policy))
    assert again.table() == policy.table()
    assert mmd.certify(again.game, again) == mmd.certify(policy.game, policy)


def test_a_solution_survives_pickling(kuhn: mmd.Solution) -> None:
    again = pickle.loads(pickle.dumps(kuhn))
    assert again.summary == kuhn.summary
    assert again.policy.table() == kuhn.policy.table()
    for name, column in kuhn.trace.columns.items():
        np.testing.assert_array_equal(again.trace[name], column)


def test_each_package_has_its_version() -> None:
    assert {mmd.__version__, games.__version__, llm_bridge.__version__} == {metadata.version("magnetic-mirror")}
    code = "import sys, mmd, llm_bridge; mmd.__version__, llm_bridge.__version__; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


# -------------------------------------------------------------------- descriptions, and what is compiled


def test_descriptions_are_equal_if_they_say_the_same() -> None:
    one, same, other = (Description(name, 1.0, facts=("a fact",)) for name in ("a", "a", "b"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "a"
    matrix = np.eye(3)
    labels = (("x", "y", "z"), ("0", "1", "2"))
    one, same, other = (Game.from_matrix(matrix, name="a", labels=given) for given in (None, None, labels))
    assert one.description == same.description != other.description


def test_a_function_of_a_game_sees_the_name_of_that_game() -> None:
    """It was traced with the first name and kept for every other."""
    name = jax.jit(lambda game: jnp.asarray(len(game.name)))
    assert [int(name(Game.from_matrix(np.eye(2), name=text))) for text in ("four", "seventh", "four")] == [4, 7, 4]


def test_compiling_is_logged_for_whoever_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mmd")
    found = mmd.solve(games.load("preference:cycle"), mmd.Restarted(), max_iterations=0)
    said = [record.getMessage() for record in caplog.records if record.name == "mmd"]
    assert said[0] == "compiling restarted for preference:cycle"
    seconds = re.fullmatch(r"compiled restarted for preference:cycle in (\d+\.\d) s", said[1])
    assert seconds is not None
    assert float(seconds[1]) == pytest.approx(found.seconds["compile"], abs=0.06)
