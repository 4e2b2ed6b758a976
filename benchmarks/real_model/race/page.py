"""docs/benchmarks/race.md and its figure: what `benchmarks.real_model.race` stored, as sentences and tables.

What is not finished is said to be so; a bar is called reached only where everything that it speaks of is there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_model.page import Table, cell, markdown, paragraph
from benchmarks.real_model.race import plan
from benchmarks.real_model.race.forms import FORMS
from llm_bridge.measure.intervals import Z
from mmd.host.drawing import COLORS, empty_figure, save_figure

Found = dict[str, Any]
TITLES = {"mpo": "MPO", "inpo": "INPO", "iterative_dpo": "iterative DPO"}
TITLES |= {"nash_md": "Nash-MD", "egpo": "EGPO", "sppo": "SPPO", "mpo_2": "MPO, second form"}
MOST = 0.54  # no rival above it
LONE = 2  # seeds that two methods have
NOT_YET = "not finished"


def page(found: Found) -> str:
    """The documentation page of the stored numbers."""
    lines = [
        "# The race on a real language model",
        "",
        *paragraph(f"**{verdict(found)}**"),
        "",
        *paragraph(
            "Written by `python -m benchmarks.real_model.race` from `benchmarks/results/real_race.json`; a test keeps",
            "the two equal. SmolLM2-135M-Instruct, adapters of rank 8, real prompts.",
            "Every method has the same samples.",
            "Nash-MD and EGPO compare one half of a group with the other, the rest all pairs of a group.",
            "Populations, prompts, settings and seeds are those of `benchmarks/real_model/race/plan.py`, committed",
            "before the first run. After one run (MPO, rate 0.001, which hardly moved) rates, alphas and refreshes",
            "were changed for all methods, once.",
        ),
        "",
        *paragraph(state(found)),
        "",
        "## The fresh population: the second form of MPO",
        "",
        *_second_form(),
        "",
        *_cyclic_lines(found, "fresh"),
        "",
        "## The cyclic population: the first form",
        "",
        *_cyclic_lines(found, "cyclic"),
        "",
        *_populations(found),
        "## Settings, tuned on other camps and other prompts",
        "",
        *_tuning_lines(found),
        "",
        "## Hypotheses: why MPO might not win",
        "",
        *_hypotheses(found),
        "## Every attempt",
        "",
        *paragraph(
            "Samples are equal for all methods. Comparisons are those of a group of eight for most; Nash-MD and EGPO",
            "compare halves of it, as their papers have it.",
        ),
        "",
        *markdown(_attempts(found)),
        *_given_up(found),
    ]
    return "\n".join(lines) + "\n"


def state(found: Found) -> str:
    """How much of the plan is done."""
    done = [run for run in found["runs"] if is_done(run)]
    hours = found["hours_left"]
    if len(done) == len(found["runs"]) and hours == 0:
        return f"All {len(done)} runs of the plan are finished."
    return (
        f"{len(done)} of {len(found['runs'])} runs of the plan are finished; the others stand as not finished below, "
        f"and take about {hours:.1f} processor hours more, on one core."
    )


def is_done(run: Found) -> bool:
    """Whether a run is trained and its policy has answered."""
    return "spread" in run


def finals(found: Found, population: str) -> dict[str, list[Found]]:
    """Finished runs of a population by method."""
    runs: dict[str, list[Found]] = {}
    for run in found["runs"]:
        if run["population"] == population and is_done(run):
            runs.setdefault(run["method"], []).append(run)
    return runs


def level(runs: Sequence[Found]) -> float:
    """Mean exploitability over seeds."""
    return sum(run["final"]["exploitability"] for run in runs) / len(runs)


def is_complete(found: Found, population: str, form: str) -> bool:
    """Whether a population's runs of a form of MPO and its rivals are done, the best rival's second seed included."""
    raced = (form, *plan.RIVALS)
    runs = [run for run in found["runs"] if run["population"] == population and run["method"] in raced]
    rival = found["populations"][population].get("rival")
    return rival is not None and all(map(is_done, runs))


def beaten(found: Found, population: str, form: str = "mpo", table: str = "table") -> list[str] | None:
    """What wins against a run of a form of MPO, as the bar has it; None where the population is not complete."""
    wins = found["populations"][population].get(table)
    if wins is None or not is_complete(found, population, form):
        return None
    names, told = wins["names"], []
    ours, theirs = ([i for i, name in enumerate(names) if name.split()[0] in some] for some in ((form,), plan.RIVALS))
    for i, j in ((i, j) for i in theirs for j in ours):
        rate, error = wins["wins"][i][j], wins["error"][i][j]
        if rate - Z * error > 0.5 or rate > MOST:
            told.append(f"{title(names[i])} wins {cell(wins, i, j)} % against {title(names[j])}")
    return told


def verdict(found: Found) -> str:
    """Of both forms of MPO; of each what is not reached comes first."""
    return f"{_verdict(found, 'mpo', 'cyclic')} {_verdict(found, 'mpo_2', 'fresh')}"


def _verdict(found: Found, form: str, known: str) -> str:
    """Of one form, whose game is known on one population."""
    parts, missed, open_ = [], [], []
    name = TITLES[form] if form != "mpo" else "MPO, first form"
    if is_complete(found, known, form):
        runs = finals(found, known)
        mine, rivals = level(runs[form]), {rival: level(some) for rival, some in runs.items() if rival in plan.RIVALS}
        rival = min(rivals, key=lambda one: rivals[one])
        told = f"exact exploitability on the {known} population {mine:.4f}"
        told += f", the best rival {TITLES[rival]} {rivals[rival]:.4f} (wanted: at most half)"
        (parts if mine <= rivals[rival] / 2 else missed).append(told)
    else:
        open_.append(f"exploitability on the {known} population")
    for population in (known, "natural", "human"):
        told = beaten(found, population, form)
        if told is None:
            open_.append(f"win rates on the {population} population")
        elif told:
            missed.append(f"on the {population} population it is beaten: {', '.join(told)}")
        else:
            parts.append(f"unbeaten on the {population} population")
    ordered = [f"not reached: {'; '.join(missed)}."] if missed else []
    ordered += [f"not finished: {', '.join(open_)}."] if open_ else []
    ordered += [f"reached: {'; '.join(parts)}."] if parts else []
    return " ".join(f"{name}, {one}" for one in ordered)


def title(name: str) -> str:
    """Of a policy in a table of win rates: the method, and its seed where there are two."""
    method, _, seed = name.partition(" ")
    return f"{TITLES.get(method, method)}{f', seed {seed}' if seed else ''}"


def _second_form() -> Iterable[str]:
    yield from paragraph(
        "The first form missed its bar, and a second one was then sought on the tuning population alone.",
        f"So far it is {plan.SECOND.name}, with its magnet as its result.",
        "Camps and prompts are fresh: the two halves of the",
        f"prompts have changed places. Every run has {plan.ROUNDS['fresh']} rounds. Rivals keep their settings.",
        "What was tried, with the exploitability of the magnet on the other tuning prompts, 8 answers each:",
        f"{'; '.join(f'{one}: {value}' for one, value in plan.TRIED.items())}.",
    )


def _cyclic_lines(found: Found, population: str) -> Iterable[str]:
    start, runs = found["populations"][population].get("start"), finals(found, population)
    first, *others, last = (f"{share:g}" for share in plan.LOTTERIES[population])
    yield from paragraph(
        "Three camps rank the forms *structured*, *personal* and *plain* in rotating orders, and a voter for fluency",
        "asks only whether an answer is likely under the start model and repeats nothing. The equilibrium gives",
        f"{', '.join((first, *others))} and {last} of them. The exploitability follows exactly from how often a policy",
        "gives each form on the held-out prompts: what an opponent who always answers in the best form wins above one",
        "half. Intervals are over prompts. *By prompt* is what an opponent wins at least who has seen another answer",
        f"to the same prompt; it is below 0 where one answer tells too little. {_sampled(found, population)}",
    )
    yield ""
    rows = [] if start is None else [("start", "", "0", *_final(start, start["spread"]), "")]
    for method, some in sorted(runs.items(), key=lambda item: level(item[1])):
        for run in some:
            exploit = run.get("exploit")
            bound = NOT_YET if exploit is None else f"{exploit['exploitability']:.3f} ({exploit['adversary']})"
            row = (TITLES[method], str(run["seed"]), str(run["samples"]), *_final(run["final"], run["spread"]), bound)
            rows.append(row)
    header = ("policy", "seed", "samples", "exploitability", "by prompt, at least", *FORMS, "broken")
    header += ("nats from the start", "nats an answer")
    yield from markdown(((*header, "distinct", "found by `exploit`, at least"), rows))
    missing = [TITLES[name] for name in dict.fromkeys(run.method for run in plan.runs(population)) if name not in runs]
    if missing:
        yield ""
        yield from paragraph(f"Not finished: {', '.join(missing)}.")
    yield ""
    picture = {"cyclic": "race.svg", "fresh": "race-fresh.svg"}[population]
    yield f"![exploitability along samples, and along divergence from the start]({picture})"


def _sampled(found: Found, population: str) -> str:
    """How much of an exploitability is the sample's own."""
    value = found["populations"][population].get("of_an_equilibrium")
    if value is None:
        return ""
    return (
        "A sample's frequencies are more exploitable than the policy: as many answers drawn by the equilibrium would "
        f"have {value:.4f} on average."
    )


