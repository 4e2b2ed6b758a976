"""The demonstration: its page is that of its result, its judges are symmetric, and nothing is done twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_model import demo, demo_judges, page

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "demo_llm.json"


def test_the_page_is_that_of_the_stored_numbers() -> None:
    stored = json.loads(RESULT.read_text("utf-8"))
    assert (ROOT / "docs" / "benchmarks" / "demo-llm.md").read_text("utf-8") == page.page(stored)
    assert list(stored["seconds"]) == [step.__name__ for step in demo.STEPS]
    assert stored["rounds"] == demo.ROUNDS
    assert len(stored["shown"]) == demo.SHOWN


def test_the_verdict_reads_the_row_of_the_trained_model() -> None:
    """Its win over the start, not the start's over it, wherever the two stand in the table."""
    table = {"names": ["mpo", "start"], "wins": [[0.5, 0.7], [0.3, 0.5]]}
    table |= {"low": [[0.5, 0.6], [0.2, 0.5]], "high": [[0.5, 0.8], [0.4, 0.5]]}
    found = {"rounds": 60, "tables": {"compared": table, "compared-again": table}}
    assert page.verdict(found).count("70.0 [60.0, 80.0] % of pairs") == 2


def test_a_judge_that_is_no_better_than_a_coin_is_named() -> None:
    """59 right of 100 are within 1.96 standard errors of a half, 120 of 200 are not."""
    judges = {"people": {"dev": 0.59, "dev_pairs": 100}, "others": {"dev": 0.6, "dev_pairs": 200}}
    assert page.coins({"judges": judges}) == ["people"]


def test_an_answer_stays_one_cell_of_its_table() -> None:
    """Lines, bars and tags of an answer are shown as they are."""
    found = {"shown": [{"prompt": "a|b", "before": "x\n\ny", "after": "<b>*z*"}]}
    assert page.markdown(page.answers_table(found))[2] == r"| a\|b | x / y | \<b\>\*z\* |"


def test_the_population_has_judges_of_those_names() -> None:
    """All that a command names can be loaded without the model, and the weights sum to 1."""
    for name in (*demo.POPULATION, "others"):
        judge = getattr(demo_judges, name)
        assert judge.name == name
        assert judge.symmetric
        assert judge.deterministic
    assert sum(demo.POPULATION.values()) == pytest.approx(1, abs=1e-12)


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time its seconds are those of the first; a step that fails is done again."""
    done: list[str] = []

    def step(place: Any) -> None:
        """Something."""
        done.append("once")
        if len(done) == 1:
            raise SystemExit(2)

    place = demo.Place(tmp_path, tmp_path)
    with pytest.raises(SystemExit):
        demo.carry_out(step, place)
    first = demo.carry_out(step, place)
    assert demo.carry_out(step, place) == first
    assert len(done) == 2
    assert "done before" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without data, without a round, and where the folder holds a run of other rounds, whose numbers would be told."""
    for name in ("data/prompts", "data/text", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out" / "rounds.json").write_text("60\n", "utf-8")
    given = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")]
    assert demo.main(["--data", str(tmp_path / "none")]) == 2
    assert demo.main([*given, "--rounds", "0"]) == 2
    assert demo.main([*given, "--rounds", "2"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0].removeprefix("demo-llm: ") for line in said] == [
        f"{tmp_path / 'none'} has no prompts and no text",
        "expected --rounds to be at least 1, got 0",
        f"{tmp_path / 'out'} holds a run of 60 rounds",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rounds.json"]
