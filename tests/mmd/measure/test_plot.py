"""Figures: what is drawn is what the runs say, at the places where they say it."""

import os
import subprocess
import sys
from dataclasses import replace

import jaxtyping
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

import mmd
from mmd.command.cli import main
from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.host.drawing import FORMATS
from mmd.measure import run_directory
from mmd.measure.figure import FigureError, Look, draw_convergence
from mmd.measure.plot import plot_convergence
from mmd.measure.run_directory import RunError
from mmd.measure.solution import Solution, Status, Trace
from tests.mmd.command.test_cli import ROOT

NOTEBOOK = """
import os
from mmd.command.cli import main

found = ["preference:cycle", "--quiet", "--max-iterations", "20", "--tolerance", "1"]
statuses = [
    main(["solve", *found, "--plot", "solve.svg", "--out", "run"]),
    main(["plot", "run", "--out", "plot.svg"]),
    main(["compare", *found, "--algorithms", "cfr+,mmd", "--out", "compare"]),
    main(["lab", "preference:cycle", "--methods", "onpo", "--iterations", "10", "--quiet", "--out", "lab"]),
]
assert statuses == [0] * 4, statuses
assert os.environ["MPLBACKEND"] == "module://a_notebook.that_is_not_installed"
"""
EPS = float(np.finfo(np.float64).eps)
PAYOFFS = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


def made(exploitability, *, iterate="last", average=None, tolerance=1e-9, nash_conv=1e-10, scale=1.0) -> Solution:
    """A run with a given trace."""
    game = Game.from_matrix(scale * PAYOFFS, name="rock, paper & $cissors_")
    exploitability = np.asarray(exploitability)
    k = np.arange(len(exploitability)) * 10.0
    columns = {
        "iteration": k,
        "gradient_evaluations": 2 * k + 1,
        "seconds": k / 1e4,
        "exploitability": exploitability,
        "nash_conv": 2 * exploitability,
        "regularized_gap": np.full_like(k, np.nan),
        "value": 0 * k,
        "average_exploitability": np.full_like(k, np.nan) if average is None else np.asarray(average),
    }
    return Solution(
        game=game,
        algorithm={"name": "made"},
        policy=Policy.random(game, 0),
        iterate=iterate,
        status=Status.CONVERGED,
        tolerance=tolerance,
        value=0.0,
        nash_conv=nash_conv,
        regularized_gap=None,
        iterations=int(k[-1]),
        gradient_evaluations=int(2 * k[-1] + 1),
        seconds={"compile": 1.0, "solve": 0.1},
        dtype="float64",
        trace=Trace(columns),
    )


def x_of(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata(), np.float64)


def y_of(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), np.float64)


def lines(figure) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[0].get_lines()}


@pytest.mark.parametrize(
    ("x", "label", "work"),
    [
        ("iterations", "iterations", [0, 10, 20]),
        ("gradient_evaluations", "gradient evaluations", [1, 21, 41]),
        ("seconds", "seconds", [0, 1e-3, 2e-3]),
    ],
)
def test_a_curve_is_the_trace_against_the_work_that_the_axis_names(x, label, work):
    figure = plot_convergence({"auto": made([1e-1, 1e-4, 1e-7])}, x)
    axes = figure.axes[0]
    curve = lines(figure)["auto"]
    np.testing.assert_allclose(x_of(curve), work)
    np.testing.assert_allclose(y_of(curve), [1e-1, 1e-4, 1e-7])
    assert axes.get_xlabel() == label
    assert axes.get_ylabel() == "exploitability (NashConv / 2)"
    assert axes.get_yscale() == "log"
    assert axes.get_title() == "rock, paper & $cissors_"


def test_values_below_the_rounding_floor_are_drawn_on_the_floor_of_the_payoffs_scale():
    floor = EPS * 2e3
    figure = plot_convergence({"run": made([1.0, 1e-30, 0.0], scale=1e3)})
    np.testing.assert_allclose(y_of(lines(figure)["run"]), [1.0, floor, floor])
    (drawn,) = [line for label, line in lines(figure).items() if label.startswith("rounding floor")]
    np.testing.assert_allclose(y_of(drawn), [floor, floor])


