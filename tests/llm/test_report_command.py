"""`mpo report`: every kind of folder on one page, a run that is still going on, and what it refuses."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from llm_bridge.command import report_command
from llm_bridge.command.cli import main
from tests.pages import COMPARED, HOSTILE, IMAGE, NAMES, SCRIPT, WINS, Parsed, shown, training_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return training_runs(tmp_path_factory.mktemp("runs"))


def report(*words: object) -> int:
    return main(["report", *map(str, words)])


def test_the_page_says_what_the_folders_say(runs: dict[str, Path], tmp_path: Path) -> None:
    assert report(*runs.values(), "--out", tmp_path / "page.html") == 0
    found = Parsed(tmp_path / "page.html")
    charts = {chart["caption"]: chart for chart in found.data("lines")}
    wins = charts["Win rate against the start"]["lines"]
    assert [line["label"] for line in wins] == ["done", "begun", "exploit/from-start"]
    assert wins[0]["columns"] == {
        "round": [0, 3, 6],
        "y": pytest.approx([0.5, 0.65, 0.8]),
        "y_low": pytest.approx([0.4, 0.55, 0.7]),
        "y_high": pytest.approx([0.6, 0.75, 0.9]),
    }
    from_start, from_magnet, *_ = charts["Divergence, nats an answer"]["lines"]
    assert from_start["columns"]["y"] == pytest.approx([0.1 * k for k in range(1, 7)])
    assert from_magnet["columns"]["y"] == [0.02] * 6
    for text in ("finished", "not finished", "80.0 % [70.0, 90.0]", *NAMES, IMAGE):
        assert shown(text) in found.text
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert f"{100 * WINS[i, j]:.1f}[{100 * WINS[i, j] - 5:.0f}, {100 * WINS[i, j] + 5:.0f}]" in found.text
    assert "40.0 % [10.0, 60.0]" in found.text  # of the lottery
    assert "0.2 [0.1, 0.3]" in found.text  # of the exploitability
    assert "no scalar reward would do" in found.text
    assert "done93" in found.text  # of 6 rounds of 2 seconds, 1.5 of them update


def test_answers_stand_with_the_judges_verdict(runs: dict[str, Path], tmp_path: Path) -> None:
    assert report(runs["done"], runs["begun"], runs["judge"], "--out", tmp_path / "page.html") == 0
    answers, verdicts = Parsed(tmp_path / "page.html").data("answers")
    assert answers["sides"] == [["start", "now"]] * 2
    stored = []
    for number, name in enumerate(("done", "begun")):
        for line in (runs[name] / "samples.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            stored.append([number, *(row[name] for name in ("round", "prompt", "start", "now", "preference"))])
    assert any(HOSTILE[6] in row[3] for row in stored)
    assert len(stored) == 25
    assert all(row in answers["answers"] for row in stored)
    # To each prompt: what the first run answered, round by round, then the second one.
    together = [(row[2], row[0], row[1]) for row in answers["answers"]]
    order = [(0, 0), (0, 3), (0, 6), (1, 0), (1, 3)]
    assert together == [(prompt, *place) for prompt in dict.fromkeys(row[2] for row in stored) for place in order]
    stored = [json.loads(line) for line in (runs["judge"] / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert verdicts["answers"] == [
        [0, None, row["prompt"], row["a"], row["b"], 1 - row["preference"]] for row in stored
    ]


def test_what_several_evals_compared_stands_side_by_side(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two models the one that was named first stands on the left in all evals; the share is the right one's."""
    assert report(runs["eval"], runs["later"], "--out", tmp_path / "page.html") == 0
    (found,) = Parsed(tmp_path / "page.html").data("answers")
    assert found["runs"] == [f"eval: rock and {SCRIPT}", "eval: rock and scissors", "later"]
    assert found["sides"] == [["rock", SCRIPT], ["rock", "scissors"], ["rock", "scissors"]]
    expected = []
    for name, rows in COMPARED.items():
        for row in rows:
            for k, j in itertools.product(range(2), range(2)):
                first, second, share = row["answers"][0][k], row["answers"][1][j], row["preference"][k][j]
                told = (first, second, 1 - share) if name == "later" else (second, first, share)
                expected.append((row["prompt"], *told))
    assert sorted(map(str, expected)) == sorted(str(tuple(row[2:])) for row in found["answers"])
    prompts = [row[2] for row in found["answers"]]
    assert prompts == [IMAGE] * 12 + ["q"] * 4  # what all evals have of a prompt stands together
    monkeypatch.setattr(report_command, "MOST_ANSWERS", 6)
    assert report(runs["eval"], "--out", tmp_path / "page.html") == 0
    (some,) = Parsed(tmp_path / "page.html").data("answers")
    assert len(some["answers"]) == 6
    assert {text for row in some["answers"] for text in row[3:5]} == {
        text for row in COMPARED["eval"] for texts in row["answers"] for text in texts
    }


