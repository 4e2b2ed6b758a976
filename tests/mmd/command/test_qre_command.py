"""`mmd qre`: a table and a figure over alpha, and its exit status."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mmd.command.cli import main


def test_a_path_is_printed_written_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two actions: odds exp(0.2 / alpha), so the loser is played with 1 / (1 + them), at a cost of 0.2."""
    (tmp_path / "two.csv").write_text("0,0.2\n-0.2,0\n")
    table, figure = tmp_path / "path.csv", tmp_path / "path.svg"
    words = ["qre", str(tmp_path / "two.csv"), "--alphas", "0.1,0.05", "--out", str(table), "--plot", str(figure)]
    assert main(words) == 0
    assert capsys.readouterr().out.count("converged") == 2
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [0.1, 0.05]
    for row in rows:
        cost = 0.2 / (1 + np.exp(0.2 / float(row["alpha"])))
        assert float(row["exploitability"]) == pytest.approx(cost, abs=1e-9)
    assert figure.is_file()


def test_what_is_not_reached_has_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qre", "preference:cycle", "--alphas", "1e-4", "--max-iterations", "1"]) == 3
    assert "stopped at the iteration limit" in capsys.readouterr().out
    for alphas, message in (("x", "expected --alphas to be numbers"), ("0", "expected positive numbers for alpha")):
        assert main(["qre", "preference:cycle", "--alphas", alphas]) == 2
        assert message in capsys.readouterr().err
