"""Supervised fine-tuning: the likelihood of given answers, mean over their tokens. Where preference methods begin.

Rows are (prompt, answer), both text or both token ids; there is no sampler and no judge. An answer in text is ended by
EOS; token ids are taken as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy
from llm_bridge.train import rollout
from llm_bridge.train.arena import Samples
from llm_bridge.train.loop import Method, Metrics
from llm_bridge.train.objective import Judged, Numbers, Objective, Seen
from llm_bridge.train.rollout import tokenizer
from llm_bridge.train.train_state import TrainState
from llm_bridge.train.watch import UPDATE, Watch, n_marked


class Demonstration(NamedTuple):
    """A prompt and what should follow it, as token ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood(Objective):
    """Negative log-likelihood of answers in nats; each answer is weighted by its payoff."""

    def __call__(self, seen: Seen, judged: Judged, numbers: Numbers) -> Float[Array, ""]:
        """Minus the weighted sum over rows of the payoff times the answer's log-likelihood."""
        return -jnp.sum(seen.weight * judged.payoff * seen.by_response(seen.log_probs))


@dataclass(frozen=True)
class SFT(Method):
    """Supervised fine-tuning; a round is an optimizer step on `prompts_per_round` rows."""

    _: KW_ONLY
    group_size: int = 1
    epochs: int = 1

    has_magnet: ClassVar[bool] = False
    smallest_group: ClassVar[int] = 1
    unused: ClassVar[tuple[str, ...]] = ("eta", "alpha", "group_size", "opponents")

    def objective(self) -> Objective:
        """The negative log-likelihood of the answers."""
        return Likelihood()

    def read(self, policy: Policy, prompts: Any) -> Sequence[Demonstration]:
        """Rows as token ids.

        Raises:
            BridgeError: there are none, one is no pair, is empty, or does not fit the context.
        """
        found = [_demonstration(policy, row, number) for number, row in enumerate(prompts)]
        if not found:
            raise BridgeError("expected at least one row of prompt and answer, got none")
        policy.check_prompts([one.prompt + one.answer[:-1] for one in found], 1)
        return found

    def columns(self, questions: Sequence[Any]) -> int:
        """How many columns the longest row of these needs."""
        return _longest(questions)

    def widths(self, state: TrainState, questions: Sequence[Any], rounds: Iterable[Sequence[Any]]) -> tuple[int, ...]:
        """The few lengths that the rows of a run's rounds are padded to."""
        return rollout.widths(self.columns(questions), map(self.columns, rounds), rollout.PROGRAMS)

    def round(
        self, state: TrainState, questions: Sequence[Any], watch: Watch | None = None
    ) -> tuple[TrainState, Metrics]:
        """One step on these rows. The given state is used up."""
        samples = _rows(questions, state)
        if watch is not None:
            watch.begin(UPDATE)
            watch.count(UPDATE, self.epochs * n_marked(samples.mask))
        n_tokens = jnp.sum(samples.response) / len(questions)
        payoff = jnp.full((len(questions), 1), 1 / n_tokens, jnp.float32)
        state, metrics = self.learn(state, samples, Judged(payoff, jnp.full((len(questions), 1, 1), 0.5, jnp.float32)))
        found = {name: float(value) for name, value in metrics.items() if not name.startswith("sampling/")}
        return self.settle(state), found


def _demonstration(policy: Policy, row: Any, number: int) -> Demonstration:
    pair = isinstance(row, tuple | list) and len(row) == 2 and all(isinstance(part, Sequence) and part for part in row)
    if not pair:
        raise BridgeError(f"row {number}: expected a prompt and an answer, neither of them empty")
    prompt, answer = row
    if isinstance(answer, str):
        ids, n = tokenizer(policy.origin).completed(prompt, answer)
        return Demonstration(tuple(ids[:n]), tuple(ids[n:]))
    return Demonstration(tuple(map(int, prompt)), tuple(map(int, answer)))


def _longest(given: Sequence[Demonstration]) -> int:
    return max(len(one.prompt) + len(one.answer) for one in given)


def _rows(given: Sequence[Demonstration], state: TrainState) -> Samples:
    length = getattr(given, "width", None) or bucket(_longest(given), 1)
    tokens = np.full((len(given), length), state.frame.origin.pad_token, np.int32)
    mask, response = np.zeros(tokens.shape, bool), np.zeros(tokens.shape, bool)
    for i, one in enumerate(given):
        whole = one.prompt + one.answer
        tokens[i, : len(whole)], mask[i, : len(whole)] = whole, True
        response[i, len(one.prompt) : len(whole)] = True
    mesh = state.frame.decoder.mesh
    place = sharding.rows(mesh, 2) if len(given) % sharding.n_row_shares(mesh) == 0 else sharding.whole(mesh)
    return Samples(*jax.device_put((tokens, mask, response, np.zeros(tokens.shape, np.float32)), place))


METHOD = SFT
