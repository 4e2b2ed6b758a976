"""The race in pieces: prefer a few long ones, since each begins with reading the model and the compiled programs.

    taskset -c 1 python -m benchmarks.real_model.race --minutes 45 [--folder FOLDER] [--model MODEL] [--data DATA]

What is done stays in FOLDER, each run in a folder of its own; a piece goes on where the one before was stopped or
killed, with the same numbers bit for bit. A FOLDER that is new begins with the finished runs that are kept beside the
results (`kept.py`). benchmarks/results/real_race.json and docs/benchmarks/race.md are written
after each run and at the end of a piece; `--store` writes nothing else. Several pieces may run beside each other, one
on each core: none takes a run that another one works on. MODEL is a folder of SmolLM2-135M-Instruct, as `mpo import
gguf` writes it. DATA is the folder that has `prompts` and `text`. On one core, by `taskset`, the numbers do not
depend on how many the machine has.

The order of work: all settings on the tuning population; the fresh population, for MPO's second form; the cyclic one;
the natural one; the human one, after its judges are trained; adversaries against every policy whose game is known.
"""

import argparse
import json
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import llm_bridge as bridge
from benchmarks import report
from benchmarks.real_model.race import answers, human, kept, page, plan, results, training
from benchmarks.real_model.race.plan import Run
from benchmarks.real_model.race.populations import population
from benchmarks.real_model.race.reader import Reader, chat
from llm_bridge.checkpoint.adapters import load_adapter
from llm_bridge.policy.policy import Policy
from llm_bridge.train.best_response import BestResponse
from mmd.host.files import OutputError
from mmd.host.folder_lock import held

JUDGES = ("human", "verdict")  # the first trains, the second only evaluates
WAIT = 20.0  # seconds, for tasks of another process
A_ROUND, AN_ANSWER, A_PAIR = 25.0, 0.6, 1.2  # processor seconds, before any has been measured
Task = Callable[[], bool]


