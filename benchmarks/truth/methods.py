"""Optimistic multiplicative weights, which is a method of the truth test and none of the package.

pi_k+1 ~ pi_k exp(eta (2 P(y > pi_k) - P(y > pi_k-1))): the opponents of the round before stand for the gradient there
(Popov 1980; Chen et al. 2025, optimistic multiplicative weights for preferences).
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from llm_bridge.train import replay
from llm_bridge.train.arena import Samples
from llm_bridge.train.loop import Method
from llm_bridge.train.objective import Judged, Numbers, Objective, Regression, payoffs
from llm_bridge.train.train_state import TrainState


def with_room(method: Method, state: TrainState, groups: tuple[int, int], length: int) -> TrainState:
    """The state with room for what a method remembers, if it does: a round that is traced cannot make it."""
    rounds = getattr(method, "replay", 0) or getattr(method, "rounds", 0)
    mesh = state.frame.decoder.mesh
    return replace(state, memory=replay.nothing(rounds, mesh, groups, length)) if rounds else state


@dataclass(frozen=True)
class Optimistic(Method):
    """Optimistic multiplicative weights; alpha has no part in it."""

    has_magnet: ClassVar[bool] = False
    rounds: ClassVar[int] = 1  # that are remembered

    def objective(self) -> Objective:
        """Mirror descent's closed form."""
        return Regression()

    def numbers(self, state: TrainState) -> Numbers:
        """No magnet."""
        return super().numbers(state)._replace(alpha=jnp.zeros((), jnp.float32))

    def play(self, state: TrainState, arena: Any) -> tuple[TrainState, dict[str, Array]]:
        """Payoffs against this round's opponents twice, less those against the last round's."""
        samples = arena.draw(self.source(state), self.group_size, state.round_key())
        preference = arena.compare(samples)
        payoff = payoffs(preference)
        tokens, mask, response = (part[0] for part in state.memory[:3])
        before = Samples(tokens, mask, response, jnp.zeros(tokens.shape, jnp.float32))
        hint = jnp.where(state.round == 0, 0, payoff - payoffs(arena.compare(samples, before), own=False))
        state, metrics = self.learn(state, samples, Judged(payoff + hint, preference))
        return self.settle(replace(state, memory=replay.with_newest(state.memory, samples, preference))), metrics
