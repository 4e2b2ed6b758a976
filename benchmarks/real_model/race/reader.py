"""The start model as a reader: how likely it finds an answer, and what it thinks while it reads one.

One forward pass gives both, prompt by prompt, so that a prompt is read once for all of its answers. The mean
log-probability of an answer's tokens is what the voter for fluency asks for; the mean activation over them is what the
preference models of `human.py` have a trained head on. What was read is kept, for a comparison asks for an answer more
than once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from llm_bridge.model.decoder import Decoder, Weights
from llm_bridge.policy import scoring
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy
from llm_bridge.text.tokenizer import Tokenizer

SHORTEST = float("-inf")  # the likelihood of an answer without a token
LEAST = -2.5  # mean log-probability of a fluent answer's tokens, nats
DISTINCT = 0.5  # share of them that are the first of their kind; a loop is likely, but no answer


class Read(NamedTuple):
    """What reading an answer leaves.

    Attributes:
        likelihood: mean log-probability of its tokens after the prompt, in nats; -inf where there is none.
        total: log-probability of all of them by the policy that the race starts from, at its temperature.
        distinct: share of its tokens that are the first of their kind in it.
        thought: mean activation that predicts them, [D].
    """

    likelihood: float
    total: float
    distinct: float
    thought: Float[np.ndarray, " D"]


@dataclass(eq=False)
class Reader:
    """Reads answers to prompts; at most `longest` tokens of each.

    Attributes:
        policy: the start model, at temperature 1.
        words: its tokenizer.
        prompt_tokens: to which prompts are padded, and no longer one is read.
        temperature: of the policy that the race starts from.
        longest: of an answer.
        at_a_time: answers in a forward pass.
    """

    policy: Policy
    words: Tokenizer
    prompt_tokens: int
    temperature: float
    longest: int = 32
    at_a_time: int = 16
    known: dict[tuple[str, str], Read] = field(default_factory=dict, repr=False)

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Read]:
        """What it finds of each answer to the prompt beside it."""
        wanted: dict[str, dict[str, None]] = {}
        for prompt, answer in zip(prompts, answers, strict=True):
            if (prompt, answer) not in self.known:
                wanted.setdefault(prompt, {})[answer] = None
        most = max(map(len, wanted.values()), default=0)
        group = min(bucket(max(most, 1), 2), 8)
        parts = [
            (prompt, list(few)[i : i + group]) for prompt, few in wanted.items() for i in range(0, len(few), group)
        ]
        step = max(1, self.at_a_time // group)
        for begin in range(0, len(parts), step):
            self._read(parts[begin : begin + step], step, group)
        return [self.known[one] for one in zip(prompts, answers, strict=True)]

    def _read(self, parts: Sequence[tuple[str, list[str]]], n: int, group: int) -> None:
        """A forward pass for n prompts with `group` answers each, of which some may be repeated to fill it."""
        before, rows, places = self.prompt_tokens, [], []
        filled = [*parts, *[(parts[0][0], [])] * (n - len(parts))]
        for prompt, few in filled:
            ids = chat(self.words, prompt)[-before:]
            for i in range(group):
                own = self.words.encode(few[i], special=False)[: self.longest] if i < len(few) else []
                places.append((prompt, few[i]) if i < len(few) else None)
                rows.append((ids, own))
        tokens = np.zeros((n * group, before + self.longest), np.int32)
        mask = np.zeros(tokens.shape, bool)
        for row, (ids, own) in enumerate(rows):
            span = slice(before - len(ids), before + len(own))
            tokens[row, span], mask[row, span] = [*ids, *own], True
        decoder, weights = self.policy.decoder, self.policy.arrays()
        found = _read(decoder, weights, jnp.asarray(tokens), jnp.asarray(mask), self.temperature, self.longest, group)
        likelihoods, totals, thoughts = (np.asarray(part, np.float64) for part in found)
        for row, place in enumerate(places):
            if place is not None:
                own = rows[row][1]
                value = float(likelihoods[row]) if own else SHORTEST
                distinct = len(set(own)) / max(1, len(own))
                self.known[place] = Read(value, float(totals[row]), distinct, thoughts[row])


def own_likelihood(words: Tokenizer, ids: Sequence[int], log_probs: Sequence[float], text: str) -> float:
    """Log-probability of an answer by the policy that drew it, without that of the end token, as the reader has it.

    NaN where the text has other tokens than were drawn, so that it was another answer that was read.
    """
    n = len(ids) - (bool(ids) and ids[-1] in words.ends)
    same = list(words.encode(text, special=False)) == list(ids[:n])
    return float(sum(log_probs[:n])) if same else float("nan")


def chat(words: Tokenizer, prompt: str) -> list[int]:
    """Token ids of a conversation that begins with this prompt."""
    return list(words.prompt([{"role": "user", "content": prompt}]))


@partial(jax.jit, static_argnames=("decoder", "answers", "group"))
def _read(
    decoder: Decoder, weights: Weights, tokens: Array, mask: Array, temperature: float, answers: int, group: int
) -> tuple[Float[Array, " B"], Float[Array, " B"], Float[Array, "B D"]]:
    """Mean log-probabilities at temperature 1, sums at the other one, and mean activations, of the last tokens."""

    def both(vocabulary: scoring.Vocabulary, logs: tuple[Array], targets: Array) -> tuple[Array, Array]:
        tempered = vocabulary.log_softmax(logs[0] / temperature)
        return vocabulary.at(logs[0], targets), vocabulary.at(tempered, targets)

    hidden = scoring.activations(decoder, weights, (tokens, mask), answers, group)
    targets, own = tokens[:, -answers:], mask[:, -answers:]
    chunk = scoring.chunk_length(len(tokens), answers, decoder.architecture.vocabulary)
    plain, tempered = scoring.visit([(decoder, weights)], [hidden], targets, both, chunk)
    count = jnp.maximum(jnp.sum(own, axis=1, dtype=jnp.float32), 1)
    likelihood = jnp.sum(jnp.where(own, plain, 0), axis=1) / count
    thought = jnp.sum(jnp.where(own[:, :, None], hidden, 0), axis=1) / count[:, None]
    return likelihood, jnp.sum(jnp.where(own, tempered, 0), axis=1), thought


def is_fluent(read: Read) -> bool:
    """Whether the start model finds an answer likely, and the answer does not repeat itself."""
    return read.likelihood >= LEAST and read.distinct >= DISTINCT


@dataclass(frozen=True, eq=False)
class Fluency:
    """A voter who prefers a fluent answer to one that is not.

    Attributes:
        reader: the start model.
    """

    symmetric: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    name: ClassVar[str] = "fluent"

    reader: Reader

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """P(a is preferred to b), [n]; 1/2 where both are or neither is."""
        both = np.array([is_fluent(read) for read in self.reader([*prompts, *prompts], [*a, *b])], np.float64)
        first, second = np.split(both, 2)
        return 0.5 + 0.5 * (first - second)