@dataclass
class Race:
    """What all tasks share; the model is read when it is first wanted.

    Attributes:
        place: the folder of everything that is done.
        model, data: where the model is, and prompts and text.
        deadline: of this piece, by the monotonic clock.
    """

    place: Path
    model: Path
    data: Path
    deadline: float
    readers: dict[int, Reader] = field(default_factory=dict)

    def late(self) -> bool:
        """Whether the piece is over."""
        return time.monotonic() >= self.deadline

    @cached_property
    def base(self) -> Policy:
        """The start model, at temperature 1 and without an adapter."""
        return bridge.load(self.model)

    @cached_property
    def words(self) -> bridge.Tokenizer:
        """Its tokenizer."""
        return bridge.Tokenizer(self.model)

    @cached_property
    def prompts(self) -> dict[str, list[str]]:
        """By part."""
        return plan.prompts(self.data / "prompts", lambda text: len(chat(self.words, text)))

    def reader(self, name: str) -> Reader:
        """The start model as a reader of a population's answers; a text may have more tokens than were drawn."""
        longest = plan.ANSWER_TOKENS[name] + 8
        if longest not in self.readers:
            self.readers[longest] = Reader(self.base, self.words, plan.PROMPT_TOKENS, plan.TEMPERATURE, longest)
        return self.readers[longest]

    def judges(self) -> dict[str, human.HumanJudge]:
        """Those of human pairs, which have been trained."""
        found = {}
        for name in JUDGES:
            with np.load(self.place / f"judge-{name}.npz") as arrays:
                head = human.Head(*(arrays[part] for part in human.Head._fields))
            found[name] = human.HumanJudge(self.reader("human"), head)
        return found

    def train(self, run: Run) -> bool:
        """Train, and let the policy answer."""
        setting = results.chosen(self.place, run.method) if run.setting is None else run.setting
        assert setting is not None
        folder = self.place / run.name
        judges = self.judges() if run.population == "human" else {}
        if not training.is_done(folder):
            reader, prompts = self.reader(run.population), plan.training_part(run.population, self.prompts)
            judge = population(run.population, reader, judges.get("human"))
            start, numbers = (self.base, reader), plan.SETTINGS[run.method][setting]
            if not training.train(run, numbers, judge, start, prompts, folder, self.late, self._said(run)):
                return False
        part = plan.report_part(run.population)
        return self._answers(results.report_of(self.place, run, part), self.policy(run), run.population, part, judges)

    def policy(self, run: Run) -> Policy:
        """What a run has trained."""
        return load_adapter(self.base.with_temperature(plan.TEMPERATURE), self.place / run.name / training.POLICY)

    def start(self, name: str) -> bool:
        """Let the start answer what policies of a population answer."""
        part = plan.report_part(name)
        judges = self.judges() if name == "human" else {}
        policy = training.start_policy(self.base, 0)
        return self._answers(results.start_of(self.place, name), policy, name, part, judges)

    def exploit(self, run: Run) -> bool:
        """Train adversaries against a policy, by the same judge; begun again if it is killed."""
        if (self.place / run.name / results.EXPLOIT).exists():
            return True
        policy, start = self.policy(run), training.start_policy(self.base, run.seed)
        reader = self.reader(run.population)
        part = plan.report_part(run.population)
        asked = training.questions(self.words, self.prompts[part][: plan.EXPLOITED])
        numbers: dict[str, Any] = {"max_new_tokens": plan.ANSWER_TOKENS[run.population], **plan.SHARED}
        found = bridge.exploit(
            policy,
            population(run.population, reader),
            asked,
            start=start,
            method=BestResponse(**numbers),
            steps=plan.ADVERSARY_ROUNDS,
            answers=plan.ANSWERS[part],
            key=jax.random.key(zlib.crc32(run.name.encode())),
        )
        reader.known.clear()
        (self.place / run.name / results.EXPLOIT).write_text(json.dumps(found.as_dict(), indent=1) + "\n", "utf-8")
        return True

    def judge(self) -> bool:
        """Train the judges of human pairs: read the pairs, in pieces, and fit a head for each judge."""
        reader = self.reader("human")
        fits: Callable[[str], bool] = lambda text: len(chat(self.words, text)) <= plan.PROMPT_TOKENS  # noqa: E731
        train, dev = (human.pairs(self.data / "text", part, fits) for part in ("train", "dev"))
        told = {}
        for name, known, tested in zip(JUDGES, train, dev, strict=True):
            both = []
            for part, some in (("train", known[: human.PAIRS]), ("dev", tested)):
                path = self.place / f"judge-{name}-{part}.npz"
                if not path.exists() and not human.read_pairs(path, reader, some, self.late):
                    return False
                both.append(np.load(path)["thoughts"])
            head = human.train(both[0])
            np.savez(self.place / f"judge-{name}.npz", **head._asdict())
            told[name] = human.accuracy(head, *both)
        (self.place / "judges.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        return True

    def _answers(self, path: Path, policy: Policy, name: str, part: str, judges: dict[str, human.HumanJudge]) -> bool:
        numbers = {"n": plan.ANSWERS[part], "tokens": plan.ANSWER_TOKENS[name]}
        seed = zlib.crc32(str(path.relative_to(self.place)).encode())
        return answers.collect(
            path, policy, self.reader(name), self.prompts[part], judges, self.late, **numbers, seed=seed
        )

    def _said(self, run: Run) -> Callable[[int, float], None]:
        """The line of progress."""

        def say(number: int, seconds: float) -> None:
            left = (self.deadline - time.monotonic()) / 60
            hours = hours_left(self.place)
            line = f"{run.name}: round {number} of {run.rounds}, {seconds:.0f} s; {max(left, 0):.0f} min of this piece"
            print(f"{line} and about {hours:.1f} processor hours of the race are left", flush=True)

        return say


def runs(place: Path) -> list[Run]:
    """All runs, as far as they can be named: the second seed of a best rival waits for its first."""
    found = plan.tuning_runs()
    for name in plan.POPULATIONS:
        found += plan.runs(name)
        rival = results.best_rival(place, name)
        found += [] if rival is None else [plan.second(name, rival)]
    return found


def tasks(race: Race) -> Iterator[tuple[str, Task | None]]:
    """What is not done, in order; None for what has to wait for other tasks."""
    place = race.place
    for name in ("tuning", *plan.POPULATIONS):
        judged = name != "human" or (place / "judges.json").exists()
        if not judged:
            yield "judges of human pairs", race.judge
        if not results.is_whole(results.start_of(place, name), plan.report_part(name)):
            yield f"start on {name}", partial(race.start, name) if judged else None
        for run in (run for run in runs(place) if run.population == name and not is_done(place, run)):
            known = run.setting is not None or results.chosen(place, run.method) is not None
            yield run.name, partial(race.train, run) if judged and known else None
    for run in runs(place):
        if is_exploited_here(place, run):
            yield f"adversaries of {run.name}", partial(race.exploit, run) if is_done(place, run) else None


def work(race: Race) -> set[str]:
    """Do one task after another, each of them in one process alone, until all are done or it is late.

    A task that fails is told with its error, and left to another piece; the names of such tasks are returned.
    """
    failed: set[str] = set()
    while not race.late():
        waits = False
        for name, task in ((name, task) for name, task in tasks(race) if name not in failed):
            with ExitStack() as stack:
                if task is None or not _taken(stack, race.place / "working" / name.replace(" ", "-")):
                    waits = True
                    continue
                print(f"{name} ...", flush=True)
                try:
                    task()
                except Exception:
                    failed.add(name)
                    traceback.print_exc()
                store(race.place)
                break
        else:
            if not waits:
                return failed
            time.sleep(WAIT)
    return failed


def _taken(stack: ExitStack, folder: Path) -> bool:
    """Whether this process works in a folder until the stack is left, and no other one does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(held(folder, "race"))
    except OutputError:
        return False
    return True


def is_done(place: Path, run: Run) -> bool:
    """Whether a run is trained and has answered."""
    if results.told_of(place, run.name).exists():
        return True
    part = plan.report_part(run.population)
    return training.is_done(place / run.name) and results.is_whole(results.report_of(place, run, part), part)


def is_exploited_here(place: Path, run: Run) -> bool:
    """Whether adversaries have still to be trained against what this run trains, which other machines do not have."""
    known = results.told_of(place, run.name).exists() or (place / run.name / results.EXPLOIT).exists()
    return run.population in plan.EXPLOITED_ON and not known


def hours_left(place: Path) -> float:
    """Processor hours of what is not done, from the rounds that were measured."""
    measured = []
    for run in runs(place):
        if (told := results.told_of(place, run.name)).exists():
            row = json.loads(told.read_text("utf-8"))
            measured += [row["processor_seconds"] / row["rounds"]] * row["rounds"]
        measured += (row["processor_seconds"] for row in answers.rows(place / run.name / training.METRICS))
    a_round = float(np.median(measured)) if measured else A_ROUND
    planned = [*runs(place), *(plan.second(n, "inpo") for n in plan.POPULATIONS if not results.best_rival(place, n))]
    seconds = 0.0
    for run in planned:
        if not is_done(place, run):
            part = plan.report_part(run.population)
            rounds = 0 if training.is_done(place / run.name) else run.rounds - training.rounds_done(place / run.name)
            seconds += rounds * a_round + plan.PARTS[part] * plan.ANSWERS[part] * AN_ANSWER
        if is_exploited_here(place, run):
            seconds += 2 * plan.ADVERSARY_ROUNDS * a_round + 5 * plan.EXPLOITED * AN_ANSWER
    if not (place / "judges.json").exists():
        seconds += len(JUDGES) * human.PAIRS * A_PAIR
    return seconds / 3600


def store(place: Path) -> None:
    """Write what is finished so far, with every attempt, and the page."""
    kept.keep(place)
    found = results.all_of(place, runs(place))
    found |= {"hours_left": round(hours_left(place), 1), "environment": report.environment()}
    stored = json.loads(report.store("real_race", found).read_text("utf-8"))
    docs = report.RESULTS.parents[1] / "docs" / "benchmarks"
    (docs / "race.md").write_text(page.page(stored), "utf-8")
    page.draw(stored, "cyclic", docs / "race.svg")
    page.draw(stored, "fresh", docs / "race-fresh.svg")


def main(words: list[str] | None = None) -> int:
    """A piece; 0 when it is over, 1 where a task of it failed, 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="race", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=45.0, help="of this piece")
    parser.add_argument("--folder", type=Path, default=Path("runs/real_race"), help="where what is done stays")
    parser.add_argument("--model", type=Path, default=Path("runs/smollm2/model"), help="of SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of prompts and text")
    parser.add_argument("--store", action="store_true", help="only write what is done")
    chosen = parser.parse_args(words)
    for path in () if chosen.store else (chosen.model / "config.json", chosen.data / "prompts", chosen.data / "text"):
        if not path.exists():
            sys.stderr.write(f"race: {path} is not there; --model and --data say where model and data are\n")
            return 2
    kept.restore(chosen.folder)
    if chosen.store:
        store(chosen.folder)
        return 0
    chosen.folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str((chosen.folder / "compiled").absolute()))
    race = Race(chosen.folder, chosen.model, chosen.data, time.monotonic() + 60 * chosen.minutes)
    failed = work(race)
    store(race.place)
    return int(bool(failed))
