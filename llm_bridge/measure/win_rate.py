"""How a policy does against the one its training began with, on prompts that are not trained on, while it trains.

Both answer each prompt once; the start's answers are drawn once. Draws are independent of each other: with common
random numbers equal policies would always tie, and in an intransitive game the mean over coupled draws is not the win
rate. Prompts are the cases of the intervals, each one once however many rows have it (`llm_bridge.measure.intervals`).
"""

from collections.abc import Mapping, Sequence
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
from llm_bridge.run.samples import Sample, when
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.loop import Method
from llm_bridge.train.rollout import Question, Rollout
from llm_bridge.train.train_state import TrainState


class WinRate:
    """The win rate of what a method would export against the given policy; a callback of `Method.fit`.

    It adds to a round's metrics `eval/win_rate`, and the same with `_low` and `_high`: its 95 % interval if the prompts
    were drawn again. Those with `_wilson_low` and `_wilson_high` are Wilson's over prompts. `eval/response_length` is
    in tokens. `eval/failed_frac` is the share of rows on which the judge had no answer; they count for no win rate.

    Args:
        method: with a judge, its `max_new_tokens`, and what it exports.
        policy: the one that training began with, the opponent.
        prompts: as in `fit`.
        every: rounds from one measurement to the next; the first is before round 1.
        key: of the draws.
        last: a round after which it is measured as well; None for none.

    Attributes:
        samples: what the newest measurement is made of, a sample for each row.

    Raises:
        BridgeError: there is no judge, or a prompt cannot be read.
    """

    def __init__(
        self,
        method: Method,
        policy: Policy,
        prompts: Any,
        *,
        every: int,
        key: Key[Array, ""],
        last: int | None = None,
    ):
        if method.judge is None:
            raise BridgeError("a win rate needs a judge")
        require("every", every)
        self._method, self._policy, self._every, self._last = method, policy, every, last
        self._key, self._key_of_start = jax.random.split(key)
        questions, n = Method.read(method, policy, prompts), method.prompts_per_round * method.group_size
        self._parts = [questions[i : i + n] for i in range(0, len(questions), n)]
        self._case = cases_of([(question.tokens, str(question.shown)) for question in questions])
        self._start: list[Samples] = []
        self.samples: list[Sample] = []

    def draw_start(self) -> None:
        """Draw the start's answers now; afterwards the weights of the given policy are not needed any more."""
        start = Source(self._policy.decoder, self._policy.arrays())
        keys = [jax.random.fold_in(self._key_of_start, i) for i in range(len(self._parts))]
        self._start = [self._arena(p).draw(start, 1, k) for p, k in zip(self._parts, keys, strict=True)]

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Add the metrics of a measurement to those of a round, if one is due after it."""
        if self.due(state):
            metrics.update(self.measure(state))

    def due(self, state: TrainState) -> bool:
        """Whether there is something to be measured after this round; before the first there always is."""
        number = int(state.round)
        wanted = number % self._every == 0 or number == self._last
        return wanted and (number == 0 or self._method.has_result(number))

    def measure(self, state: TrainState) -> dict[str, float]:
        """Draw one answer to each prompt, ask the judge, and return the metrics by name, whether due or not."""
        source = Source(state.frame.decoder, state.whole(self._method.result(state, self._policy)))
        key = jax.random.fold_in(self._key, int(state.round))
        if not self._start:
            self.draw_start()
        won, lengths, samples = [], [], []
        for i, part in enumerate(self._parts):
            arena = self._arena(part)
            ours = arena.draw(source, 1, jax.random.fold_in(key, i))
            try:
                won.append(np.asarray(arena.compare(ours, self._start[i]), np.float64)[:, 0, 0])
            except NoAnswers:
                won.append(np.full(len(part), np.nan))
            lengths.append(sharding.gathered(ours.response).sum(axis=1))
            samples += self._samples(part, self._start[i], ours, won[-1])
        self.samples = samples
        return _summary(np.concatenate(won), self._case) | {
            "eval/response_length": float(np.mean(np.concatenate(lengths)))
        }

    def _samples(
        self, part: Sequence[Question], start: Samples, now: Samples, won: Float[np.ndarray, " n"]
    ) -> list[Sample]:
        words = self._policy.tokenizer

        def texts(drawn: Samples) -> list[str]:
            tokens, response = sharding.gathered((drawn.tokens, drawn.response))
            ids = [row[marked].tolist() for row, marked in zip(tokens, response, strict=True)]
            return [" ".join(map(str, row)) if words is None else words.decode(row) for row in ids]

        known = [None if np.isnan(share) else float(share) for share in won]
        rows = zip((str(question.shown) for question in part), texts(start), texts(now), known, strict=True)
        return [Sample(*row) for row in rows]

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


def newest_win_rate(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The win rate of the newest round that has one, with its interval, without the prefix; {} if no round has.

    Args:
        rows: of `metrics.jsonl`.
    """
    measured = [row for row in rows if row.get("eval/win_rate") is not None]
    names = ("win_rate", "win_rate_low", "win_rate_high")
    return {name: measured[-1][f"eval/{name}"] for name in names} if measured else {}


def win_rate_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line that says what a run has won: the first and the newest win rate, with intervals.

    Before the first round both sides are one policy, so the first is 1/2 but for chance; where the interval does not
    hold it, which chance does in one run of twenty, the line says so.

    Args:
        rows: of `metrics.jsonl`.
    """
    measured = [row for row in rows if row.get("eval/win_rate") is not None]
    if not measured:
        return []
    first, newest = measured[0], measured[-1]
    said = f"win rate against the start: {_shown(newest)} {when(int(newest['round']))}"
    if first["round"] == 0 and newest is not first:
        said += f", {_shown(first)} before the first"
    if first["round"] == 0 and not first["eval/win_rate_low"] <= 0.5 <= first["eval/win_rate_high"]:
        said += "; equal policies differ as much in one run of twenty, so take the later ones with care"
    return [said]


def _shown(row: Mapping[str, Any]) -> str:
    rate, low, high = (100 * row[f"eval/win_rate{side}"] for side in ("", "_low", "_high"))
    return f"{rate:.1f} % [{low:.1f}, {high:.1f}]"
