"""docs/benchmarks/demo-llm.md, the figure and the printed summary: what `benchmarks.real_model.demo` stored."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import print_table
from llm_bridge.measure.intervals import Z

STAGES = ("tokenizer", "dataset", "language_model", "fine_tuning", "first_judge", "second_judge")
STAGES += ("step_size", "mpo", "iterative_dpo", "inpo", "evaluation")
METHODS = {"MPO": "mpo", "iterative DPO": "iterative_dpo", "INPO": "inpo"}
UNDER = {"first": "Under the judge that has trained them", "second": "Under the judge that no policy has met"}
MPO, SFT = "MPO", "SFT"
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def page(found: dict[str, Any]) -> str:
    """The documentation page of the stored numbers."""
    lines = [
        "# A language model, end to end",
        "",
        *paragraph(
            "Written by `python -m benchmarks.real_model.demo` (`make demo-llm`) from",
            "`benchmarks/results/demo_llm.json`; a test",
            "keeps the two equal. A tokenizer and a small Llama from scratch on real text, supervised fine-tuning, two",
            "judges, three methods from the same start, and every policy against every other.",
        ),
        "",
        *paragraph(f"**{verdict(found)}**", against_the_start(found)),
        "",
        *_text_lines(found),
        "",
        "## Judges",
        "",
        *_judge_lines(found),
        "",
        "## Policies",
        "",
        *_policy_lines(found),
        "",
        "## Win rates",
        "",
        *_evaluation_lines(found),
        "",
        "## Time",
        "",
        *_time_lines(found),
        "",
        "## Settings",
        "",
        *markdown((("number", "value"), [(name, str(value)) for name, value in found["settings"].items()])),
    ]
    return "\n".join(lines) + "\n"


def verdict(found: dict[str, Any]) -> str:
    """Whether a baseline beats MPO under the second judge by more than its interval."""
    table, names = found["evaluation"]["second"], found["evaluation"]["second"]["names"]
    mpo = names.index(MPO)
    above = [
        f"{name} wins {cell(table, i, mpo)} % against it"
        for i, name in enumerate(names)
        if name != MPO and table["wins"][i][mpo] - Z * table["error"][i][mpo] > 0.5
    ]
    if not above:
        return "MPO is unbeaten under the second judge: no baseline is above 50 % by more than its interval."
    return f"MPO is not unbeaten under the second judge: {', '.join(above)}."


def against_the_start(found: dict[str, Any]) -> str:
    """What training has changed at all."""
    parts = []
    for stage in UNDER:
        table = found["evaluation"][stage]
        start = table["names"].index(SFT)
        wins = [f"{name} {cell(table, i, start)}" for i, name in enumerate(table["names"]) if i != start]
        parts.append(f"under the {stage} judge {', '.join(wins)}")
    return f"Against the start (SFT) the methods win, in %: {'; '.join(parts)}."


def cell(table: dict[str, Any], i: int, j: int, kind: str = "") -> str:
    """A win rate in percent and half of its 95 % interval."""
    value, error = (table[name][i][j] for name in ((kind, f"{kind}_error") if kind else ("wins", "error")))
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * Z * error:.1f}")


def matrix(table: dict[str, Any], kind: str = "") -> Table:
    """How often the row's answers are preferred to the column's."""
    names = table["names"]
    rows = [
        (name, *("" if i == j else cell(table, i, j, kind) for j in range(len(names)))) for i, name in enumerate(names)
    ]
    return ("wins of, in %", *(f"against {name}" for name in names)), rows


def judges_table(found: dict[str, Any]) -> Table:
    """Accuracy of both judges on the dev pairs, in all and by source."""
    both = [found[f"{name}_judge"] for name in UNDER]
    rows: list[Sequence[str]] = [
        ("all", str(both[0]["n"]), *map(share, both), percent(both[0]["longer"]), percent(1 - both[0]["longer"]))
    ]
    for source, one in sorted(both[0]["by_source"].items(), key=lambda item: -item[1]["n"]):
        shares = (share(judge["by_source"][source]) for judge in both)
        rows.append((source, str(one["n"]), *shares, percent(one["longer"]), percent(1 - one["longer"])))
    return ("dev pairs of", "n", "first judge", "second judge", "the longer wins", "the shorter wins"), rows


def share(one: dict[str, Any]) -> str:
    """An accuracy with half of its interval."""
    return percent(one["accuracy"]) + ("" if one["error"] is None else f" ± {100 * Z * one['error']:.1f}")


def percent(value: float) -> str:
    """With one digit behind the point."""
    return f"{100 * value:.1f}"


def markdown(table: Table) -> list[str]:
    """A table's lines."""
    header, rows = table
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def paragraph(*parts: str) -> list[str]:
    """Text in lines of at most 120 characters."""
    return textwrap.wrap(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False)


