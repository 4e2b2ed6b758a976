"""Measured numbers in README and docs are those of the stored results, and hold what is said of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import picture, summary
from benchmarks.claims import page as claims_page
from benchmarks.claims import theorem_rates
from benchmarks.device import tpu_mpo
from benchmarks.peers import beside_trl
from benchmarks.truth import games as truth_games
from benchmarks.truth import page as truth_page
from benchmarks.truth import run as truth_run

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("1e-03", "1e-06", "1e-09")


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def words(*path: str) -> str:
    return " ".join(ROOT.joinpath(*path).read_text("utf-8").split())


def labels_of_the_default(found: Any) -> Iterator[Any]:
    """What stands under a label that begins with `auto`, or such a label where a name stands."""
    for label, value in found.items() if isinstance(found, dict) else enumerate(found):
        if re.match(r"auto\b", str(label)) or re.match(r"auto\b", str(value)):
            yield value
        if isinstance(value, dict | list):
            yield from labels_of_the_default(value)


def test_a_result_of_the_default_names_its_method() -> None:
    """`auto` chooses, and did not always choose as today: alone the name says nothing about what was measured."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        if path.stem in {"golden_runs", "release"}:  # commands that were typed
            continue
        found = json.loads(path.read_text("utf-8"))
        if path.stem == "cold_start":  # what version 0.1.0 said of itself
            found = {
                game: {launch: run for launch, run in runs.items() if not launch.startswith("before")}
                for game, runs in found["games"].items()
            }
        for run in labels_of_the_default(found):
            assert isinstance(run, dict), path.name
            assert {"method", "not_reached"} & set(run), path.name
    for name in ("random_games", "real_data"):
        assert all(game["method"] for game in result(name)["results"])


def test_the_summary_is_that_of_the_stored_numbers() -> None:
    assert summary.PAGE.read_text("utf-8") == summary.page()


def test_the_picture_and_its_caption() -> None:
    courses = picture.courses(result("truth"))
    ends = {name: values[-1] for name, values in courses.items()}
    start = courses["mpo"][0]
    caption = f"from {start:.3f} to {ends['mpo']:.3f}; SPPO ends at {ends['sppo']:.3f} and iterative DPO at "
    assert f"{caption}{ends['iterative dpo']:.3f}." in words("README.md")
    assert min(ends, key=ends.get) == "mpo"
    weights = truth_run.template(truth_games.named(picture.GAME).vocabulary).weights
    trained = sum(np.size(array) for array in jax.tree.leaves(weights))
    assert f"trains a transformer of {round(trained, -3):,} weights" in words("README.md")
    for game in picture.GAMES:
        assert result("two_loops")["games"][game]["curve"][-1][1] <= 1e-9
    for shown in (picture.PICTURE, picture.PICTURE.with_name("picture-dark.svg")):
        assert f"docs/{shown.name}" in words("README.md")
        assert shown.is_file()


def test_the_wait_of_a_newcomer() -> None:
    steps = result("newcomer")["steps"]
    install, solve = (steps[step]["processor_seconds"] for step in ("install", "solve Kuhn poker"))
    said = f"takes {install:.0f} processor seconds, and a first solved game {solve:.0f} more"
    assert said in words("README.md")


def test_readme_fits_a_screen_and_a_half() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 120
    assert all(len(line) <= 160 for line in lines)


def test_ratios_of_speed() -> None:
    leduc = next(r for r in result("iteration")["results"] if r["game"] == "leduc_poker")
    assert leduc["times_faster_than_scipy"]["mmd"] >= 2.3
    assert leduc["times_faster_than_scipy"]["restarted"] >= 1.3
    kuhn, leduc = (result("startup")["games"][name]["times_import_jax"] for name in ("kuhn_poker", "leduc_poker"))
    assert kuhn <= 1.8
    assert leduc <= 2.5


def test_random_games_and_real_tables_are_all_solved() -> None:
    games, tables = result("random_games")["results"], result("real_data")["results"]
    assert not any(g["false_converged"] for g in games)
    assert max(g["value_error_of_scale"] for g in games) <= 1e-8
    assert all(t["status"] == "CONVERGED" and t["distance_to_optimal_face"] <= 1e-6 for t in tables)
    assert all(all(run["equal"].values()) for run in result("openspiel_counts")["results"])


def test_batches() -> None:
    stored = result("batch")
    for run in stored["results"]:
        assert run["converged"] == run["within_tolerance_when_certified_again"] == run["games"]
    assert [run["games"] for run in stored["results"]] == [10_000, 1_000, 1_000]
    assert stored["results"][1]["times_less_processor_time"] >= 12
    assert stored["arena_bootstrap"]["converged"] == stored["arena_bootstrap"]["tables"] == 1_000


def test_nothing_that_was_killed_differs() -> None:
    assert not any(run["differing"] for run in result("kill_and_resume")["results"])
    trained = result("kill_and_train")
    assert not trained["kills"]["differing"]
    assert all(kind["found"] == kind["trials"] for kind in trained["damage"].values())


def test_the_linear_program_wins_where_it_is_said_to() -> None:
    stored = result("lp_curve")["faster_than_highs_from"]
    assert stored["leduc_poker"] is not None
    assert stored["liars_dice"] is None


def test_scale() -> None:
    nine = result("scale")["runs"]["liars_dice:faces=9 cfr+"]
    assert nine["exploitability"] <= 1e-3
    assert nine["build_seconds"] < 120
    for run in result("scale")["runs"].values():
        assert run["memory"]["peak"] <= run["memory"]["estimate"]


def test_claims() -> None:
    for rows in result("claims")["cycle"].values():  # the published best of optimistic multiplicative weights
        assert rows["restarted"] < rows["omwu, eta 1"]


