"""EGPO: extragradient. A step, a look at the opponent there, and the step again from where it began.

    pi_k+1/2  by P(y > pi_k),    pi_k+1  from pi_k by P(y > pi_k+1/2),    both regularized towards the reference

Source: Zhou, Fazel, Du, "Extragradient Preference Optimization (EGPO): Beyond Last-Iterate Convergence for Nash
Learning from Human Feedback", COLM 2025. The last iterate goes linearly to the equilibrium of the *regularized*
game.

Half of the group is drawn at pi_k and trained on in both steps, half at pi_k+1/2 as opponents.

Deviations: the objective is that of MPO instead of online IPO, whose expected gradient is the same; soft preferences
over all pairs. `magnet` may be one that moves, which is no longer the paper's method; an average is then exported.
"""

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

import mmd
from llm_bridge.model.ranges import SettingError
from llm_bridge.train.arena import Arena
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Judged, Objective, PolicyGradient, payoffs
from llm_bridge.train.train_state import TrainState


@dataclass(frozen=True)
class EGPO(MPO):
    """Extragradient Preference Optimization; exports the last iterate."""

    _: KW_ONLY
    magnet: Any = field(default_factory=mmd.Fixed)
    estimator: Objective = field(default_factory=lambda: PolicyGradient(credit=True))

    def check_settings(self) -> None:
        """That the settings are in their ranges, and that the group has two equal halves, one for each step.

        Raises:
            SettingError: they are not, or `group_size` is odd.
        """
        super().check_settings()
        if self.group_size % 2:
            raise SettingError(f"expected an even {{group_size}}, half of it for each step, got {self.group_size}")

    def play(self, state: TrainState, arena: Arena) -> tuple[TrainState, dict[str, Array]]:
        """Two steps from the same place; metrics are those of the second."""
        keys, n = jax.random.split(state.round_key()), self.group_size // 2
        ours = arena.draw(self.source(state), n, keys[0])
        among = arena.compare(ours)
        looked, _ = self.learn(_copied(state), ours, Judged(payoffs(among, ours.share), among))
        theirs = arena.draw(self.source(looked), n, keys[1])
        against = arena.compare(ours, theirs)
        judged = Judged(payoffs(against, theirs.share, own=False), against)
        state, metrics = self.learn(state, ours, judged)
        return self.settle(state), metrics


def _copied(state: TrainState) -> TrainState:
    """With buffers of its own for what learning uses up."""
    used = jax.tree.map(jnp.copy, (state.weights, state.optimizer, state.counters))
    return replace(state, weights=used[0], optimizer=used[1], counters=used[2])


METHOD = EGPO
