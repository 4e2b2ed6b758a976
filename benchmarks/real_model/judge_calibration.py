"""What `mpo judge-report` is worth: how often it blames a scalar judge, and how often it finds a cycle.

Every experiment has 40 prompts with 6 answers each, a judge of its own, and the defaults of the command: three verdicts
on each pair in each order. Scalar judges draw their verdicts from scores, whose shape and spread a case says; some
favour the answer that is shown first, or say TIE at random. They are asked in both orders or, where a case says so, in
one. Cyclic judges prefer with probability 0.7 one of three classes of answers to the next, in a circle, or have one
such triple among six answers. A group of three annotators has rankings that rotate.

A false alarm is a scalar judge of whom the report says that no scalar reward would do. Power is how often it says so of
a cyclic one.

    python -m benchmarks.real_model.judge_calibration
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.report import environment, print_table, store
from llm_bridge.judges.population import Population
from llm_bridge.measure.intervals import wilson
from llm_bridge.measure.judge_report import judge_report

PROMPTS, ANSWERS, EXPERIMENTS = 40, 6, 100
FIRST_SEED = 1000  # the level of the sentence was chosen on seeds below 100
MOST_ALARMS, LEAST_POWER = 0.07, 0.9
CYCLE = 0.7
SHOWN = [f"prompt {x}" for x in range(PROMPTS)]
GIVEN = [[str(i) for i in range(ANSWERS)] for _ in SHOWN]

Table = Float[np.ndarray, "K n n"]


class Drawing:
    """A judge whose verdicts are drawn from a table of preferences.

    Args:
        table: P(i is preferred to j) on each prompt.
        random: of the draws.
        both: whether it is asked in both orders; if not it is symmetric.
        place: what the log-odds of the answer that is shown first gain.
        ties: how often it says TIE.
    """

    def __init__(self, table: Table, random: np.random.Generator, both: bool, place: float, ties: float):
        self._table, self._random, self._place, self._ties = table, random, place, ties
        self.symmetric = not both

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
        """See `llm_bridge.judges`."""
        places = [[SHOWN.index(p), int(i), int(j)] for p, i, j in zip(prompts, a, b, strict=True)]
        preference = self._table[tuple(np.array(places).T)]
        odds = np.exp(self._place) * preference / np.maximum(1 - preference, 1e-12)
        won = (self._random.random(len(odds)) < odds / (1 + odds)).astype(np.float64)
        return np.where(self._random.random(len(odds)) < self._ties, 0.5, won)


class Case(NamedTuple):
    """A kind of judge.

    Attributes:
        scalar: whether one score for each answer explains it.
        table: makes its preferences.
        both, place, ties: as of `Drawing`.
        annotators: a group of so many, each with a table of its own and always the same verdict; 0 for one judge.
    """

    scalar: bool
    table: Callable[[np.random.Generator], Table]
    both: bool = True
    place: float = 0.0
    ties: float = 0.0
    annotators: int = 0


def preferences(scores: Float[np.ndarray, "K n"]) -> Table:
    """Of Bradley and Terry's model."""
    return 0.5 + 0.5 * np.tanh((scores[:, :, None] - scores[:, None, :]) / 2)


def normal(spread: float) -> Callable[[np.random.Generator], Table]:
    """Scores that are drawn from a normal distribution."""
    return lambda random: preferences(spread * random.normal(size=(PROMPTS, ANSWERS)))


def two_levels(random: np.random.Generator) -> Table:
    """Answers that are good or bad."""
    return preferences(3.0 * random.integers(2, size=(PROMPTS, ANSWERS)))


def one_outlier(random: np.random.Generator) -> Table:
    """One answer that is much better than the others."""
    return preferences(np.tile(3.0 * (np.arange(ANSWERS) == 0), (PROMPTS, 1)))


def two_kinds(random: np.random.Generator) -> Table:
    """Half of the prompts have answers that hardly differ, half have answers that differ much."""
    spread = np.where(np.arange(PROMPTS) % 2, 0.3, 3.0)[:, None]
    return preferences(spread * random.normal(size=(PROMPTS, ANSWERS)))


