"""`mmd report`: what is on the page is what stands in the folders, and the tree is the game's own; what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mmd
from mmd.command import named_policy
from mmd.command.cli import main
from mmd.game.policy import labels_of
from mmd.measure.solution import TRACE_COLUMNS
from tests.pages import IMAGE, SCRIPT, Parsed, edit, shown, solver_runs

OLD = Path(__file__).with_name("cfr_of_0.1.0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return solver_runs(tmp_path_factory.mktemp("runs"))


def report(*words: object) -> int:
    return main(["report", *map(str, words)])


def test_the_tree_of_a_run_has_the_games_own_plan(runs: dict[str, Path]) -> None:
    """Products of probabilities along the parents in the files are the realisation plan of the game's treeplex."""
    solution = mmd.solve("kuhn_poker")
    game, policy = solution.game, solution.policy
    for side, found in enumerate(named_policy.read(runs["solved"], 10_000)):
        assert found.parents is not None
        assert list(found.infosets) == list(labels_of(game)[side].infosets)
        reach: list[float] = []
        for above, n in zip(found.parents, found.counts, strict=True):
            before = 1.0 if above < 0 else reach[above]
            reach += [before * p for p in found.probabilities[len(reach) : len(reach) + n]]
        plan = game.players[side].host_plan(policy.probabilities[side])
        np.testing.assert_allclose([1.0, *reach], plan, atol=1e-12)


def test_the_page_says_what_the_folders_say(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert report(*runs.values(), "--out", tmp_path / "page.html") == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'page.html'}\n"
    found = Parsed(tmp_path / "page.html")
    known = {name: json.loads((folder / "result.json").read_text("utf-8")) for name, folder in runs.items()}
    (chart,) = found.data("lines")
    drawn = {line["label"].partition(",")[0]: line for line in chart["lines"]}
    for name, folder in runs.items():
        row = (folder / "trace.csv").read_text("utf-8").splitlines()[-1].split(",")
        assert drawn[name]["columns"]["iteration"][-1] == float(row[0])
        floor = np.finfo(float).eps * known[name]["payoff_range"]
        assert drawn[name]["columns"]["exploitability"][-1] == pytest.approx(max(float(row[3]), floor))
    levels = {level["value"] for level in chart["levels"] if level["column"] == "nash_conv"}
    assert 2 * known["solved"]["tolerance"] in levels
    kuhn, lottery = found.data("players")
    assert kuhn["runs"] == ["solved", "uniform"]
    assert kuhn["numbers"] == [0, 1]
    row, column = kuhn["players"]
    assert set(row["probabilities"][1] + column["probabilities"][1]) == {0.5}
    policy = known["solved"]["policy"]
    chances = [p for side in ("row", "column") for of in policy[side].values() for p in of.values()]
    np.testing.assert_allclose(row["probabilities"][0] + column["probabilities"][0], chances, rtol=1e-5)
    assert lottery["players"][0]["actions"] == ["rock", SCRIPT, "scissors"]
    for text in ("not converged", "converged", "0.25", SCRIPT, IMAGE.partition("'")[0]):
        assert text in found.text
    for option, chance in known["lottery"]["policy"]["lottery"].items():
        assert shown(option) + f"{100 * chance:.1f} %" in found.text


def test_no_code_of_a_run_is_needed(runs: dict[str, Path], tmp_path: Path) -> None:
    """Names of an algorithm and a game from outside are text: nothing of that name is looked for."""
    gone = Path(shutil.copytree(runs["solved"], tmp_path / "gone"))
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')\n")
    edit(gone / "result.json", algorithm={"name": f"{tmp_path}/mine.py:Mine", "speed": {"of": 3}}, game="mine.py:game")
    assert report(gone, "--out", tmp_path / "page.html") == 0
    found = Parsed(tmp_path / "page.html")
    assert "mine.py:Mine" in found.text
    assert "speed.of" in found.text


def test_a_run_of_version_0_1_has_a_table_and_no_tree(tmp_path: Path) -> None:
    assert report(OLD, "--out", tmp_path / "page.html") == 0
    (policy,) = Parsed(tmp_path / "page.html").data("players")
    assert [player["parents"] for player in policy["players"]] == [None, None]
    assert [player["counts"] for player in policy["players"]] == [[2] * 6, [2] * 6]
    assert "kept no tree" in Parsed(tmp_path / "page.html").text


