"""An engine draws the answers of a round in the trainer's place: a server of another process, on other devices.

    engine(order)  ->  token ids of n answers to each prompt, and the engine's log-probabilities of them

Whatever takes an `Order` and returns `Answers` is an engine; `llm_bridge.train.http_engine` is one over HTTP. What it
has to keep, so that a round is the same as with our own draws, is the contract of docs/reference/engines.md:

 1. The answers are draws from the policy of the order: its whole distribution at its temperature, nothing cut off.
 2. They are token ids. Text is never tokenized again, for it may come back as other tokens.
 3. An answer ends with the first end token, which is one of its tokens, or after the most new tokens, and nowhere else.
 4. The engine's log-probabilities are looked at and never learned from. The first forward pass of an update makes
    those that are, by the trainer's own code, whoever has drawn (`llm_bridge.train.learning`).

An engine may have a method `dry_run(policy)`, which is called before the first round and raises where it cannot work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Key

from llm_bridge.model.architecture import BridgeError
from llm_bridge.policy.generate import Generation
from llm_bridge.policy.policy import Policy


class EngineError(BridgeError):
    """An engine cannot be used, or has broken the contract; the message says how."""


class Order(NamedTuple):
    """What an engine is asked for in a round.

    Attributes:
        policy: makes the policy to draw from, in the precisions that were given; each process of a mesh has to call it,
            or none.
        round: how many rounds are done.
        prompts: token ids of each.
        n: answers to each.
        max_new_tokens: of an answer.
        temperature: of the policy, which is a part of it.
        stop_tokens: which end an answer.
        vocabulary: how many token ids there are.
        seed: integers that no other draws of the run have.
    """

    policy: Callable[[], Policy]
    round: int
    prompts: Sequence[Sequence[int]]
    n: int
    max_new_tokens: int
    temperature: float
    stop_tokens: tuple[int, ...]
    vocabulary: int
    seed: tuple[int, ...]


class Answers(NamedTuple):
    """n answers to each prompt, prompt by prompt.

    Attributes:
        tokens: ids of each answer, the end token included.
        log_probs: the engine's log-probability of each of them, nats.
        metrics: what is logged of the round.
    """

    tokens: Sequence[Sequence[int]]
    log_probs: Sequence[Sequence[float]]
    metrics: Mapping[str, float] = {}


@runtime_checkable
class Engine(Protocol):
    """Draws answers to prompts."""

    def __call__(self, order: Order, /) -> Answers:
        """As the contract says; raises `EngineError` where it cannot."""
        ...


@dataclass(frozen=True)
class Turn:
    """An engine in one round.

    Attributes:
        engine: which draws.
        policy, round: of `Order`.
        like: a policy's decoder and origin, for temperature, vocabulary and end tokens.
    """

    engine: Engine
    policy: Callable[[], Policy]
    round: int
    like: tuple[Any, Any]

    def draw(
        self, prompts: Sequence[Sequence[int]], n: int, max_new_tokens: int, key: Key[Array, ""]
    ) -> tuple[Generation, Mapping[str, float]]:
        """Answers as the sampler of this package gives them, and the engine's metrics.

        Args:
            prompts: token ids of each.
            n: answers to each.
            max_new_tokens: of an answer.
            key: of the draws.

        Raises:
            EngineError: the engine cannot draw, or has broken the contract.
        """
        decoder, origin = self.like
        seed = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
        shape = (n, max_new_tokens, float(decoder.temperature), origin.stop_tokens, decoder.architecture.vocabulary)
        order = Order(self.policy, self.round, prompts, *shape, seed)
        found = self.engine(order)
        check(found, order)
        rows = (len(prompts) * n, max_new_tokens)
        tokens, mask = np.full(rows, origin.pad_token, np.int32), np.zeros(rows, bool)
        log_probs = np.zeros(rows, np.float32)
        for i, (ids, theirs) in enumerate(zip(found.tokens, found.log_probs, strict=True)):
            tokens[i, : len(ids)], mask[i, : len(ids)], log_probs[i, : len(ids)] = ids, True, theirs
        return Generation._make([tokens, mask, log_probs, log_probs]), found.metrics


def check(found: Answers, order: Order, who: str = "the engine") -> None:
    """That answers are what the contract says, as far as it can be seen.

    Args:
        found: the answers.
        order: what was asked for.
        who: has given them, for complaints.

    Raises:
        EngineError: they are not.
    """
    wanted = len(order.prompts) * order.n
    if len(found.tokens) != wanted or len(found.log_probs) != wanted:
        raise EngineError(f"{who} gives {len(found.tokens)} answers, expected {wanted}: {order.n} to each prompt")
    for ids, log_probs in zip(found.tokens, found.log_probs, strict=True):
        if problem := _problem(ids, log_probs, order):
            raise EngineError(f"{who} gives {problem}")


def _problem(ids: Sequence[int], log_probs: Sequence[float], order: Order) -> str:
    """What is wrong with an answer; "" if nothing is."""
    if not len(ids):
        return "an answer without a token"
    if len(log_probs) != len(ids):
        return f"{len(log_probs)} log-probabilities of an answer of {len(ids)} tokens"
    if outside := [one for one in ids if not 0 <= one < order.vocabulary]:
        here = f"the vocabulary of {order.vocabulary:,} tokens"
        return f"the token {outside[0]}, which is not in {here}: it serves another model"
    if len(ids) > order.max_new_tokens:
        return f"an answer of {len(ids)} tokens, more than the {order.max_new_tokens} that were asked for"
    ends = [i for i, one in enumerate(ids) if one in order.stop_tokens]
    if ends and ends[0] < len(ids) - 1:
        return f"an answer that goes on after the end token {ids[ends[0]]}"
    if not ends and len(ids) < order.max_new_tokens:
        known = f"the policy's end tokens are {', '.join(map(str, order.stop_tokens)) or 'none'}"
        return (
            f"an answer that ends after {len(ids)} of {order.max_new_tokens} tokens with the token {ids[-1]}, "
            f"and {known}: its context is too short, or it has end tokens of its own"
        )
    return ""