def _final(final: Found, spread: Found) -> tuple[str, ...]:
    shares, n = final["shares"], len(FORMS)
    value = f"{final['exploitability']:.4f} [{final['low']:.4f}, {final['high']:.4f}]"
    forms = (f"{shares[i]:.2f}" for i in range(n))
    apart = "unknown" if spread["divergence"] is None else f"{spread['divergence']:.2f}"
    more = (apart, f"{spread['entropy']:.1f}", f"{spread['distinct']:.2f}")
    return value, f"{final['knowing']:.3f}", *forms, f"{sum(shares[n:]):.2f}", *more


def _populations(found: Found) -> Iterable[str]:
    for name in plan.POPULATIONS:
        told = found["populations"][name]
        yield f"## Win rates on the {name} population"
        yield ""
        if told.get("table") is None:
            yield from paragraph(f"{NOT_YET.capitalize()}.")
            yield ""
            continue
        yield from markdown(_matrix(told["table"]))
        yield ""
        if told.get("verdict") is not None:
            yield from paragraph("Under the judge of other pairs, which no policy has met:")
            yield ""
            yield from markdown(_matrix(told["verdict"]))
            yield ""
        lottery = told["table"]
        said = (
            f"{title(one)} {p:.2f} [{lottery['lottery_low'][one]:.2f}, {lottery['lottery_high'][one]:.2f}]"
            for one, p in lottery["lottery"].items()
        )
        yield from paragraph(f"Nash lottery of the table: {', '.join(said)}.")
        yield ""
        if means := [line for form in plan.OWN for line in over_seeds(lottery, form)]:
            yield from paragraph(f"Means over all seeds of both, with the least and the most: {'; '.join(means)}.")
            yield ""


