"""docs/benchmarks/summary.md: the stored measurements in a line each, with the file that says so.

    python -m benchmarks.summary

Nothing is measured here. Each function makes rows of one result file; a test keeps the page equal to the files.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.beside_trl import HALVES
from benchmarks.real_model import page as demo
from benchmarks.report import RESULTS
from benchmarks.truth import page as truth

PAGE = RESULTS.parents[1] / "docs" / "benchmarks" / "summary.md"
STYLED = ("mpo", "sppo", "iterative dpo")
OPENING = """# Summary

Written by `python -m benchmarks.summary` from the files in `benchmarks/results` that the last column names. A test
keeps the page equal to the files, and `make bench` measures again. Machines were shared, so ratios and processor
seconds say more than seconds. Which method the default chooses stands under
[which method](../how-to/choose-an-algorithm.md). Exploitability is in payoff units
([definitions](../reference/definitions.md)).
"""
UNMEASURED = """
Speed on GPUs and TPUs, one or [many](../how-to/use-many-devices.md), is not yet measured: `make bench-gpu`.
"""


class Row(NamedTuple):
    """What was measured, what came out."""

    what: str
    result: str


def stored(name: str) -> dict[str, Any]:
    """What `benchmarks/results/NAME.json` holds."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def convergence(found: dict[str, Any]) -> Iterator[Row]:
    """Leduc poker, and copies of it with perturbed payoffs."""
    leduc = {run["algorithm"]: run for run in found["runs"] if run["game"] == "leduc_poker"}
    whats = (
        "Leduc poker by `restarted` without the polish: gradient evaluations to 1e-6 / 1e-9",
        "the same by the last iterate of `anchored`",
    )
    for what, name in zip(whats, ("restarted", "anchored"), strict=True):
        reached = leduc[name]["evaluations_to"]
        yield Row(what, f"{reached['1e-06']:,} / {reached['1e-09']:,}")
    polished = leduc["restarted + polish"]
    what = f"Leduc poker by `restarted`, which polishes, to {polished['exploitability']:.1e}: gradient evaluations"
    yield Row(what, f"{polished['gradient_evaluations']:,}")
    copies = found["perturbed_leduc"]
    after = f"median exploitability after {copies['evaluations']:,} evaluations"
    yield Row(
        f"{copies['copies']} perturbed copies of Leduc by `restarted` without the polish, {after}",
        f"{copies['median']:.1e} (worst {max(copies['exploitability']):.1e})",
    )
    yield Row(
        "Leduc poker: seconds of compilation in a first call of `restarted` / of HiGHS's linear program in all",
        f"{leduc['restarted']['seconds']['compile']:.1f} / {found['leduc_linear_program']['seconds']:.2f}",
    )


def iteration(found: dict[str, Any]) -> Iterator[Row]:
    """One iteration beside a step in SciPy."""
    ratios = next(r for r in found["results"] if r["game"] == "leduc_poker")["times_faster_than_scipy"]
    what = "one iteration on Leduc poker beside a NumPy/SciPy step: `mmd` / `restarted`"
    yield Row(what, f"{ratios['mmd']:.1f} / {ratios['restarted']:.1f} times faster")


def peers(found: dict[str, Any]) -> Iterator[Row]:
    """Other solvers."""
    ratios = {r["game"]: r["times_faster"] for r in found["results"]}
    whats = ("the same step by SciPy / LiteEFG, times ours: Leduc poker", "and six-sided liar's dice")
    for what, game in zip(whats, ("leduc_poker", "liars_dice:faces=6"), strict=True):
        yield Row(what, f"{ratios[game]['SciPy MMD']:.1f} / {ratios[game]['LiteEFG MMD']:.1f}")
    cfr = [ratios["liars_dice:faces=6"][f"{name} CFR+"] for name in ("OpenSpiel", "LiteEFG", "noregret")]
    what = "CFR+ by OpenSpiel (C++) / LiteEFG / noregret, times ours: six-sided liar's dice"
    yield Row(what, " / ".join(f"{ratio:.1f}" for ratio in cfr))


