"""What tests of pages look at: runs of a solver and of training whose texts try to be more than text."""

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

import games
import mmd
from llm_bridge.judges.callable import PairFunction
from llm_bridge.measure.evaluation import TABLES, Tournament
from llm_bridge.measure.exploit import Exploitability
from llm_bridge.measure.judge_report import judge_report
from llm_bridge.run.samples import Sample
from llm_bridge.run.training_log import TrainingLog
from mmd.measure import run_directory
from mmd.report.interactive import Axis, Chart, Line, Player, Policies
from mmd.report.page import Page, Section

SCRIPT = "</script><script>window.bad = 1</script>"
IMAGE = "<img src=x onerror='window.bad = 2'>"
ATTRIBUTE = "\" onmouseover='window.bad = 3' x=\""
HOSTILE = (
    SCRIPT,
    IMAGE,
    ATTRIBUTE,
    "<!-- <script>",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "half \ud800 a pair",
    "]]> <svg/onload=bad>",
)
NAMES = ("rock", SCRIPT, "scissors")


def _compared(prompt: str, models: tuple[str, str], preference: list) -> dict[str, Any]:
    """What a judge said of two answers of each of two models, whose texts say whose they are."""
    return {
        "prompt": prompt,
        "models": models,
        "answers": [[f"{name} {k} {SCRIPT}" for k in range(2)] for name in models],
        "preference": preference,
    }


COMPARED = {
    "eval": [
        _compared(IMAGE, (SCRIPT, "rock"), [[0.75, 0.0], [0.5, 1.0]]),
        _compared(IMAGE, ("scissors", "rock"), [[1.0, 0.5], [0.25, None]]),
        _compared("q", ("scissors", "rock"), [[0.0, 0.0], [1.0, 1.0]]),
    ],
    "later": [_compared(IMAGE, ("rock", "scissors"), [[1.0, 0.0], [1.0, 1.0]])],
}
WINS = np.array([[0.5, 0.2, 0.9], [0.8, 0.5, 0.3], [0.1, 0.7, 0.5]])


