"""How often intervals of a win rate hold the exact one, when the prompts are drawn again in every experiment.

The game is rock, paper, scissors, whose preferences run in a cycle. A population of prompts has two policies, whose
probabilities of the three forms differ from prompt to prompt by a spread. The exact win rate is a finite sum over
prompts and pairs of forms, and the second policy is moved until it is what a case asks for. An experiment draws some
prompts and some answers of each policy to each.

Compared are: the interval of `mpo eval` (`llm_bridge.measure.intervals.redrawn`) on independent answers and all pairs
of them; Wilson's over prompts on the same; Student's over prompts; what 0.1.0 did, answers that share their random
numbers, answer i against answer i alone, with Wilson's interval; and such answers with the interval of `mpo eval`, so
that the harm of the draws alone is seen. Of the lottery of three policies that beat each other in a cycle it is
measured how often the intervals of its probabilities hold the exact ones.

    python -m benchmarks.faults.win_rate_intervals
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from benchmarks.report import environment, print_table, store
from llm_bridge.measure.intervals import REPLICATES, middle, replicates, wilson
from llm_bridge.measure.lottery import nash, nash_of_each, tables_of

BEATS = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])  # rock, paper, scissors
KINDS = 60  # of prompts in the population, equally likely
# Logits of both policies by the rate that is asked for. At 1/2 the first leans to rock, the second to paper, and
# scissors have 1/3 in both, which makes the win rate exactly 1/2 where prompts do not differ.
BASES = {
    0.5: np.log([[0.6, 1 / 15, 1 / 3], [1 / 15, 0.6, 1 / 3]]),
    0.8: np.log([[0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]]),
    0.95: np.log([[0.98, 0.015, 0.005], [1 / 3, 1 / 3, 1 / 3]]),
}
RATES, PROMPTS, SPREADS, ANSWERS = (0.5, 0.8, 0.95), (10, 100), (0.0, 0.5, 1.0, 2.0), 4
EXPERIMENTS = 1_000
LOTTERIES, LOTTERY_REPLICATES = 100, 200

Bounds = tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]


class Pair(NamedTuple):
    """Two policies on all kinds of prompts, and the exact rate at which the first is preferred.

    Attributes:
        ours, theirs: [kinds, forms] probabilities.
        rate: mean over kinds.
        sd: of the kinds' own rates.
    """

    ours: Float[np.ndarray, "K F"]
    theirs: Float[np.ndarray, "K F"]
    rate: float
    sd: float


def pair(rate: float, spread: float) -> Pair:
    """Policies with this win rate; the second one leans to the form that the first one's favourite beats."""
    random = np.random.default_rng(0)
    favourite = random.integers(3, size=KINDS)
    noise = spread * random.normal(size=(2, KINDS, 3))
    first, second = (np.stack([np.roll(base, k) for k in favourite]) for base in BASES[rate])
    ours, loser = softmax(first + noise[0]), np.eye(3)[(favourite + 2) % 3]

    def against(lean: float) -> Pair:
        theirs = softmax(second + lean * loser + noise[1])
        rates = np.einsum("ki,ij,kj->k", ours, BEATS, theirs)
        return Pair(ours, theirs, float(rates.mean()), float(rates.std()))

    low, high = -20.0, 40.0
    for _ in range(100):
        half = (low + high) / 2
        low, high = (half, high) if against(half).rate < rate else (low, half)
    return against(high)


def softmax(logits: Float[np.ndarray, "... F"]) -> Float[np.ndarray, "... F"]:
    """Along the last axis."""
    found = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def independent(two: Pair, prompts: int, answers: int, experiments: int) -> Float[np.ndarray, "S m"]:
    """Win rate of each prompt over all pairs of independent answers."""
    random = np.random.default_rng(1)
    kinds = random.integers(KINDS, size=(experiments, prompts))
    ours, theirs = (random.multinomial(answers, policy[kinds]) / answers for policy in two[:2])
    return np.einsum("smi,ij,smj->sm", ours, BEATS, theirs)


def coupled(two: Pair, prompts: int, answers: int, experiments: int) -> Float[np.ndarray, "S m"]:
    """The same as 0.1.0 measured it: both draw with the same noise, and answer i meets answer i."""
    random = np.random.default_rng(1)
    kinds = random.integers(KINDS, size=(experiments, prompts))
    noise = random.gumbel(size=(experiments, prompts, answers, 3))
    ours, theirs = ((np.log(policy[kinds])[:, :, None] + noise).argmax(axis=-1) for policy in two[:2])
    return BEATS[ours, theirs].mean(axis=-1)


def redrawn(won: Float[np.ndarray, "S m"]) -> Bounds:
    """The interval of `mpo eval`, of many experiments."""
    return middle(replicates(won), won.mean(axis=1))


