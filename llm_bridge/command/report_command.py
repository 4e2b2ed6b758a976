"""`mpo report`: what runs, evals and judges left in their folders, side by side on one page.

It reads the folders alone: no model, no judge, and no code from outside. A run of training may still be going on.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm_bridge.command.exploit_command import ADVERSARIES, EXPLOIT
from llm_bridge.command.options import Report
from llm_bridge.command.training_run import CONFIG, RESULT
from llm_bridge.run import picture, training_log
from llm_bridge.run.phases import ROUND_TIME, SECONDS
from mmd.host import environment
from mmd.host.command_line import UsageError
from mmd.report import page
from mmd.report.blocks import NONE, Badge, Bar, Cell, Facts, Matrix, Shares, Text, flat, number, plain, side_by_side
from mmd.report.interactive import Answer, Answers, Axis, Chart, Level, Line, Panels
from mmd.report.page import Block, Page, Section

EVAL, REPORT, VERDICTS = "eval.json", "report.json", "verdicts.jsonl"
KINDS = "mpo train, train-judge, eval, exploit or judge-report"
MOST_ANSWERS = 5_000  # pairs of a run on a page, the newest ones
ROUND, WIN_RATE = picture.ROUND, picture.WIN_RATE
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Win rate against the start", "win rate", {WIN_RATE: ""}),
    ("Divergence", "nats an answer", {"kl/initial": "from the start", "kl/magnet": "from the magnet"}),
    ("Length of answers", "tokens", {"response_length": "while training", "eval/response_length": "held-out prompts"}),
    ("Entropy", "nats a token", {"entropy": ""}),
    ("Loss", "loss", {"loss": ""}),
    ("Accuracy of the judge that is trained", "share", {"accuracy": ""}),
    (
        "Judge",
        "share of comparisons",
        {"judge/failed_frac": "no answer", "judge/tie_frac": "ties", "judge/order_flip_frac": "flipped with the order"},
    ),
)
BOUNDS = {WIN_RATE: (0.0, 1.0)}
WIN_NOTE = (
    "Win rate: how often the judge prefers the run's answer to that of the model it began with, on held-out prompts, "
    "with the 95 % interval if the prompts were drawn again. Divergences are from the start and from the magnet."
)
EVAL_NOTE = (
    "How often the answers of the row are preferred to those of the column, in %, over all pairs of independent "
    "answers; [95 % interval if the prompts were drawn again]. The lottery is the Nash equilibrium of the measured "
    "table, its interval that of other prompts."
)
JUDGE_NUMBERS = {
    "prompts": "prompts",
    "pairs": "pairs of answers",
    "repeats": "times asked",
    "deterministic": "always the same answer",
    "triples": "triples",
    "coin_flips": "cyclic if verdicts were coins",
    "condorcet": "prompts with an answer that beats all others",
    "misfit": "mean miss of one score for each answer",
    "tied": "ties",
    "failed_frac": "no answer",
    "first_preferred": "the first answer is preferred",
}
JUDGE_SHARES = {"cyclic": "cyclic triples", "longer": "the longer answer is preferred", "flipped": "order decides"}


class Training(NamedTuple):
    """A run of training as it stands in its folder.

    Attributes:
        label: how the page calls it.
        config: `config.yaml`.
        environment, result: `environment.json` and `result.json`; empty where there is none yet.
        rows: of `metrics.jsonl`.
        samples: of `samples.jsonl`.
    """

    label: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]


class Found(NamedTuple):
    """What all folders hold.

    Attributes:
        trainings: runs, adversaries among them.
        evals, exploits, judges: `eval.json`, `exploit.json` and `report.json`, by label.
        verdicts: of judges, by label.
    """

    trainings: list[Training]
    evals: dict[str, Mapping[str, Any]]
    exploits: dict[str, Mapping[str, Any]]
    judges: dict[str, Mapping[str, Any]]
    verdicts: dict[str, Sequence[Mapping[str, Any]]]


def report(options: Report, argv: Sequence[str], say: Callable[[Iterable[str]], None]) -> int:
    """`mpo report`; the exit status."""
    if not options.runs:
        raise UsageError(f"expected at least one folder of {KINDS}")
    page.prepare(options.out)
    found = Found([], {}, {}, {}, {})
    for label, folder in page.labelled(options.runs).items():
        _read(label, folder, found)
    try:
        page.write(page_of(found), options.out)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        folders = ", ".join(map(str, options.runs))
        raise UsageError(f"{folders}: a file is not as this version writes it ({error!r:.80})") from None
    say([f"wrote {options.out}"])
    return 0


def page_of(found: Found) -> Page:
    """The page of what was found."""
    trainings = found.trainings
    labels = [*dict.fromkeys([*(one.label for one in trainings), *found.evals, *found.exploits, *found.judges])]
    sections = (
        Section("Summary", [side_by_side("Runs", {o.label: _summary(o) for o in trainings})] if trainings else []),
        Section("Training", _training(trainings)),
        Section("Win rates", [block for label, one in found.evals.items() for block in _eval(label, one)]),
        Section("Exploitability", [_exploits(found.exploits)] if found.exploits else []),
        Section("Judge", [block for label, one in found.judges.items() for block in _judge(label, one)]),
        Section("Answers", [*_answers(trainings), *_verdicts(found.verdicts)]),
        Section("Time", _time(trainings)),
        Section("Settings", _settings(found)),
    )
    version = environment.versions(())[environment.DISTRIBUTION] or "of a checkout"
    lead = f"{len(labels)} folders" if len(labels) > 1 else "what the folder holds"
    return Page(", ".join(labels[:4]) + (" ..." if len(labels) > 4 else ""), lead, sections, f"mpo report, {version}")


# ------------------------------------------------------------------------------------------------ reading


def _read(label: str, folder: Path, found: Found) -> None:
    """Enter what a folder holds.

    Raises:
        UsageError: it holds nothing of `mpo`, or a file is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of {KINDS}, found none")
    before = sum(map(len, found))
    if (folder / training_log.FILE).is_file():
        found.trainings.append(_training_of(label, folder))
    for name, into in ((EVAL, found.evals), (EXPLOIT, found.exploits), (REPORT, found.judges)):
        if (folder / name).is_file():
            into[label] = _json(folder / name)
    if (folder / VERDICTS).is_file():
        found.verdicts[label] = _lines(folder / VERDICTS)
    for adversary in sorted((folder / ADVERSARIES).glob(f"*/{training_log.FILE}")):
        found.trainings.append(_training_of(f"{label}/{adversary.parent.name}", adversary.parent))
    if sum(map(len, found)) == before:
        if (folder / "trace.csv").is_file():
            raise UsageError(f"{folder}: holds a run of mmd, which mmd report shows")
        begun = "; the run has no round behind it yet" if (folder / CONFIG).is_file() else ""
        raise UsageError(f"{folder}: expected a folder of {KINDS}{begun}")


