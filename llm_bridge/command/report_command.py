"""`mpo report`: what runs, evals and judges left in their folders, side by side on one page.

It reads the folders alone: no model, no judge, and no code from outside. A run of training may still be going on.
"""

import itertools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from llm_bridge.command.answering import COMPARISONS
from llm_bridge.command.exploit_command import ADVERSARIES, EXPLOIT
from llm_bridge.command.options import Report
from llm_bridge.command.training_run import CONFIG, RESULT
from llm_bridge.run import picture, training_log
from llm_bridge.run.phases import ROUND_TIME, SECONDS
from mmd.host import environment
from mmd.host.command_line import UsageError
from mmd.host.files import is_number
from mmd.report import page
from mmd.report.blocks import NONE, Badge, Bar, Cell, Facts, Matrix, Shares, Text, flat, number, plain, side_by_side
from mmd.report.interactive import Answer, Answers, Axis, Chart, Level, Line, Panels
from mmd.report.page import Block, Page, Section

EVAL, REPORT, VERDICTS = "eval.json", "report.json", "verdicts.jsonl"
KINDS = "mpo train, train-judge, eval, exploit or judge-report"
MOST_ANSWERS = 5_000  # pairs of a run or of an eval on a page
ROUND, WIN_RATE = picture.ROUND, picture.WIN_RATE
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Win rate against the start", "win rate", {WIN_RATE: ""}),
    ("Divergence, nats an answer", "nats an answer", {"kl/initial": "from the start", "kl/magnet": "from the magnet"}),
    (
        "Length of answers, tokens",
        "tokens",
        {"response_length": "while training", "eval/response_length": "held-out prompts"},
    ),
    ("Entropy, nats a token", "nats a token", {"entropy": ""}),
    ("Loss", "loss", {"loss": ""}),
    ("Accuracy of a trained judge", "share", {"accuracy": ""}),
    (
        "Judge, share of comparisons",
        "share of comparisons",
        {"judge/failed_frac": "no answer", "judge/tie_frac": "ties", "judge/order_flip_frac": "flipped with the order"},
    ),
)
BOUNDS = {WIN_RATE: (0.0, 1.0)}
BOUND = "Lower bounds: a better adversary may have been missed"
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
    "triples": "triples of answers",
    "repeats": "times asked",
    "deterministic": "always the same answer",
    "misfit": "mean miss of one score for each answer",
}
JUDGE_SHARES = {
    "cyclic": "cyclic triples",
    "coin_flips": "cyclic triples if verdicts were coins",
    "condorcet": "prompts with an answer that beats all others",
    "longer": "the longer answer is preferred",
    "first_preferred": "the first answer is preferred",
    "flipped": "the order decides",
    "tied": "ties",
    "failed_frac": "no answer",
}


class Training(NamedTuple):
    """A run of training as it stands in its folder.

    Attributes:
        label: how the page calls it.
        config: `config.yaml`.
        environment, result: `environment.json` and `result.json`; empty where there is none yet.
        rows: of `metrics.jsonl`.
        answers: the newest of `samples.jsonl`, all as if of the first run.
        n_answers: how many there are.
    """

    label: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    answers: Sequence[Answer]
    n_answers: int


class Compared(NamedTuple):
    """What a judge said of two models' answers to a prompt.

    Attributes:
        models: their names.
        prompt: as the judge reads it.
        answers: s of each model.
        preference: [s, s] how sure it is that an answer of the first is the better one; None where it said nothing.
    """

    models: tuple[str, str]
    prompt: str
    answers: tuple[Sequence[str], Sequence[str]]
    preference: Sequence[Sequence[float | None]]


class Found(NamedTuple):
    """What all folders hold.

    Attributes:
        trainings: runs, adversaries among them.
        win_rates, judges: blocks of `eval.json` and `report.json`.
        exploits: facts of `exploit.json`, by label.
        verdicts: pairs that judges have compared, by label.
        comparisons: what `comparisons.jsonl` of evals holds, by label.
        settings: of what is no training, by label.
    """

    trainings: list[Training]
    win_rates: list[Block]
    judges: list[Block]
    exploits: dict[str, Mapping[str, Cell]]
    verdicts: dict[str, Sequence[Answer]]
    comparisons: dict[str, Sequence[Compared]]
    settings: dict[str, Mapping[str, Cell]]


