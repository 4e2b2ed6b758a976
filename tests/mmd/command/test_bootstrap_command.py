"""`mmd bootstrap`, and `--missing` in the commands that read files of comparisons."""

import csv
from pathlib import Path

import pytest

from mmd.command.cli import main

COUNTS = "a,b,wins_a,wins_b\nann,bob,30,10\nbob,cid,25,15\ncid,ann,22,18\n"
UNKNOWN = "dan,ann,3,1\n"  # dan never met bob and cid


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "votes.csv").write_text(COUNTS)
    (tmp_path / "gaps.csv").write_text(COUNTS + UNKNOWN)
    return tmp_path


def test_intervals_are_printed_and_written(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lottery of a cycle is in the ratio of the margins of the other two: 10 of bob, 4 of cid, 20 of ann."""
    assert main(["bootstrap", "votes.csv", "--draws", "300", "--out", "tables/votes.csv"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "value 0.5 (in every table, by symmetry)",
        "120 comparisons",
        "lottery: unique in the table as measured",
    ):
        assert line in printed
    with (work / "tables" / "votes.csv").open(newline="") as file:
        rows = {row["action"]: row for row in csv.DictReader(file)}
    expected = {"ann": 10 / 34, "bob": 4 / 34, "cid": 20 / 34}
    assert {name: float(row["probability"]) for name, row in rows.items()} == pytest.approx(expected, abs=1e-9)
    for row in rows.values():
        assert float(row["low"]) <= float(row["probability"]) <= float(row["high"])
        assert row["player"] == "lottery"
    assert [line.split()[-1] for line in printed.splitlines()[-3:]] == ["cid", "ann", "bob"]


def test_what_is_not_unique_is_said_with_its_range(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "tie.toc").write_text("# ALTERNATIVE NAME 1: x\n# ALTERNATIVE NAME 2: y\n5: 1,2\n5: 2,1\n")
    assert main(["bootstrap", "tie.toc", "--draws", "50", "--maximal-entropy"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "tie.toc by an exact solver (not mirror descent)"
    assert "lottery: not unique in the table as measured; ranges are over all equilibria" in printed
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == ["0.500000", "0.500000"]
    assert printed.count("0.0000 to 1.0000") == 4


def test_rows_against_columns_have_an_interval_of_their_value(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "row,column,wins,losses\nleft,left,40,60\nleft,right,90,10\nright,left,95,5\nright,right,30,70\n"
    (work / "kicks.csv").write_text(rows)
    assert main(["bootstrap", "kicks.csv", "--draws", "200"]) == 0
    value = next(line for line in capsys.readouterr().out.splitlines() if "value" in line)
    exact = (0.4 * 0.3 - 0.9 * 0.95) / (0.4 + 0.3 - 0.9 - 0.95)
    _, number, low, _, high = value.replace("(", "").replace(")", "").split()
    assert float(number) == pytest.approx(exact, abs=1e-6)
    assert exact - 0.1 < float(low) < exact - 0.02 < exact + 0.02 < float(high) < exact + 0.1


@pytest.mark.parametrize("command", [["solve"], ["bootstrap", "--draws", "20"]])
def test_pairs_that_never_met(work: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main([command[0], "gaps.csv", *command[1:]]) == 2
    assert "'bob' and 'dan' were never compared" in capsys.readouterr().err
    assert main([command[0], "gaps.csv", *command[1:], "--missing", "drop"]) == 0
    printed = capsys.readouterr().out
    assert "left out, since some pairs were never compared: 'dan'" in printed
    assert printed.startswith("gaps.csv#missing=drop")


def test_bad_input_is_one_sentence(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("preference:cycle",): "does not say of how many comparisons its payoffs are",
        ("preference:cycle", "--missing", "half"): "--missing is for files of comparisons, and there is no file",
        ("votes.csv", "--draws", "0"): "expected at least 1 draw",
        ("votes.csv", "--seed", "-1"): "expected a seed >= 0, got -1",
        ("votes.csv", "--out", "votes.json"): "expected a file name that ends in .csv",
        ("none.soi",): "there is no such file",
    }
    for words, message in cases.items():
        assert main(["bootstrap", *words]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert not captured.out