def test_the_tolerance_is_drawn_where_it_is_and_once():
    """Default tolerances depend a little on the policy that is returned: one line shows them."""
    figure = plot_convergence({"a": made([1.0, 1e-4], tolerance=3e-5), "b": made([0.5], tolerance=2.8e-5)})
    (drawn,) = [label for label in lines(figure) if label.startswith("tolerance")]
    assert drawn == "tolerance 2.8e-05 to 3e-05"
    np.testing.assert_allclose(y_of(lines(figure)[drawn]), [3e-5, 3e-5])
    (twice,) = [
        line
        for label, line in lines(plot_convergence(made([1.0, 1e-4], tolerance=3e-5), y="nash_conv")).items()
        if label.startswith("tolerance")
    ]
    np.testing.assert_allclose(y_of(twice), [6e-5, 6e-5])


def test_no_decade_of_the_axis_is_empty():
    """The tolerance is nine decades below the curve: it is left out, and the axis ends where the curve does."""
    figure = plot_convergence(made([1.0, 1e-2], tolerance=1e-11))
    assert set(lines(figure)) == {"made, last iterate"}
    low, high = figure.axes[0].get_ylim()
    assert 1e-3 < low < 1e-2
    assert 1.0 < high < 10.0


@pytest.mark.parametrize(
    ("y", "expected", "scale"),
    [("nash_conv", [2.0, 0.2], "log"), ("regularized_gap", [0.3, 0.1], "log"), ("value", [0.0, -1.0], "linear")],
)
def test_any_column_of_the_trace_can_be_drawn(y, expected, scale):
    run = made([1.0, 0.1])
    run.trace.columns.update(regularized_gap=np.array([0.3, 0.1]), value=np.array([0.0, -1.0]))
    axes = plot_convergence(run, "iterations", y=y).axes[0]
    np.testing.assert_allclose(y_of(axes.get_lines()[0]), expected)
    assert axes.get_yscale() == scale


def test_a_column_that_a_run_has_not_is_refused_with_those_it_has():
    with pytest.raises(FigureError, match=r"made on rock.* recorded no 'kl': expected one of exploitability"):
        plot_convergence(made([1.0, 0.1]), y="kl")
    curves = {"made": made([1.0, 0.1]).curve}
    for look, message in (
        (("iterations", "exploitability", "linear", "print"), "expected style to be 'paper' or None, got 'print'"),
        (("iterations", "exploitability", "square"), "xscale to be linear or log, got 'iterations' and 'square'"),
        (("hours",), "expected x to be one of iterations, gradient_evaluations, seconds"),
    ):
        with pytest.raises(FigureError, match=message):
            draw_convergence(curves, Look(*look), None)


def test_a_logarithmic_axis_of_work_leaves_the_start_out_but_no_run():
    axes = plot_convergence([made([1.0, 0.1, 0.01]), made([0.5])], "iterations", xscale="log").axes[0]
    assert axes.get_xscale() == "log"
    long, short = axes.get_lines()[:2]
    np.testing.assert_allclose(x_of(long), [10, 20])
    np.testing.assert_allclose(y_of(short), [0.5])


def test_axes_of_a_figure_of_ones_own_are_drawn_into_and_returned(tmp_path):
    left, right = Figure().subplots(1, 2)
    assert plot_convergence(made([1.0, 0.1]), ax=right, path=tmp_path / "both.svg") is right
    assert not left.get_lines()
    assert lines(right.figure) == {}
    assert len(right.get_lines()) >= 1
    assert (tmp_path / "both.svg").is_file()
    assert made([1.0, 0.1]).plot(ax=left, y="nash_conv") is left


def test_markers_stand_evenly_along_the_axis_that_is_drawn():
    """On a logarithmic axis ten markers of 10,000 rows are ten to four decades, not nine in the last one."""
    run = made(np.geomspace(1, 1e-3, 1_000))
    for scale, measure in (("log", np.log), ("linear", np.asarray)):
        line = plot_convergence(run, "iterations", xscale=scale).axes[0].get_lines()[0]
        marked = line.get_markevery()
        assert isinstance(marked, list)
        steps = np.diff(measure(x_of(line)[marked]))
        np.testing.assert_allclose(steps[2:], np.mean(steps), rtol=0.15)
        assert 9 <= len(marked) <= 10