def _training_of(label: str, folder: Path) -> Training:
    known = [_json(folder / name) if (folder / name).is_file() else {} for name in ("environment.json", RESULT)]
    samples = _lines(folder / training_log.SAMPLES) if (folder / training_log.SAMPLES).is_file() else []
    rows = _lines(folder / training_log.FILE)
    if not all(isinstance(row.get(ROUND), int | float) for row in rows):
        raise UsageError(f"{folder / training_log.FILE}: expected a round in each line")
    return Training(label, _yaml(folder / CONFIG), known[0], known[1], rows, samples)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected JSON ({error})") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object")
    return content


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """Objects of JSON Lines; what a killed process left behind the last line end is none."""
    try:
        found = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON object a line ({error})") from None
    if not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{path}: expected a JSON object a line")
    return found


def _yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        raise UsageError(f"{path}: expected YAML") from None
    return content if isinstance(content, dict) else {}


# ------------------------------------------------------------------------------------------------ training


def _summary(run: Training) -> dict[str, Cell]:
    config, result, newest = run.config, run.result, _newest(run.rows)
    status = str(result.get("status", "not finished"))
    kind = "good" if status == "finished" else "bad" if result else "open"
    facts: dict[str, Cell] = {"status": Badge(status, kind), "rounds": plain(result.get("rounds", newest.get(ROUND)))}
    facts["method"] = plain(result.get("method", config.get("method")))
    for name, shown in {"model_name_or_path": "model", "judge": "judge", "dataset_name": "prompts"}.items():
        facts |= {shown: plain(config[name])} if config.get(name) else {}
    if WIN_RATE in newest:
        facts["win rate against the start"] = Bar(*(newest.get(f"{WIN_RATE}{side}") for side in ("", "_low", "_high")))
    metrics = {
        "kl/initial": "nats from the start, an answer",
        "kl/magnet": "nats from the magnet, an answer",
        "entropy": "entropy, nats a token",
        "response_length": "tokens an answer",
        "judge/failed_frac": "comparisons without an answer",
        "loss": "loss",
        "accuracy": "accuracy",
    }
    facts |= {shown: plain(newest[name]) for name, shown in metrics.items() if name in newest}
    seconds = sum(row.get(ROUND_TIME) or 0.0 for row in run.rows)
    return facts | ({"seconds of rounds": seconds} if seconds else {})


