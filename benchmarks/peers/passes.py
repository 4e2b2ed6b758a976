"""What a round of each method costs, counted while it runs: copies of the weights, and tokens through the model.

A decoder that counts takes the place of the given one. Every token that goes through it is told to the host when it
happens, loops included, and so is every token whose gradient comes back.
"""

import importlib
from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import jax

import llm_bridge as bridge
from llm_bridge.model.decoder import Decoder

BASELINES = {
    "Nash-MD": "nash_md",
    "online IPO": "online_ipo",
    "iterative DPO": "iterative_dpo",
    "INPO": "inpo",
    "SPPO": "sppo",
    "self-play": "self_play",
    "EGPO": "egpo",
}
tokens: Counter[str] = Counter()


def _count(kind: str, n: int) -> None:
    tokens[kind] += n


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _watched(x: jax.Array, n: int) -> jax.Array:
    return x


def _forward(x: jax.Array, n: int) -> tuple[jax.Array, None]:
    return x, None


def _backward(n: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    jax.debug.callback(partial(_count, "backward", n))
    return (gradient,)


_watched.defvjp(_forward, _backward)


@dataclass(frozen=True)
class Counting(Decoder):
    """A decoder that counts tokens: those that are generated from, scored, and differentiated."""

    def hidden(self, weights: Any, tokens: Any, mask: Any) -> Any:
        """See `Decoder`."""
        jax.debug.callback(partial(_count, "scored", tokens.size))
        return _watched(super().hidden(weights, tokens, mask), tokens.size)

    def prefill(self, weights: Any, tokens: Any, padding: Any, n_slots: int, copies: int = 1) -> Any:
        """See `Decoder`."""
        jax.debug.callback(partial(_count, "generating", tokens.size))
        return super().prefill(weights, tokens, padding, n_slots, copies)

    def step(self, weights: Any, tokens: Any, slot: Any, cache: Any) -> Any:
        """See `Decoder`."""
        jax.debug.callback(partial(_count, "generating", tokens.size))
        return super().step(weights, tokens, slot, cache)


def counting(policy: bridge.Policy) -> bridge.Policy:
    """The same policy, with a decoder that counts."""
    own = {field.name: getattr(policy.decoder, field.name) for field in fields(Decoder)}
    return bridge.Policy(Counting(**own), policy.arrays(), policy.origin)


def of_round(method: Any, policy: bridge.Policy, prompts: list[str]) -> dict[str, float]:
    """Copies and passes of a second round, when everything is compiled.

    Returns:
        `copies` of the weights between two rounds, moments apart; and, for each token of a generated row with its
        prompt, how often it goes through a model while `generating`, is `scored` by one, and has its gradient taken
        (`backward`); `judge` is 0, for these judges are no models.
    """
    policy = counting(policy)
    state = method.init(policy, jax.random.key(0))
    questions = method.read(policy, prompts)
    state, _ = method.round(state, questions)
    jax.effects_barrier()
    tokens.clear()
    state, metrics = method.round(state, questions)
    jax.effects_barrier()
    longest = max(len(question.tokens) for question in questions)
    n_tokens = method.prompts_per_round * method.group_size * (longest + metrics["response_length"])
    weights = sum(array.nbytes for array in policy.arrays().values())
    kept = jax.tree.leaves((state.weights, state.magnet, state.initial, state.base))
    passes = {kind: tokens[kind] / n_tokens for kind in ("generating", "judge", "scored", "backward")}
    return {"copies": sum(array.nbytes for array in kept) / weights, **passes}


def of_all(numbers: dict[str, Any], policy: bridge.Policy, prompts: list[str]) -> dict[str, dict[str, float]]:
    """Copies and passes of MPO in both forms and of every baseline, with the same numbers."""
    numbers = numbers | {"watch_start": False}
    found: dict[str, Any] = {"MPO": bridge.MPO(**numbers)}
    found["MPO, start watched"] = replace(found["MPO"], watch_start=True)
    found["MPO, regression"] = replace(found["MPO"], estimator=bridge.Regression())
    for name, file in BASELINES.items():
        halves = {"group_size": 4} if name == "EGPO" else {}  # the half of its group plays within itself
        found[name] = importlib.import_module(f"llm_bridge.train.baselines.{file}").METHOD(**(numbers | halves))
    return {name: of_round(method, policy, prompts) for name, method in found.items()}
