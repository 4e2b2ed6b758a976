"""What the folders of a race say, as numbers: nothing is trained or drawn here, and no model is read.

A policy's answers are classed by their form and by what the start model found of them, and the population's table of
preferences gives the exploitability that follows from how often it gives each class.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_model.race import answers, forms, plan, populations
from benchmarks.real_model.race.human import preference as preference_of
from benchmarks.real_model.race.plan import Run
from benchmarks.real_model.race.reader import Reader, is_fluent
from benchmarks.real_model.race.training import METRICS, RESULT
from llm_bridge.measure.evaluation import tournament
from llm_bridge.measure.judge_report import judge_report

EXPLOIT = "exploit.json"
WINDOW = 10  # rounds whose answers are taken together along a run
Row = dict[str, Any]
_rivals: dict[tuple[Path, str], str] = {}  # which are known, for a long time


def preference(population: str) -> np.ndarray:
    """The table of a cyclic population."""
    return forms.table({camp.ranking: weight for camp, weight in plan.camps(population)}, plan.FLUENCY)


def classes(row: Row) -> list[int]:
    """Of a line's answers."""
    found = zip(row["answers"], answers.reads(row), strict=True)
    return [forms.class_of(answer, is_fluent(read)) for answer, read in found]


def counts(rows: Sequence[Row]) -> np.ndarray:
    """How many answers to each prompt are of each class, [prompts, classes]."""
    return np.array([np.bincount(classes(row), minlength=forms.N_CLASSES) for row in rows], float)


