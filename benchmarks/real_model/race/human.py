"""Judges of human pairs: the start model as it is, and a trained head on what it thinks while it reads an answer.

    P(a preferred) = sigmoid( u . (a - b)  +  sum_k (p_k . a)(q_k . b) - (q_k . a)(p_k . b) )

`a` and `b` are the first principal components of the mean activations over each answer, standardised. The first term is
a reward, the others are what no reward can say (a preference that may turn in a circle); turning the pair around turns
the sign of both, so the judge is symmetric by construction. It is trained on 1,000 pairs that people have compared, of
which only the beginning is read, as long as the answers that it will judge.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from benchmarks.real_model.race.reader import Reader

FILES = ("prefs_train.jsonl.gz", "prefs_dev.jsonl.gz")
SOURCES = ("fine-grained-rlhf-qa-dev", "hh-rlhf/harmless-base-test", "pandalm-testset-v1")  # labelled by people
PAIRS = 1000  # of each judge
COMPONENTS, TURNS, RIDGE = 48, 2, 3e-3


class Pair(NamedTuple):
    """A prompt with the answer that people preferred and the other one."""

    prompt: str
    chosen: str
    rejected: str


class Head(NamedTuple):
    """What is trained, and how activations are standardised.

    Attributes:
        mean: of activations, [D].
        components: principal ones, each divided by its standard deviation, [D, C].
        reward: u, [C].
        turns: p and q, [2, K, C].
    """

    mean: Float[np.ndarray, " D"]
    components: Float[np.ndarray, "D C"]
    reward: Float[np.ndarray, " C"]
    turns: Float[np.ndarray, "2 K C"]

    def shown(self, thoughts: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n m"]:
        """All that the head asks of an answer: u . a, and every p . a and q . a; m = 1 + 2 K."""
        seen = (thoughts - self.mean) @ self.components
        return np.concatenate([seen @ self.reward[:, None], *(seen @ part.T for part in self.turns)], axis=1)


def preference(a: Float[np.ndarray, "n m"], b: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """P(a preferred), of what a head is shown of two answers."""
    k = (a.shape[1] - 1) // 2
    turned = np.sum(a[:, 1 : 1 + k] * b[:, 1 + k :] - a[:, 1 + k :] * b[:, 1 : 1 + k], axis=1)
    return 0.5 + 0.5 * np.tanh((a[:, 0] - b[:, 0] + turned) / 2)


@dataclass(frozen=True, eq=False)
class HumanJudge:
    """A judge; see the module."""

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    name: ClassVar[str] = "human pairs"

    reader: Reader
    head: Head

    def shown(self, prompts: Sequence[str], answers: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """What the head is shown of answers."""
        return self.head.shown(np.stack([read.thought for read in self.reader(prompts, answers)]))

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]."""
        first, second = np.split(self.shown([*prompts, *prompts], [*a, *b]), 2)
        return preference(first, second)


def pairs(folder: Path, part: str, fits: Any, sources: Sequence[str] = SOURCES) -> list[list[Pair]]:
    """Two sets of pairs without a common prompt, each in an order that its texts decide.

    Args:
        folder: of the text pairs.
        part: "train" or "dev".
        fits: of a prompt, whether it is short enough.
        sources: of the pairs.
    """
    found: list[dict[Pair, None]] = [{}, {}]
    with gzip.open(folder / f"prefs_{part}.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            prompt = row["prompt"].removeprefix("Human: ").removesuffix("\n\nAssistant:").strip()
            if row["source"] not in sources or row.get("p_chosen", 1.0) <= 0.5 or "\n\nHuman:" in prompt:
                continue
            if row["chosen"] != row["rejected"] and fits(prompt):
                found[_digest(prompt) % 2][Pair(prompt, row["chosen"], row["rejected"])] = None
    return [sorted(one, key=lambda pair: _digest("\n".join(pair))) for one in found]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def train(thoughts: Float[np.ndarray, "n 2 D"]) -> Head:
    """The head that makes the pairs likeliest, with a ridge.

    Args:
        thoughts: mean activations over the preferred answer and over the other one, of each pair.
    """
    flat = thoughts.reshape(-1, thoughts.shape[-1])
    mean = flat.mean(axis=0)
    _, scale, directions = np.linalg.svd(flat - mean, full_matrices=False)
    components = (directions[:COMPONENTS] / scale[:COMPONENTS, None]).T * len(flat) ** 0.5
    seen = jnp.asarray((thoughts - mean) @ components, jnp.float32)
    first = np.random.default_rng(0).normal(size=(2, TURNS, COMPONENTS)) * 0.1
    begin = np.concatenate([np.zeros(COMPONENTS), first.ravel()])

    @jax.jit
    def loss(flat: Array) -> Array:
        reward, turns = flat[:COMPONENTS], flat[COMPONENTS:].reshape(2, TURNS, COMPONENTS)
        a, b = seen[:, 0], seen[:, 1]
        turned = jnp.sum((a @ turns[0].T) * (b @ turns[1].T) - (a @ turns[1].T) * (b @ turns[0].T), axis=1)
        return -jnp.mean(jax.nn.log_sigmoid((a - b) @ reward + turned)) + RIDGE * jnp.sum(flat**2)

    graded = jax.value_and_grad(loss)
    found = minimize(
        lambda x: tuple(np.asarray(part, np.float64) for part in graded(jnp.asarray(x, jnp.float32))),
        begin,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 300},
    ).x
    return Head(mean, components, found[:COMPONENTS], found[COMPONENTS:].reshape(2, TURNS, COMPONENTS))


def read_pairs(path: Path, reader: Reader, known: Sequence[Pair], late: Callable[[], bool]) -> bool:
    """Read both answers of each pair and write the mean activations, [n, 2, D]; whether it was done in time.

    What was read before it was late is kept beside the file for the next piece.
    """
    part = path.with_suffix(".part.npy")
    thoughts = list(np.load(part)) if part.exists() else []
    for pair in known[len(thoughts) :]:
        if late():
            np.save(part, np.array(thoughts, np.float32))
            return False
        both = reader([pair.prompt] * 2, [pair.chosen, pair.rejected])
        reader.known.clear()
        thoughts.append(np.stack([read.thought for read in both]))
    np.savez(path, thoughts=np.array(thoughts, np.float32))
    part.unlink(missing_ok=True)
    return True


def accuracy(head: Head, train: Float[np.ndarray, "n 2 D"], dev: Float[np.ndarray, "m 2 D"]) -> dict[str, float]:
    """How often a head is right on the pairs that it was trained on, and on others."""
    found: dict[str, float] = {}
    for name, thoughts in (("train", train), ("dev", dev)):
        right = preference(head.shown(thoughts[:, 0]), head.shown(thoughts[:, 1])) > 0.5
        found |= {f"{name}_pairs": len(right), name: float(np.mean(right))}
    return found
