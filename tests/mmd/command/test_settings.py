"""Algorithms as they are typed, several settings of one: what each means, how it is called, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

import games
import mmd
from mmd.command.cli import main
from mmd.command.settings import folder_of, named
from mmd.measure import run_directory

CYCLE = games.load("preference:cycle")


def test_settings_mean_what_python_means() -> None:
    found: Any = named(["mmd:alpha=1,magnet=fixed", "mmd:alpha=0.1,eta=2"], CYCLE)
    assert list(found) == ["mmd:alpha=1,eta=6.25", "mmd:alpha=0.1,eta=2"]  # alpha / L^2 = 1 / 0.4^2
    first, second = found.values()
    assert first == mmd.MagneticMirrorDescent(alpha=1.0, magnet=mmd.Fixed("dilated")).resolve(CYCLE)
    assert second == mmd.MagneticMirrorDescent(alpha=0.1, eta=2.0).resolve(CYCLE)


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["mpo,anchored,mmd"], ["mpo", "anchored", "mmd"]),
        (["mpo", "anchored"], ["mpo", "anchored"]),
        (["mmd:alpha=1"], ["mmd"]),
        (["mmd:alpha=1,magnet=fixed", "mmd:alpha=0.1"], ["mmd:alpha=1", "mmd:alpha=0.1"]),
        (["mmd:alpha=1,anchored", "mmd"], ["mmd:alpha=1", "anchored", "mmd:alpha=0.1"]),
        (["mmd", "mmd:magnet=moving=0.1,power=2"], ["mmd:magnet=fixed", "mmd:magnet=moving=0.1,power=2"]),
        (
            ["mmd-behavioral:annealed=true", "mmd-behavioral"],
            ["mmd-behavioral:annealed=true", "mmd-behavioral:annealed=false"],
        ),
        (["mmd:center=uniform", "mmd"], ["mmd:center=uniform", "mmd:center=dilated"]),
        (["averaged", "mpo:magnet=refresh=50"], ["averaged", "mpo"]),
        (["mpo", "mpo:alpha=0.2"], ["mpo", "mpo:alpha=0.2"]),
    ],
)
def test_labels_say_what_differs(words: list[str], labels: list[str]) -> None:
    assert list(named(words, CYCLE)) == labels


def test_a_magnet_has_its_numbers() -> None:
    (found,) = named(["mmd:magnet=moving=0.1,power=2,center=uniform,alpha=0.3"], CYCLE).values()
    assert found == mmd.MagneticMirrorDescent(
        alpha=0.3, magnet=mmd.MovingAverage(center="uniform", rate=0.1, power=2.0)
    ).resolve(CYCLE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("mmd:alfa=1", "mmd has no setting 'alfa': known are eta, alpha, magnet, center"),
        ("cfr+:alpha=1", "cfr+ has no setting 'alpha'"),
        ("mmd:alpha=one", "mmd: expected alpha to be a number, got 'one'"),
        ("mmd:alpha", "mmd: expected settings such as alpha=0.1, got 'alpha'"),
        ("mmd:alpha=", "mmd: expected settings such as alpha=0.1, got 'alpha='"),
        ("mmd:alpha=1,alpha=2", "mmd: expected alpha once, got it twice"),
        ("mmd:alpha=-1", "expected alpha >= 0, got -1"),
        ("mmd:magnet=drifting", "magnet to be fixed, refresh"),
        ("mmd:center=middle", "mmd: expected center to be one of dilated, uniform, got 'middle'"),
        ("mmd-behavioral:annealed=maybe", "mmd-behavioral: expected annealed to be true or false, got 'maybe'"),
        ("mpo:feedback=exact", "mpo has no setting 'feedback'"),
        ("mnd:alpha=1", "did you mean 'mmd'"),
        ("mmd mmd:alpha=0.1", "expected every algorithm once, got 'mmd' twice"),
        ("mmd,", "unknown algorithm ''"),
        ("one=mmd one=anchored", "expected every algorithm once, got 'one' twice: labels must differ"),
        ("a/b=mmd a-b=anchored", "expected labels that make different folders, got 'a-b' twice"),
        ("..=mmd", "expected a label that can name a folder, as in annealed=mmd, got '..'"),
        ("mmd,alpha=1", "expected settings behind a colon, as in mmd:alpha=0.1, got 'mmd,alpha=1'"),
        ("one=mnd", "did you mean 'mmd'"),
        ("compare.png=mmd", "expected another label than 'compare.png', which is the name of the figure"),
    ],
)
def test_bad_settings_are_named_with_those_there_are(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "preference:cycle", "--out", "runs", "--algorithms", *words.split()]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_run_of_compare_lies_where_its_figure_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["compare", "preference:cycle", "--out", str(tmp_path / "runs"), "--plot", "runs/mine.svg"]
    assert main([*line, "--algorithms", "mine.svg=mmd"]) == 2
    assert "expected another label than 'mine.svg'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_run_of_compare_has_its_label_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["compare", "preference:cycle", "--max-iterations", "20", "--out", str(tmp_path)]
    assert main([*line, "--algorithms", "mmd:alpha=1,magnet=fixed", "mmd:alpha=0.1"]) == 0
    printed = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[0] for row in printed] == ["mmd:alpha=1", "mmd:alpha=0.1"]
    for label, alpha in (("mmd:alpha=1", 1.0), ("mmd:alpha=0.1", 0.1)):
        result = json.loads((tmp_path / folder_of(label) / "result.json").read_text())
        assert result["algorithm"]["alpha"] == alpha
        assert result["proven_factor"] == pytest.approx(1 / (1 + (alpha / 0.4) ** 2), rel=1e-12)


def test_a_label_that_is_typed_names_the_run_the_folder_and_the_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And --trace-every 1 has a row for every iteration, so that a logarithmic axis begins at 1."""
    line = ["compare", "preference:cycle", "--max-iterations", "20", "--tolerance", "1e-9", "--out", str(tmp_path)]
    figure = ["--plot", str(tmp_path / "figure.svg")]
    words = ["fixed magnet=mmd:alpha=1,magnet=fixed", "mmd:alpha=0.1", "CFR+=cfr+"]
    assert main([*line, *figure, "--trace-every", "1", "--algorithms", *words]) == 0
    printed = capsys.readouterr().out
    drawn = (tmp_path / "figure.svg").read_text("utf-8")
    for label, shown, alpha in (("fixed magnet", "fixed magnet", 1.0), ("mmd", "mmd, last iterate", 0.1)):
        assert f"\n{label}  " in printed
        assert f">{shown}</text>" in drawn
        assert json.loads((tmp_path / label / "result.json").read_text())["algorithm"]["alpha"] == alpha
    assert ">CFR+</text>" in drawn
    assert ">average iterate</text>" in drawn
    assert list(run_directory.load_trace(tmp_path / "CFR+")["iteration"]) == list(range(21))
    assert main([*line, "--trace-every", "0"]) == 2
    assert "expected --trace-every to be at least 1 iteration, got 0" in capsys.readouterr().err


def test_the_laboratory_takes_settings_too(tmp_path: Path) -> None:
    line = ["lab", "preference:cycle", "--iterations", "5", "--quiet", "--out", str(tmp_path)]
    assert main([*line, "--methods", "omwu:eta=1", "omwu:eta=0.5"]) == 0
    methods = json.loads((tmp_path / "lab.json").read_text())["methods"]
    assert {label: one["algorithm"]["eta"] for label, one in methods.items()} == {"omwu:eta=1": 1, "omwu:eta=0.5": 0.5}