def over_seeds(table: Found, form: str) -> Iterable[str]:
    """What each rival wins against a form of MPO, over all pairs of their seeds."""
    names = [name.split()[0] for name in table["names"]]
    ours = [i for i, name in enumerate(names) if name == form]
    for rival in plan.RIVALS if ours else ():
        if rates := [100 * table["wins"][i][j] for i, name in enumerate(names) if name == rival for j in ours]:
            told = f"{TITLES[rival]} wins {sum(rates) / len(rates):.1f} % [{min(rates):.1f}, {max(rates):.1f}]"
            yield f"{told} against {TITLES[form]}"


def _matrix(table: Found) -> Table:
    names = table["names"]
    rows = [
        (title(one), *("" if i == j else cell(table, i, j) for j in range(len(names)))) for i, one in enumerate(names)
    ]
    return ("wins of, in %", *(f"against {title(one)}" for one in names)), rows


def _tuning_lines(found: Found) -> Iterable[str]:
    start = found["populations"]["tuning"].get("start")
    known = {name: {int(i): value for i, value in values.items()} for name, values in found["tuned"].items()}
    if start is not None:
        told = f"Exploitability after 20 rounds; the start's is {start['exploitability']:.4f}."
        yield from paragraph(f"{told} {_sampled(found, 'tuning')}")
        yield ""
    rows = []
    for method, settings in plan.SETTINGS.items():
        values = known.get(method, {})
        least = min(values, key=lambda i, v=values: (v[i], i)) if len(values) == len(settings) else None
        for i, setting in enumerate(settings if len(settings) > 1 else ()):
            value = f"{values[i]:.4f}" if i in values else NOT_YET
            rows.append((TITLES[method], setting.name, f"**{value}**, chosen" if i == least else value))
    yield from markdown((("method", "setting", "exploitability"), rows))


def _hypotheses(found: Found) -> Iterable[str]:
    lines = (_speed, _transitive, _magnet, _judge, _alpha)
    for number, line in enumerate(lines):
        yield from paragraph(f"**({'abcde'[number]})** {line(found)}")
        yield ""


def _speed(found: Found) -> str:
    claim = "Short runs measure speed towards the best response, not the equilibrium."
    runs = finals(found, "cyclic")
    if not runs:
        return f"{claim} {NOT_YET.capitalize()}."
    told = []
    for method, some in runs.items():
        values = [f"{window['exploitability']:.3f}" for window in some[0]["along"]]
        told.append(f"{TITLES[method]} {' '.join(values)}")
    return f"{claim} Exploitability in each ten rounds of training: {'; '.join(told)}."