def race(found: dict[str, Any]) -> Iterator[Row]:
    """Restarted steps against regret minimisation."""
    score = found["score_to_1e-06"]["restarted"]
    both = "`restarted` beside the best of six CFR methods"
    what = f"{score['games']} trees to 1e-6, {both}: fewer evaluations / at most half"
    yield Row(what, f"on {score['fewer']} / on {score['at_most_half']}")


def lp_curve(found: dict[str, Any]) -> Iterator[Row]:
    """Seconds against the linear program."""
    leduc = found["faster_than_highs_from"]["leduc_poker"].removeprefix("leduc_poker:ranks=")
    dice = max(name for name in found["games"] if name.startswith("liars_dice")).removeprefix("liars_dice:faces=")
    slower = f"slower on liar's dice up to {dice} faces"
    yield Row("processor seconds against HiGHS", f"faster from Leduc poker with {leduc} ranks on; {slower}")
    for family in ("leduc_poker", "liars_dice"):
        largest = [spec for spec, runs in found["games"].items() if spec.startswith(family) and len(runs) == 2][-1]
        times = " / ".join(
            f"{run['seconds']:.0f}" if run["seconds"] else f"over {run['not_reached_in']}"
            for run in (found["games"][largest][name] for name in ("default", "highs"))
        )
        yield Row(f"processor seconds of the default / HiGHS on `{largest}`, to 1e-9", times)


def large_trees(found: dict[str, Any]) -> Iterator[Row]:
    """The largest trees, to a rough and to a fine tolerance."""
    for mark in ("1e-3", "1e-6"):
        what = f"processor seconds from launch to {mark}: the default / HiGHS / the better of discounted CFR and PCFR+"
        shown = []
        for spec, runs in found["games"].items():
            cfr = [
                runs[name]["seconds"] for name in (f"dcfr {mark}", f"pcfr+ {mark}") if "seconds" in runs.get(name, {})
            ]
            sides = [runs.get(f"auto {mark}", {}).get("seconds"), runs.get(f"highs {mark}", {}).get("seconds")]
            times = " / ".join(_brief(one) for one in (*sides, min(cfr, default=None)))
            shown.append(f"`{spec}` {times}")
        yield Row(what, "; ".join(shown))


def _brief(seconds: float | None) -> str:
    """Two figures of a number of seconds; a word where there is none."""
    return "not measured" if seconds is None else f"{seconds:.2g}" if seconds < 100 else f"{seconds:.0f}"


def scale(found: dict[str, Any]) -> Iterator[Row]:
    """The largest trees."""
    runs = [found["runs"][f"liars_dice:faces={faces} cfr+"] for faces in (9, 10)]
    payoffs, seconds, peak = (
        " / ".join(format(run, form) for run in column)
        for column, form in (
            ([run["payoffs"] / 1e6 for run in runs], ".0f"),
            ([run["seconds_per_iteration"] for run in runs], ".2f"),
            ([run["memory"]["peak"] / 2**30 for run in runs], ".1f"),
        )
    )
    what = f"liar's dice with 9 / 10 faces, {payoffs} million payoffs: seconds of an iteration of `cfr+`"
    yield Row(what, f"{seconds}, peak memory {peak} GiB")


def startup(found: dict[str, Any]) -> Iterator[Row]:
    """The first call of a process."""
    times = [found["games"][name]["times_import_jax"] for name in ("kuhn_poker", "leduc_poker")]
    what = "a first `mmd solve` of Kuhn / Leduc poker, nothing kept: processor seconds, times `import jax`"
    yield Row(what, " / ".join(f"{n:.1f}" for n in times))


def cold_start(found: dict[str, Any]) -> Iterator[Row]:
    """One game each, in a fresh process."""
    solved = [runs.get("alone") or runs["first"] for runs in found["games"].values()]
    what = "[cold starts](cold-start.md) to a certified 1e-9: trees, perturbed trees, random games, matrices"
    yield Row(what, f"{sum(one['converged'] for one in solved)} of {len(solved)}; HiGHS is faster on most")


def random_games(found: dict[str, Any]) -> Iterator[Row]:
    """Random matrices of very different scales."""
    games = found["results"]
    solved, wrong = sum(g["status"] == "CONVERGED" for g in games), sum(g["false_converged"] for g in games)
    what = f"{len(games)} random matrix games up to 200 x 200, scales 1e-6 to 1e6: reach 1e-9 / wrongly called solved"
    yield Row(what, f"{solved} / {wrong}")