def _text_lines(found: dict[str, Any]) -> Iterable[str]:
    data, lm, sft, s = found["dataset"], found["language_model"], found["fine_tuning"], found["settings"]
    kept = data["kept"]
    sources = ", ".join(f"{n:,} {name}" for name, n in data["sources"].items())
    return [
        "## Text and language model",
        "",
        *paragraph(
            f"Of {data['all']['train']:,} training pairs {kept['train']['pairs']:,} have a prompt of at most",
            f"{s['longest_prompt']} tokens ({kept['train']['prompts']:,} prompts), of {data['all']['dev']:,} dev pairs",
            f"{kept['dev']['pairs']:,} ({kept['dev']['prompts']:,} prompts). Most answers are longer than the",
            f"{s['longest_answer']} tokens that policies draw: models learn, and judges read, their beginnings.",
            f"Sources: {sources}.",
        ),
        "",
        *paragraph(
            f"The tokenizer has {s['vocabulary']:,} tokens of",
            f"{found['tokenizer']['characters_per_token']:.1f} characters.",
            f"The model has {lm['weights']:,} weights and saw {lm['epochs']:.1f} epochs of {lm['tokens']:,} tokens:",
            f"perplexity on the dev texts {lm['perplexity']:.1f}, of a unigram model {lm['unigram_perplexity']:.1f}.",
            f"Fine-tuning on the beginnings of {sft['answers']:,} chosen answers",
            f"({sft['epochs']:.1f} epochs) takes the",
            f"perplexity of chosen dev answers from {sft['perplexity_before']:.1f} to {sft['perplexity']:.1f}.",
        ),
    ]


def _judge_lines(found: dict[str, Any]) -> Iterable[str]:
    first, second = (found[f"{name}_judge"] for name in UNDER)
    return [
        *paragraph(
            "Each begins with the language model and learns from the pairs of one half of the prompts:",
            f"{first['pairs']:,} and {second['pairs']:,} pairs, {first['epochs']:.1f} and",
            f"{second['epochs']:.1f} epochs.",
            "Accuracy in % on the dev pairs, with 95 % intervals over their",
            f"{first['prompts']} prompts; length is that of",
            f"the whole answers. Always saying the same reaches {percent(first['majority'])} % of the pairs, shown in",
            "random order.",
        ),
        "",
        *markdown(judges_table(found)),
    ]


def _policy_lines(found: dict[str, Any]) -> Iterable[str]:
    rows = []
    for name, stage in METHODS.items():
        one = found[stage]
        log = one["rounds"]
        ends = [
            f"{log[key][0]:.2f} to {log[key][-1]:.2f}" if key in log else "-"
            for key in ("entropy", "response_length", "kl/initial")
        ]
        rows.append((name, f"{one['samples']:,}", f"{one['judged_pairs']:,}", *ends))
    tried, s = found["step_size"], found["settings"]
    sizes = []
    for name, stage in METHODS.items():
        wins = (f"{100 * one['wins']:.1f} ± {100 * Z * one['error']:.1f}" for one in tried["wins"][stage].values())
        sizes.append((name, *wins, f"{tried['taken'][stage]:g}"))
    header = ("method", "samples", "pairs judged", "entropy, nats a token", "tokens an answer", "KL to the start, nats")
    return [
        *paragraph(
            "From the fine-tuned model (SFT), with the first judge, on the prompts of its",
            "half. Same samples, questions,",
            f"steps and learning rate, {s['learning_rate']:g}, for all. Each method has the step size eta",
            f"with which {s['trial']} rounds won most against the start, in %, on {s['trial_prompts']} training",
            f"prompts under the training judge; eta alpha is {s['pull']:g} where there is an alpha.",
        ),
        "",
        *markdown((("method", *(f"eta {eta:g}" for eta in s["etas"]), "taken"), sizes)),
        "",
        *paragraph(f"Equal answers are not asked about. {s['rounds']} rounds, the first and the last:"),
        "",
        *markdown((header, rows)),
    ]