def _transitive(found: Found) -> str:
    reports = {name: found["populations"][name].get("report") for name in plan.POPULATIONS}
    told = (f"on the {name} population {NOT_YET if one is None else one['sentence']}" for name, one in reports.items())
    claim = "The game may be nearly transitive, so that nothing has to be mixed."
    return f"{claim} As `mpo judge-report` says it of all answers to the held-out prompts: {'; '.join(told)}."


def _magnet(found: Found) -> str:
    claim = "The magnet holds back early, and the exported one lags."
    runs = [run for run in found["runs"] if run["method"] in plan.OWN and is_done(run)]
    if not runs:
        return f"{claim} {NOT_YET.capitalize()}."
    told = []
    for run in runs:
        values = [f"{window['magnet']:.2f}" for window in run["along"] if window["magnet"] is not None]
        told.append(f"{run['run']} {' '.join(values)}")
    which = "The first form exports the last iterate, the second its magnet."
    return f"{claim} {which} Nats from policy to magnet in each ten rounds: {'; '.join(told)}."


def _judge(found: Found) -> str:
    claim = "A learned judge is over-optimised by whoever moves most."
    told, judges = found["populations"]["human"], found.get("judges")
    if told.get("verdict") is None or judges is None:
        return f"{claim} {NOT_YET.capitalize()}."
    right = ", ".join(
        f"{name} {100 * one['dev']:.1f} % of {one['dev_pairs']:.0f} pairs" for name, one in judges.items()
    )
    table, other = told["table"], told["verdict"]
    start = table["names"].index("start")
    pairs = (
        f"{title(name)} {100 * table['wins'][i][start]:.1f} and {100 * other['wins'][i][start]:.1f} %"
        for i, name in enumerate(table["names"])
        if i != start
    )
    won = f"Won against the start, by the judge that trained and by the other: {'; '.join(pairs)}"
    return f"{claim} Right on dev pairs: {right}. {won}."


def _alpha(found: Found) -> str:
    claim = "Alpha refers to whole answers, so a usual one may be strong."
    known = found["tuned"]
    told = []
    for method in ("inpo", "nash_md", "egpo", "mpo"):
        values = {int(i): value for i, value in known.get(method, {}).items()}
        told += [f"{TITLES[method]} at {plan.SETTINGS[method][i].name} {values[i]:.3f}" for i in sorted(values)]
    return f"{claim} Exploitability on the tuning population: {'; '.join(told) if told else NOT_YET}."


def _attempts(found: Found) -> Table:
    header = ("run", "setting", "rounds", "samples", "comparisons", "processor minutes", "how it ended")
    rows = [
        (
            run["run"],
            run["setting"] or "",
            f"{run['rounds']} of {run['of']}",
            f"{run['samples']:,}",
            f"{run['comparisons']:,}",
            f"{run['processor_seconds'] / 60:.0f}",
            run["status"] if is_done(run) or not run["rounds"] else NOT_YET,
        )
        for run in found["runs"]
    ]
    return header, rows


def _given_up(found: Found) -> Iterable[str]:
    for one in found["earlier"]:
        yield ""
        yield from paragraph(f"Given up: {one['run']} after {one['rounds']} rounds. {one['why'].capitalize()}.")


def draw(found: Found, population: str, path: Path) -> None:
    """Exploitability along samples and along divergence from the start, of a population's finished runs."""
    figure = empty_figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, (x, label) in zip(
        figure.subplots(1, 2, sharey=True),
        (("samples", "samples"), ("divergence", "divergence from the start, nats an answer")),
        strict=True,
    ):
        for number, method in enumerate(plan.SETTINGS):
            for run in finals(found, population).get(method, []):
                points = [(w[x], w["exploitability"]) for w in run["along"] if w[x] is not None]
                seed = run["seed"] == plan.SEEDS[population]
                axes.plot(
                    *np.array(points).reshape(-1, 2).T,
                    color=COLORS[number % len(COLORS)],
                    marker="o",
                    markersize=3,
                    linestyle="-" if seed else "--",
                    label=TITLES[method] if seed else None,
                )
        axes.set_xlabel(label)
        axes.grid(visible=True, alpha=0.3)
    figure.axes[1].set_xscale("symlog", linthresh=1)  # some policies go a hundred times as far as others
    axes = figure.axes[0]
    axes.set_ylabel("exact exploitability")
    if axes.lines:
        axes.legend(fontsize="small")
    save_figure(figure, path, dpi=200)
