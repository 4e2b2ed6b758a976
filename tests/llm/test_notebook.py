"""Notebook manners of the bridge: what is shown of results and tournaments, and policies that survive pickling."""

import copy
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import llm_bridge as bridge
import mmd
from llm_bridge.judges.callable import PairFunction
from llm_bridge.measure.evaluation import TABLES, Tournament, tournament
from llm_bridge.train.result import UNITS
from tests.llm.games import PROMPTS, SIZES, SumJudge, policy
from tests.mmd.test_notebook import SCREEN, Frame, Tables

KEY = jax.random.key(7)
TOKENS, MASK = np.array([[1, 2, 0, 3, 1], [2, 2, 1, 0, 0]]), np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
BEATS = {("<b>a</b>", "b"): 0.25, ("b", "c"): 0.25, ("<b>a</b>", "c"): 0.75}


@pytest.fixture(scope="module")
def result() -> bridge.Result:
    """Rounds 3 and 4 of a run of 4, with a win rate in the last."""
    method = bridge.MPO(SumJudge(), decay_rounds=4, **SIZES)

    def measure(state: bridge.TrainState, metrics: dict[str, float]) -> None:
        if int(state.round) == 4:
            metrics |= {"eval/win_rate": 0.75, "eval/win_rate_low": 0.5, "eval/win_rate_high": 0.9}

    first = method.fit(policy(), PROMPTS, steps=2, key=KEY)
    return method.fit(policy(), PROMPTS, steps=4, key=KEY, state=first.state, callback=measure)


@pytest.fixture(scope="module")
def models() -> Tournament:
    """Three models in a cycle; the first one's name is markup."""

    def judge(_: str, a: str, b: str) -> float:
        return BEATS[a, b] if (a, b) in BEATS else 1 - BEATS[b, a]

    names = ["<b>a</b>", "b", "c"]
    return tournament(PairFunction(judge), ["x", "y"], {name: [[name]] * 2 for name in names})


def pandas_with(monkeypatch: pytest.MonkeyPatch, frame: Any) -> None:
    pandas: Any = types.ModuleType("pandas")
    pandas.DataFrame = frame
    monkeypatch.setitem(sys.modules, "pandas", pandas if frame else None)


# -------------------------------------------------------------------- results of training


def test_rounds_that_are_done_are_not_called_converged(result: bridge.Result) -> None:
    assert result.status is bridge.Status.FINISHED
    assert result.converged is False
    assert all(result._replace(status=status).converged is False for status in bridge.Status)


def test_a_trace_has_the_history_by_columns_and_counts_rounds_over_the_whole_run(result: bridge.Result) -> None:
    trace = result.trace
    assert trace["round"].tolist() == [3, 4]
    for name in result.history[0]:
        assert trace[name].tolist() == [row[name] for row in result.history]
    np.testing.assert_array_equal(trace["eval/win_rate"], [np.nan, 0.75])
    assert len(trace) == 2
    assert len(result._replace(history=[]).trace) == 0


def test_a_notebook_shows_the_newest_numbers_of_a_run(result: bridge.Result) -> None:
    cells = Tables(result._repr_html_()).cells
    shown = dict(zip(cells[1::2], cells[2::2], strict=True))
    assert (shown["status"], shown["converged"], shown["rounds"]) == ("finished", "False", "4")
    assert float(shown["loss"]) == pytest.approx(result.history[-1]["loss"], rel=1e-5)
    earlier = result._replace(history=[*result.history, {"loss": float("nan")}])  # a round that was skipped
    assert earlier.summary["loss"] == result.history[-1]["loss"]
    rows = Tables(result.trace._repr_html_()).cells
    assert rows[0] == "trace of 2 rounds"
    assert {"3", "4", "0.75"} <= set(rows)


def test_a_repr_fits_a_screen(result: bridge.Result, models: Tournament) -> None:
    """Of all that stands in them as well: a state holds the weights five times."""
    assert repr(result).startswith("Result(4 rounds: finished, loss ")
    assert "eval/win_rate 0.75" in repr(result)
    weights = sum(array.size for array in policy().arrays().values())
    assert repr(result.state) == f"TrainState(after 4 rounds, {weights:,} trained weights, 0 others)"
    for shown in (result, result.state, result.trace, result.policy, models):
        assert len(repr(shown)) < SCREEN
        assert "\n" not in str(shown)


def test_a_run_becomes_data_frames(result: bridge.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas_with(monkeypatch, Frame)
    assert result.to_pandas().columns["rounds"] == [4]
    assert result.trace.to_pandas().columns["loss"] == [row["loss"] for row in result.history]


def test_a_run_plots_a_panel_for_each_metric(result: bridge.Result, tmp_path: Path) -> None:
    figure = result.plot(path=tmp_path / "run.svg")
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.partition(" (")[0] for title in titles] == [n for n in UNITS if n in result.trace.columns]
    (entropy,) = (axes for axes in figure.axes if axes.get_title() == "entropy (nats a token)")
    np.testing.assert_array_equal(np.asarray(entropy.get_lines()[0].get_xdata()), [3, 4])
    np.testing.assert_allclose(np.asarray(entropy.get_lines()[0].get_ydata()), result.trace["entropy"])
    win_rate = figure.axes[titles.index("eval/win_rate")]
    np.testing.assert_array_equal(win_rate.get_lines()[0].get_xdata(), [4])
    assert (tmp_path / "run.svg").stat().st_size > 1000
    assert len(result.plot(["grad_norm"]).axes) == 1
    with pytest.raises(bridge.BridgeError, match="no metric is called 'los': try loss"):
        result.plot(["los"])
    with pytest.raises(bridge.BridgeError, match="there is nothing to draw"):
        result._replace(history=[]).plot()