def test_rows_that_lie_too_close_together_are_drawn_as_their_median_and_a_band():
    """A run that alternates between three values: the line is the middle one, the band reaches to the others."""
    values = np.tile([1e-2, 1e-1, 1e-3], 3_000)
    axes = plot_convergence(made(values), "iterations").axes[0]
    line = axes.get_lines()[0]
    assert len(x_of(line)) < 7 * 72
    assert y_of(line)[0] == values[0]
    np.testing.assert_allclose(y_of(line)[1:], 1e-2)
    (band,) = axes.collections
    (path,) = band.get_paths()
    vertices = np.asarray(path.vertices)
    np.testing.assert_allclose([vertices[:, 1].min(), vertices[:, 1].max()], [1e-3, 1e-1])
    assert axes.get_ylim()[0] < 1e-3
    few = plot_convergence(made(values[:60]), "iterations").axes[0]
    np.testing.assert_allclose(y_of(few.get_lines()[0]), values[:60])
    assert not few.collections


def test_a_run_that_has_arrived_at_its_regularized_equilibrium_is_continued_on_its_level():
    """A magnet that stays: the curve ends early, and would stay where it is to the end of the axis."""
    short, long = made([1.0, 0.3, 0.3]), made([1.0, 0.5, 0.2, 0.1, 0.05])
    ended = replace(short, status=Status.REGULARIZED)
    for y, level in (("exploitability", 0.3), ("nash_conv", 0.6)):
        dotted = plot_convergence({"fixed": ended, "other": long}, "iterations", y=y).axes[0].get_lines()[2]
        np.testing.assert_allclose(x_of(dotted), [20, 40])
        np.testing.assert_allclose(y_of(dotted), [level, level])
        assert str(dotted.get_label()).startswith("_child")
    drawn = lines(plot_convergence({"fixed": short, "other": long}, "iterations"))
    assert set(drawn) == {"fixed", "other"}  # this one met the tolerance, or a limit


@pytest.mark.parametrize("style", [None, "paper"])
def test_the_legend_covers_no_curve(style):
    """Inside where there is room; below the axes, in a higher figure, where curves are everywhere."""
    for exponents, inside in (([0.0, -0.2], True), (np.linspace(0, -9, 10), False)):
        runs = {f"from 1e{e:.1f}": made(10.0**e * np.geomspace(1, 0.3, 30), tolerance=0.0) for e in exponents}
        figure = plot_convergence(runs, "iterations", style=style)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        box = axes.get_legend().get_window_extent()
        for line in axes.get_lines():
            path = line.get_transform().transform_path(line.get_path())
            assert not path.intersects_bbox(box, filled=False)
        assert (box.y0 > axes.bbox.y0) == inside
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= (axes.bbox.y1 if inside else axes.xaxis.get_tightbbox().y0)
        assert (figure.get_figheight() > {None: 4.5, "paper": 2.6}[style]) != inside


def test_panels_of_a_papers_figure_share_its_style_and_one_legend(tmp_path):
    """Type 42 is TrueType: what a publisher asks for, where matplotlib's own default is Type 3."""
    with mmd.paper_style():
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        for axes in figure.subplots(1, 2):
            plot_convergence({"a": made([1.0, 0.1])}, ax=axes, style="paper", legend=False)
            axes.set_title("rock, paper")
            assert axes.get_legend() is None
            assert axes.title.get_fontsize() == axes.xaxis.label.get_fontsize() == 8
            assert {label.get_fontsize() for label in axes.get_xticklabels()} == {7}
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        figure.savefig(tmp_path / "figure.pdf")
    text = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Type0" in text
    assert b"/Type3" not in text
    assert Figure().subplots().title.get_fontsize() != 8


def test_curves_that_lie_on_each_other_are_both_seen():
    """The one below is wider, and their markers stand at different checks."""
    below, above = plot_convergence({name: made(np.geomspace(1, 0.1, 60)) for name in "ab"}).axes[0].get_lines()[:2]
    assert below.get_linewidth() > above.get_linewidth()
    assert below.get_markevery() != above.get_markevery()


