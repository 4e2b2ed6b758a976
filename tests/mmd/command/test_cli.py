"""The `mmd` command from end to end: what it prints, what it writes, what it refuses, and its exit status."""

import csv
import io
import json
import os
import re
import sys
import time
from html import unescape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmd.algorithms.magnetic import MagneticMirrorDescent
from mmd.command import commands
from mmd.command.cli import main
from mmd.command.options import Solve
from mmd.host import progress
from mmd.magnets import Fixed, Halpern, MovingAverage, Refresh
from mmd.measure.plot import plot_convergence
from mmd.measure.run_directory import RunError

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "mmd"]
CYCLE = "preference:cycle"


def mmd(*words: object) -> int:
    return main([str(word) for word in words])


def result_of(run: Path) -> dict:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((run / "result.json").read_text(), parse_constant=refuse)


def texts(figure: Path) -> list[str]:
    """What is written in an SVG, which keeps text as text."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]+)</text>", figure.read_text())]


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -------------------------------------------------------------------- solve


def test_solve_certifies_the_cycle_and_writes_what_it_prints(work, capsys):
    assert mmd("solve", CYCLE, "--tolerance", 1e-9, "--out", "runs/cycle", "--plot", "figures/cycle.svg") == 0
    printed = capsys.readouterr().out
    assert "converged: the exploitability of the returned policy is at most the tolerance" in printed
    assert "no Condorcet winner" in printed
    *chances, written, drawn = printed.splitlines()[-5:]
    assert written.startswith("  written to runs/cycle: ")
    assert sorted(line.split() for line in chances) == [["0.272727", "b"], ["0.363636", "a"], ["0.363636", "c"]]
    assert drawn == "  drawn: interior (not mirror descent); for a last iterate of mirror descent: --algorithm anchored"
    assert printed.splitlines()[0] == "preference:cycle by interior (not mirror descent)"
    run = work / "runs" / "cycle"
    names = {"result.json", "trace.csv", "policy.npz", "policy.csv", "environment.json"}
    assert {file.name for file in run.iterdir()} == names
    assert (work / "figures" / "cycle.svg").is_file()
    result = result_of(run)
    assert result["schema_version"] == 1
    assert result["converged"] is True
    assert result["exploitability"] == result["nash_conv"] / 2 <= result["tolerance"] == 1e-9
    assert result["value"] == pytest.approx(0.5, abs=1e-9)
    for player in ("row", "column", "lottery"):
        assert result["policy"][player] == pytest.approx({"a": 4 / 11, "b": 3 / 11, "c": 4 / 11}, abs=1e-6)
    assert result["algorithm"] == {"name": "interior", "keeps_best": True, "chosen_by": "auto"}
    assert set(result["seconds"]) == {"compile", "solve"}
    known = json.loads((run / "environment.json").read_text())
    assert known["versions"]["jax"] == jax.__version__
    assert known["command"] == "mmd solve preference:cycle --tolerance 1e-09 --out runs/cycle --plot figures/cycle.svg"


def test_the_trace_ends_where_the_result_says(work):
    assert mmd("solve", CYCLE, "--quiet", "--algorithm", "mmd", "--max-iterations", 40, "--out", "run") == 3
    with (work / "run" / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    result = result_of(work / "run")
    counts, measured = (
        ["iteration", "gradient_evaluations"],
        ["exploitability", "nash_conv", "regularized_gap", "value"],
    )
    assert list(rows[0]) == [*counts, "seconds", *measured]
    assert rows[-1]["iteration"] == str(result["iterations"]) == "40"
    assert rows[-1]["gradient_evaluations"] == str(result["gradient_evaluations"])
    for column in ("exploitability", "regularized_gap", "value"):
        assert float(rows[-1][column]) == pytest.approx(result[column], abs=1e-14)
    iterations = [int(row["iteration"]) for row in rows]
    assert iterations == sorted(set(iterations))
    assert result["converged"] is False
    assert result["status"].startswith("stopped at the iteration limit")


def test_quiet_prints_nothing(work, capsys):
    assert mmd("solve", CYCLE, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_dashes_and_underscores_are_alike(work):
    assert mmd("solve", CYCLE, "--quiet", "--max_iterations", 2, "--out", "a") == 3
    assert mmd("solve", CYCLE, "--quiet", "--max-iterations", 2, "--out", "b") == 3
    assert result_of(work / "a")["iterations"] == result_of(work / "b")["iterations"] == 2


def test_a_seed_sets_the_start_and_no_seed_starts_uniform(work):
    def first_exploitability(*flags: object) -> str:
        mmd("solve", CYCLE, "--quiet", "--max-iterations", 10, "--out", "run", *flags)
        return (work / "run" / "trace.csv").read_text().splitlines()[1].split(",")[3]

    assert first_exploitability("--seed", 1) == first_exploitability("--seed", 1)
    assert first_exploitability("--seed", 1) != first_exploitability("--seed", 2)
    # uniform: b wins 0.4 on average against (a, b, c) / 3's mean payoff 0, hence exploitability max(P - 1/2) mean
    assert float(first_exploitability()) == pytest.approx((0.4 - 0.3) / 3, abs=1e-12)


def test_precision_and_device_are_those_asked_for(work):
    assert mmd("solve", CYCLE, "--quiet", "--no-polish", "--dtype", "float32", "--device", "cpu:3", "--out", "run") == 3
    result = result_of(work / "run")
    assert result["dtype"] == "float32"
    assert result["converged"] is False
    assert json.loads((work / "run" / "environment.json").read_text())["device"].startswith("cpu:3")
    assert jnp.zeros(()).devices() == {jax.devices()[0]}


def test_a_polished_run_says_so_and_reports_the_step(work):
    status = mmd("solve", "kuhn_poker", "--quiet", "--polish", "--tolerance", 1e-13, "--out", "run")
    result = result_of(work / "run")
    assert status == 0
    assert result["iterate"] in ("polished", "last", "average")
    assert all(one["nash_conv_after"] <= one["nash_conv_before"] for one in result["polish"]["tries"])
    assert result["polish"]["tries"][-1]["gradient_evaluations"] == result["gradient_evaluations"]
    assert result["value"] == pytest.approx(-1 / 18, abs=1e-12)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"magnet": "fixed"}, Fixed("dilated")),
        ({"center": "uniform"}, Fixed("uniform")),
        ({"magnet": "refresh=200"}, Refresh(every=200)),
        ({"magnet": "refresh", "center": "uniform"}, Refresh(center="uniform")),
        ({"magnet": "moving=0.05"}, MovingAverage(rate=0.05)),
        ({"magnet": "moving=0.05,power=4"}, MovingAverage(rate=0.05, power=4.0)),
        ({"magnet": "halpern"}, Halpern()),
    ],
)
def test_a_magnet_is_named_on_the_command_line(flags, expected):
    algorithm = commands._algorithm(Solve(spec=CYCLE, algorithm="mmd", alpha=0.3, eta=0.5, **flags))
    assert isinstance(algorithm, MagneticMirrorDescent)
    assert algorithm.magnet == expected
    assert (algorithm.alpha, algorithm.eta) == (0.3, 0.5)


def test_an_algorithm_takes_the_numbers_that_it_has():
    algorithm = commands._algorithm(Solve(spec=CYCLE, algorithm="r-nad", alpha=0.3, eta=0.5))
    assert (algorithm.name, algorithm.alpha, algorithm.eta) == ("r-nad", 0.3, 0.5)


def test_a_regularized_equilibrium_is_success_only_where_it_was_asked_for(capsys):
    """`--tolerance` bounds the exploitability and nothing else."""
    run = ("solve", CYCLE, "--algorithm", "mmd", "--alpha", 1)
    assert mmd(*run) == 3
    assert "converged to the equilibrium of the regularized game only" in capsys.readouterr().out
    assert mmd(*run, "--tolerance", 0.01, "--regularized-tolerance", 1e-9) == 0
    assert mmd(*run, "--regularized-tolerance", 1e-9, "--max-iterations", 1) == 3
    assert mmd("solve", CYCLE, "--regularized-tolerance", 1e-9) == 2
    assert "expected a regularized_tolerance only with a magnet that stays" in capsys.readouterr().err


# -------------------------------------------------------------------- the other commands


def test_verify_gives_the_gains_of_a_policy_that_anybody_wrote(work, capsys):
    (work / "policy.csv").write_text(
        "player,infoset,action,probability\nrow,row,rock,1\nrow,row,paper,0\nrow,row,scissors,0\n"
        + "".join(f"column,column,{action},0.333333333\n" for action in ("rock", "paper", "scissors"))
    )
    assert mmd("verify", "preference:rock_paper_scissors", "policy.csv") == 0
    printed = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    # payoffs are P - 1/2: against pure rock the column player wins 1/2 with paper; against uniform nothing wins
    numbers = {name.strip(): float(value) for name, value in printed.items()}
    assert numbers == pytest.approx(
        {
            "value": 0.5,
            "exploitability": 0.25,
            "NashConv": 0.5,
            "best-response gain, row": 0.0,
            "best-response gain, column": 0.5,
        },
        abs=1e-8,
    )


def test_verify_repeats_the_certificate_of_a_run(work, capsys):
    assert mmd("solve", "kuhn_poker", "--max-iterations", 30, "--no-polish", "--quiet", "--out", "run") == 3
    result = result_of(work / "run")
    for policy in ("run", "run/policy.npz", "run/policy.csv"):
        assert mmd("verify", "kuhn_poker", policy) == 0
        printed = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
        assert float(printed["  NashConv"]) == pytest.approx(result["nash_conv"], rel=1e-6)
        assert float(printed["  value"]) == pytest.approx(result["value"], rel=1e-10)


def test_compare_runs_each_algorithm_under_the_same_limits(work, capsys):
    flags = ("--max-iterations", 60, "--tolerance", 1e-7, "--out", "runs", "--plot", "both.pdf")
    assert mmd("compare", CYCLE, "--algorithms", "auto,mmd", *flags) == 0
    header, auto, plain = (re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()[1:])
    assert header[:4] == ["algorithm", "iterate", "status", "exploitability"]
    assert auto[0] == "auto: interior (not mirror descent)"
    assert plain[:3] == ["mmd", "last", "iteration limit"]
    for label, method in (("auto", "interior"), ("mmd", "mmd")):
        result = result_of(work / "runs" / label)
        assert result["algorithm"]["name"] == method
        assert result["tolerance"] == 1e-7
    assert (work / "runs" / "compare.png").is_file()
    assert (work / "both.pdf").is_file()
    assert mmd("plot", "runs/auto", "runs/mmd", "--out", "again.svg") == 0
    drawn = "  drawn: interior (not mirror descent); for a last iterate of mirror descent: --algorithm anchored"
    assert capsys.readouterr().out.splitlines() == ["wrote again.svg", drawn]
    assert "auto: interior (not mirror descent)" in (work / "again.svg").read_text()
    assert mmd("plot", "runs/mmd", "--x", "seconds", "--out", "mirror.png") == 0
    assert capsys.readouterr().out.splitlines() == ["wrote mirror.png"]
    assert mmd("plot", "runs", "--out", "all.svg") == 0
    legend = [text for text in texts(work / "again.svg") if ", " in text]
    assert len(legend) == 2
    assert set(legend) <= set(texts(work / "all.svg"))
    assert mmd("plot", "runs", "--labels", "one", "other", "--out", "named.svg") == 0
    assert {"one", "other"} <= set(texts(work / "named.svg"))
    with pytest.raises(RunError, match="runs: holds several runs, expected them by name, as in runs/auto"):
        plot_convergence("runs")


def test_games_lists_specs_that_load(capsys):
    assert mmd("games") == 0
    specs = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"kuhn_poker:cards=3", "leduc_poker:ranks=3,suits=2,raises=2", CYCLE} <= set(specs)


def test_env_names_versions_and_devices(capsys):
    assert mmd("env") == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"jax {jax.__version__}" in printed
    assert f"numpy {np.__version__}" in printed
    assert sum(line.startswith("device cpu:") for line in printed) == len(jax.devices())


# -------------------------------------------------------------------- bad input

SQUARE = '{"kind": "pairwise_preference", "names": ["x", "y"], "preference": %s}'

BAD_FILES = {
    "nan.csv": "1,2\n3,nan\n",
    "infinite.csv": "1,2\n3,inf\n",
    "ragged.csv": "1,2\n3\n",
    "labels.csv": "a,2\n3,4\n",
    "empty.csv": "",
    "broken.json": '{"kind": ',
    "game.txt": "1,2\n3,4\n",
    "broken.efg": 'EFG 2 R "x" { "A" "B" }\np "" 1 1',
}

BAD_INPUT = [
    ("solve nan.csv", "nan.csv:2:2: "),
    ("solve infinite.csv", "infinite.csv:2:2: "),
    ("solve ragged.csv", "ragged.csv:2"),
    ("solve labels.csv", "labels.csv:1"),
    ("solve empty.csv", "empty.csv"),
    ("solve broken.json", "broken.json:1:"),
    ("solve broken.efg", "broken.efg:2:"),
    ("solve game.txt", "game.txt"),
    ("solve missing.csv", "missing.csv"),
    ("solve .", "directory"),
    ("solve leduc", "leduc_poker"),
    ("solve kuhn_poker:card=3", "cards"),
    ("solve kuhn_poker --algorithm atuo", "did you mean 'auto'"),
    ("solve kuhn_poker --alpha 0.1", "auto takes no --alpha"),
    ("solve kuhn_poker --tolerance abc", "--tolerance: expected a number (FLOAT), got abc"),
    ("solve kuhn_poker --seed -1", "expected a seed >= 0, got -1"),
    ("solve kuhn_poker --polish --no-polish", "expected --polish or --no-polish, got both"),
    ("solve kuhn_poker --magnet fixed --algorithm anchored", "anchored takes no --magnet"),
    ("solve kuhn_poker --eta 1 --center uniform --algorithm r-nad", "r-nad takes no --magnet: it chooses its own"),
    ("solve kuhn_poker --algorithm mmd --magnet refresh=0", "expected --magnet to be fixed"),
    ("solve kuhn_poker --algorithm mmd --magnet moving=2", "got 'moving=2'"),
    ("solve kuhn_poker --algorithm mmd --magnet moving=0.1,power=-1", "a power >= 0"),
    ("solve kuhn_poker --algorithm mmd --magnet drifting", "got 'drifting'"),
    ("solve kuhn_poker --algorithm mmd --alpha -1", "expected alpha >= 0, got -1"),
    ("solve kuhn_poker --tolerance nan", "expected a tolerance >= 0, got nan"),
    ("solve kuhn_poker --max-iterations -1", "expected an integer max_iterations >= 0 and at most 2147483647, got -1"),
    ("solve kuhn_poker --max-iterations many", "--max-iterations"),
    ("solve kuhn_poker --time-limit 0", "expected a time limit > 0 seconds"),
    ("solve kuhn_poker --device abacus", "no device 'abacus' here, expected cpu"),
    ("solve kuhn_poker --device cpu:99", "no device 'cpu:99' here"),
    ("solve kuhn_poker --dtype float16", "float64"),
    ("solve kuhn_poker --resume", "--resume needs --out"),
    ("solve kuhn_poker --max-iteration 3", "perhaps you meant --max-iterations"),
    ("solve kuhn_poker --plot figure.bmp", "expected a file name that ends in .png or .svg or .pdf"),
    ("solve kuhn_poker --out nan.csv", "nan.csv: expected a folder to write to, got a file"),
    ("solve kuhn_poker --out nan.csv/run", "cannot write to this folder (Not a directory)"),
    ("solve", "mmd: Missing from mmd solve: SPEC (try --help)\n"),
    ("slove kuhn_poker", "slove"),
    ("", "solve"),
    ("verify kuhn_poker missing.npz", "missing.npz: cannot read the policy"),
    ("verify kuhn_poker nan.csv", "nan.csv:1: expected the header player,infoset,action,probability"),
    ("compare kuhn_poker --algorithms auto,mnd", "did you mean 'mmd'"),
    ("plot", "expected at least one run directory"),
    ("plot . --out a.png", "expected a run directory, cannot read its result.json"),
]


@pytest.mark.parametrize(("line", "expected"), BAD_INPUT, ids=[line or "nothing" for line, _ in BAD_INPUT])
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(work, capsys, monkeypatch, line, expected):
    for name, content in BAD_FILES.items():
        (work / name).write_text(content)
    assert mmd(*line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mmd: ")
    assert printed.err.count("\n") == 1
    assert expected in printed.err
    assert {file.name for file in work.iterdir()} == set(BAD_FILES)


@pytest.mark.parametrize(
    ("matrix", "expected"), [("[[0.5, 0.7], [0.4, 0.5]]", "'x'"), ("[[null, null], [null, null]]", "'y'")]
)
def test_a_preference_that_cannot_be_one_names_the_pair(work, capsys, matrix, expected):
    (work / "p.json").write_text(SQUARE % matrix)
    assert mmd("solve", "p.json") == 2
    refusal = capsys.readouterr().err
    assert refusal.count("\n") == 1
    assert expected in refusal


def test_places_are_tried_before_solving(work, capsys, monkeypatch):
    monkeypatch.setattr(commands, "solve", lambda *_, **__: pytest.fail("it solved first"))
    (work / "file").write_text("")
    for flags in (["--out", "file/run"], ["--plot", "file/figure.png"], ["--plot", "."]):
        assert mmd("solve", CYCLE, *flags) == 2
        assert mmd("compare", CYCLE, "--algorithms", "auto", *flags) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(work, capsys):
    (work / "locked").mkdir(mode=0o500)
    assert mmd("solve", CYCLE, "--out", "locked/run") == 2
    assert "cannot write to this folder (Permission denied)" in capsys.readouterr().err


# -------------------------------------------------------------------- progress


ROW = {"iteration": 1200.0, "seconds": 0.5, "exploitability": 3.25e-4}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.progress("auto", 10_000) as on_check:
        assert on_check is not None
        on_check(ROW)
    assert "compiling" in screen.getvalue()
    assert "iteration 1,200, exploitability 3.25e-04, 2,400 it/s" in screen.getvalue()


def test_before_the_first_check_a_terminal_shows_for_how_long_it_compiles(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress.Task, "elapsed", property(lambda task: 12.3))
    with progress.progress("auto", 10_000):
        pass
    assert "compiling 12 s" in screen.getvalue()


def test_elsewhere_a_long_compilation_says_so_and_what_it_took(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    with progress.progress("auto", 10_000) as on_check:
        while not (said := capsys.readouterr().err):
            time.sleep(0.01)
        on_check(ROW)
        on_check(ROW)
    assert said == "auto: compiling ...\n"
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"auto: compiling took \d+\.\d s", first)


def test_progress_is_a_line_every_two_seconds_elsewhere(monkeypatch, capsys):
    seconds = iter([0.0, 1.9, 2.1, 2.1, 3.0, 4.2, 4.2])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with progress.progress("auto", 10_000) as on_check:
        assert on_check is not None
        for k in range(4):
            on_check(ROW | {"iteration": 1000.0 * k})
    assert capsys.readouterr().err.splitlines() == [
        "auto: iteration 1,000, exploitability 3.25e-04, 2,000 it/s",
        "auto: iteration 3,000, exploitability 3.25e-04, 6,000 it/s",
    ]
