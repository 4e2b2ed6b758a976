"""docs/benchmarks/demo-llm.md and the printed summary: what `benchmarks.real_model.demo` stored."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.report import print_table
from llm_bridge.measure.intervals import Z

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
Found = dict[str, Any]
UNDER = {"compared": "the judges that trained it", "compared-again": "a judge of human pairs that it never met"}


def page(found: Found) -> str:
    """The documentation page of the stored numbers."""
    lines = [
        "# A real chat model, end to end",
        "",
        *paragraph(
            "Written by `python -m benchmarks.real_model.demo` (`make demo-llm`) from",
            "`benchmarks/results/demo_llm.json`; a test keeps the two equal. SmolLM2-135M-Instruct is fetched from the",
            "package index, two judges are trained on pairs that people have compared, and an adapter is trained by",
            "Magnetic Preference Optimization (MPO). Every step is a command that the run prints.",
        ),
        "",
        *paragraph(f"**{verdict(found)}**"),
        "",
        *paragraph(
            "One method and one seed are no comparison of methods: [the race](race.md) is. Until version 0.2 this page",
            "was a small model from scratch, where iterative DPO won 58 % against MPO under a judge that no policy had",
            "met.",
        ),
        "",
        "## Judges",
        "",
        *paragraph(
            "`people` and `others` read an answer as the start model does, and have a head trained on human pairs; no",
            "prompt is in the pairs of both. `on_topic`, `direct` and `concrete` are criteria that a person could",
            "hold, and `fluent` asks only whether an answer is likely under the start model and repeats nothing.",
        ),
        "",
        *markdown(judges_table(found)),
        "",
        *_coins(found),
        "## Win rates",
        "",
        *paragraph(
            f"{found['prompts']} prompts that training has not seen, {found['answers']} answers of each model to each,",
            f"at most {found['tokens']} tokens long; 95 % intervals over prompts.",
        ),
        "",
        *markdown(wins_table(found)),
        "",
        *_along(found),
        "",
        "## Answers before and after",
        "",
        *paragraph("The first answer of each model to the first of these prompts, cut where the run cuts them."),
        "",
        *markdown(answers_table(found)),
        "",
        "## Time",
        "",
        *paragraph(f"On {found['environment']['cpu_count']} processor cores, from an empty folder."),
        "",
        *markdown(time_table(found)),
    ]
    return "\n".join(lines) + "\n"


def verdict(found: Found) -> str:
    """What training has changed, under both judges."""
    parts = [f"{of_start(found, name)} % of pairs under {title}" for name, title in UNDER.items()]
    return f"After {found['rounds']} rounds the trained model is preferred to its start in {', and in '.join(parts)}."


def of_start(found: Found, name: str) -> str:
    """The trained model's wins over its start in percent, with their interval."""
    table = found["tables"][name]
    row, column = table["names"].index("mpo"), table["names"].index("start")
    win, low, high = (100 * table[part][row][column] for part in ("wins", "low", "high"))
    return f"{win:.1f} [{low:.1f}, {high:.1f}]"


def judges_table(found: Found) -> Table:
    """Weights, and how often those that were trained are right."""
    rows = []
    for name in dict.fromkeys([*found["population"], *found["judges"]]):
        weight = found["population"].get(name)
        known = found["judges"].get(name)
        trained = (
            (str(known["train_pairs"]), f"{100 * known['dev']:.0f} %", str(known["dev_pairs"])) if known else [""] * 3
        )
        rows.append((f"`{name}`", "none, it only evaluates" if weight is None else f"{weight:g}", *trained))
    return ("judge", "weight in training", "human pairs trained on", "right on others", "of"), rows


def coins(found: Found) -> list[str]:
    """The trained judges that are right no more often than a coin, as far as the pairs tell that they have not seen."""
    return [
        name for name, known in found["judges"].items() if known["dev"] - Z * 0.5 / known["dev_pairs"] ** 0.5 <= 0.5
    ]


def _coins(found: Found) -> Iterable[str]:
    """What such judges are good for."""
    if names := " and ".join(f"`{name}`" for name in coins(found)):
        yield from paragraph(
            f"As far as these pairs tell, a coin is right as often as {names}: the beginning of an answer, read by a",
            "model of 135 million weights, says little of what people prefer. So a win under such a judge shows where",
            "training can lead, not that people would like the answers more.",
        )
        yield ""


def wins_table(found: Found) -> Table:
    """The trained model's wins over its start."""
    return ("judged by", "wins over the start, %"), [(title, of_start(found, name)) for name, title in UNDER.items()]


def _along(found: Found) -> Iterable[str]:
    """The win rates that the run itself has measured."""
    rates = ", ".join(f"{row['eval/win_rate']:.3f} after {row['round']}" for row in found["watched"])
    return paragraph(f"Along the way, on other prompts and under the judges that train it: {rates} rounds.")


def answers_table(found: Found) -> Table:
    """Prompts with an answer before and one after."""
    rows = [tuple(_plain(one[part]) for part in ("prompt", "before", "after")) for one in found["shown"]]
    return ("prompt", "before", "after"), rows


def _plain(text: str) -> str:
    """One line of a table, whose signs are all shown as they are."""
    marked = "".join(f"\\{sign}" if sign in r"\`*_[]<>|#&$" else sign for sign in text.strip())
    return " / ".join(line.strip() for line in marked.splitlines() if line.strip())


def time_table(found: Found) -> Table:
    """Seconds of every step, and of all."""
    steps = dict(found["seconds"])
    steps["all"] = {part: sum(one[part] for one in steps.values()) for part in ("wall", "processor")}
    rows = [
        (name.replace("_", " "), *(f"{one[part]:,.0f}" for part in ("wall", "processor")))
        for name, one in steps.items()
    ]
    return ("step", "by the clock, s", "of the processor, s"), rows


def cell(table: Found, i: int, j: int) -> str:
    """A win rate in percent and half of its 95 % interval."""
    value, error = table["wins"][i][j], table["error"][i][j]
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if error is None else f" ± {100 * Z * error:.1f}")


def markdown(table: Table) -> list[str]:
    """A table's lines."""
    header, rows = table
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def paragraph(*parts: str) -> list[str]:
    """Text in lines of at most 120 characters."""
    return textwrap.wrap(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False)


def show(found: Found) -> None:
    """Print what matters."""
    print()
    for one in found["shown"]:
        print(f"\n> {one['prompt']}\n  before: {one['before']!r}\n  after:  {one['after']!r}")
    print()
    for table in (judges_table(found), wins_table(found), time_table(found)):
        print_table(*table)
        print()
    print(verdict(found))
