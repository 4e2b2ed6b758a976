"""What the race is, written down before its first run: prompts, populations, settings, seeds, and the order of work.

Nothing here is chosen by what a run has shown, but for the setting of each method: the least exploitable of three on
the tuning population (`results.chosen`).

Measured before, on 64 prompts with 2 answers each of the start model at temperature 0.7: of answers cut at 16 tokens
24 % are structured, 28 % personal and 48 % plain, of those cut at 24 tokens 36, 27 and 37 %; 1.5 % are less likely than
-2.5 nats a token. At temperature 1 the model of 135 million weights mostly writes nonsense, so the policy is the one at
temperature 0.7, everywhere. A round of 16 answers with 24 tokens takes 17 to 31 processor seconds here, so answers end
at 16 tokens where only their form is judged.

The lottery of the cyclic population is (0.2, 0.55, 0.25) over structured, personal and plain; the start's
exploitability is about 0.08, that of one form alone 0.10, 0.08 and 0.22. The tuning population turns the other way,
with the lottery (0.5, 0.25, 0.25).

Changed once, after the first run and before all others: at a learning rate of 0.001 and one step a round MPO was 0.1 to
0.4 nats an answer from the start after 20 rounds, so that the race would have measured speed alone. The rates that are
tried were 0.0005 to 0.002, now they are 0.001 to 0.004; alpha was 0.01 to 0.1. That run is kept and listed.

MPO's first form missed its bar, so there is a second one, `mpo_2`. It was sought on the tuning population (`TRIED`),
and stands since 1 December 2026, before its first run. It races on other camps, *fresh*, whose prompts no tuning has
seen: the two halves of the prompts change places. Its rivals keep the settings that were chosen before.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmd
from benchmarks.real_model.race.forms import Camp
from llm_bridge.train import baselines
from llm_bridge.train.loop import Method

FILES = ("self_instruct_user_252", "vicuna_80", "mt_bench_80", "arena_hard_v0.1_500")
PROMPT_TOKENS, TEMPERATURE = 64, 0.7  # a longer prompt is left out
ANSWER_TOKENS = {"tuning": 16, "cyclic": 16, "fresh": 16, "natural": 24, "human": 24}
PARTS = {"held_out": 208, "tuning_report": 32, "tuning": 48, "fresh_held_out": 208}  # the others train policies
S, P, L = range(3)
CYCLIC = {(S, L, P): 0.30, (L, P, S): 0.18, (P, S, L): 0.32}
TUNING = {(S, P, L): 0.30, (P, L, S): 0.30, (L, S, P): 0.20}
FRESH = {(S, L, P): 0.32, (L, P, S): 0.20, (P, S, L): 0.28}
CAMPS = {"tuning": TUNING, "cyclic": CYCLIC, "fresh": FRESH}
LOTTERIES = {"tuning": (0.5, 0.25, 0.25), "cyclic": (0.2, 0.55, 0.25), "fresh": (0.3, 0.5, 0.2)}  # their equilibria
FLUENCY = 0.2
POPULATIONS = ("fresh", "cyclic", "natural", "human")
KNOWN = tuple(CAMPS)  # populations whose game is known
EXPLOITED_ON = ("fresh", "cyclic")
ROUNDS = {"tuning": 20, "cyclic": 60, "fresh": 120, "natural": 60, "human": 60}
SHARED: dict[str, Any] = {
    "group_size": 8,
    "prompts_per_round": 2,
    "epochs": 1,
    "b1": 0.0,  # one step a round
    "watch_start": False,  # the reader knows what the start thinks of an answer
}
RANK, SCALE = 8, 16.0  # of the adapters
SLOW, FAST = 2e-3, 4e-3  # learning rates
WEAK, MODERATE, STRONG = 0.01, 0.03, 0.1  # alpha, in win rate per nat of an answer
SEEDS = {"tuning": 100, "cyclic": 1, "fresh": 1, "natural": 1, "human": 1}
EXPLOITED, ADVERSARY_ROUNDS = 64, 12  # held-out prompts, half of them to train and select on; of each adversary
ANSWERS = {"held_out": 2, "fresh_held_out": 2, "tuning_report": 4}  # to each prompt, when policies are compared


@dataclass(frozen=True)
class Setting:
    """Numbers of a method that are tried.

    Attributes:
        name: of the setting.
        numbers: of the method.
    """

    name: str
    numbers: dict[str, Any] = field(hash=False)


def _regularized(rate: float, alpha: float, refresh: int | None = None) -> Setting:
    """A setting of a method with an alpha; MPO's magnet is copied every so many rounds."""
    name = f"rate {rate:g}, alpha {alpha:g}" + (f", refresh {refresh}" if refresh else "")
    magnet = {"magnet": mmd.Refresh(every=refresh)} if refresh else {}
    return Setting(name, {"learning_rate": rate, "alpha": alpha, **magnet})