def report(options: Report, argv: Sequence[str], say: Callable[[Iterable[str]], None]) -> int:
    """`mpo report`; the exit status."""
    if not options.runs:
        raise UsageError(f"expected at least one folder of {KINDS}")
    page.prepare(options.out)
    labelled = page.labelled(options.runs)
    found = Found([], [], [], {}, {}, {}, {})
    for label, folder in labelled.items():
        _read(label, folder, found)
    page.write(page_of([*labelled], found), options.out)
    say([f"wrote {options.out}"])
    return 0


def page_of(labels: Sequence[str], found: Found) -> Page:
    """The page of what was found in folders."""
    runs = found.trainings
    exploits = [side_by_side(BOUND, found.exploits)] if found.exploits else []
    sections = (
        Section("Summary", [side_by_side("Runs", {run.label: _summary(run) for run in runs})] if runs else []),
        Section("Training", _training(runs)),
        Section("Win rates", [*found.win_rates, Text([EVAL_NOTE])] if found.win_rates else []),
        Section("Exploitability", exploits),
        Section("Judge", found.judges),
        Section("Answers", [*_answers(runs), *_comparisons(found.comparisons), *_verdicts(found.verdicts)]),
        Section("Time", _time(runs)),
        Section("Settings", _settings(found)),
    )
    version = environment.versions(())[environment.DISTRIBUTION] or "of a checkout"
    lead = f"{len(labels)} folders" if len(labels) > 1 else "what the folder holds"
    title = ", ".join(labels[:4]) + (" ..." if len(labels) > 4 else "")
    return Page(title, lead, sections, f"mpo report, magnetic-mirror {version}")


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
    for name, enter in ((EVAL, _enter_eval), (EXPLOIT, _enter_exploit), (REPORT, _enter_judge)):
        if (folder / name).is_file():
            content = _json(folder / name)
            with _as_written(folder / name):
                enter(label, content, found)
            known = {
                part: content[part] for part in ("judge", "judge_weights", "prompts", "command") if part in content
            }
            found.settings[label] = dict(_named(known))
    if (folder / VERDICTS).is_file():
        with _as_written(folder / VERDICTS):
            found.verdicts[label] = [_verdict(len(found.verdicts), one) for one in _lines(folder / VERDICTS)]
    if (folder / EVAL).is_file() and (folder / f"{COMPARISONS}.jsonl").is_file():
        found.comparisons[label] = _compared(folder / f"{COMPARISONS}.jsonl")
    for adversary in sorted((folder / ADVERSARIES).glob(f"*/{training_log.FILE}")):
        found.trainings.append(_training_of(f"{label}/{adversary.parent.name}", adversary.parent))
    if sum(map(len, found)) == before:
        if (folder / "trace.csv").is_file():
            raise UsageError(f"{folder}: holds a run of mmd, which mmd report shows")
        begun = "; the run has no round behind it yet" if (folder / CONFIG).is_file() else ""
        raise UsageError(f"{folder}: expected a folder of {KINDS}{begun}")


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Inside, a file's content is taken for what this version writes.

    Raises:
        UsageError: it is something else.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path}: is not as mpo writes it ({error!r:.80})") from None


def _training_of(label: str, folder: Path) -> Training:
    known = [_json(folder / name) if (folder / name).is_file() else {} for name in ("environment.json", RESULT)]
    samples = _lines(folder / training_log.SAMPLES) if (folder / training_log.SAMPLES).is_file() else []
    rows = _lines(folder / training_log.FILE)
    if not all(map(training_log.is_round, rows)):
        raise UsageError(f"{folder / training_log.FILE}: expected a round in each line, and numbers or null beside it")
    with _as_written(folder / training_log.SAMPLES):
        answers = [_answer(one) for one in samples[-MOST_ANSWERS:]]
    return Training(label, _yaml(folder / CONFIG), known[0], known[1], rows, answers, len(samples))


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON ({error})") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object")
    return content


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """Objects of JSON Lines; what a killed process left behind the last line end is none."""
    try:
        found = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (OSError, ValueError, RecursionError) as error:
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


