"""A run that version 0.1.0 has written: `cfr_of_0.1.0`, 50 iterations of CFR+ on Kuhn poker, with `mmd solve --out`."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import mmd
from mmd.command.cli import main

RUN = Path(__file__).with_name("cfr_of_0.1.0")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.mark.parametrize("policy", ["", "policy.npz", "policy.csv"])
def test_its_policy_verifies_with_the_numbers_of_its_result(
    policy: str, run: Path, capsys: pytest.CaptureFixture
) -> None:
    known = json.loads((run / "result.json").read_text())
    assert main(["verify", "kuhn_poker", str(run / policy)]) == 0
    said = capsys.readouterr().out
    for name in ("value", "exploitability"):
        found = re.search(rf"^ *{name} +(\S+)$", said, re.MULTILINE)
        assert found is not None
        assert float(found[1]) == pytest.approx(known[name], rel=1e-6)


def test_its_curve_is_drawn(run: Path, tmp_path: Path) -> None:
    assert main(["plot", str(run), "--out", str(tmp_path / "curve.svg")]) == 0
    assert (tmp_path / "curve.svg").stat().st_size > 1000
    line = mmd.plot_convergence(run, x="iterations").axes[0].get_lines()[0]
    rows = list(csv.DictReader((run / "trace.csv").read_text().splitlines()))
    for axis, column in ((line.get_xdata(), "iteration"), (line.get_ydata(), "exploitability")):
        np.testing.assert_allclose(np.asarray(axis), [float(row[column]) for row in rows], rtol=1e-12)


def test_its_checkpoint_is_refused_in_a_sentence_and_left_alone(run: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    words = ["solve", "kuhn_poker", "--algorithm", "cfr+", "--max-iterations", "100", "--quiet", "--resume"]
    assert main([*words, "--out", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the layout differs (2, not 3), another version wrote it; start without resuming to replace it" in said
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