def exploited(population: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A policy's exact exploitability by its frequencies, with the interval over prompts."""
    table, counted = preference(population), counts(rows)
    shares = counted.sum(axis=0) / counted.sum()
    low, high = forms.redrawn(table, counted)
    return {
        "exploitability": float(forms.exploitability(table, shares)),
        "low": low,
        "high": high,
        "knowing": forms.knowing(table, [classes(row) for row in rows]),
        "shares": shares.tolist(),
        "prompts": len(rows),
        "answers": int(counted.sum()),
    }


def mean(values: Any) -> float | None:
    """Of those that are numbers; None where none is."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def spread(rows: Sequence[Row]) -> dict[str, float | None]:
    """Divergence from the start, entropy of answers, and how many of a prompt's answers differ.

    The first two are estimates from the sampled tokens, in nats an answer; the end token counts for the second alone.
    """
    pairs = [both for row in rows for both in zip(row["own"], row["start"], strict=True)]
    apart = [own - start for own, start in pairs if own is not None]
    nats = [value for row in rows for value in row["nats"]]
    return {
        "divergence": mean(apart),
        "entropy": float(np.mean(nats)),
        "distinct": float(np.mean([len(set(row["answers"])) / len(row["answers"]) for row in rows])),
        "length": float(np.mean([len(answer) for row in rows for answer in row["answers"]])),
    }


def windows(population: str, metrics: Sequence[Row]) -> list[dict[str, Any]]:
    """The same along a run: what the policy answered to training prompts in so many rounds.

    An answer counts as fluent as it did for the voter in that round. On a population that is not cyclic there is no
    exploitability.
    """
    table, found = preference(population) if population in plan.KNOWN else None, []
    for begin in range(0, len(metrics) - WINDOW + 1, WINDOW):
        some = metrics[begin : begin + WINDOW]
        counted = np.array([np.bincount(row["classes"], minlength=forms.N_CLASSES) for row in some], float)
        shares = counted.sum(axis=0) / counted.sum()
        found.append(
            {
                "round": some[-1]["round"],
                "samples": sum(row["samples"] for row in metrics[: begin + WINDOW]),
                "exploitability": None if table is None else float(forms.exploitability(table, shares)),
                "knowing": None if table is None else forms.knowing(table, _by_prompt(some)),
                "shares": shares.tolist(),
                "divergence": mean(row["divergence"] for row in some),
                "entropy": float(np.mean([row["nats"] for row in some])),
                "magnet": mean(row.get("kl/magnet") for row in some),
            }
        )
    return found


def _by_prompt(metrics: Sequence[Row]) -> list[list[int]]:
    """Classes of each prompt's answers in some rounds."""
    n = plan.SHARED["prompts_per_round"]
    return [part.tolist() for row in metrics for part in np.array(row["classes"]).reshape(n, -1)]


def report_of(place: Path, run: Run, part: str) -> Path:
    """Where the answers of a run's policy to a part's prompts are."""
    return place / run.name / f"answers-{part}.jsonl"


def start_of(place: Path, population: str) -> Path:
    """Where the start's are."""
    return place / f"start-{population}.jsonl"


def told_of(place: Path, name: str) -> Path:
    """Where the numbers of a run are that was done on another machine (`kept`)."""
    return place / name / "told.json"


def is_whole(path: Path, part: str) -> bool:
    """Whether every prompt of a part has been answered."""
    return len(answers.rows(path)) == plan.PARTS[part]


def tuned(place: Path) -> dict[str, dict[int, float]]:
    """Exploitability on the tuning population of each method's settings, as far as they are done."""
    found: dict[str, dict[int, float]] = {}
    for run in plan.tuning_runs():
        path = report_of(place, run, "tuning_report")
        if run.setting is None:
            continue
        if is_whole(path, "tuning_report"):
            final = exploited("tuning", answers.rows(path))
        elif told_of(place, run.name).exists():
            final = json.loads(told_of(place, run.name).read_text("utf-8"))["final"]
        else:
            continue
        found.setdefault(run.method, {})[run.setting] = final["exploitability"]
    return found


def chosen(place: Path, method: str) -> int | None:
    """The only setting, or that which is least exploitable on the tuning population; None before all were tried."""
    if len(plan.SETTINGS[method]) == 1:
        return 0
    known = tuned(place).get(method, {})
    return min(known, key=lambda i: (known[i], i)) if len(known) == len(plan.SETTINGS[method]) else None


def of_run(place: Path, run: Run) -> dict[str, Any]:
    """Everything that is known of a run."""
    if told_of(place, run.name).exists():
        return json.loads(told_of(place, run.name).read_text("utf-8"))
    part = plan.report_part(run.population)
    folder, path = place / run.name, report_of(place, run, part)
    metrics = answers.rows(folder / METRICS)
    ended = json.loads((folder / RESULT).read_text("utf-8")) if (folder / RESULT).exists() else {}
    found: dict[str, Any] = {
        "run": run.name,
        "population": run.population,
        "method": run.method,
        "setting": ended.get("setting"),
        "seed": run.seed,
        "rounds": len(metrics),
        "of": run.rounds,
        "status": ended.get("status", "not finished" if metrics else "not begun"),
        "processor_seconds": sum(row["processor_seconds"] for row in metrics),
        "samples": sum(row["samples"] for row in metrics),
        "comparisons": sum(row["comparisons"] for row in metrics),
    }
    found["along"] = windows(run.population, metrics)
    if (folder / EXPLOIT).exists():
        found["exploit"] = json.loads((folder / EXPLOIT).read_text("utf-8"))
    if is_whole(path, part):
        lines = answers.rows(path)
        found["spread"] = spread(lines)
        if run.population in plan.KNOWN:
            found["final"] = exploited(run.population, lines)
    return found


def finished(place: Path, population: str) -> dict[str, list[Row]]:
    """Answers to the held-out prompts of the start and of every policy that is done, by name."""
    found, start, part = {}, start_of(place, population), plan.report_part(population)
    if is_whole(start, part):
        found["start"] = answers.rows(start)
    seconds = [plan.second(population, name) for name in plan.RIVALS]
    for run in (*plan.runs(population), *seconds):
        path = report_of(place, run, part)
        if is_whole(path, part):
            found[f"{run.method} {run.seed}"] = answers.rows(path)
    return found


class Known:
    """A judge of answers that have been read before.

    Args:
        population: whose judge.
        rows: lines with the answers.
        head: of which judge of human pairs.

    Attributes:
        whole: the population, or this judge itself.
    """

    symmetric = deterministic = True

    def __init__(self, population: str, rows: Sequence[Row], head: str = "human"):
        self.name, self._human = population, population == "human"
        self._reader: Any = Reader(None, None, 0, 0.0)  # pyrefly: ignore[bad-argument-type]
        self._shown: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            for answer, read in zip(row["answers"], answers.reads(row), strict=True):
                self._reader.known[row["prompt"], answer] = read
            if self._human:
                pairs = zip(row["answers"], row["shown"][head], strict=True)
                self._shown |= {(row["prompt"], answer): values for answer, values in pairs}
        self.whole: Any = self if self._human else populations.population(population, self._reader)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
        """P(a is preferred to b), [n]."""
        if not self._human:
            return self.whole(prompts, a, b)
        sides = [np.array([self._shown[one] for one in zip(prompts, part, strict=True)]) for part in (a, b)]
        return preference_of(*sides)


def table_of(place: Path, population: str, head: str = "human") -> dict[str, Any] | None:
    """Win rates of all pairs of policies that are done, with the Nash lottery; None for fewer than two."""
    known = finished(place, population)
    if len(known) < 2:
        return None
    judge, prompts = judge_of(population, known, head)
    return tournament(judge, prompts, {n: [row["answers"] for row in rows] for n, rows in known.items()}).as_dict()


def judge_of(population: str, known: dict[str, list[Row]], head: str = "human") -> tuple[Known, list[str]]:
    """A judge of the answers of policies that are done, and the prompts that they answered."""
    judge = Known(population, [row for rows in known.values() for row in rows], head)
    return judge, [row["prompt"] for row in next(iter(known.values()))]


def reported(place: Path, population: str) -> dict[str, Any] | None:
    """What `judge_report` says of a population, on all policies' answers; None for fewer than two policies."""
    known = finished(place, population)
    if len(known) < 2:
        return None
    judge, prompts = judge_of(population, known)
    pooled = [[answer for rows in known.values() for answer in rows[i]["answers"]] for i in range(len(prompts))]
    found = judge_report(judge.whole, prompts, pooled)
    share = dict(zip(("value", "low", "high"), found.cyclic, strict=True))
    return {"sentence": found.sentence, "cyclic": share, "triples": found.triples, "members": dict(found.members)}


def best_rival(place: Path, population: str) -> str | None:
    """The method beside MPO that does best with its first seed; None before all have answered.

    Least exploitable on the cyclic population; elsewhere the one that wins most against the first seed of MPO.
    """
    if (place, population) in _rivals:
        return _rivals[place, population]
    part, seed = plan.report_part(population), plan.SEEDS[population]
    runs = [run for run in plan.runs(population) if run.seed == seed and run.method in (*plan.RIVALS, own(population))]
    if not all(is_whole(report_of(place, run, part), part) for run in runs):
        return None
    names = [run.method for run in runs if run.method in plan.RIVALS]
    if population in plan.KNOWN:
        rows = {run.method: answers.rows(report_of(place, run, part)) for run in runs}
        found = min(names, key=lambda name: exploited(population, rows[name])["exploitability"])
        return _rivals.setdefault((place, population), found)
    table = table_of(place, population)
    assert table is not None
    order = list(table["names"])
    column = order.index(f"{own(population)} {seed}")
    found = max(names, key=lambda name: table["wins"][order.index(f"{name} {seed}")][column])
    return _rivals.setdefault((place, population), found)


def own(population: str) -> str:
    """The form of MPO whose rivals a population's runs are."""
    return "mpo_2" if population == "fresh" else "mpo"


def _of_earlier(folder: Path) -> dict[str, Any]:
    """An attempt that was given up, and why."""
    if (told := told_of(folder.parent, folder.name)).exists():
        return json.loads(told.read_text("utf-8"))
    metrics = answers.rows(folder / METRICS)
    reason = (folder / "reason.txt").read_text("utf-8").strip()
    return {
        "run": folder.name,
        "rounds": len(metrics),
        "samples": sum(row["samples"] for row in metrics),
        "why": reason,
    }


def all_of(place: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that is known of a race."""
    found: dict[str, Any] = {"runs": [of_run(place, run) for run in runs], "tuned": tuned(place), "populations": {}}
    for name in ("tuning", *plan.POPULATIONS):
        path, told = start_of(place, name), {}
        if name in plan.KNOWN:
            part = plan.report_part(name)
            n_answers = plan.PARTS[part] * plan.ANSWERS[part]
            told["of_an_equilibrium"] = forms.of_an_equilibrium(preference(name), n_answers)
        if is_whole(path, plan.report_part(name)):
            rows = answers.rows(path)
            told["start"] = {"spread": spread(rows)}
            if name in plan.KNOWN:
                told["start"] |= exploited(name, rows)
        if name != "tuning":
            told |= {"rival": best_rival(place, name), "table": table_of(place, name)}
            told["report"] = reported(place, name)
        if name == "human":
            told["verdict"] = table_of(place, name, "verdict")
        found["populations"][name] = told
    found["earlier"] = [_of_earlier(folder) for folder in sorted((place / "earlier").glob("*"))]
    judges = place / "judges.json"
    return found | ({"judges": json.loads(judges.read_text("utf-8"))} if judges.exists() else {})