def _enter_eval(label: str, content: Mapping[str, Any], found: Found) -> None:
    names = [str(name) for name in content["names"]]
    lottery, exploits = {name: _in_lottery(name, content) for name in names}, bool(content.get("exploits"))
    tables = [_shares(content[name], len(names), len(names)) for name in ("wins", "low", "high")]
    columns = ["Nash probability", "characters of an answer, mean (10 % to 90 %)"]
    columns += ["exploitability by trained adversaries"] * exploits
    low, high = (number(content.get(f"exploitability_{side}"), 3) for side in ("low", "high"))
    doubts = (
        f"Exploitability of the lottery {number(content['exploitability'], 2)} in the measured table, [{low}, {high}] "
        f"if the prompts were drawn again. Judge: {100 * content['failed_frac']:.1f} % failed, "
        f"{100 * content['order_flip_frac']:.1f} % flipped with the order."
    )
    found.win_rates.append(Matrix(f"{label}: win rate of the row, % [95 % interval]", names, *tables))
    found.win_rates.extend((Facts(f"{label}: lottery", columns, lottery), Text([doubts])))


def _in_lottery(name: str, content: Mapping[str, Any]) -> list[Cell]:
    """A model's row beside the lottery; version 0.1 wrote no intervals."""
    bounds = (_share(content.get(side, {}).get(name)) for side in ("lottery", "lottery_low", "lottery_high"))
    spread, exploits = content["lengths"][name], content.get("exploits", {})
    lengths = f"{number(spread['mean'], 3)} ({number(spread['p10'], 3)} to {number(spread['p90'], 3)})"
    known = f"at least {number(exploits[name]['exploitability'], 3)}" if name in exploits else NONE
    return [Bar(*bounds), lengths, *([known] if exploits else [])]


def _enter_exploit(label: str, content: Mapping[str, Any], found: Found) -> None:
    low, high = (number(content[f"exploitability_{side}"], 3) for side in ("low", "high"))
    facts: dict[str, Cell] = {
        "model": plain(content.get("model")),
        "exploitability, at least": f"{number(content['exploitability'], 3)} [{low}, {high}]",
        "best adversary": plain(content["adversary"]),
        "it wins": Bar(*(_share(content[f"win_rate{side}"]) for side in ("", "_low", "_high"))),
        "prompts of the report": plain(content.get("prompts")),
    }
    rates, statuses = content["selection"]["win_rates"], content.get("statuses", {})
    facts |= {f"{name} wins on the selection": Bar(_share(rate)) for name, rate in rates.items()}
    found.exploits[label] = facts | {f"training of {name}": plain(status) for name, status in statuses.items()}


def _enter_judge(label: str, content: Mapping[str, Any], found: Found) -> None:
    facts: dict[str, Sequence[Cell]] = {}
    for name, shown in JUDGE_NUMBERS.items():
        facts |= {shown: [plain(content[name])]} if content.get(name) is not None else {}
    for name, shown in JUDGE_SHARES.items():
        if (share := content.get(name)) is not None:
            parts = share if isinstance(share, dict) else {"value": share}
            facts[shown] = [Bar(*(_share(parts.get(part)) for part in ("value", "low", "high")))]
    found.judges.extend((Text([str(content.get("sentence", ""))]), Facts(label, [""], facts)))
    members = content.get("members") or {}
    if len(members) > 1:
        found.judges.append(side_by_side(f"{label}: members", {name: dict(flat(one)) for name, one in members.items()}))


# ------------------------------------------------------------------------------------------------ answers


def _answers(runs: Sequence[Training]) -> list[Block]:
    answered = [run for run in runs if run.answers]
    if not answered:
        return []
    pairs = [one._replace(run=i) for i, run in enumerate(answered) for one in run.answers]
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(one.prompt for one in pairs))}
    pairs.sort(key=lambda one: place[one.prompt])  # what all runs and rounds answered to a prompt stands together
    short = any(run.n_answers > len(run.answers) for run in answered)
    note = f"Of each run the newest {MOST_ANSWERS:,} pairs are here; {training_log.SAMPLES} has all." * short
    sides = [("start", "now")] * len(answered)
    return [Answers("Answers to held-out prompts", [run.label for run in answered], sides, pairs, note)]


def _answer(one: Mapping[str, Any]) -> Answer:
    """A line of `samples.jsonl`."""
    prompt, start, now = (str(one[name]) for name in ("prompt", "start", "now"))
    return Answer(0, int(one[ROUND]), prompt, start, now, _share(one["preference"]))


