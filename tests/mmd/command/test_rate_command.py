"""`mmd rate`: what it prints, writes and draws, and its exit status."""

import json
from pathlib import Path

import pytest

from mmd.command.cli import main


def test_the_measured_rate_is_beside_the_theorems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Matching pennies from a drawn start: alpha = L / 5 and eta = alpha / L^2, where the theorem is tight."""
    (tmp_path / "pennies.csv").write_text("1,-1\n-1,1\n")
    words = ["rate", str(tmp_path / "pennies.csv"), "--alpha", "0.2", "--seed", "1"]
    written = ["--out", str(tmp_path / "run"), "--plot", str(tmp_path / "rate.svg"), "--style", "paper"]
    assert main([*words, *written]) == 0
    printed = capsys.readouterr().out
    assert "it holds at every iteration" in printed
    found = json.loads((tmp_path / "run" / "rate.json").read_text())
    assert found["proven_factor"] == pytest.approx(1 / 1.04, rel=1e-12)
    assert found["measured_factor"] == pytest.approx(1 / 1.04, rel=3e-4)
    assert found["bound_holds"] is True
    assert found["is_line"] is True
    assert (tmp_path / "rate.svg").is_file()
    drawn = ["plot", str(tmp_path / "run"), "--y", "kl", "--x", "iterations", "--style", "paper"]
    assert main([*drawn, "--xscale", "log", "--out", str(tmp_path / "kl.svg")]) == 0
    assert "theorem: times 0.9615" in (tmp_path / "kl.svg").read_text("utf-8")
    assert main(["plot", str(tmp_path / "run"), "--y", "speed", "--out", str(tmp_path / "no.svg")]) == 2
    assert "recorded no 'speed': expected one of exploitability" in capsys.readouterr().err


def test_too_long_steps_have_nothing_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pennies.csv").write_text("1,-1\n-1,1\n")
    words = ["rate", str(tmp_path / "pennies.csv"), "--alpha", "0.2", "--seed", "1", "--eta", "0.3"]
    assert main(words) == 0
    assert "nothing: eta is above 0.2, the largest step of the theorem" in capsys.readouterr().out
    for more, message in (
        (["--iterations", "0"], "expected --iterations of at least 1, got 0"),
        (["--iterations", "3"], "expected at least 5 values of the KL(z*, z) above"),
        (["--iterations", "20"], "it falls by one of"),
        (["--alpha", "0"], "expected --alpha above 0"),
    ):
        assert main([*words, *more]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