def test_a_figure_for_print_has_its_size_and_keeps_text(tmp_path):
    figure = plot_convergence(made([1.0, 0.1]), path=tmp_path / "paper.svg", style="paper")
    assert figure.get_size_inches()[0] == pytest.approx(3.4)
    assert figure.axes[0].get_title() == ""
    assert figure.axes[0].xaxis.label.get_fontsize() == 8
    assert ">gradient evaluations</text>" in (tmp_path / "paper.svg").read_text("utf-8")


def test_best_so_far_is_not_called_an_iterate():
    """`auto` returns the best of last iterates and averages: its curve is neither."""
    run = mmd.solve(Game.from_matrix(PAYOFFS), tolerance=1e-6)
    drawn = lines(plot_convergence(run))
    assert drawn[f"{run.method}, best so far"].get_linestyle() not in {"-"}
    assert not any(label.endswith("iterate") for label in drawn)


def test_last_and_average_iterate_are_told_apart_by_line_style():
    """Labels of the caller's stay as they are: rows of their own say what the styles mean, where there are several."""
    figure = plot_convergence(
        {"mmd": made([1.0, 0.1], average=[0.5, 0.4]), "auto": made([1.0, 0.2], iterate="average")}
    )
    drawn = lines(figure)
    assert drawn["mmd"].get_linestyle() == drawn["last iterate"].get_linestyle() == "-"
    for dashed in ("mmd, average iterate", "auto", "average iterate"):
        assert drawn[dashed].get_linestyle() == "--"
    np.testing.assert_allclose(y_of(drawn["mmd, average iterate"]), [0.5, 0.4])
    assert not len(x_of(drawn["average iterate"]))
    (alone,) = lines(plot_convergence([made([1.0, 0.1], iterate="average")]))
    assert alone == "made, average iterate"


def test_a_polished_run_shows_what_the_polish_reached():
    drawn = lines(plot_convergence(made([1.0, 1e-6], iterate="polished", nash_conv=4e-13)))
    np.testing.assert_allclose(y_of(drawn["made, before the polish"]), [1.0, 1e-6])
    np.testing.assert_allclose(y_of(drawn["made, polished"]), [2e-13])
    np.testing.assert_allclose(x_of(drawn["made, polished"]), [21])


def test_runs_differ_in_colour_and_in_marker_and_every_line_is_in_the_legend():
    figure = plot_convergence({name: made([1.0, 0.1]) for name in ("a", "b", "_c", "$d")})
    curves = [lines(figure)[label] for label in ("a", "b", "_c", "$d")]
    assert len({to_hex(line.get_color()) for line in curves}) == 4
    assert len({str(line.get_marker()) for line in curves}) == 4
    (legend,) = figure.axes[0].findobj(Legend)
    assert {text.get_text() for text in legend.findobj(Text) if text.get_text()} == set(lines(figure))


def test_a_run_directory_draws_the_same_curves_as_the_solution_it_was_saved_from(tmp_path):
    solution = made([1.0, 1e-3, 1e-20], average=[1.0, np.nan, 0.25])
    run_directory.save(solution, tmp_path)
    from_memory, from_disk = lines(plot_convergence({"r": solution})), lines(plot_convergence({"r": tmp_path}))
    assert set(from_memory) == set(from_disk)
    for label, line in from_memory.items():
        np.testing.assert_array_equal(x_of(from_disk[label]), x_of(line))
        np.testing.assert_array_equal(y_of(from_disk[label]), y_of(line))


