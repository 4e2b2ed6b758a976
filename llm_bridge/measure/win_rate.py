"""How a policy does against the one its training began with, on prompts that are not trained on, while it trains.

Both answer each prompt once; the start's answers are drawn once. Draws are independent of each other: with common
random numbers equal policies would always tie, and in an intransitive game the mean over coupled draws is not the win
rate. Prompts are the cases of the intervals, each one once however many rows have it (`llm_bridge.measure.intervals`).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from llm_bridge.judges import NoAnswers
from llm_bridge.measure.intervals import cases_of, pooled, redrawn, wilson
from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import require
from llm_bridge.policy.policy import Policy
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.loop import Method
from llm_bridge.train.rollout import Question, Rollout
from llm_bridge.train.train_state import TrainState


class WinRate:
    """The win rate of what a method would export against the given policy; a callback of `Method.fit`.

    It adds to a round's metrics `eval/win_rate` with `_low` and `_high`, its 95 % interval if the prompts were drawn
    again, and `_wilson_low` and `_wilson_high`, Wilson's over prompts; `eval/response_length` in tokens; and
    `eval/failed_frac`, the share of rows on which the judge had no answer. Such rows count for no win rate.

    Args:
        method: with a judge, its `max_new_tokens`, and what it exports.
        policy: the one that training began with, the opponent.
        prompts: as in `fit`.
        every: rounds from one measurement to the next.
        key: of the draws.

    Raises:
        BridgeError: there is no judge, or a prompt cannot be read.
    """

    def __init__(self, method: Method, policy: Policy, prompts: Any, *, every: int, key: Key[Array, ""]):
        if method.judge is None:
            raise BridgeError("a win rate needs a judge")
        require("every", every)
        self._method, self._policy, self._every = method, policy, every
        self._key, self._key_of_start = jax.random.split(key)
        questions, n = Method.read(method, policy, prompts), method.prompts_per_round * method.group_size
        self._parts = [questions[i : i + n] for i in range(0, len(questions), n)]
        self._case = cases_of([(question.tokens, str(question.shown)) for question in questions])
        self._start: list[Samples] = []

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Add the metrics of a measurement to those of a round, if one is due after it."""
        if self.due(state):
            metrics.update(self.measure(state))

    def due(self, state: TrainState) -> bool:
        """Whether there is something to be measured after this round."""
        return int(state.round) % self._every == 0 and self._method.has_result(int(state.round))

    def measure(self, state: TrainState) -> dict[str, float]:
        """Draw one answer to each prompt, ask the judge, and return the metrics by name, whether due or not."""
        source = Source(state.frame.decoder, state.whole(self._method.result(state, self._policy)))
        key = jax.random.fold_in(self._key, int(state.round))
        if not self._start:
            start = Source(self._policy.decoder, self._policy.arrays())
            keys = [jax.random.fold_in(self._key_of_start, i) for i in range(len(self._parts))]
            self._start = [self._arena(p).draw(start, 1, k) for p, k in zip(self._parts, keys, strict=True)]
        won, lengths = [], []
        for i, part in enumerate(self._parts):
            arena = self._arena(part)
            ours = arena.draw(source, 1, jax.random.fold_in(key, i))
            try:
                won.append(np.asarray(arena.compare(ours, self._start[i]), np.float64)[:, 0, 0])
            except NoAnswers:
                won.append(np.full(len(part), np.nan))
            lengths.append(sharding.gathered(ours.response).sum(axis=1))
        return _summary(np.concatenate(won), self._case) | {
            "eval/response_length": float(np.mean(np.concatenate(lengths)))
        }

    def _arena(self, part: Sequence[Question]) -> Rollout:
        assert self._method.judge is not None
        return Rollout(part, self._method.judge, self._policy.origin, self._method.max_new_tokens)


def _summary(won: Float[np.ndarray, " n"], case: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Of preferences, NaN where there is none, and of which prompt each is."""
    by_prompt = pooled(won[:, None], case)
    heard = by_prompt[~np.isnan(by_prompt)]
    share = float(heard.mean()) if len(heard) else float("nan")
    (low, high), (wilson_low, wilson_high) = redrawn(by_prompt), wilson(share, len(heard))
    return {
        "eval/win_rate": share,
        "eval/win_rate_low": low,
        "eval/win_rate_high": high,
        "eval/win_rate_wilson_low": wilson_low,
        "eval/win_rate_wilson_high": wilson_high,
        "eval/failed_frac": float(np.isnan(won).mean()),
    }
