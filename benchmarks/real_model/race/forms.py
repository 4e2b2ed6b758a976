"""The game over forms: how an answer is classed, what camps think of the classes, and how far a policy is exploitable.

An answer has one of three forms: *structured* (a list, code, or more than one line), *personal* (I, we or you) or
*plain*; and it is fluent or broken. Each camp has a ranking of the forms and nothing else in mind, and the rankings
rotate; one voter asks only whether an answer is fluent. So the preference of two answers is that of their classes, and
the game has 6 actions whatever the answers say. A class that is broken loses to the fluent class of the same form
against everybody, so equilibria have fluent forms only, and their lottery is that of the camps.

The exploitability that is computed from the frequencies of classes is that of an opponent who always answers in the
same class: exact for these frequencies, whatever the text. One who knows the prompt wins more where a policy mixes
over prompts instead of within them; `knowing` is a lower bound of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

import mmd

FORMS = ("structured", "personal", "plain")
STRUCTURED = re.compile(r"\S\s*\n\s*\S|^\s*(\d+[.):]|[-*#>`•|])")
PERSONAL = re.compile(
    r"\b(I|I'm|I'd|I'll|I've|my|me|we|we're|our|us|let's|lets|you|you're|your|yours)\b", re.IGNORECASE
)
N_CLASSES = 2 * len(FORMS)  # fluent ones, then broken ones, in the order of the forms


def form_of(answer: str) -> int:
    """The place of an answer's form in `FORMS`."""
    if STRUCTURED.search(answer):
        return 0
    return 1 if PERSONAL.search(answer) else 2


def class_of(answer: str, fluent: bool) -> int:
    """The place of an answer's class: its form, behind the fluent ones if it is broken."""
    return form_of(answer) + (0 if fluent else len(FORMS))


@dataclass(frozen=True)
class Camp:
    """A judge that ranks forms, best first, and sees nothing else."""

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    ranking: tuple[int, ...]

    @property
    def name(self) -> str:
        """For reports."""
        return " > ".join(FORMS[form] for form in self.ranking)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]; 1/2 for the same form."""
        places = np.array([[self.ranking.index(form_of(answer)) for answer in part] for part in (a, b)])
        return 0.5 + 0.5 * np.sign(places[1] - places[0])


def table(camps: Mapping[tuple[int, ...], float], fluency: float) -> Float[np.ndarray, "6 6"]:
    """P(row's class is preferred to column's) in the population.

    Args:
        camps: weight of each ranking.
        fluency: weight of the voter for fluency; all weights sum to 1.
    """
    places = {ranking: np.argsort(ranking) for ranking in camps}
    over_forms = sum(
        weight * (0.5 + 0.5 * np.sign(places[ranking][None, :] - places[ranking][:, None]))
        for ranking, weight in camps.items()
    )
    broken = np.arange(N_CLASSES) // len(FORMS)
    return np.tile(over_forms, (2, 2)) + fluency * (0.5 + 0.5 * np.sign(broken[None, :] - broken[:, None]))


def exploitability(preference: Float[np.ndarray, "k k"], shares: Float[np.ndarray, "... k"]) -> Any:
    """What the best class wins against a policy of these frequencies above one half: NashConv / 2.

    Args:
        preference: P(row is preferred to column).
        shares: how often the policy's answers are of each class; they sum to 1.
    """
    return np.max(shares @ preference.T, axis=-1) - 0.5


def knowing(preference: Float[np.ndarray, "k k"], classes: Sequence[Sequence[int]]) -> float:
    """A lower bound of what an opponent who knows the prompt wins above one half; below 0 where half tells too little.

    The opponent sees half of the answers to a prompt and gives the class that does best against these; it meets the
    other half. Both halves take their turn.

    Args:
        preference: as in `exploitability`.
        classes: of each prompt's answers, at least two.
    """
    found = []
    for some in classes:
        halves = [np.bincount(part, minlength=len(preference)) / len(part) for part in (some[::2], some[1::2])]
        found += [preference[np.argmax(preference @ a)] @ b - 0.5 for a, b in (halves, halves[::-1])]
    return float(np.mean(found))


def of_an_equilibrium(
    preference: Float[np.ndarray, "k k"], answers: int, *, draws: int = 20_000, seed: int = 0
) -> float:
    """The mean `exploitability` of so many answers that are drawn by the equilibrium, of which the exact one is 0.

    What is exploitable in frequencies of a sample is more than in what they are drawn from.
    """
    lottery = np.array(list(mmd.solve(preference - 0.5).policy.lottery().values()))
    counts = np.random.default_rng(0).multinomial(answers, lottery / lottery.sum(), size=draws)
    return float(np.mean(exploitability(preference, counts / answers)))


def redrawn(
    preference: Float[np.ndarray, "k k"], counts: Float[np.ndarray, "n k"], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the exploitability if the prompts were drawn again: percentiles of the bootstrap.

    Args:
        preference: as in `exploitability`.
        counts: of each prompt's answers by class.
    """
    n, random = len(counts), np.random.default_rng(seed)
    totals = random.multinomial(n, np.full(n, 1 / n), size=draws) @ counts
    low, high = np.percentile(exploitability(preference, totals / totals.sum(axis=1, keepdims=True)), [2.5, 97.5])
    return float(low), float(high)