def real_data(found: dict[str, Any]) -> Iterator[Row]:
    """Preference tables, elections and bots."""
    tables = found["results"]
    agree = sum(t["status"] == "CONVERGED" and t["distance_to_optimal_face"] <= 1e-6 for t in tables)
    what = f"{len(tables)} real preference tables, elections and bots: solved, and agree with the linear program"
    yield Row(what, f"{agree}")


def batch(found: dict[str, Any]) -> Iterator[Row]:
    """Many games at once."""
    for run in found["results"]:
        ratios = run["times_less_processor_time"], run["times_less_processor_time_with_compilation"]
        what = f"{run['games']:,} games of {run['name']} to {run['tolerance']:.0e} by `mmd.solve_many`"
        what += ": HiGHS's processor time one by one, times ours (the first call)"
        yield Row(what, f"{ratios[0]:.1f} ({ratios[1]:.1f})")
    arena = found["arena_bootstrap"]
    yield Row(
        f"{arena['tables']:,} resampled Arena tables as one batch", f"{arena['processor_seconds']:.2f} s of a processor"
    )


def claims(found: dict[str, Any]) -> Iterator[Row]:
    """All methods on preference games."""
    share = found["shares"]["restarted"]
    what = (
        f"[twenty methods](claims.md) on {share['draws']} draws of preference games to NashConv 1e-6: `restarted` "
        "first of the mirror and magnet methods / within 3x of the best of all"
    )
    yield Row(what, f"{share['first']:.0%} / {share['within_3x']:.0%}")


def kill_and_resume(found: dict[str, Any]) -> Iterator[Row]:
    """Killed solves."""
    kills = sum(sum(run["kills"].values()) for run in found["results"])
    differing = sum(bool(run["differing"]) for run in found["results"])
    yield Row(f"{kills} kills of runs that were then resumed: results with a bit of difference", f"{differing}")


def openspiel_counts(found: dict[str, Any]) -> Iterator[Row]:
    """Sizes of trees."""
    equal = sum(all(run["equal"].values()) for run in found["results"])
    what = f"sizes and values of {len(found['results'])} game trees beside OpenSpiel's: equal"
    yield Row(what, f"{equal}")


def policy_ratios(found: dict[str, Any], job: str) -> list[float]:
    """Processor time of torch transformers, times ours, of both models: clocks of a shared machine say less."""
    both = ((found["results"][model][side] for side in ("ours", "transformers")) for model in ("small", "large"))
    seconds = [[side["results"][job]["processor_seconds"] for side in sides] for sides in both]
    return [theirs / ours for ours, theirs in seconds]


def policies(found: dict[str, Any]) -> Iterator[Row]:
    """Language models beside torch."""
    small, large = policy_ratios(found, "generate 256")
    what = (
        "16 prompts continued by 256 tokens, Llamas of 0.5 / 25 million parameters on one core: processor time of "
        "torch transformers, times ours (other runs on a noisy machine: 3.2 to 4.8 / 1.3 to 1.4)"
    )
    yield Row(what, f"{small:.1f} / {large:.1f}")
    (small, large), halves = (policy_ratios(found, f"log_probs and gradient{how}") for how in ("", ", in halves"))
    what = "log-probabilities with their gradient, the same; in brackets both by half of the rows at a time"
    yield Row(what, f"{small:.2f} / {large:.2f} ({halves[0]:.2f} / {halves[1]:.2f})")


def truth_test(found: dict[str, Any]) -> Iterator[Row]:
    """Preference optimization where the truth is known."""
    met, games = truth.exported_within(found)
    what = (
        "[MPO of small transformers](preference-optimization.md) on intransitive games whose equilibria are known, "
        "32,000 samples: games where what it exports is below the bar"
    )
    yield Row(what, f"{met} of {games}")


def styles(found: dict[str, Any]) -> Iterator[Row]:
    """Three styles in a circle."""
    far = [truth.distance(found, name, "exported" if name == "mpo" else "last") for name in STYLED]
    what = (
        "MPO of a language model whose judge prefers three styles in a circle: distance from the equilibrium "
        "(SPPO, iterative DPO)"
    )
    yield Row(what, f"{far[0]:.3f} ({far[1]:.3f}, {far[2]:.3f})")