def _evaluation_lines(found: dict[str, Any]) -> Iterable[str]:
    evaluation = found["evaluation"]
    lines = paragraph(
        f"{evaluation['prompts']} dev prompts, {evaluation['samples']} answers of each",
        "policy to each, compared in both",
        "orders; 95 % intervals over prompts. Matched pairs differ in length by at most a tenth or three tokens. The",
        "lottery is the Nash equilibrium of the table, by `mmd.solve`.",
    )
    for name, title in UNDER.items():
        table = evaluation[name]
        n = len(table["names"])
        fractions = [table["similar_frac"][i][j] for i in range(n) for j in range(i)]
        lottery = ", ".join(f"{who} {value:.3f}" for who, value in table["lottery"].items())
        among = f"Among matched pairs, {100 * min(fractions):.0f} to {100 * max(fractions):.0f} % of all:"
        lines += ["", f"### {title}", "", *markdown(matrix(table)), "", among]
        lines += ["", *markdown(matrix(table, "similar")), "", f"Lottery: {lottery}."]
    lengths = ", ".join(f"{who} {one['mean']:.1f} ({one['median']:.0f})" for who, one in evaluation["tokens"].items())
    return [*lines, "", f"Tokens an answer, mean (median): {lengths}."]


def time_table(found: dict[str, Any]) -> Table:
    """Seconds of every stage."""
    stages = {stage: found[stage]["seconds"] for stage in STAGES} | {"all": found["seconds"]}
    rows = [
        (name.replace("_", " "), *(f"{one[key]:,.0f}" for key in ("wall", "processor", "compile", "programs")))
        for name, one in stages.items()
    ]
    return ("stage", "wall, s", "processor, s", "compiling, s", "programs"), rows


def _time_lines(found: dict[str, Any]) -> Iterable[str]:
    return [
        *paragraph(
            f"On {found['environment']['cpu_count']} cores that were shared with other work:",
            "the processor's seconds are",
            "the run's own, the wall's are not.",
        ),
        "",
        *markdown(time_table(found)),
    ]


def show(found: dict[str, Any]) -> None:
    """Print what matters."""
    evaluation = found["evaluation"]
    print("\nJudges, accuracy in % on dev pairs:\n")
    print_table(*judges_table(found))
    for name, title in UNDER.items():
        print(f"\n{title}:\n")
        print_table(*matrix(evaluation[name]))
        print("lottery:", ", ".join(f"{who} {value:.3f}" for who, value in evaluation[name]["lottery"].items()))
    print()
    print_table(*time_table(found))
    print(f"\n{verdict(found)}\n{against_the_start(found)}")


def draw(found: dict[str, Any], path: Path) -> None:
    """Win rates under both judges, and how far each method goes from the start."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for axis, (name, title) in zip(axes, UNDER.items(), strict=False):
        table = found["evaluation"][name]
        names, wins = table["names"], table["wins"]
        axis.imshow(wins, cmap="RdBu", vmin=0.2, vmax=0.8)
        for i in range(len(names)):
            for j in range(len(names)):
                axis.text(j, i, "" if i == j else f"{100 * wins[i][j]:.1f}", ha="center", va="center")
        axis.set_xticks(range(len(names)), names, rotation=20)
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"{title}\nwins of the row in %", fontsize=10)
    for name, stage in METHODS.items():
        divergence = found[stage]["rounds"]["kl/initial"]
        axes[2].plot(range(1, len(divergence) + 1), divergence, label=name)
    axes[2].set_xlabel("round")
    axes[2].set_ylabel("KL to the start, nats a response")
    axes[2].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