def _compared(path: Path) -> list[Compared]:
    """Lines of `comparisons.jsonl`."""
    lines = _lines(path)
    with _as_written(path):
        return [
            Compared(
                (str(one["models"][0]), str(one["models"][1])),
                str(one["prompt"]),
                ([*map(str, one["answers"][0])], [*map(str, one["answers"][1])]),
                _shares(one["preference"], *map(len, one["answers"])),
            )
            for one in lines
        ]


def _comparisons(found: Mapping[str, Sequence[Compared]]) -> list[Block]:
    """Answers of the models of all evals; of two models the one that any eval names first stands on the left."""
    order = list(dict.fromkeys(name for lines in found.values() for one in lines for name in reversed(one.models)))
    runs: dict[tuple[str, tuple[str, str]], int] = {}
    pairs: list[Answer] = []
    for label, lines in found.items():
        most = max(MOST_ANSWERS // max(len(lines), 1), 1)
        for one in lines:
            is_turned = order.index(one.models[0]) > order.index(one.models[1])
            run = runs.setdefault((label, one.models[::-1] if is_turned else one.models), len(runs))
            pairs += [Answer(run, None, one.prompt, *pair) for pair in _pairs(one, most, is_turned=is_turned)]
    if not pairs:
        return []
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(one.prompt for one in pairs))}
    pairs.sort(key=lambda one: place[one.prompt])
    several = {label for label, models in runs if (label, models) != next(run for run in runs if run[0] == label)}
    labels = [f"{label}: {' and '.join(models)}" if label in several else label for label, models in runs]
    short = len(pairs) < sum(len(one.answers[0]) * len(one.answers[1]) for lines in found.values() for one in lines)
    note = f"Of each eval about {MOST_ANSWERS:,} pairs are here, of each prompt alike; {COMPARISONS}.jsonl has all."
    return [Answers("Answers that the evals compared", labels, [models for _, models in runs], pairs, note * short)]


def _pairs(one: Compared, most: int, *, is_turned: bool) -> Iterator[tuple[str, str, float | None]]:
    """At most so many pairs of answers with P(the second is better); every answer stands in the first few."""
    firsts, seconds = one.answers
    places = ((k, (k + d) % len(seconds)) for d in range(len(seconds)) for k in range(len(firsts)))
    for k, j in itertools.islice(places, most):
        share = one.preference[k][j]
        other = None if share is None else 1.0 - share
        yield (seconds[j], firsts[k], share) if is_turned else (firsts[k], seconds[j], other)


def _verdicts(found: Mapping[str, Sequence[Answer]]) -> list[Block]:
    if not found:
        return []
    pairs = [one for of_judge in found.values() for one in of_judge[:MOST_ANSWERS]]
    short = any(len(of_judge) > MOST_ANSWERS for of_judge in found.values())
    note = f"Of each judge the first {MOST_ANSWERS:,} pairs are here; {VERDICTS} has all." * short
    return [Answers("Pairs that the judge compared", [*found], [("A", "B")] * len(found), pairs, note)]


def _verdict(run: int, one: Mapping[str, Any]) -> Answer:
    """A line of `verdicts.jsonl`, whose preference is for a, the first answer."""
    share = _share(one["preference"])
    prompt, a, b = (str(one[name]) for name in ("prompt", "a", "b"))
    return Answer(run, None, prompt, a, b, None if share is None else 1.0 - share)


def _shares(rows: Any, n_rows: int, n_columns: int) -> list[list[float | None]]:
    """A table of shares.

    Raises:
        ValueError: it has another shape.
    """
    if [*map(len, rows)] != [n_columns] * n_rows:
        raise ValueError(f"expected {n_rows} rows of {n_columns}")
    return [[_share(value) for value in row] for row in rows]


def _share(value: Any) -> float | None:
    return float(value) if is_number(value) else None


# ------------------------------------------------------------------------------------------------ settings


def _settings(found: Found) -> list[Block]:
    runs = {run.label: dict(_named(run.config)) | dict(_named(run.environment)) for run in found.trainings}
    others = {label: found.settings[label] for label in found.settings if label not in runs}
    kinds = (("Settings and environment of training", runs), ("Settings of evals, searches and judges", others))
    return [side_by_side(caption, of, compared=True) for caption, of in kinds if of]


def _named(content: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Settings as cells; a command as it was typed."""
    for name, cell in flat(content):
        words = content.get(name)
        is_command = name == "command" and isinstance(words, list)
        yield name, shlex.join(map(str, words)) if is_command and words is not None else cell
