"""The three populations of judges, and the one that settings are tuned on.

Each comparison is answered by the weighted mean of all members (`llm_bridge.judges.population`).

    tuning, cyclic   three camps whose rankings of forms rotate, and a voter for fluency
    natural          seven criteria that a person could hold, each with one vote
    human            a judge of human pairs; another one, of other pairs, gives the final verdict
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

import llm_bridge as bridge
from benchmarks.real_model.race import plan
from benchmarks.real_model.race.forms import STRUCTURED
from benchmarks.real_model.race.reader import Fluency, Reader
from llm_bridge.judges import Judge

WORD = re.compile(r"[A-Za-z']+")
WARM = re.compile(r"\b(you|your|thank|thanks|please|glad|happy|welcome|great|love|help|sure|hope)\b|!", re.IGNORECASE)
CONCRETE = re.compile(r"\d+|(?<=[a-z,] )[A-Z][a-z]+|`[^`]+`|\"[^\"]+\"|for example|such as", re.IGNORECASE)
ROUNDABOUT = re.compile(
    r"^\W*(sure|certainly|absolutely|of course|great|thank|i'm|i am|i'd|i can|as an|here's|here is|let's)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Criterion:
    """A judge that prefers the answer of which one number is larger.

    Attributes:
        name: of the criterion.
        score: of a prompt and an answer.
    """

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    name: str
    score: Callable[[str, str], float]

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]; 1/2 for equal numbers."""
        both = [[self.score(x, one) for x, one in zip(prompts, part, strict=True)] for part in (a, b)]
        return 0.5 + 0.5 * np.sign(np.array(both[0]) - np.array(both[1]))


def plain_words(prompt: str, answer: str) -> float:
    """Short words; an answer without any has the longest."""
    words = WORD.findall(answer)
    return -float(np.mean([len(word) for word in words])) if words else -20.0


def concrete(prompt: str, answer: str) -> float:
    """Numbers, names, quotations, examples."""
    return float(len({found.group().lower() for found in CONCRETE.finditer(answer)}))


def warm(prompt: str, answer: str) -> float:
    """Speaks to the reader, and kindly."""
    return float(len({found.group().lower() for found in WARM.finditer(answer)}))


def on_topic(prompt: str, answer: str) -> float:
    """Shares words of at least four letters with the prompt."""
    asked = {word.lower() for word in WORD.findall(prompt) if len(word) > 3}
    return float(len(asked & {word.lower() for word in WORD.findall(answer)}))


def structured(prompt: str, answer: str) -> float:
    """A list, code, or more than one line."""
    return float(bool(STRUCTURED.search(answer)))


def direct(prompt: str, answer: str) -> float:
    """Comes to the point: does not begin with a courtesy or an announcement."""
    return -float(bool(ROUNDABOUT.search(answer)))


CRITERIA = (plain_words, concrete, warm, on_topic, structured, direct)


def population(name: str, reader: Reader, human: Judge | None = None) -> Judge:
    """The judge that a population is.

    Args:
        name: of the population.
        reader: of its voter for fluency.
        human: the judge of human pairs.
    """
    if name == "human":
        assert human is not None
        return human
    fluency = Fluency(reader)
    if name == "natural":
        members: list[Any] = [*(Criterion(score.__name__, score) for score in CRITERIA), fluency]
        return bridge.Population(members, aggregation="mean")
    camps = plan.camps(name)
    weights = [*(weight for _, weight in camps), plan.FLUENCY]
    return bridge.Population([*(camp for camp, _ in camps), fluency], weights, aggregation="mean")