def three_classes(random: np.random.Generator) -> Table:
    """Each class of answers is preferred to the next with 0.7."""
    ahead = (np.arange(ANSWERS)[None] - np.arange(ANSWERS)[:, None]) % 3
    return np.tile(np.choose(ahead, [0.5, CYCLE, 1 - CYCLE]), (PROMPTS, 1, 1))


def one_triple(random: np.random.Generator) -> Table:
    """Three answers are such a cycle, the others are worse, one after the other."""
    found = np.tile(preferences(-np.maximum(0.0, np.arange(ANSWERS) - 2.0)[None]), (PROMPTS, 1, 1))
    found[:, :3, :3] = three_classes(random)[:, :3, :3]
    return found


CASES = {
    "scalar, all equal": Case(True, normal(0.0)),
    "scalar, spread 1": Case(True, normal(1.0)),
    "scalar, spread 3": Case(True, normal(3.0)),
    "scalar, two levels": Case(True, two_levels),
    "scalar, one outlier": Case(True, one_outlier),
    "scalar, two kinds of prompts": Case(True, two_kinds),
    "scalar, spread 1, one order": Case(True, normal(1.0), both=False),
    "scalar, all equal, one order": Case(True, normal(0.0), both=False),
    "scalar, spread 1, likes the first": Case(True, normal(1.0), place=1.0),
    "scalar, all equal, a third ties": Case(True, normal(0.0), ties=1 / 3),
    "scalar, spread 1, a third ties": Case(True, normal(1.0), ties=1 / 3),
    "scalar, spread 3, a third ties": Case(True, normal(3.0), ties=1 / 3),
    "cyclic, three classes": Case(False, three_classes),
    "cyclic, three classes, one order": Case(False, three_classes, both=False),
    "cyclic, three classes, likes the first": Case(False, three_classes, place=1.0),
    "cyclic, three classes, a third ties": Case(False, three_classes, ties=1 / 3),
    "cyclic, one triple": Case(False, one_triple),
    "group of three, rankings rotate": Case(False, three_classes, annotators=3),
}


def annotator(number: int) -> Callable[..., np.ndarray]:
    """One who always says the same, and prefers classes of answers in an order that rotates with the number."""

    def judge(prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
        ranks = (np.array([a, b], int) + number) % 3
        return 0.5 + 0.5 * np.sign(ranks[1] - ranks[0])

    judge.symmetric = True  # pyrefly: ignore[missing-attribute]
    return judge


def says_scalar(case: Case, seed: int, **settings: Any) -> bool | None:
    """What the report says of one judge of a kind."""
    random = np.random.default_rng([seed, 0])
    if case.annotators:
        judge: Any = Population([annotator(number) for number in range(case.annotators)])
    else:
        judge = Drawing(case.table(random), random, case.both, case.place, case.ties)
    return judge_report(judge, SHOWN, GIVEN, seed=seed, **settings).scalar_would_do


def measured(name: str, experiments: int = EXPERIMENTS) -> dict[str, Any]:
    """How often the report says that no scalar reward would do."""
    case = CASES[name]
    said = [says_scalar(case, FIRST_SEED + number) for number in range(experiments)]
    share = sum(one is False for one in said) / experiments
    low, high = wilson(share, experiments)
    bar = share <= MOST_ALARMS if case.scalar else share >= LEAST_POWER
    return {"scalar": case.scalar, "share": share, "low": low, "high": high, "open": said.count(None), "bar_met": bar}


def main() -> None:
    """All cases; printed and stored."""
    with ProcessPoolExecutor(2) as pool:
        found = {}
        for name, one in zip(CASES, pool.map(measured, CASES), strict=True):
            found[name] = one
            print(name, one, flush=True)
    rows = [
        [
            name,
            "false alarms" if one["scalar"] else "power",
            f"{100 * one['share']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]",
            f"{'at most' if one['scalar'] else 'at least'} {100 * (MOST_ALARMS if one['scalar'] else LEAST_POWER):.0f}",
            "met" if one["bar_met"] else "missed",
        ]
        for name, one in found.items()
    ]
    print_table(("judge", "", "%", "bar", ""), rows)
    numbers = {"prompts": PROMPTS, "answers": ANSWERS, "experiments": EXPERIMENTS, "cases": found}
    store("judge_calibration", {"environment": environment(), **numbers})


if __name__ == "__main__":
    main()