PLAIN = tuple(Setting(f"rate {rate:g}", {"learning_rate": rate}) for rate in (SLOW / 2, SLOW, FAST))
FIXED = (_regularized(SLOW, WEAK), _regularized(SLOW, MODERATE), _regularized(FAST, MODERATE))
SECOND = Setting(
    "rate 0.003 without decay, alpha 0.05, a magnet that moves by 0.05 a round, spread draws",
    {
        "learning_rate": 0.003,
        "schedule": "constant",
        "warmup_rounds": 4,
        "max_grad_norm": 0.7,
        "alpha": 0.05,
        "magnet": mmd.MovingAverage(rate=0.05),
        "spread_draws": True,
    },
)
TRIED: dict[str, str] = {  # on the tuning population, and what came of it
    "rate 0.016, alpha 0.05, magnet 0.05": "given up after 10 rounds, broken answers",
    "rate 0.008, alpha 0.05, magnet 0.05": "given up after 19 rounds, broken answers",
    "rate 0.01 with a tenfold eps of Adam, alpha 0.05, magnet 0.05": "given up after 6 rounds, 12 nats from the start",
    "rate 0.004, alpha 0.1, magnet 0.07, 60 rounds": "0.064",
    "rate 0.003, alpha 0.01, magnet 0.05": "given up after 24 rounds, 5 nats from the start",
    "rate 0.004, alpha 0.05, magnet 0.03": "given up after 66 rounds, 8 nats from the start, its last iterate at 0.06",
    "rate 0.003, alpha 0.05, magnet 0.05, 60 rounds": "0.063, its last iterate on prompts of training 0.020",
    "the same, 150 rounds": "0.022 after 100, 0.028 after 120, 0.037 at the end, where it has passed the equilibrium",
}
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "mpo": (_regularized(SLOW, MODERATE, 10), _regularized(FAST, MODERATE, 10), _regularized(FAST, STRONG, 5)),
    "inpo": FIXED,
    "iterative_dpo": PLAIN,
    "nash_md": FIXED,
    "egpo": FIXED,
    "sppo": PLAIN,
    "mpo_2": (SECOND,),
}
OWN = ("mpo", "mpo_2")  # forms of MPO
RIVALS = tuple(name for name in SETTINGS if name not in OWN)
ON_ALL = ("mpo", "inpo", "iterative_dpo")


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        population: which judges.
        method: by its name.
        setting: place among the method's settings; None for the one that tuning chose.
        seed: of the adapter, the order of prompts and all draws.
    """

    population: str
    method: str
    setting: int | None
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        tried = "chosen" if self.setting is None else f"setting{self.setting}"
        return f"{self.population}-{self.method}-{tried}-seed{self.seed}"

    @property
    def rounds(self) -> int:
        """Of training."""
        return ROUNDS[self.population]


def tuning_runs() -> list[Run]:
    """Every setting of every method that has several, on the tuning population."""
    tried = [name for name, settings in SETTINGS.items() if len(settings) > 1]
    return [Run("tuning", method, i, SEEDS["tuning"]) for i in range(3) for method in tried]


def runs(population: str) -> list[Run]:
    """Those of a population, but for the second seed of MPO's best rival, which `Run` names when it is known.

    The fresh population is the second form's. On the natural and the human one it runs beside the first form.
    """
    seed = SEEDS[population]
    of = {"cyclic": ("mpo", *RIVALS), "fresh": ("mpo_2", *RIVALS)}.get(population, ON_ALL)
    again = [Run(population, own, None, seed + 1) for own in OWN if own in of]
    later = [Run(population, "mpo_2", None, seed + i) for i in (0, 1)] if of is ON_ALL else []
    return [*(Run(population, method, None, seed) for method in of), *again, *later]


def second(population: str, rival: str) -> Run:
    """The best rival's second seed."""
    return Run(population, rival, None, SEEDS[population] + 1)


def method_of(run: Run, setting: Setting, judge: Any) -> Method:
    """A run's method with the numbers that all share and its own."""
    tokens = ANSWER_TOKENS[run.population]
    shared: dict[str, Any] = {"max_new_tokens": tokens, "decay_rounds": run.rounds, **SHARED}
    return baselines.load("mpo" if run.method in OWN else run.method)(judge=judge, **shared, **setting.numbers)


def prompts(folder: Path, count: Callable[[str], int]) -> dict[str, list[str]]:
    """Prompts of each part, real ones that users or benchmarks ask; no prompt is in two parts.

    Args:
        folder: of the prompt files.
        count: how many token ids the conversation that begins with a prompt has.
    """
    found: dict[str, None] = {}
    for name in FILES:
        for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines():
            text = _text(json.loads(line)).strip()
            if text.isascii() and count(text) <= PROMPT_TOKENS:
                found[text] = None
    order = sorted(found, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    parts, begin = {}, 0
    for name, n in PARTS.items():
        parts[name] = order[begin : begin + n]
        begin += n
    return parts | {"training": order[begin:]}


def _text(row: dict[str, Any]) -> str:
    if "turns" in row:
        return row["turns"][0]
    if "instances" in row:
        given = row["instances"][0]["input"]
        return row["instruction"] + (f"\n{given}" if given else "")
    return row["prompt"]


def camps(population: str) -> list[tuple[Camp, float]]:
    """Of a population whose game is known, with their weights."""
    return [(Camp(ranking), weight) for ranking, weight in CAMPS[population].items()]


def report_part(population: str) -> str:
    """The prompts on which a population's policies are compared."""
    return {"tuning": "tuning_report", "fresh": "fresh_held_out"}.get(population, "held_out")


def training_part(population: str, parts: dict[str, list[str]]) -> list[str]:
    """The prompts on which a population's policies are trained: no tuning's, and none that they are compared on."""
    if population == "tuning":
        return parts["tuning"]
    return parts["held_out" if population == "fresh" else "fresh_held_out"] + parts["training"]
