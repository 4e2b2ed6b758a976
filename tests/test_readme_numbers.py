"""The README's measured numbers are those of the stored results."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims import page as claims_page
from benchmarks.device import tpu_mpo
from benchmarks.peers import beside_trl
from benchmarks.truth import page as truth_page

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("ours", "transformers")
STYLED = ("mpo", "sppo", "iterative dpo")


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def readme_row(start: str) -> str:
    rows = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith(f"| {start}")]
    assert len(rows) == 1, start
    return rows[0]


@pytest.mark.parametrize(
    ("row", "algorithm"),
    [("Leduc poker by `restarted` without the polish", "auto"), ("the same by the last iterate", "anchored")],
)
def test_evaluations(row: str, algorithm: str) -> None:
    run = next(r for r in result("convergence")["runs"] if (r["game"], r["algorithm"]) == ("leduc_poker", algorithm))
    reached = run["evaluations_to"]
    assert f"| {reached['1e-06']:,} / {reached['1e-09']:,} |" in readme_row(row)


def test_polish() -> None:
    run = next(r for r in result("convergence")["runs"] if r["algorithm"] == "auto + polish")
    row = readme_row("Leduc poker by `restarted`, which polishes")
    assert f"to {run['exploitability']:.1e} | {run['gradient_evaluations']:,} |" in row


def test_perturbed_copies() -> None:
    copies = result("convergence")["perturbed_leduc"]
    expected = f"{copies['median']:.1e} (worst {max(copies['exploitability']):.1e})"
    assert expected in readme_row("ten perturbed copies")


def test_iteration() -> None:
    leduc = next(r for r in result("iteration")["results"] if r["game"] == "leduc_poker")
    ratios = leduc["times_faster_than_scipy"]
    assert f"{ratios['mmd']:.1f} / {ratios['auto']:.1f} times faster" in readme_row("one iteration on Leduc")
    assert ratios["mmd"] >= 2.3
    assert ratios["auto"] >= 1.3


def test_peers() -> None:
    ratios = {r["game"]: r["times_faster"] for r in result("peers")["results"]}
    for row, game in (("the same step by SciPy", "leduc_poker"), ("and six-sided", "liars_dice:faces=6")):
        found = ratios[game]
        assert f"| {found['SciPy MMD']:.1f} / {found['LiteEFG MMD']:.1f} |" in readme_row(row)
    largest = ratios["liars_dice:faces=6"]
    cfr = (largest[f"{name} CFR+"] for name in ("OpenSpiel", "LiteEFG", "noregret"))
    assert f"| {' / '.join(f'{ratio:.1f}' for ratio in cfr)} |" in readme_row("CFR+ by OpenSpiel")


def test_compilation_against_the_linear_program() -> None:
    stored = result("convergence")
    first = next(r for r in stored["runs"] if (r["game"], r["algorithm"]) == ("leduc_poker", "auto"))
    assert first["seconds"]["compile"] > stored["leduc_linear_program"]["seconds"]
    assert "the linear program takes less" in readme_row("first call on Leduc poker")


def test_random_games() -> None:
    games = result("random_games")["results"]
    converged = sum(g["status"] == "CONVERGED" for g in games)
    assert not any(g["false_converged"] for g in games)
    assert max(g["value_error_of_scale"] for g in games) <= 1e-8
    assert f"{converged} reach 1e-9, and no other is called solved" in readme_row(f"{len(games)} random matrix games")


def test_real_data() -> None:
    tables = result("real_data")["results"]
    assert all(t["status"] == "CONVERGED" and t["distance_to_optimal_face"] <= 1e-6 for t in tables)
    assert readme_row(f"{len(tables)} real preference tables")


def test_batches() -> None:
    stored = result("batch")
    for run, start in zip(stored["results"], ("10,000 games of size 3 to 15", "1,000 games of size 100"), strict=True):
        ratios = run["times_less_processor_time"], run["times_less_processor_time_with_compilation"]
        assert f"| {ratios[0]:.1f} ({ratios[1]:.1f}) |" in readme_row(start)
        assert run["converged"] == run["within_tolerance_when_certified_again"] == run["games"]
    assert stored["results"][0]["games"] == 10_000
    assert stored["results"][1]["times_less_processor_time"] < 1  # so the row says who wins
    assert stored["arena_bootstrap"]["converged"] == stored["arena_bootstrap"]["tables"] == 1_000
    assert f"| {stored['arena_bootstrap']['seconds']:.2f} s |" in readme_row("1,000 resampled Arena tables")


def test_kills() -> None:
    results = result("kill_and_resume")["results"]
    kills = sum(sum(run["kills"].values()) for run in results)
    assert f"killed {kills} times in all and resumed | no bit of difference |" in readme_row("runs killed")
    assert not any(run["differing"] for run in results)


def test_counts() -> None:
    results = result("openspiel_counts")["results"]
    assert f"| sizes and values of {len(results)} game trees" in readme_row("sizes and values")
    assert all(all(run["equal"].values()) for run in results)


def test_race() -> None:
    score = result("race")["score_to_1e-06"]["restarted"]
    assert score["games"] == 12
    assert f"| {score['fewer']} / {score['at_most_half']} |" in readme_row("twelve trees to 1e-6")


def test_seconds_against_the_linear_program() -> None:
    stored = result("lp_curve")
    row, leduc = readme_row("seconds against HiGHS"), stored["faster_than_highs_from"]["leduc_poker"]
    assert leduc is not None
    assert f"faster from Leduc poker with {leduc.removeprefix('leduc_poker:ranks=')} ranks on" in row
    assert stored["faster_than_highs_from"]["liars_dice"] is None
    largest = max(name for name in stored["games"] if name.startswith("liars_dice"))
    assert f"slower on liar's dice up to {largest.removeprefix('liars_dice:faces=')} faces" in row


def test_scale() -> None:
    nine, ten = (result("scale")["runs"][f"liars_dice:faces={faces} cfr+"] for faces in (9, 10))
    row = readme_row("liar's dice with 9 / 10 faces")
    assert f"{nine['payoffs'] / 1e6:.0f} / {ten['payoffs'] / 1e6:.0f} million payoffs" in row
    assert f"{nine['seconds_per_iteration']:.2f} / {ten['seconds_per_iteration']:.1f} s" in row
    assert f"{nine['memory']['peak'] / 2**30:.1f} / {ten['memory']['peak'] / 2**30:.1f} GiB" in row
    assert nine["exploitability"] <= 1e-3
    assert nine["build_seconds"] < 120
    for run in result("scale")["runs"].values():
        assert run["memory"]["peak"] <= run["memory"]["estimate"]


def test_startup() -> None:
    kuhn, leduc = (result("startup")["games"][name]["times_import_jax"] for name in ("kuhn_poker", "leduc_poker"))
    assert f"| {kuhn:.1f} / {leduc:.1f} |" in readme_row("a first `mmd solve` of Kuhn / Leduc poker")
    assert kuhn <= 1.8
    assert leduc <= 2.5


def test_cold_starts() -> None:
    games = result("cold_start")["games"]
    solved = [runs.get("alone") or runs["first"] for runs in games.values()]
    row = readme_row("cold starts to a certified 1e-9")
    assert f"{sum(one['converged'] for one in solved)} of {len(solved)}" in row


def test_claims() -> None:
    share = result("claims")["shares"]["auto"]
    found = f"{share['first']:.0%} / {share['within_3x']:.0%}"
    assert found in readme_row(f"twenty methods on {share['draws']} draws of preference games")
    for rows in result("claims")["cycle"].values():  # the published best of optimistic multiplicative weights
        assert rows["auto"] < rows["omwu, eta 1"]


def test_policies() -> None:
    """By processor time: the machine is shared, and the clock of one program is not that of the other."""
    stored = result("policies")["results"]

    def ratios(job: str) -> list[float]:
        found = [stored[model][program]["results"][job] for model in ("small", "large") for program in PROGRAMS]
        seconds = [measured["processor_seconds"] for measured in found]
        return [theirs / ours for ours, theirs in zip(seconds[::2], seconds[1::2], strict=True)]

    decoding = ratios("generate 256")
    assert f"| {decoding[0]:.1f} / {decoding[1]:.1f} |" in readme_row("16 prompts continued by 256 tokens")
    assert decoding[0] >= 4
    assert decoding[1] >= 1.2
    (small, large), halves = ratios("log_probs and gradient"), ratios("log_probs and gradient, in halves")
    expected = f"| {small:.2f} / {large:.2f} ({halves[0]:.2f} / {halves[1]:.2f}) |"
    assert expected in readme_row("log-probabilities with their gradient")
    pages, guide = ratios("log_probs and gradient, huge pages"), ROOT / "docs" / "how-to" / "use-language-models.md"
    said = " ".join(guide.read_text("utf-8").split())
    assert f"256 tokens take torch {decoding[0]:.1f} and {decoding[1]:.1f} times" in said
    assert f"gradient take torch {small:.2f} and {large:.2f} times as long (torch wins)" in said
    assert f"{halves[0]:.2f} and {halves[1]:.2f} with half of the rows at a time" in said
    assert f"and {pages[0]:.2f} and {pages[1]:.2f} with huge pages" in said


def test_the_claims_page_is_that_of_the_stored_numbers() -> None:
    assert (ROOT / "docs" / "benchmarks" / "claims.md").read_text("utf-8") == claims_page.page(result("claims"), result("noise"))


def test_the_page_of_preference_optimization_is_that_of_the_stored_numbers() -> None:
    assert truth_page.PAGE.read_text("utf-8") == truth_page.page(result("truth"), result("styles"))


def test_preference_optimization() -> None:
    met, n_games = truth_page.exported_within(result("truth"))
    assert f"| {met} of {n_games}, all under" in readme_row("MPO of small transformers")
    styles = result("styles")
    far = [truth_page.distance(styles, name, "exported" if name == "mpo" else "last") for name in STYLED]
    assert f"| {far[0]:.3f} ({far[1]:.3f}, {far[2]:.3f}) |" in readme_row("MPO of a language model whose judge")
    wins, (sft, mpo, dpo, _) = result("demo_llm")["evaluation"]["second"]["wins"], range(4)
    assert f"| {wins[mpo][sft]:.0%} / {wins[dpo][mpo]:.0%}, so MPO is not" in readme_row("[a run on real text]")
    assert wins[dpo][mpo] > 0.5


def test_beside_trl() -> None:
    methods = result("trl")["methods"]
    ours, theirs = methods[beside_trl.HALVES], [methods[name] for name in ("TRL Nash-MD", "TRL Online DPO")]
    faster, at_once = (
        [one["processor_seconds"] / each["processor_seconds"] for one in theirs] for each in (ours, methods["MPO"])
    )
    expected = f"| {faster[0]:.1f} / {faster[1]:.1f} ({at_once[0]:.1f} / {at_once[1]:.1f}) |"
    assert expected in readme_row("a training step of MPO on one core")
    assert faster[0] >= 2
    assert faster[1] >= 1.5
    first, *_, last = (n / 2**20 for n in ours["peak_bytes"])
    beside = [max(one["peak_bytes"]) / 2**20 for one in theirs]
    expected = f"| {last:.0f} ({first:.0f}) beside {beside[0]:.0f} / {beside[1]:.0f} |"
    assert expected in readme_row("the same, peak memory in MiB")
    assert last < min(beside)


def test_programs_for_tpus() -> None:
    found = result("tpu_mpo")["results"]
    page = (ROOT / "docs" / "how-to" / "use-many-devices.md").read_text("utf-8")
    assert "\n".join(tpu_mpo.page_rows(found)) in page
    compiled = [one for one in found if "does_not_fit" not in one]
    assert not any(one["given_up"] or one["gathered_logits"] for one in compiled)
    (large,) = (one for one in found if "does_not_fit" in one)
    assert (large["topology"], large["model"], large["job"]) == ("v5e:4x4", "qwen3_8b", "update")
    (lean,) = (one for one in found if (one["model"], one["job"]) == ("qwen3_8b", "update_lean"))
    spare = tpu_mpo.HBM["v5e"] - lean["bytes_per_chip"]["in_all"]
    assert f"programs may have {tpu_mpo.HBM['v5e'] / 1e9:.1f} GB, with {spare / 1e9:.1f} GB to spare" in page


def test_training_that_was_killed() -> None:
    found = result("kill_and_train")
    kills, damage = found["kills"], found["damage"].values()
    assert not kills["differing"]
    trials = sum(kind["trials"] for kind in damage)
    expected = f"{sum(kills['kills'].values())}, no bit of difference / {sum(k['found'] for k in damage)} of {trials}"
    assert expected in readme_row("trainings killed and resumed")