def test_labels_title_and_width_of_a_figure_by_the_command(tmp_path, capsys):
    for name in "ab":
        run_directory.save(made([1.0, 0.1]), tmp_path / name)
    folders = [str(tmp_path / name) for name in "ab"]
    words = ["plot", *folders, "--out", str(tmp_path / "figure.svg"), "--labels"]
    styled = ["--style", "paper", "--width", "5", "--title", "$x_"]
    assert main([*words, "first $run_", "second", *styled]) == 0
    text = (tmp_path / "figure.svg").read_text("utf-8")
    assert 'width="360pt"' in text
    for said in ("first $run_", "second", "$x_"):
        assert f">{said}</text>" in text
    assert "iterate" not in text
    for wrong, sentence in (
        (["first"], "expected as many --labels as runs, got 1 for 2"),
        (["one", "one"], "expected --labels that differ, got one, one"),
        (["a", "b", "--width", "0.1"], "expected a width from 1 to 40 inches, got 0.1"),
    ):
        assert main([*words, *wrong]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_figure_is_written_whole_in_the_format_its_name_says(tmp_path, suffix):
    path = tmp_path / f"figure{suffix.upper()}"
    plot_convergence({"auto": made([1.0, 0.1])}, path=path)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        assert matplotlib.image.imread(path).shape[1] == 7 * 300  # 7 inches at 300 dpi


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"expected a run directory, cannot read its result.json"):
        plot_convergence({"a": tmp_path})
    run_directory.save(made([1.0]), tmp_path)
    (tmp_path / "trace.csv").write_text("iteration,exploitability\n0,1.0\n1,zero\n")
    with pytest.raises(RunError, match=r"trace.csv:3: expected a number, got 'zero'"):
        plot_convergence({"a": tmp_path})
    (tmp_path / "result.json").write_text('{"schema_version": 2}')
    with pytest.raises(RunError, match="expected schema_version 1, got 2"):
        plot_convergence({"a": tmp_path})


def test_the_backend_of_a_notebook_is_not_asked(tmp_path):
    """A command that Jupyter or Colab runs inherits theirs, which this environment may not have."""
    environment = os.environ | {"MPLBACKEND": "module://a_notebook.that_is_not_installed", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for figure in ("solve.svg", "plot.svg", "compare/compare.png", "lab/lab.png"):
        assert (tmp_path / figure).stat().st_size > 1_000


def test_a_figure_that_cannot_be_written_costs_no_table(tmp_path, monkeypatch, capsys):
    """The disk may fill while the game is solved."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    path = tmp_path / "figure.svg"
    assert main(["solve", "preference:cycle", "--tolerance", "1", "--plot", str(path)]) == 2
    said = capsys.readouterr()
    assert "value" in said.out
    assert said.err.endswith(f"mmd: {path}: cannot be written (No space left on device)\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "runs", [5, [5.0], {"five": 5}, [None], made([1.0]).policy], ids=lambda runs: type(runs).__name__
)
def test_what_is_no_run_is_refused(runs, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(RunError, match="expected a run to be a Solution, a Recording or a run directory, got "):
        plot_convergence(runs)


@pytest.mark.parametrize("ax", [5, "axes", Figure()], ids=lambda ax: type(ax).__name__)
def test_what_are_no_axes_is_refused(ax, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(FigureError, match="expected ax to be axes of matplotlib, got "):
        plot_convergence(made([1.0, 0.5]), ax=ax)


def test_labels_say_the_game_where_games_differ(tmp_path):
    """In every style, and only where the label neither was chosen nor names the game."""
    runs = [made([1.0, 0.5]), made([1.0, 0.25])]
    other = replace(runs[1], game=Game.from_matrix(2 * PAYOFFS, name="doubled"))
    name = runs[0].game.name
    for style in (None, "paper"):
        assert not any(name in label for label in lines(plot_convergence(runs, style=style)))
        drawn = lines(plot_convergence([runs[0], other], style=style))
        assert {f"made 1 on {name}, last iterate", "made 2 on doubled, last iterate"} <= set(drawn)
        assert y_of(drawn["made 2 on doubled, last iterate"])[-1] == 0.25
        assert {"one", "two"} <= set(lines(plot_convergence({"one": runs[0], "two": other}, style=style)))
    folders = [tmp_path / "doubled", tmp_path / "run"]
    for folder, run in zip(folders, (other, runs[0]), strict=True):
        run_directory.save(run, folder)
    figure = tmp_path / "figure.svg"
    assert main(["plot", *map(str, folders), "--style", "paper", "--out", str(figure)]) == 0
    assert "doubled, last iterate" in figure.read_text()
    assert "doubled on" not in figure.read_text()
    assert "run on rock, paper &amp; $cissors_, last iterate" in figure.read_text()