def solver_runs(folder: Path) -> dict[str, Path]:
    """Two runs on Kuhn poker, the second one by uniform play, and one on a symmetric game with hostile labels."""
    kuhn = mmd.solve("kuhn_poker")
    run_directory.save(kuhn, folder / "solved", command=["mmd", "solve", IMAGE])
    run_directory.save(kuhn, folder / "uniform")
    named = games.preference.game(WINS, labels=NAMES)
    run_directory.save(mmd.solve(named), folder / "lottery")
    with (folder / "uniform" / "policy.csv").open(encoding="utf-8", newline="") as file:
        rows = [row | {"probability": 0.5} for row in csv.DictReader(file)]
    with (folder / "uniform" / "policy.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    edit(
        folder / "uniform" / "result.json", converged=False, exploitability=0.25, algorithm={"name": SCRIPT, "eta": 0.5}
    )
    return {name: folder / name for name in ("solved", "uniform", "lottery")}


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def training_runs(folder: Path) -> dict[str, Path]:
    """A run that is done, one that is going on, two evals, a search for adversaries, and a report on a judge."""
    for name, rounds in (("done", 6), ("begun", 3)):
        _train(folder / name, rounds)
    (folder / "done" / "result.json").write_text(json.dumps({"schema_version": 1, "status": "finished", "rounds": 6}))
    for name, file, content in (
        ("eval", "eval.json", _eval()),
        ("later", "eval.json", _eval()),
        ("exploit", "exploit.json", _exploit()),
    ):
        (folder / name).mkdir()
        (folder / name / file).write_text(json.dumps(content))
    for name, rows in COMPARED.items():
        (folder / name / "comparisons.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    shutil.copytree(folder / "begun", folder / "exploit" / "adversaries" / "from-start")
    judged = judge_report(PairFunction(_cyclic), [SCRIPT, "q"], [["a", "bb", "ccc"], ["a", "bb", IMAGE]], repeats=2)
    (folder / "judge").mkdir()
    (folder / "judge" / "report.json").write_text(json.dumps(judged.as_dict()))
    (folder / "judge" / "verdicts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in judged.verdicts()))
    return {name: folder / name for name in ("done", "begun", "eval", "later", "exploit", "judge")}


def _train(folder: Path, rounds: int) -> None:
    config = {"model_name_or_path": "models/small", "method": "mpo", "eta": 8.0 + rounds, "judge": [IMAGE]}
    with TrainingLog(folder, "mpo", rounds, quiet=True) as log:
        for number in range(rounds + 1):
            metrics = {} if number == 0 else {"kl/initial": 0.1 * number, "kl/magnet": 0.02, "loss": 1.0 / number}
            metrics |= (
                {} if number == 0 else {"response_length": 10.0 + number, "step_time": 2.0, "timing_s/update": 1.5}
            )
            if number % 3 == 0:
                share = 0.5 + 0.05 * number
                metrics |= {"eval/win_rate": share, "eval/win_rate_low": share - 0.1, "eval/win_rate_high": share + 0.1}
                log.write_samples(number, _samples(number))
            log.write(number, metrics)
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML


def _samples(number: int) -> list[Sample]:
    """Two that now wins, one that the start wins, a tie, and one that the judge said nothing about."""
    shares = (1.0, 0.75, 0.25, 0.5, None)
    return [Sample(f"question-{i} {HOSTILE[i]}", HOSTILE[i + 2], f"{number} {SCRIPT}", p) for i, p in enumerate(shares)]


def _eval() -> dict[str, Any]:
    tables = dict.fromkeys(TABLES, WINS) | {"low": WINS - 0.05, "high": WINS + 0.05}
    lottery = dict(zip(NAMES, (0.4, 0.35, 0.25), strict=True))
    lengths = {name: {"mean": 100.0, "p10": 20.0, "p50": 90.0, "p90": 200.0} for name in NAMES}
    sides = {"lottery_low": dict.fromkeys(NAMES, 0.1), "lottery_high": dict.fromkeys(NAMES, 0.6)}
    known = {
        "failed_frac": 0.0,
        "order_flip_frac": 0.1,
        "exploitability": 1e-12,
        "converged": True,
        "exploitability_low": 0.0,
    }
    found = Tournament(NAMES, **tables, lengths=lengths, lottery=lottery, **sides, **known, exploitability_high=0.1)
    return found.as_dict() | {"judge": [IMAGE], "prompts": 5, "command": ["mpo", "eval", SCRIPT]}


def _exploit() -> dict[str, Any]:
    found = Exploitability("from-start", 0.7, 0.6, 0.8, {"from-start": 0.75}, {"from-start": "finished"}, 20, 20, 0.0)
    return found.as_dict() | {"model": SCRIPT, "command": ["mpo", "exploit"]}


def _cyclic(prompt: str, a: str, b: str) -> float:
    return float((len(b) - len(a)) % 3 == 1)


def large(path: Path, infosets: int) -> None:
    """A page with a policy of so many information sets, half of them each player's, in a tree."""
    rng = np.random.default_rng(0)
    players = []
    for name in ("row", "column"):
        n = infosets // 2
        parents = [-1 if j < 20 else int(rng.integers(3 * (j // 2))) for j in range(n)]
        labels = [f"{name[0]} {SCRIPT if j == 7 else 'hand'} {j}" for j in range(n)]
        chances = rng.dirichlet(np.ones(3), n).ravel().tolist()
        players.append(Player(name, labels, [3] * n, ["fold", "call", "raise"] * n, parents, [chances]))
    steps = [float(k) for k in range(20_000)]
    curve = Line("run", 0, {"iteration": steps, "exploitability": [float(np.exp(-k / 1500)) for k in steps]})
    chart = Chart(
        "Curve", [Axis("iteration", "iterations")], [Axis("exploitability", "exploitability", log=True)], [curve]
    )
    sections = [Section("Convergence", [chart]), Section("Policy", [Policies("large", {0: "run"}, players)])]
    path.write_bytes(Page("large", "", sections).html().encode())


class Parsed(HTMLParser):
    """A page as a parser of HTML sees it.

    Attributes:
        tags: tag and attributes of each element.
        held: content of each script, in order; the last one runs, the others are JSON.
        text: all that is shown.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.held: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it; a place where a line may break is none, and no text of others can put one with attributes."""
        if tag == "wbr" and not attrs:
            return
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.held.append("")

    def handle_endtag(self, tag: str) -> None:
        """After it is text again."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Keep it."""
        if self._inside == "script":
            self.held[-1] += data
        elif self._inside != "style":
            self.text += data

    def data(self, name: str) -> list[Any]:
        """What the scripts of blocks are given, as far as it has a field of this name."""
        found = [json.loads(text) for text in self.held[:-1]]
        return [one for one in found if name in one]


def shown(text: str) -> str:
    """A text as a page has it."""
    return html.unescape(re.sub(r"&#\d+;", "\ufffd", html.escape(text).encode("utf-8", "xmlcharrefreplace").decode()))