def over_prompts(won: Float[np.ndarray, "S m"]) -> Bounds:
    """Wilson's interval."""
    low, high = np.array([wilson(float(share), won.shape[1]) for share in won.mean(axis=1)]).T
    return low, high


def students(won: Float[np.ndarray, "S m"]) -> Bounds:
    """Mean and standard error."""
    half = student.ppf(0.975, won.shape[1] - 1) * won.std(axis=1, ddof=1) / np.sqrt(won.shape[1])
    return won.mean(axis=1) - half, won.mean(axis=1) + half


FORMS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., Bounds]]] = {
    "mpo eval": (independent, redrawn),
    "Wilson": (independent, over_prompts),
    "Student": (independent, students),
    "0.1.0": (coupled, over_prompts),
    "coupled": (coupled, redrawn),
}


def held(form: str, two: Pair, prompts: int, *, answers: int = ANSWERS, experiments: int = EXPERIMENTS) -> float:
    """Share of experiments whose interval holds the exact win rate."""
    draws, interval = FORMS[form]
    low, high = interval(draws(two, prompts, answers, experiments))
    return float(np.mean((low <= two.rate + 1e-12) & (two.rate - 1e-12 <= high)))


def case(rate: float, prompts: int, spread: float, answers: int) -> dict[str, float]:
    """What is measured of one pair of policies."""
    two = pair(rate, spread)
    low, high = redrawn(independent(two, prompts, answers, EXPERIMENTS))
    return {
        "rate": rate,
        "prompts": prompts,
        "spread": spread,
        "answers": answers,
        "sd_of_prompts": two.sd,
        "width": float(np.mean(high - low)),
        "mean_if_coupled": float(coupled(two, prompts, answers, EXPERIMENTS).mean()),
        **{form: held(form, two, prompts, answers=answers) for form in FORMS},
    }


def lotteries(prompts: int, spread: float) -> dict[str, object]:
    """Three policies, each leaning to one form: how often the intervals hold the exact Nash lottery."""
    random = np.random.default_rng(2)
    lean = np.array([[1.6, 0.0, 0.0], [0.0, 1.2, 0.0], [0.0, 0.0, 2.0]])
    policies = softmax(lean[:, None] + spread * random.normal(size=(3, KINDS, 3)))
    exact_table = np.einsum("aki,ij,bkj->ab", policies, BEATS, policies) / KINDS
    exact = np.array(list(nash(exact_table, "abc")[0].values()))
    tables, measured = [], []
    for _ in range(LOTTERIES):
        kinds = random.integers(KINDS, size=prompts)
        drawn = [random.multinomial(ANSWERS, policy[kinds]) / ANSWERS for policy in policies]
        won = np.stack([np.einsum("mi,ij,mj->m", drawn[i], BEATS, drawn[j]) for i in range(3) for j in range(i)])
        tables.append(tables_of(replicates(won, LOTTERY_REPLICATES), 3))
        measured.append(tables_of(won.mean(axis=1)[:, None], 3)[0])
    found = nash_of_each(np.concatenate([np.stack(measured), *tables]))
    point, solved = found[:LOTTERIES], found[LOTTERIES:].reshape(LOTTERIES, LOTTERY_REPLICATES, 3)
    low, high = (np.stack(bounds) for bounds in zip(*map(middle, solved.swapaxes(1, 2), point), strict=True))
    gains = np.stack([(some @ one).max(axis=1) - 0.5 for some, one in zip(tables, point, strict=True)])
    true_gain = (exact_table @ point.T).max(axis=0) - 0.5
    return {
        "prompts": prompts,
        "spread": spread,
        "exact": exact,
        "held": ((low <= exact) & (exact <= high)).mean(axis=0),
        "exploitability_bound_held": np.mean(true_gain <= np.quantile(gains, 0.975, axis=1)),
    }


def main() -> None:
    """All cases; printed and stored."""
    cases = [case(r, m, s, n) for n in (ANSWERS, 1) for r in RATES for m in PROMPTS for s in SPREADS]
    labels, percent = ("answers", "rate", "prompts", "spread"), (*FORMS, "mean_if_coupled", "width")
    rows = [
        [*(f"{one[label]:g}" for label in labels), *(f"{100 * one[name]:.1f}" for name in percent)] for one in cases
    ]
    print_table((*labels, *(f"{name}, %" for name in percent)), rows)
    found = [lotteries(prompts, 1.0) for prompts in (30, 100)]
    print(*found, sep="\n")
    numbers = {"experiments": EXPERIMENTS, "replicates": REPLICATES, "cases": cases, "lotteries": found}
    store("win_rate_intervals", {"environment": environment(), **numbers})


if __name__ == "__main__":
    main()