def trl(found: dict[str, Any]) -> Iterator[Row]:
    """Training steps beside TRL's."""
    methods = found["methods"]
    ours, theirs = methods[HALVES], [methods[name] for name in ("TRL Nash-MD", "TRL Online DPO")]
    faster, at_once = (
        [one["processor_seconds"] / each["processor_seconds"] for one in theirs] for each in (ours, methods["MPO"])
    )
    what = (
        "a training step of MPO on one core, half of the rows at a time (all at once), the start not watched: "
        "processor time of TRL's Nash-MD / Online DPO, times ours"
    )
    yield Row(what, f"{faster[0]:.1f} / {faster[1]:.1f} ({at_once[0]:.1f} / {at_once[1]:.1f})")
    first, *_, last = (n / 2**20 for n in ours["peak_bytes"])
    beside = [max(one["peak_bytes"]) / 2**20 for one in theirs]
    what = "the same, peak memory in MiB: ours with compiled programs kept (compiling them) beside Nash-MD / Online DPO"
    yield Row(what, f"{last:.0f} ({first:.0f}) beside {beside[0]:.0f} / {beside[1]:.0f}")


def demo_llm(found: dict[str, Any]) -> Iterator[Row]:
    """A real chat model, end to end."""
    what = (
        "[a real chat model, end to end](demo-llm.md): wins of the trained model over its start, in %, under the "
        "judges that trained it / under a judge of human pairs that it never met"
    )
    yield Row(what, " / ".join(demo.of_start(found, name) for name in demo.UNDER))


def real_model_speed(found: dict[str, Any]) -> Iterator[Row]:
    """A real model on one core."""
    what = (
        "SmolLM2-135M on one processor core, times as fast as transformers on torch: decoding 16 rows / prompts / "
        "log-probabilities with the gradient"
    )
    ratios = found["ratios"]
    parts = ("decode", "prefill", "gradient")
    yield Row(what, " / ".join(f"{ratios[f'{part} beside torch']:.1f}" for part in parts))
    what = "a round of MPO with LoRA on it: times as fast as version 0.1.0 / times as long as its arithmetic alone"
    yield Row(what, f"{ratios['round beside 0.1.0']:.1f} / {1 / ratios['round beside floor']:.1f}")


def kill_and_train(found: dict[str, Any]) -> Iterator[Row]:
    """Killed trainings, damaged checkpoints."""
    kills, damage = found["kills"], found["damage"].values()
    differing, trials = len(kills["differing"]), sum(kind["trials"] for kind in damage)
    what = f"{sum(kills['kills'].values())} kills of trainings that were then resumed: results with a bit of difference"
    yield Row(what, f"{differing}")
    yield Row(f"{trials} damaged checkpoints of trainings: found", f"{sum(kind['found'] for kind in damage)}")


Rows = Callable[[dict[str, Any]], Iterator[Row]]
SECTIONS: dict[str, Sequence[tuple[str, Rows]]] = {
    "Exactness": (
        ("cold_start", cold_start),
        ("random_games", random_games),
        ("real_data", real_data),
        ("openspiel_counts", openspiel_counts),
        ("kill_and_resume", kill_and_resume),
    ),
    "Convergence": (("convergence", convergence), ("race", race), ("claims", claims)),
    "Speed and size": (
        ("iteration", iteration),
        ("peers", peers),
        ("lp_curve", lp_curve),
        ("large_trees", large_trees),
        ("scale", scale),
        ("startup", startup),
        ("batch", batch),
    ),
    "Language models": (
        ("truth", truth_test),
        ("styles", styles),
        ("demo_llm", demo_llm),
        ("policies", policies),
        ("real_model_speed", real_model_speed),
        ("trl", trl),
        ("kill_and_train", kill_and_train),
    ),
}


def page() -> str:
    """The page of what is stored now."""
    lines = [OPENING]
    for section, files in SECTIONS.items():
        lines += [f"## {section}", "", "| what | result | file |", "| --- | --- | --- |"]
        for name, rows in files:
            lines += [f"| {row.what} | {row.result} | `{name}.json` |" for row in rows(stored(name))]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n" + UNMEASURED


def main(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page(), "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