def _newest(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The newest number of each metric."""
    return {name: value for row in rows for name, value in row.items() if value is not None}


def _training(runs: Sequence[Training]) -> list[Block]:
    drawn = [chart for panel in PANELS if (chart := _panel(runs, *panel)) is not None]
    names = sorted({n for run in runs for row in run.rows for n, x in row.items() if x is not None and n != ROUND})
    if not names:
        return []
    everything = Chart(
        "Any metric",
        [Axis(ROUND, "rounds")],
        [Axis(name, name) for name in names],
        [Line(run.label, i, _columns(run.rows, names)) for i, run in enumerate(runs)],
        note="Every number of metrics.jsonl, by its name there.",
    )
    return [Panels(drawn), Text([WIN_NOTE]), everything]


def _panel(runs: Sequence[Training], title: str, unit: str, shown: Mapping[str, str]) -> Chart | None:
    """A chart of some metrics of all runs; None where no run has them."""
    lines = []
    for i, run in enumerate(runs):
        for style, (name, words) in enumerate(shown.items()):
            rows = [row for row in run.rows if isinstance(row.get(name), int | float)]
            if rows:
                columns = {
                    f"y{side}": [row.get(f"{name}{side}") for row in rows]
                    for side in ("", "_low", "_high")
                    if not side or all(isinstance(row.get(f"{name}{side}"), int | float) for row in rows)
                }
                label = ", ".join(filter(None, (run.label, words)))
                lines.append(Line(label, i, {ROUND: [row[ROUND] for row in rows]} | columns, style))
    if not lines:
        return None
    half = [Level("as good as the start", "y", 0.5)] if WIN_RATE in shown else []
    bounds = BOUNDS.get(next(iter(shown)))
    return Chart(title, [Axis(ROUND, "rounds")], [Axis("y", unit, bounds=bounds)], lines, half, small=True)


def _columns(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[float | None]]:
    def of(name: str) -> list[float | None]:
        values = (row.get(name) for row in rows)
        return [float(x) if isinstance(x, int | float) else None for x in values]

    return {name: of(name) for name in (ROUND, *names)}


def _time(runs: Sequence[Training]) -> list[Block]:
    """Seconds by phase over all rounds; what no phase has is the rest."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        parts: dict[str, float] = {}
        for row in run.rows:
            for name, value in row.items():
                if name.startswith(SECONDS) and isinstance(value, int | float):
                    phase = name.removeprefix(SECONDS)
                    parts[phase] = parts.get(phase, 0.0) + value
        whole = sum(row.get(ROUND_TIME) or 0.0 for row in run.rows)
        if parts:
            rest = whole - sum(parts.values())
            found[run.label] = parts | ({"rest": rest} if rest > 0.005 * whole else {})
    return [Shares("Where the time of all rounds went", "seconds", found)] if found else []


# ------------------------------------------------------------------------------------------------ comparisons


def _eval(label: str, found: Mapping[str, Any]) -> list[Block]:
    names = [str(name) for name in found["names"]]
    matrix = Matrix(f"{label}: win rate of the row", names, found["wins"], found["low"], found["high"])
    lottery: dict[str, list[Cell]] = {}
    for name in names:
        bounds = (found[side].get(name) for side in ("lottery", "lottery_low", "lottery_high"))
        spread, bound = found["lengths"][name], found.get("exploits", {}).get(name)
        least = NONE if bound is None else f"at least {number(bound['exploitability'], 3)}"
        lengths = f"{number(spread['mean'], 3)} ({number(spread['p10'], 3)} to {number(spread['p90'], 3)})"
        lottery[name] = [Bar(*bounds), lengths] + ([least] if found.get("exploits") else [])
    columns = ["Nash probability", "characters of an answer, mean (10 % to 90 %)"]
    columns += ["exploitability by trained adversaries"] if found.get("exploits") else []
    low, high = (number(found[f"exploitability_{side}"], 3) for side in ("low", "high"))
    doubts = (
        f"Exploitability of the lottery {number(found['exploitability'], 2)} in the measured table, [{low}, {high}] if "
        f"the prompts were drawn again. Judge: {100 * found['failed_frac']:.1f} % failed, "
        f"{100 * found['order_flip_frac']:.1f} % flipped with the order."
    )
    return [matrix, Facts(f"{label}: lottery", columns, lottery), Text([EVAL_NOTE, doubts])]


def _exploits(found: Mapping[str, Mapping[str, Any]]) -> Facts:
    """Lower bounds of exploitability."""

    def facts(one: Mapping[str, Any]) -> dict[str, Cell]:
        low, high = one["exploitability_low"], one["exploitability_high"]
        known: dict[str, Cell] = {
            "model": plain(one.get("model")),
            "exploitability, at least": f"{number(one['exploitability'], 3)} [{number(low, 3)}, {number(high, 3)}]",
            "best adversary": plain(one["adversary"]),
            "it wins": Bar(one["win_rate"], one["win_rate_low"], one["win_rate_high"]),
            "prompts of the report": plain(one.get("prompts")),
        }
        for name, rate in one["selection"]["win_rates"].items():
            known[f"{name} wins on the selection"] = Bar(rate)
        return known | {f"training of {name}": plain(status) for name, status in one.get("statuses", {}).items()}

    caption = "Lower bounds: a better adversary may have been missed"
    return side_by_side(caption, {label: facts(one) for label, one in found.items()})


def _judge(label: str, found: Mapping[str, Any]) -> list[Block]:
    facts: dict[str, Sequence[Cell]] = {}
    for name, shown in JUDGE_SHARES.items():
        if (share := found.get(name)) is not None:
            facts[shown] = [Bar(share["value"], share["low"], share["high"])]
    facts |= {shown: [plain(found[name])] for name, shown in JUDGE_NUMBERS.items() if found.get(name) is not None}
    blocks: list[Block] = [Text([str(found.get("sentence", ""))]), Facts(label, [""], facts)]
    members = found.get("members") or {}
    if len(members) > 1:
        blocks.append(side_by_side(f"{label}: members", {name: dict(flat(one)) for name, one in members.items()}))
    return blocks


# ------------------------------------------------------------------------------------------------ answers


def _answers(runs: Sequence[Training]) -> list[Block]:
    answered = [run for run in runs if run.samples]
    if not answered:
        return []
    pairs = [
        Answer(i, int(one["round"]), str(one["prompt"]), str(one["start"]), str(one["now"]), _share(one["preference"]))
        for i, run in enumerate(answered)
        for one in run.samples[-MOST_ANSWERS:]
    ]
    return [_shown("Answers to held-out prompts", answered, ("start", "now"), pairs)]


def _shown(caption: str, runs: Sequence[Training], sides: tuple[str, str], pairs: Sequence[Answer]) -> Answers:
    short = any(len(run.samples) > MOST_ANSWERS for run in runs)
    note = f"Of each run the newest {MOST_ANSWERS:,} pairs are here; samples.jsonl has all." if short else ""
    return Answers(caption, [run.label for run in runs], sides, pairs, note)


def _verdicts(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Block]:
    """Pairs that a judge was shown; b is the second one."""
    if not found:
        return []
    pairs = [
        Answer(i, None, str(one["prompt"]), str(one["a"]), str(one["b"]), _other(one["preference"]))
        for i, rows in enumerate(found.values())
        for one in rows[:MOST_ANSWERS]
    ]
    short = any(len(rows) > MOST_ANSWERS for rows in found.values())
    note = f"Of each judge the first {MOST_ANSWERS:,} pairs are here; {VERDICTS} has all." if short else ""
    return [Answers("Pairs that the judge compared", [*found], ("A", "B"), pairs, note)]


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _other(value: Any) -> float | None:
    """Of the second answer, where the file has that of the first."""
    share = _share(value)
    return None if share is None else 1.0 - share


# ------------------------------------------------------------------------------------------------ settings


def _settings(found: Found) -> list[Block]:
    runs: dict[str, dict[str, Cell]] = {}
    for one in found.trainings:
        runs[one.label] = dict(_named(one.config)) | dict(_named(one.environment))
    for content in (found.evals, found.exploits, found.judges):
        for label, one in content.items():
            known = {name: one[name] for name in ("judge", "judge_weights", "prompts", "command") if name in one}
            runs.setdefault(label, dict(_named(known)))
    return [side_by_side("Settings and environment", runs, compared=True)] if runs else []


def _named(content: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Settings as cells; a command as it was typed."""
    for name, cell in flat(content):
        words = content.get(name)
        is_command = name == "command" and isinstance(words, list)
        yield name, shlex.join(map(str, words)) if is_command and words is not None else cell