def test_policies() -> None:
    """By processor time: the machine is shared, and the clock of one program is not that of the other."""
    stored = result("policies")
    decoding = summary.policy_ratios(stored, "generate 256")
    assert decoding[0] >= 4
    assert decoding[1] >= 1.2
    (small, large), halves, pages = (
        summary.policy_ratios(stored, f"log_probs and gradient{how}") for how in ("", ", in halves", ", huge pages")
    )
    said = words("docs", "how-to", "use-language-models.md")
    assert f"256 tokens take torch {decoding[0]:.1f} and {decoding[1]:.1f} times" in said
    assert f"gradient take torch {small:.2f} and {large:.2f} times as long (torch wins)" in said
    assert f"{halves[0]:.2f} and {halves[1]:.2f} with half of the rows at a time" in said
    assert f"and {pages[0]:.2f} and {pages[1]:.2f} with huge pages" in said


def test_the_claims_page_is_that_of_the_stored_numbers() -> None:
    page = ROOT / "docs" / "benchmarks" / "claims.md"
    assert page.read_text("utf-8") == claims_page.page(result("claims"), result("noise"))


def test_the_page_of_preference_optimization_is_that_of_the_stored_numbers() -> None:
    assert truth_page.PAGE.read_text("utf-8") == truth_page.page(result("truth"), result("styles"))


def test_beside_trl() -> None:
    methods = result("trl")["methods"]
    ours, theirs = methods[beside_trl.HALVES], [methods[name] for name in ("TRL Nash-MD", "TRL Online DPO")]
    faster = [one["processor_seconds"] / ours["processor_seconds"] for one in theirs]
    assert faster[0] >= 2
    assert faster[1] >= 1.5
    assert ours["peak_bytes"][-1] < min(max(one["peak_bytes"]) for one in theirs)


CFR = ("cfr", "cfr+", "dcfr", "pcfr+", "pdcfr+", "rtcfr+")


def evaluations(run: dict[str, Any], mark: str) -> float:
    """Of a run's better iterate."""
    reached = [one[mark]["evaluations"] for one in run["iterates"].values() if one[mark] is not None]
    return min(reached, default=float("inf"))


def test_where_others_win() -> None:
    stored, said = result("race")["games"], words("docs", "how-to", "choose-an-algorithm.md")
    ours = {mark: {name: evaluations(g["runs"]["restarted"], mark) for name, g in stored.items()} for mark in MARKS}
    best = {
        mark: {name: min((evaluations(g["runs"][c], mark), c) for c in CFR) for name, g in stored.items()}
        for mark in MARKS
    }
    bare = {name: evaluations(g["runs"]["restarted, no polish"], "1e-06") for name, g in stored.items()}
    wins = {mark: [name for name in stored if ours[mark][name] < best[mark][name][0]] for mark in MARKS}
    assert (len(stored), len(wins["1e-06"])) == (12, 10)
    assert sum(best["1e-03"][name][0] < ours["1e-03"][name] for name in stored) == 8
    assert sum(best["1e-06"][name][0] < bare[name] for name in stored) == 6
    assert set(stored) - set(wins["1e-09"]) == {"dark_hex"}
    for game, text in (
        ("liars_dice:faces=6", "`{1}` needs {0:.0f} and `restarted` {2:,.0f}"),
        ("goofspiel:cards=6", "`{1}` needs {0:.0f} against {2:,.0f}"),
        ("leduc_poker:ranks=9", "the two need {0:.0f} and {2:,.0f}"),
    ):
        assert text.format(*best["1e-03"][game], ours["1e-03"][game]) in said
    lost = best["1e-06"]["goofspiel:cards=6"], ours["1e-06"]["goofspiel:cards=6"]
    assert f"{lost[0][0]:,.0f} evaluations of `{lost[0][1]}`'s average against {lost[1]:,.0f}" in said
    seconds = {name: g["runs"]["restarted"]["iterates"]["best"]["1e-06"]["seconds"] for name, g in stored.items()}
    assert sum(g["exact"]["seconds"] < seconds[name] for name, g in stored.items()) == 8


def test_win_rate_intervals() -> None:
    cases = [one for one in result("win_rate_intervals")["cases"] if one["answers"] == 4]
    held = [100 * one["mpo eval"] for one in cases]
    assert {one["prompts"] for one in cases} == {10, 100}
    said = f"exact rate in {min(held):.0f} to {max(held):.0f} % of experiments"
    assert said in words("docs", "how-to", "train-on-preferences.md")


def test_the_page_of_the_theorem_is_that_of_the_stored_numbers() -> None:
    assert theorem_rates.PAGE.read_text("utf-8") == theorem_rates.page(result("theorem_rates"))


def test_programs_for_tpus() -> None:
    found = result("tpu_mpo")["results"]
    page = (ROOT / "docs" / "how-to" / "plan-a-run.md").read_text("utf-8")
    assert "\n".join(tpu_mpo.page_rows(found)) in page
    compiled = [one for one in found if "does_not_fit" not in one]
    assert not any(one["given_up"] or one["gathered_logits"] for one in compiled)
    (large,) = (one for one in found if "does_not_fit" in one)
    assert (large["topology"], large["model"], large["job"]) == ("v5e:4x4", "qwen3_8b", "update")
    (lean,) = (one for one in found if (one["model"], one["job"]) == ("qwen3_8b", "update_lean"))
    needed, there = lean["bytes_per_chip"]["in_all"], tpu_mpo.HBM["v5e"]
    assert f"The lean update needs {needed / 1e9:.1f} GB of the {there / 1e9:.1f} GB" in page