def test_a_round_that_is_being_written_is_no_round_yet(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["begun"], tmp_path / "run"))
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write('{"round": 4, "loss"')
    assert report(folder, "--out", tmp_path / "page.html") == 0
    charts = {chart["caption"]: chart for chart in Parsed(tmp_path / "page.html").data("lines")}
    assert charts["Loss"]["lines"][0]["columns"]["round"] == [1, 2, 3]


def test_settings_in_which_runs_differ_are_marked(runs: dict[str, Path], tmp_path: Path) -> None:
    assert report(runs["done"], runs["begun"], "--out", tmp_path / "page.html") == 0
    text = Parsed(tmp_path / "page.html").text
    assert "differs: \N{NO-BREAK SPACE}eta1411" in text
    assert "differs: \N{NO-BREAK SPACE}model" not in text


def test_settings_of_an_eval_are_no_other_settings_of_a_training(runs: dict[str, Path], tmp_path: Path) -> None:
    """An eval has no learning rate: trainings that agree are not marked because one stands beside them."""
    assert report(runs["done"], runs["begun"], runs["eval"], "--out", tmp_path / "page.html") == 0
    text = Parsed(tmp_path / "page.html").text
    assert "differs: \N{NO-BREAK SPACE}eta1411" in text
    assert text.count("differs:") == 1


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("nothing", "run: expected a folder of mpo train, train-judge, eval, exploit or judge-report, found none"),
        ("empty", "run: expected a folder of mpo train, train-judge, eval, exploit or judge-report"),
        ("begun", "; the run has no round behind it yet"),
        ("solver", "run: holds a run of mmd, which mmd report shows"),
        ("metrics", "metrics.jsonl: expected a JSON object a line"),
        ("rounds", "metrics.jsonl: expected a round in each line"),
        ("metric", "metrics.jsonl: expected a round in each line, and numbers or null beside it"),
        ("deep", "metrics.jsonl: expected a JSON object a line"),
        ("eval", "eval.json: is not as mpo writes it (KeyError('lengths'))"),
        ("result", "result.json: expected a JSON object"),
        ("config", "config.yaml: expected YAML"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(
    damage: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = {"metrics.jsonl": '{"round": 1}\n'}
    held: dict[str, dict[str, str]] = {
        "empty": {},
        "begun": {"config.yaml": "eta: 1\n"},
        "solver": {"trace.csv": "", "result.json": "{}"},
        "metrics": {"metrics.jsonl": "[1]\n"},
        "rounds": {"metrics.jsonl": '{"loss": 1}\n'},
        "metric": {"metrics.jsonl": '{"round": 1, "eval/win_rate": "x"}\n'},
        "deep": {"metrics.jsonl": "[" * 100_000 + "\n"},
        "eval": {"eval.json": '{"names": ["a"]}'},
        "result": metrics | {"result.json": "[]"},
        "config": metrics | {"config.yaml": "a: [\n"},
    }
    if damage in held:
        Path("run").mkdir()
        for name, text in held[damage].items():
            Path("run", name).write_text(text)
    assert report("run", "--out", "page.html") == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not Path("page.html").exists()


@pytest.mark.parametrize(
    ("run", "file", "changes"),
    [
        ("later", "eval.json", {"wins": [[0.5]]}),
        ("later", "eval.json", {"low": "x"}),
        ("later", "eval.json", {"failed_frac": 10**400}),
        ("later", "comparisons.jsonl", {"preference": [[0.5]]}),
        ("exploit", "exploit.json", {"exploitability": 10**400}),
        ("done", "metrics.jsonl", {"loss": float("nan")}),
    ],
)
def test_a_number_that_is_none_or_in_a_table_of_another_shape_is_refused(
    run: str, file: str, changes: dict, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = Path(shutil.copytree(runs[run], tmp_path / "run"))
    first, *rest = (folder / file).read_text().splitlines() if file.endswith("l") else [(folder / file).read_text()]
    (folder / file).write_text("\n".join([json.dumps(json.loads(first) | changes), *rest, ""]))
    assert report(folder, "--out", tmp_path / "page.html") == 2
    said = capsys.readouterr().err
    assert f"{folder / file}: " in said
    assert said.count("\n") == 1


def test_a_settings_file_brings_no_code_in(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["begun"], tmp_path / "run"))
    (folder / "config.yaml").write_text(f"method: mine.py:Mine\nnote: '{SCRIPT}'\nwhen: 2026-11-30\n")
    assert report(folder, "--out", tmp_path / "page.html") == 0
    assert "mine.py:Mine" in Parsed(tmp_path / "page.html").text