def test_a_recording_is_drawn_by_its_kl_beside_the_theorem(tmp_path: Path) -> None:
    folder = tmp_path / "rate"
    folder.mkdir()
    rows = [(k, 0.5 * 0.9**k, 2.0 * 0.8**k) for k in range(5)]
    lines = "".join(f"{k},{k},,{gap!r},,,,,{kl!r}\n" for k, gap, kl in rows)
    (folder / "trace.csv").write_text(f"{','.join((*TRACE_COLUMNS, 'kl'))}\n{lines}")
    known = {"schema_version": 1, "game": "g", "payoff_range": 1.0, "tolerance": 0.0, "iterate": "last"}
    known |= {"exploitability": 0.3, "algorithm": {"name": "mmd"}, "proven_factor": 0.9, "reference": "r", "rows": 5}
    (folder / "recording.json").write_text(json.dumps(known))
    assert report(folder, "--out", tmp_path / "page.html") == 0
    (chart,) = Parsed(tmp_path / "page.html").data("lines")
    assert chart["ys"][0]["column"] == "kl"
    measured, theorem = chart["lines"]
    assert measured["columns"]["kl"] == [kl for _, _, kl in rows]
    np.testing.assert_allclose(theorem["columns"]["kl"], [2.0 * 0.9**k for k in range(5)])
    assert not Parsed(tmp_path / "page.html").data("players")


def test_a_run_without_a_check_has_no_curve(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["solved"], tmp_path / "run"))
    (folder / "trace.csv").write_text(f"{','.join(TRACE_COLUMNS)}\n")
    assert report(folder, "--out", tmp_path / "page.html") == 0
    assert "No check was recorded" in Parsed(tmp_path / "page.html").text


def _unfinished(folder: Path) -> None:
    (folder / "result.json").unlink()
    (folder / "checkpoint.npz").write_bytes(b"")


def _training(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("")


def _several(folder: Path) -> None:
    shutil.copytree(folder, folder / "auto")
    (folder / "result.json").unlink()


def _not_json(folder: Path) -> None:
    (folder / "result.json").write_text("{")


def _wrong_type(folder: Path) -> None:
    edit(folder / "result.json", payoff_range="wide")


def _lacking(folder: Path) -> None:
    edit(folder / "result.json", algorithm=["mmd"])


def _no_number(folder: Path) -> None:
    path = folder / "policy.csv"
    path.write_text(path.read_text().replace("0.", "x", 1))


def _another_policy(folder: Path) -> None:
    path = folder / "policy.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _no_policy(folder: Path) -> None:
    (folder / "policy.csv").unlink()


def _too_large(folder: Path) -> None:
    edit(folder / "result.json", tolerance=10**400)


def _no_finite_number(folder: Path) -> None:
    edit(folder / "result.json", payoff_range=float("nan"))


REFUSED = {
    _too_large: "expected 'tolerance' of another type, got 1000",
    _no_finite_number: "expected 'payoff_range' of another type, got nan",
    _unfinished: "the run has not ended, it has a checkpoint.npz and no result.json; the command that began it",
    _training: "holds a run of mpo, which mpo report shows",
    _several: "holds several runs, expected them by name, as in",
    _not_json: "expected JSON",
    _wrong_type: "expected 'payoff_range' of another type, got 'wide'",
    _lacking: "expected 'algorithm' of another type, got ['mmd']",
    _no_number: "expected a probability, got",
    _another_policy: "policy.csv and policy.npz are not of the same policy",
    _no_policy: "cannot read its policy.csv",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_what_is_no_run_is_refused_in_a_sentence(
    damage, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = Path(shutil.copytree(runs["solved"], tmp_path / "run"))
    damage(folder)
    assert report(folder, "--out", tmp_path / "page.html") == 2
    said = capsys.readouterr().err
    assert REFUSED[damage] in said
    assert str(folder) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "expected at least one run directory"),
        ("nowhere", "nowhere: expected a run directory, cannot read its result.json"),
        ("run --out page.png", "expected a file name that ends in .html or .htm"),
        ("run --colour red", "report has no option --colour"),
    ],
)
def test_bad_words_are_refused_in_a_sentence(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report(*words.split()) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