# -------------------------------------------------------------------- tournaments


def test_a_lottery_is_converged_in_the_measured_table(models: Tournament) -> None:
    """P[b > a] = P[c > b] = P[a > c] = 3/4: a third each, the exploitability is rounding."""
    np.testing.assert_allclose(list(models.lottery.values()), 1 / 3, atol=1e-9)
    assert models.converged is True
    assert models.as_dict()["converged"] is True


def test_a_notebook_shows_who_wins_and_runs_no_names(models: Tournament) -> None:
    cells = Tables(models._repr_html_()).cells
    low, high = models.low[1, 0], models.high[1, 0]
    assert "<b>a</b>" in cells  # as text
    assert f"75.0 [{100 * low:4.1f}, {100 * high:5.1f}]" in cells
    at = cells.index("Nash lottery")
    assert cells[at + 3 : at + 5] == ["<b>a</b>", "0.333333"]


def test_a_tournament_is_a_table_with_a_row_for_each_meeting(
    models: Tournament, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas_with(monkeypatch, Frame)
    columns = models.to_pandas().columns
    wins = dict(zip(zip(columns["model"], columns["opponent"], strict=True), columns["wins"], strict=True))
    assert wins == pytest.approx({**BEATS, **{(b, a): 1 - p for (a, b), p in BEATS.items()}})
    assert set(columns) == {"model", "opponent", *TABLES}


def test_a_tournament_plots_its_table_and_its_lottery(models: Tournament) -> None:
    table, lottery = models.plot().axes
    np.testing.assert_allclose(np.asarray(table.get_images()[0].get_array()), models.wins)
    bars: list[Any] = [*lottery.patches]
    assert [bar.get_width() for bar in bars] == pytest.approx([1 / 3] * 3, abs=1e-9)
    assert [text.get_text() for text in lottery.get_yticklabels()] == list(models.names)


def test_without_pandas_the_extra_is_named(
    result: bridge.Result, models: Tournament, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas_with(monkeypatch, None)
    sentence = re.escape("data frames need pandas: pip install 'magnetic-mirror[pandas]'")
    for table in (result, result.trace, models):
        with pytest.raises(ModuleNotFoundError, match=sentence):
            table.to_pandas()


# -------------------------------------------------------------------- pickles


def adapted() -> bridge.Policy:
    """With an adapter whose B is not 0, so that its scale counts."""
    one = bridge.add_adapter(policy(), KEY, rank=2, alpha=6.0, targets=("query", "up"))
    arrays = one.arrays() | {n: jax.numpy.ones_like(a) for n, a in one.arrays().items() if n.endswith("lora_b")}
    return bridge.Policy(one.decoder, arrays, one.origin)


def test_a_policy_survives_pickling_in_another_process(tmp_path: Path) -> None:
    one = adapted()
    expected = np.asarray(one.log_probs(TOKENS, MASK))
    assert np.abs(expected - np.asarray(policy().log_probs(TOKENS, MASK))).max() > 1e-3
    (tmp_path / "policy").write_bytes(pickle.dumps((one, TOKENS, MASK, expected)))
    code = (
        "import pickle, sys, numpy as np\n"
        "policy, tokens, mask, expected = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.testing.assert_allclose(policy.log_probs(tokens, mask), expected, rtol=1e-6, atol=1e-6)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "policy")], check=True, timeout=300)


def test_weights_keep_their_precision_and_the_policy_its_origin(tmp_path: Path) -> None:
    folder = bridge.save(policy(), tmp_path / "model")
    loaded = bridge.load(folder, dtype="bfloat16")
    again = pickle.loads(pickle.dumps(loaded))
    assert again.origin == loaded.origin
    assert again.decoder == loaded.decoder
    for name, array in loaded.arrays().items():
        assert again.arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays()[name].view("uint16"), array.view("uint16"))


def test_a_divided_policy_comes_back_on_one_device_and_goes_onto_a_mesh() -> None:
    mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
    one = adapted()
    divided = one.on(mesh)
    arrays: dict[str, Any] = divided.arrays()
    assert arrays["layers.query"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    assert arrays["layers.query.lora_a"].sharding.spec == PartitionSpec(None, "fsdp", None)
    assert arrays["layers.query.lora_b"].sharding.spec == PartitionSpec(None, None, "tensor")
    again = pickle.loads(pickle.dumps(divided))
    assert again.mesh == policy().mesh
    known = np.asarray(one.log_probs(TOKENS, MASK))
    np.testing.assert_array_equal(again.log_probs(TOKENS, MASK), known)
    np.testing.assert_allclose(divided.log_probs(TOKENS, MASK), known, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(divided.on(None).log_probs(TOKENS, MASK), known)
    assert repr(divided).endswith("on 4 x cpu)")
    with pytest.raises(bridge.BridgeError, match="heads"):
        one.on(jax.make_mesh((8,), ("tensor",), axis_types=(AxisType.Auto,)))


def test_copies_share_weights_or_do_not() -> None:
    one = policy()
    assert copy.copy(one).arrays()["head"] is one.arrays()["head"]
    deep = copy.deepcopy(one)
    assert deep.mesh == one.mesh
    np.testing.assert_array_equal(deep.arrays()["head"], one.arrays()["head"])


def test_the_two_halves_read_alike(result: bridge.Result) -> None:
    solution = mmd.solve(np.array([[1.0, -1], [-1, 1]]))
    for name in ("policy", "status", "converged", "trace", "summary", "plot", "to_pandas", "_repr_html_"):
        assert hasattr(solution, name)
        assert hasattr(result, name)
    assert {"status", "converged"} <= solution.summary.keys() & result.summary.keys()
